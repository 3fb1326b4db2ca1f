"""The time axis of a spiking network as nodes, inputs and outputs.

``layer``, ``loop`` and ``step`` each give a network one, and ``passes/put_on_schedule.py`` chooses.
What they share stands in files of its own: input (``inputs``), what steps take over from others
(``cross_time``), means (``means``), silence (``silence``), what reads a running mean (``running``).
"""
