"""The native kernels of every instruction set against the reference."""

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import HealthCheck, given, settings
from onnx import TensorProto, helper
from onnxruntime.capi.onnxruntime_pybind11_state import (
    Fail,
    InvalidArgument,
    InvalidGraph,
    RuntimeException,
)

from event_conv_cases import any_byte
from event_pool_cases import OVERLAPPING, SAME, Case, all_cases, both_operators, random_cases
from if_neuron_cases import assert_identical, native
from onnx_snn.ops import EVENT_MAX_POOL, EVENT_SUM_POOL


@pytest.mark.usefixtures("isa")
@all_cases
@both_operators
def test_kernel_gives_what_the_reference_gives(case, operator):
    session = native(case.model(operator))
    assert_identical(session.run(None, case.feeds(operator)), case.expected(operator))


@pytest.mark.usefixtures("isa")
@both_operators
@given(random_cases())
@settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # the same for all examples
)
def test_any_call_gives_what_the_reference_gives(operator, case):
    session = native(case.model(operator))
    assert_identical(session.run(None, case.feeds(operator)), case.expected(operator))


@pytest.mark.usefixtures("isa")
@both_operators
@pytest.mark.parametrize("threads", [2, 5])
def test_number_of_threads_changes_nothing(operator, threads):
    case = Case(shape=(3, 40, 46, 33), pool=OVERLAPPING, events=any_byte, c="full")
    session = native(case.model(operator), threads)
    assert_identical(session.run(None, case.feeds(operator)), case.expected(operator))


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("pool", [OVERLAPPING, SAME])
def test_calls_with_the_state_carried_over_are_one(pool):
    case = Case(shape=(2, 13, 11, 20), pool=pool, events=any_byte, steps=12, c="full")
    session = native(case.model(EVENT_MAX_POOL))
    feeds = case.feeds(EVENT_MAX_POOL)
    parts = []
    for x in np.split(feeds["x"].reshape(12, *case.shape), [1, 8]):
        feeds |= {"x": x.reshape(-1, *case.shape[1:]), "T": np.array(len(x))}
        s, feeds["c"] = session.run(None, feeds)
        parts.append(s)
    assert_identical([np.concatenate(parts), feeds["c"]], case.expected(EVENT_MAX_POOL))


@pytest.mark.usefixtures("isa")
@both_operators
def test_buffers_of_the_caller_are_filled_and_nothing_around_them(operator):
    case = Case(shape=(2, 7, 9, 19), pool=OVERLAPPING, c="full")
    feeds, expected = case.feeds(operator), case.expected(operator)
    session = native(case.model(operator))
    binding = session.io_binding()
    if operator == EVENT_MAX_POOL:
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


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30, -1e30, 0.5])
def test_counts_that_make_no_sense_do_no_harm(value):
    case = Case(pool=OVERLAPPING, c="full")
    session = native(case.model(EVENT_MAX_POOL))
    feeds = case.feeds(EVENT_MAX_POOL)
    feeds["c"][0] = value
    s, c_next = session.run(None, feeds)
    expected, c_expected = case.expected(EVENT_MAX_POOL)
    np.testing.assert_array_equal(s[1::2], expected[1::2])  # of the other image
    np.testing.assert_array_equal(c_next[1], c_expected[1])
    assert (abs(c_next) <= 2**24 + 128 * case.steps).all()


@both_operators
def test_a_model_without_a_body_needs_the_kernel(operator):
    with pytest.raises((Fail, InvalidArgument), match=operator):
        ort.InferenceSession(Case().model(operator).SerializeToString())


@both_operators
def test_one_session_runs_calls_of_any_shape(operator):
    session = native(Case(pool=OVERLAPPING, c="full").model(operator), threads=2)
    for shape, steps in [
        ((2, 5, 7, 6), 4),
        ((1, 1, 1, 6), 9),
        ((0, 5, 7, 6), 2),
        ((3, 3, 40, 6), 1),
    ]:
        case = Case(shape=shape, steps=steps, pool=OVERLAPPING, c="full")
        assert_identical(session.run(None, case.feeds(operator)), case.expected(operator))


@pytest.mark.parametrize(
    ("attributes", "match"),
    [
        ({"kernel_shape": None}, r"kernel_shape must be 2 integers from 1 to 16777216, not \[\]"),
        ({"kernel_shape": [2]}, r"kernel_shape must be 2 integers .*, not \[2\]"),
        ({"kernel_shape": [0, 2]}, r"kernel_shape must be 2 integers .*, not \[0,2\]"),
        ({"kernel_shape": [2, 2**25]}, "kernel_shape must be 2 integers"),
        ({"strides": [0, 1]}, r"strides must be 2 integers from 1 to .*, not \[0,1\]"),
        ({"strides": [1, 2**40]}, "strides must be 2 integers"),
        ({"pads": [1, 1]}, r"pads must be 4 integers from 0 to .*, not \[1,1\]"),
        ({"pads": [0, 0, -1, 0]}, "pads must be 4 integers"),
        ({"pads": [0, 2, 0, 0]}, r"pads \[0,2,0,0\] must be smaller than kernel_shape \[2,2\]"),
        ({"pads": [0, 0, 2, 0]}, r"pads \[0,0,2,0\] must be smaller than kernel_shape \[2,2\]"),
    ],
)
@both_operators
def test_wrong_attributes_are_refused_when_the_model_is_loaded(attributes, match, operator):
    model = Case(pool={"kernel_shape": [2, 2]}).model(operator)
    node = model.graph.node[0]
    for name, value in attributes.items():
        kept = [attribute for attribute in node.attribute if attribute.name != name]
        node.ClearField("attribute")
        node.attribute.extend(kept)
        if value is not None:
            node.attribute.append(helper.make_attribute(name, value))
    with pytest.raises(RuntimeException, match=f"onnx_snn.{operator}: .*{match}"):
        native(model)


def zeros(*shape: int, dtype: str = "int8") -> np.ndarray:
    return np.zeros(shape, dtype)


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"x": zeros(8, 6, 8)}, r"x must be \[T\*N, H, W, C\], not \[8,6,8\]"),
        ({"x": zeros(8, 1, 8, 5)}, r"kernel_shape \[2,2\] is larger than x \[8,1,8,5\]"),
        ({"x": zeros(8, 6, 0, 5)}, r"kernel_shape \[2,2\] is larger than x \[8,6,0,5\]"),
        ({"x": zeros(9, 6, 8, 5)}, "x has 9 rows, .* multiple of T = 4"),
        ({"T": np.array(0)}, "T must be 1 or more, not 0"),
        ({"T": np.array(2**24), "x": zeros(0, 6, 8, 5)}, "T must be 8388608 or less"),
        ({"T": np.array([4, 4])}, r"T must be one value, not a tensor of shape \[2\]"),
        ({"c": zeros(2, 6, 8, 4, dtype="f4")}, r"c has shape \[2,6,8,4\], but \[2,6,8,5\]"),
        ({"c": zeros(5, dtype="f4")}, r"c has shape \[5\], but \[2,6,8,5\]"),
    ],
)
def test_wrong_inputs_are_refused_and_the_session_lives_on(changed, match):
    case = Case(c="full")
    session = native(case.model(EVENT_MAX_POOL))
    feeds = case.feeds(EVENT_MAX_POOL)
    with pytest.raises(InvalidArgument, match=f"onnx_snn.EventMaxPool: .*{match}"):
        session.run(None, feeds | changed)
    assert_identical(session.run(None, feeds), case.expected(EVENT_MAX_POOL))


def test_a_window_whose_sum_could_leave_32_bits_is_refused():
    pool = {"kernel_shape": [2**13, 2**13]}
    session = native(Case(pool=pool).model(EVENT_SUM_POOL))
    with pytest.raises(InvalidArgument, match=r"kernel_shape \[8192,8192\] is too large"):
        session.run(None, {"x": zeros(0, 2**13, 2**13, 1)})


@pytest.mark.parametrize("wrong", [TensorProto.FLOAT, TensorProto.UINT8])
@both_operators
def test_events_of_another_type_are_refused_when_the_model_is_loaded(wrong, operator):
    model = Case().model(operator)
    model.graph.input[0].type.tensor_type.elem_type = wrong
    with pytest.raises((Fail, InvalidGraph), match=operator):
        native(model)
