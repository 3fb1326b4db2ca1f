"""The portable body of SpikeMaxPool: ONNX's MaxPool of the sums so far, and its changes."""

from __future__ import annotations

from onnx import FunctionProto

from onnx_snn.ops import SPIKE_MAX_POOL
from onnx_snn.ops.portable.counts import count_steps, hand_on
from onnx_snn.ops.portable.folded_time import make_function, node, refer, state_type

_ATTRIBUTES = ("kernel_shape", "strides", "pads", "dilations")


def spike_max_pool_function(
    elem_type: int, has_state: bool, gives_state: bool, opset: int
) -> FunctionProto:
    """The body for all nodes of a model, which have the same types, inputs and outputs.

    Args:
        elem_type: of x, float16, float32 or float64.
        has_state: whether they are given the counts before the first step.
        gives_state: whether they give the counts after the last step.
        opset: the default-domain opset of the model, at least 18.

    Returns:
        A function ``onnx_snn.SpikeMaxPool``, equal to
        ``onnx_snn.ops.reference_pools.spike_max_pool``.
    """
    pool = node("MaxPool", ["counts"], "largest")
    refer(pool, {name: [] for name in _ATTRIBUTES})
    nodes = [*count_steps(has_state, state_type(elem_type)), pool, *hand_on(gives_state)]
    inputs = ["x", "T", *(["c"] if has_state else [])]
    outputs = ["s", *(["c_next"] if gives_state else [])]
    doc = "Max pooling of spikes: of their sums so far, by difference (onnx_snn, version 1)."
    function = make_function(SPIKE_MAX_POOL, inputs, outputs, nodes, opset, {}, doc)
    function.attribute.extend(_ATTRIBUTES)  # without defaults: MaxPool has those
    return function
