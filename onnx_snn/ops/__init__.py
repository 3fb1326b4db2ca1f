"""The operator set ``onnx_snn``: its specification in NumPy and its portable bodies."""

import onnx

DOMAIN = "onnx_snn"
VERSION = 1
IF_NEURON = "IFNeuron"
PHASE_NEURON = "PhaseNeuron"
NEURONS = (IF_NEURON, PHASE_NEURON)
EVENT_CONV = "EventConv"
EVENT_CONV_IF_NEURON = "EventConvIFNeuron"
LARGE_VALUES = "LargeValues"

MOST_RADIX_STEPS = 64
"""Most steps of a ``PhaseNeuron`` with base 2: no type holds as many bits, and all weights are
exact."""


def is_spiking(model: onnx.ModelProto) -> bool:
    """Whether a model is a converted one: it uses the operator set, or holds a function of it."""
    used = any(node.domain == DOMAIN for node in model.graph.node)
    return used or any(function.domain == DOMAIN for function in model.functions)
