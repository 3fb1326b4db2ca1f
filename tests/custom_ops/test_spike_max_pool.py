"""The native kernel of the CPU against the reference."""

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from onnx import TensorProto, helper
from onnxruntime.capi.onnxruntime_pybind11_state import (
    Fail,
    InvalidArgument,
    InvalidGraph,
    RuntimeException,
)

from if_neuron_cases import assert_identical, native
from spike_max_pool_cases import (
    OVERLAPPING,
    SAME,
    Case,
    all_cases,
    all_dtypes,
    random_cases,
    sum_dtype,
)


@all_dtypes
@all_cases
def test_kernel_gives_what_the_reference_gives(case, dtype):
    session = native(case.model(dtype))
    assert_identical(session.run(None, case.feeds(dtype)), case.expected(dtype))


@all_dtypes
@given(random_cases(most_dilation=6))
@settings(deadline=None, max_examples=60)
def test_any_call_gives_what_the_reference_gives(dtype, case):
    session = native(case.model(dtype))
    assert_identical(session.run(None, case.feeds(dtype)), case.expected(dtype))


@pytest.mark.parametrize("threads", [2, 5])
def test_number_of_threads_changes_nothing(threads):
    case = Case(shape=(3, 40, 33, 46), pool=OVERLAPPING, c="full")
    session = native(case.model("float16"), threads)
    assert_identical(session.run(None, case.feeds("float16")), case.expected("float16"))


@all_dtypes
@pytest.mark.parametrize("pool", [OVERLAPPING, SAME])
def test_calls_with_the_state_carried_over_are_one(pool, dtype):
    case = Case(shape=(2, 5, 13, 11), pool=pool, steps=12, c="full")
    session = native(case.model(dtype))
    feeds = case.feeds(dtype)
    parts = []
    for x in np.split(feeds["x"].reshape(12, *case.shape), [1, 8]):
        feeds |= {"x": x.reshape(-1, *case.shape[1:]), "T": np.array(len(x))}
        s, feeds["c"] = session.run(None, feeds)
        parts.append(s)
    assert_identical([np.concatenate(parts), feeds["c"]], case.expected(dtype))


@all_dtypes
def test_buffers_of_the_caller_are_filled_and_nothing_around_them(dtype):
    case = Case(shape=(2, 3, 7, 9), pool=OVERLAPPING, c="full")
    feeds, expected = case.feeds(dtype), case.expected(dtype)
    session = native(case.model(dtype))
    binding = session.io_binding()
    binding.bind_cpu_input("T", feeds.pop("T"))
    held = []

    def placed(values, fill):
        """A copy with others on both sides, aligned to its values only."""
        buffer = np.pad(fill.ravel(), 3, constant_values=77)
        held.append(buffer)
        return "cpu", 0, values.dtype, values.shape, buffer[3:].ctypes.data

    for name, values in feeds.items():
        binding.bind_input(name, *placed(values, values))
    for output, values in zip(session.get_outputs(), expected, strict=True):
        binding.bind_output(output.name, *placed(values, np.full_like(values, 55)))
    session.run_with_iobinding(binding)
    for buffer, values in zip(held[-len(expected) :], expected, strict=True):
        np.testing.assert_array_equal(buffer, np.pad(values.ravel(), 3, constant_values=77))


def test_a_model_without_a_body_needs_the_kernel():
    with pytest.raises((Fail, InvalidArgument), match="SpikeMaxPool"):
        ort.InferenceSession(Case().model("float32").SerializeToString())


def test_one_session_runs_calls_of_any_shape():
    session = native(Case(pool=OVERLAPPING, c="full").model("float32"), threads=2)
    for shape, steps in [
        ((2, 6, 5, 7), 4),
        ((1, 6, 1, 1), 9),
        ((0, 6, 5, 7), 2),
        ((3, 1, 3, 40), 1),
    ]:
        case = Case(shape=shape, steps=steps, pool=OVERLAPPING, c="full")
        assert_identical(session.run(None, case.feeds("float32")), case.expected("float32"))


@pytest.mark.parametrize(
    ("attributes", "match"),
    [
        ({"kernel_shape": None}, r"kernel_shape must be 2 integers from 1 to 25, not \[\]"),
        ({"kernel_shape": [2, 2, 2]}, r"kernel_shape must be 2 integers .*, not \[2,2,2\]"),
        ({"kernel_shape": [0, 2]}, r"kernel_shape must be 2 integers .*, not \[0,2\]"),
        ({"kernel_shape": [26]}, r"kernel_shape must be 1 integers from 1 to 25"),
        ({"kernel_shape": [2, 13]}, r"kernel_shape \[2,13\] has more than 25 places"),
        ({"strides": [0, 1]}, r"strides must be 2 integers from 1 to .*, not \[0,1\]"),
        ({"strides": [1, 2**40]}, "strides must be 2 integers"),
        ({"dilations": [1, 0]}, r"dilations must be 2 integers from 1 to .*, not \[1,0\]"),
        ({"pads": [1, 1]}, r"pads must be 4 integers from 0 to .*, not \[1,1\]"),
        ({"pads": [0, 0, -1, 0]}, "pads must be 4 integers"),
        ({"pads": [0, 2, 0, 0]}, r"pads \[0,2,0,0\] must be smaller than kernel_shape \[2,2\]"),
        ({"pads": [0, 0, 2, 0]}, r"pads \[0,0,2,0\] must be smaller than kernel_shape \[2,2\]"),
    ],
)
def test_wrong_attributes_are_refused_when_the_model_is_loaded(attributes, match):
    model = Case(pool={"kernel_shape": [2, 2]}).model("float32")
    node = model.graph.node[0]
    for name, value in attributes.items():
        kept = [attribute for attribute in node.attribute if attribute.name != name]
        node.ClearField("attribute")
        node.attribute.extend(kept)
        if value is not None:
            node.attribute.append(helper.make_attribute(name, value))
    with pytest.raises(RuntimeException, match=f"onnx_snn.SpikeMaxPool: .*{match}"):
        native(model)


def zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"x": zeros(8, 6, 8)}, r"x must be \[T\*N, C, H, W\], not \[8,6,8\]"),
        ({"x": zeros(8, 3, 1, 8)}, r"kernel_shape \[2,2\] is larger than x \[8,3,1,8\]"),
        ({"x": zeros(8, 3, 6, 0)}, r"kernel_shape \[2,2\] is larger than x \[8,3,6,0\]"),
        ({"x": zeros(9, 3, 6, 8)}, "x has 9 rows, .* multiple of T = 4"),
        ({"x": zeros(0, 3, 2**16, 2**16)}, r"an image of x \[0,3,65536,65536\] is too large"),
        ({"T": np.array(0)}, "T must be 1 or more, not 0"),
        ({"T": np.array([4, 4])}, r"T must be one value, not a tensor of shape \[2\]"),
        ({"c": zeros(2, 3, 6, 7)}, r"c has shape \[2,3,6,7\], but \[2,3,6,8\]"),
        ({"c": zeros(5)}, r"c has shape \[5\], but \[2,3,6,8\]"),
    ],
)
def test_wrong_inputs_are_refused_and_the_session_lives_on(changed, match):
    case = Case(c="full")
    session = native(case.model("float32"))
    feeds = case.feeds("float32")
    with pytest.raises(InvalidArgument, match=f"onnx_snn.SpikeMaxPool: .*{match}"):
        session.run(None, feeds | changed)
    assert_identical(session.run(None, feeds), case.expected("float32"))


def test_rows_of_pixels_are_of_rank_3():
    session = native(Case(pool={"kernel_shape": [2]}).model("float32"))
    with pytest.raises(InvalidArgument, match=r"x must be \[T\*N, C, W\], not \[8,3,6,8\]"):
        session.run(None, Case().feeds("float32"))


@all_dtypes
def test_counts_of_another_type_are_refused_when_the_model_is_loaded(dtype):
    model = Case(c="full").model(dtype)
    wrong = TensorProto.FLOAT if sum_dtype(dtype) == "float64" else TensorProto.FLOAT16
    model.graph.input[2].type.tensor_type.elem_type = wrong
    with pytest.raises((Fail, InvalidGraph, RuntimeException), match="SpikeMaxPool"):
        native(model)
