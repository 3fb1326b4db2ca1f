"""The operator set ``onnx_snn``: its specification in NumPy and its portable bodies."""

from collections.abc import Mapping
from types import MappingProxyType

import onnx

DOMAIN = "onnx_snn"
VERSION = 1
IF_NEURON = "IFNeuron"
ADD_IF_NEURON = "AddIFNeuron"
PHASE_NEURON = "PhaseNeuron"
NEURONS = (IF_NEURON, ADD_IF_NEURON, PHASE_NEURON)
EVENT_CONV = "EventConv"
EVENT_CONV_IF_NEURON = "EventConvIFNeuron"
EVENT_CONV_ADD_IF_NEURON = "EventConvAddIFNeuron"
EVENT_IF_NEURON = "EventIFNeuron"
EVENT_MAX_POOL = "EventMaxPool"
EVENT_SUM_POOL = "EventSumPool"
EVENTS = (
    EVENT_CONV,
    EVENT_CONV_IF_NEURON,
    EVENT_CONV_ADD_IF_NEURON,
    EVENT_IF_NEURON,
    EVENT_MAX_POOL,
    EVENT_SUM_POOL,
)
SPIKE_MAX_POOL = "SpikeMaxPool"
STATEFUL_POOLS = (EVENT_MAX_POOL, SPIKE_MAX_POOL)
FUSED_FOR_CUDA = (ADD_IF_NEURON, SPIKE_MAX_POOL)
LARGE_VALUES = "LargeValues"

STATEFUL: Mapping[str, int] = MappingProxyType(
    {
        IF_NEURON: 1,
        ADD_IF_NEURON: 3,
        EVENT_IF_NEURON: 1,
        EVENT_CONV_IF_NEURON: 3,
        EVENT_CONV_ADD_IF_NEURON: 5,
        EVENT_MAX_POOL: 1,
        SPIKE_MAX_POOL: 1,
    }
)
"""Operators that keep a state from step to step: which of their inputs is T. The states follow it;
those after the last step are the outputs behind the first."""

TIMESTEPS_INPUT: Mapping[str, int] = MappingProxyType({**STATEFUL, PHASE_NEURON: 1})
"""All operators that are given T, and which of their inputs it is."""

FIRING = tuple(op for op in TIMESTEPS_INPUT if op not in STATEFUL_POOLS)
"""All operators whose first output is the spikes of neurons."""

MOST_POOL_PLACES = 25
"""Most places of a window of ``SpikeMaxPool``: a thread of a GPU holds their counts in
registers."""

MOST_RADIX_STEPS = 64
"""Most steps of a ``PhaseNeuron`` with base 2: no type holds as many bits, and all weights are
exact."""


def is_spiking(model: onnx.ModelProto) -> bool:
    """Whether a model is a converted one: it uses the operator set, or holds a function of it."""
    used = any(node.domain == DOMAIN for node in model.graph.node)
    return used or any(function.domain == DOMAIN for function in model.functions)
