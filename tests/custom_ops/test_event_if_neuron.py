"""The native kernels of EventIFNeuron, of every instruction set, against IFNeuron's reference."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from onnx import TensorProto
from onnxruntime.capi.onnxruntime_pybind11_state import (
    Fail,
    InvalidArgument,
    InvalidGraph,
    RuntimeException,
)

from event_if_neuron_cases import all_cases, event_model, expected_events
from if_neuron_cases import SIGNED, Case, assert_identical, native, random_cases
from onnx_snn.ops.reference import if_neuron


@pytest.mark.usefixtures("isa")
@all_cases
def test_kernel_gives_what_the_reference_gives(case):
    session = native(event_model(case), threads=2)
    assert_identical(session.run(None, case.feeds("float32")), expected_events(case))


@pytest.mark.usefixtures("isa")
@given(random_cases())
@settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # the same for all examples
)
def test_any_call_gives_what_the_reference_gives(case):
    session = native(event_model(case))
    assert_identical(session.run(None, case.feeds("float32")), expected_events(case))


@pytest.mark.usefixtures("isa")
def test_spikes_beyond_the_cache_are_the_same():
    # Spikes that do not fit into the last-level cache take another way to memory, though only with
    # constant currents is it they that fill it. An odd number of neurons puts every row at another
    # place in a cache line, and leaves a block of three.
    steps, different, copies = 129, 1009, 1075
    x = np.random.default_rng(0).integers(-20, 29, different).astype(np.float32) / 16
    case = Case(attributes={"constant_input": 1, **SIGNED}, outputs=("s",))
    feeds = {"x": np.tile(x, copies), "T": np.array(steps)}
    (s,) = native(event_model(case), threads=2).run(None, feeds)
    expected, *_ = if_neuron(x, steps, constant_input=True, **SIGNED)
    s = s.reshape(steps, copies, different)
    assert (s == expected.astype(np.int8).reshape(steps, 1, different)).all()


@pytest.mark.usefixtures("isa")
def test_buffers_of_the_caller_are_filled_and_nothing_around_them():
    case = Case(shape=(3, 37), attributes=SIGNED, outputs=("s",))
    (expected,) = expected_events(case)
    binding = (session := native(event_model(case))).io_binding()
    for name, values in case.feeds("float32").items():
        binding.bind_cpu_input(name, values)
    buffer = np.full(expected.size + 6, 77, np.int8)
    place = buffer[3:].ctypes.data
    binding.bind_output("s", "cpu", 0, np.int8, expected.shape, place)
    session.run_with_iobinding(binding)
    np.testing.assert_array_equal(buffer, np.pad(expected.ravel(), 3, constant_values=77))


@pytest.mark.parametrize(
    ("attributes", "match"),
    [
        ({"spike_max": 128}, "from -128 to 127, not from 0 to 128"),
        ({"spike_min": -129}, "from -128 to 127, not from -129 to 1"),
        ({"constant_input": 2}, "constant_input must be 0 or 1"),
        ({"v_threshold": -1.0}, "v_threshold must be positive"),
    ],
)
def test_wrong_attributes_are_refused_when_the_model_is_loaded(attributes, match):
    with pytest.raises(RuntimeException, match=f"onnx_snn.EventIFNeuron: .*{match}"):
        native(event_model(Case(attributes=attributes)))


def test_wrong_inputs_are_refused_and_the_session_lives_on():
    case = Case(v="full")
    session = native(event_model(case))
    feeds = case.feeds("float32")
    with pytest.raises(InvalidArgument, match=r"onnx_snn.EventIFNeuron: x has 18 rows, .* T = 5"):
        session.run(None, feeds | {"T": np.array(5)})
    assert_identical(session.run(None, feeds), expected_events(case))


def test_currents_of_another_type_are_refused_when_the_model_is_loaded():
    model = event_model(Case())
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    with pytest.raises((Fail, InvalidGraph), match="EventIFNeuron"):
        native(model)
