"""The portable bodies of the pools of events: those of ONNX, between Transposes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from onnx import AttributeProto, FunctionProto, NodeProto, TensorProto

from onnx_snn.ops import EVENT_MAX_POOL, EVENT_SUM_POOL
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
        *_counts(has_state),
        *_max_pool(),
        *([node("Squeeze", ["last_count", "first"], "c_next")] if gives_state else []),
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


def _counts(has_state: bool) -> Iterable[NodeProto]:
    """counts [(T+1) * N, H, W, C] with those before the first step, and the last [1, N, ...]."""
    yield constant("zero", value_int=0)
    yield constant("one", value_int=1)
    # No tensor has -2 rows: a T of 0 or less becomes an error, not a division by zero.
    yield constant("impossible", value_int=-2)
    yield constant("flat", value_ints=[-1])
    yield constant("first", value_ints=[0])
    yield constant("second", value_ints=[1])
    yield constant("end", value_ints=[2**62])
    yield node("Less", ["T", "one"], "is_too_few")
    yield node("Where", ["is_too_few", "impossible", "T"], "T_checked")
    yield node("Reshape", ["T_checked", "flat"], "steps")
    yield node("Shape", ["x"], "rows", end=1)
    yield node("Shape", ["x"], "features", start=1)
    yield node("Div", ["rows", "steps"], "N")
    yield node("Concat", ["steps", "N", "features"], "time_first", axis=0)
    yield node("Concat", ["second", "N", "features"], "one_step", axis=0)
    yield node("Cast", ["x"], "x_float", to=TensorProto.FLOAT)
    yield node("Reshape", ["x_float", "time_first"], "events", allowzero=1)
    if has_state:
        # Of a scalar, a tensor of as many axes, as older versions of onnxruntime want one.
        yield node("Expand", ["c", "one_step"], "start")
    else:
        yield node("CastLike", ["zero", "x_float"], "silent")
        yield node("Expand", ["silent", "one_step"], "start")
    yield node("Concat", ["start", "events"], "start_and_events", axis=0)
    yield node("CumSum", ["start_and_events", "zero"], "sums")
    yield node("Slice", ["sums", "flat", "end", "first"], "last_count")


def _max_pool() -> Iterable[NodeProto]:
    """s of the counts."""
    yield node("Add", ["rows", "N"], "pooled_rows")
    yield node("Concat", ["pooled_rows", "features"], "pooled_shape", axis=0)
    yield node("Reshape", ["sums", "pooled_shape"], "counts", allowzero=1)
    yield from _pool("MaxPool", "counts", "largest")
    yield node("Slice", ["largest", "N", "end", "first"], "now")
    yield node("Slice", ["largest", "first", "rows", "first"], "before")
    yield node("Sub", ["now", "before"], "changes")
    yield node("CastLike", ["changes", "x"], "s")


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
