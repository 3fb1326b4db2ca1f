"""What the portable bodies of max pooling share: the sums so far, and handing on their maxima.

The names that the nodes here give to their results are for the rest of the body to use.
"""

from __future__ import annotations

from collections.abc import Iterable

from onnx import NodeProto

from onnx_snn.ops.portable.folded_time import constant, node


def count_steps(has_state: bool, elem_type: int) -> Iterable[NodeProto]:
    """counts [(T+1) * N, ...] of x and T, those before the first step first.

    Args:
        has_state: whether the function is given them, as c.
        elem_type: the type to sum in.
    """
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
    yield node("Cast", ["x"], "x_float", to=elem_type)
    yield node("Reshape", ["x_float", "time_first"], "events", allowzero=1)
    if has_state:
        # Of a scalar, a tensor of as many axes, as older versions of onnxruntime want one.
        yield node("Expand", ["c", "one_step"], "start")
    else:
        yield node("CastLike", ["zero", "x_float"], "silent")
        yield node("Expand", ["silent", "one_step"], "start")
    yield node("Concat", ["start", "events"], "start_and_events", axis=0)
    yield node("CumSum", ["start_and_events", "zero"], "sums")
    yield node("Add", ["rows", "N"], "pooled_rows")
    yield node("Concat", ["pooled_rows", "features"], "pooled_shape", axis=0)
    yield node("Reshape", ["sums", "pooled_shape"], "counts", allowzero=1)


def hand_on(gives_state: bool) -> Iterable[NodeProto]:
    """s of largest, the pooled counts; and c_next, if it is wanted."""
    yield node("Slice", ["largest", "N", "end", "first"], "now")
    yield node("Slice", ["largest", "first", "rows", "first"], "before")
    yield node("Sub", ["now", "before"], "changes")
    yield node("CastLike", ["changes", "x"], "s")
    if gives_state:
        yield node("Slice", ["sums", "flat", "end", "first"], "last_count")
        yield node("Squeeze", ["last_count", "first"], "c_next")
