"""The reference of SpikeMaxPool against torch's max pooling of sums, and against EventMaxPool."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings

from onnx_snn.ops.reference import event_max_pool, spike_max_pool
from spike_max_pool_cases import (
    OVERLAPPING,
    SAME,
    Case,
    all_cases,
    all_dtypes,
    random_cases,
    spikes,
    sum_dtype,
)

torch = pytest.importorskip("torch")


def pool_of_torch(counts: np.ndarray, pool: dict) -> np.ndarray:
    """The largest of each window; padding never wins."""
    kernel, axes = pool["kernel_shape"], len(pool["kernel_shape"])
    ones = [1] * axes
    pads = pool.get("pads", [0] * 2 * axes)
    around = [(0, 0), (0, 0), *zip(pads[:axes], pads[axes:], strict=True)]
    lowest = np.finfo(counts.dtype).min
    padded = torch.from_numpy(np.pad(counts, around, constant_values=lowest))
    function = {1: torch.nn.functional.max_pool1d, 2: torch.nn.functional.max_pool2d}[axes]
    strides, dilations = (pool.get(name, ones) for name in ("strides", "dilations"))
    return function(padded, kernel, strides, 0, dilations).numpy()


def assert_maxima_are_those_of_torch(case: Case, dtype: str) -> None:
    case = replace(case, c_next=True)
    s, c_next = case.expected(dtype)
    counts = np.broadcast_to(case.state(dtype).get("c", 0), case.shape).astype(sum_dtype(dtype))
    if counts.size == 0:
        return
    before = pool_of_torch(counts, case.pool)
    x = case.x(dtype).reshape(case.steps, *case.shape)
    for given_spikes, emitted in zip(x, np.split(s, case.steps), strict=True):
        counts = counts + given_spikes
        now = pool_of_torch(counts, case.pool)
        np.testing.assert_array_equal(emitted, (now - before).astype(dtype), strict=True)
        before = now
    np.testing.assert_array_equal(c_next, counts, strict=True)


@all_dtypes
@all_cases
def test_maxima_are_those_of_torch(case, dtype):
    if case.steps <= 30 and max(case.pool.get("strides", [1])) < 2**31 - 1:
        assert_maxima_are_those_of_torch(case, dtype)


@given(random_cases())
@settings(deadline=None, max_examples=40)
def test_any_maxima_are_those_of_torch(case):
    assert_maxima_are_those_of_torch(case, "float32")


@pytest.mark.parametrize("pool", [OVERLAPPING, SAME])
def test_spikes_are_pooled_as_events_are(pool):
    case = Case(pool=pool, spikes=spikes, steps=9)
    s, c_next = case.expected("float32")
    events = case.x("int8").transpose(0, 2, 3, 1)
    expected, counts = event_max_pool(events, case.steps, **pool)
    np.testing.assert_array_equal(s.transpose(0, 2, 3, 1), expected)
    np.testing.assert_array_equal(c_next.transpose(0, 2, 3, 1), counts)


def test_counts_of_half_precision_are_kept_in_single():
    x = np.ones((4096, 1, 1, 1), np.float16)
    s, c_next = spike_max_pool(x, 4096, kernel_shape=[1, 1])
    assert (s == 1).all()
    assert c_next.dtype == np.float32
    assert c_next.item() == 4096


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"kernel_shape": [0, 2]}, "kernel_shape and strides >= 1"),
        ({"strides": [1, 0]}, "kernel_shape and strides >= 1"),
        ({"dilations": [0, 1]}, "kernel_shape and strides >= 1"),
        ({"pads": [0, -1, 0, 0]}, "pads >= 0"),
        ({"pads": [0, 0, 2, 0]}, "must be smaller than the kernel"),
        ({"kernel_shape": [2, 9]}, "larger than the padded x"),
        ({"dilations": [1, 8]}, "larger than the padded x"),
        ({"kernel_shape": [2, 13]}, "more than 25 places"),
        ({"kernel_shape": [2]}, r"need x \[T\*N, C, H, W\] or"),
        ({"kernel_shape": [2, 2, 2]}, r"need x \[T\*N, C, H, W\] or"),
    ],
)
def test_wrong_attributes_are_refused(changed, match):
    case = Case()
    with pytest.raises(ValueError, match=match):
        spike_max_pool(case.x("float32"), case.steps, **(case.pool | changed))


def test_wrong_shapes_are_refused():
    case, x = Case(), Case().x("float32")
    with pytest.raises(ValueError, match="H, W >= 1"):
        spike_max_pool(x[:, :, :0], case.steps, **case.pool)
    for steps in (0, -1, 3):
        with pytest.raises(ValueError, match="are not T >= 1 times N"):
            spike_max_pool(x, steps, **case.pool)
    with pytest.raises(ValueError, match="c has shape"):
        spike_max_pool(x, case.steps, np.zeros(5, np.float32), **case.pool)
