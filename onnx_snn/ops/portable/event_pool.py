"""The portable bodies of the pools of events: those of ONNX, between Transposes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from onnx import AttributeProto, FunctionProto, NodeProto, TensorProto

from onnx_snn.ops import EVENT_MAX_POOL, EVENT_SUM_POOL
from onnx_snn.ops.portable.counts import count_steps, hand_on
from onnx_snn.ops.portable.folded_time import constant, make_function, node, refer

_DEFAULTS: Mapping[str, list[int]] = {"strides": [1, 1], "pads": [0, 0, 0, 0]}
_KERNEL = "kernel_shape"


def event_max_pool_function(has_state: bool, gives_state: bool, opset: int) -> FunctionProto:
    """The body for all nodes of a model, which have the same inputs and outputs.

    Args:
        has_state: whether they are given the counts before the first step.
        gives_state: whether they give the counts after the last step.
        opset: the default-domain opset of the model, at least 18.

    Returns:
        A function ``onnx_snn.EventMaxPool``, equal to
        ``onnx_snn.ops.reference_pools.event_max_pool``.
    """
    inputs, outputs = ["x", "T"], ["s"]
    if has_state:
        inputs.append("c")
    if gives_state:
        outputs.append("c_next")
    nodes = [
        *count_steps(has_state, TensorProto.FLOAT),
        *_pool("MaxPool", "counts", "largest"),
        *hand_on(gives_state),
    ]
    doc = "Max pooling of spike counts, handed on by difference (onnx_snn, version 1)."
    return _function(EVENT_MAX_POOL, inputs, outputs, nodes, opset, doc)


def event_sum_pool_function(opset: int) -> FunctionProto:
    """The body for all nodes of a model.

    Args:
        opset: the default-domain opset of the model, at least 18.

    Returns:
        A function ``onnx_snn.EventSumPool``, equal to
        ``onnx_snn.ops.reference_pools.event_sum_pool``.
    """
    size = node("Constant", [], "kernel_size")
    size.attribute.add(name="value_ints", ref_attr_name=_KERNEL, type=AttributeProto.INTS)
    nodes = [
        node("Cast", ["x"], "x_float", to=TensorProto.FLOAT),
        *_pool("AveragePool", "x_float", "means", count_include_pad=1),
        size,
        node("ReduceProd", ["kernel_size"], "places", keepdims=0),
        node("CastLike", ["places", "means"], "divisor"),
        # A mean is rounded, but less than would change the integer nearest to its sum.
        node("Mul", ["means", "divisor"], "products"),
        node("Round", ["products"], "sums"),
        constant("least", value_float=-128.0),
        constant("most", value_float=127.0),
        node("Clip", ["sums", "least", "most"], "limited"),
        node("CastLike", ["limited", "x"], "y"),
    ]
    doc = "Sums of events over windows (onnx_snn, version 1)."
    return _function(EVENT_SUM_POOL, ["x"], ["y"], nodes, opset, doc)


def _pool(op: str, values: str, result: str, **attributes: int) -> Iterable[NodeProto]:
    """One of ONNX's pools over values with their channels last."""
    yield node("Transpose", [values], "channels_first", perm=[0, 3, 1, 2])
    pool = node(op, ["channels_first"], "pooled", **attributes)
    refer(pool, {_KERNEL: [], **_DEFAULTS})
    yield pool
    yield node("Transpose", ["pooled"], result, perm=[0, 2, 3, 1])


def _function(
    name: str, inputs: list[str], outputs: list[str], nodes: list[NodeProto], opset: int, doc: str
) -> FunctionProto:
    function = make_function(name, inputs, outputs, nodes, opset, _DEFAULTS, doc)
    function.attribute.append(_KERNEL)  # without a default
    return function
