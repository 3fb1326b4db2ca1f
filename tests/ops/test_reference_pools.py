"""The references of the pools of events against onnxruntime's MaxPool and loops written out."""

from dataclasses import replace

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from onnx import TensorProto, helper

from event_conv_cases import any_byte, signed, spikes
from event_pool_cases import OVERLAPPING, SAME, Case, all_cases, random_cases
from onnx_snn.ops import EVENT_MAX_POOL, EVENT_SUM_POOL
from onnx_snn.ops.reference import event_max_pool, event_sum_pool


def max_pool_of_onnx(case: Case, counts: np.ndarray) -> np.ndarray:
    value = helper.make_tensor_value_info
    node = helper.make_node("MaxPool", ["x"], ["y"], **case.pool)
    tensors = [value(name, TensorProto.FLOAT, None) for name in "xy"]
    graph = helper.make_graph([node], "max_pool", tensors[:1], tensors[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {"x": counts.astype(np.float32).transpose(0, 3, 1, 2)}
    return session.run(None, feeds)[0].transpose(0, 2, 3, 1)


def assert_largest_counts_are_those_of_max_pool(case: Case) -> None:
    """Those before the first step, and after each, which add up the events given."""
    case = replace(case, c_next=True)
    s, c_next = case.expected(EVENT_MAX_POOL)
    counts = np.broadcast_to(case.state.get("c", np.float32(0)), case.shape)
    if counts.size == 0:
        return
    total = max_pool_of_onnx(case, counts)
    for events, emitted in zip(np.split(case.x, case.steps), np.split(s, case.steps), strict=True):
        counts = counts + events
        total = total + emitted
        np.testing.assert_array_equal(total, max_pool_of_onnx(case, counts), strict=True)
    np.testing.assert_array_equal(c_next, counts, strict=True)


@all_cases
def test_largest_counts_are_those_of_max_pool(case):
    if case.steps <= 30:
        assert_largest_counts_are_those_of_max_pool(case)


@given(random_cases())
@settings(deadline=None, max_examples=20)
def test_any_largest_counts_are_those_of_max_pool(case):
    assert_largest_counts_are_those_of_max_pool(case)


@pytest.mark.parametrize("events", [spikes(0.3), signed, any_byte])
@pytest.mark.parametrize("pool", [OVERLAPPING, {"kernel_shape": [5, 4], "pads": [4, 0, 2, 3]}])
def test_sums_are_those_of_the_events_in_the_window(pool, events):
    case = Case(shape=(2, 5, 7, 3), pool=pool, events=events, steps=1)
    x, (y,) = case.x, case.expected(EVENT_SUM_POOL)
    kernel, pads, strides = pool["kernel_shape"], pool["pads"], pool.get("strides", [1, 1])
    size = [(5 + pads[0] + pads[2] - kernel[0]) // strides[0] + 1]
    size += [(7 + pads[1] + pads[3] - kernel[1]) // strides[1] + 1]
    assert y.shape == (2, *size, 3)
    for image, row, column, channel in np.ndindex(y.shape):
        total = 0
        for i, j in np.ndindex(*kernel):
            at = row * strides[0] - pads[0] + i, column * strides[1] - pads[1] + j
            if 0 <= at[0] < 5 and 0 <= at[1] < 7:
                total += int(x[image, *at, channel])
        assert y[image, row, column, channel] == min(max(total, -128), 127)


def test_what_is_emitted_lies_between_the_events_of_the_window():
    case = Case(events=any_byte, pool=SAME, steps=30, c="full")
    s, _ = case.expected(EVENT_MAX_POOL)
    assert (s <= max_pool_of_onnx(case, case.x)).all()
    assert (s >= -max_pool_of_onnx(case, -case.x.astype(int))).all()


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"kernel_shape": [0, 2]}, "kernel_shape and strides >= 1"),
        ({"strides": [1, 0]}, "kernel_shape and strides >= 1"),
        ({"pads": [0, -1, 0, 0]}, "pads >= 0"),
        ({"pads": [0, 0, 2, 0]}, "must be smaller than the kernel"),
        ({"kernel_shape": [2, 9]}, "larger than the padded x"),
    ],
)
def test_wrong_attributes_are_refused(changed, match):
    case = Case()
    with pytest.raises(ValueError, match=match):
        event_max_pool(case.x, case.steps, **(case.pool | changed))
    with pytest.raises(ValueError, match=match):
        event_sum_pool(case.x, **(case.pool | changed))


def test_wrong_shapes_are_refused():
    case = Case()
    with pytest.raises(ValueError, match=r"need x \[N, H, W, C\]"):
        event_sum_pool(case.x[0], **case.pool)
    with pytest.raises(ValueError, match="H, W >= 1"):
        event_sum_pool(case.x[:, :0], **case.pool)
    for steps in (0, -1, 3):
        with pytest.raises(ValueError, match="are not T >= 1 times N"):
            event_max_pool(case.x, steps, **case.pool)
    with pytest.raises(ValueError, match="c has shape"):
        event_max_pool(case.x, case.steps, np.zeros(5, np.float32), **case.pool)
