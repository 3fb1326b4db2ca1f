"""Spikes as events: 8-bit integers, channels last, which event-driven operators read and write.

``event_tensor`` says how a float tensor and its events correspond, ``event_weights`` gives a layer
the weights that such an operator wants, ``event_nodes`` writes the operators' nodes, and
``passes/use_events.py`` rewrites a network.
"""
