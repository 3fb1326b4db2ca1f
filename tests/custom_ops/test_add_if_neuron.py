"""The native kernels of AddIFNeuron, of every instruction set, against the reference."""

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

from add_if_neuron_cases import add_feeds, add_model, all_cases, expected_of_sum, for_each_step
from if_neuron_cases import Case, all_dtypes, assert_identical, native, random_cases
from onnx_snn.ops.reference import if_neuron


@pytest.mark.usefixtures("isa")
@all_cases
@all_dtypes
def test_kernel_gives_what_the_reference_gives(case, dtype):
    session = native(add_model(case, dtype), threads=2)
    assert_identical(session.run(None, add_feeds(case, dtype)), expected_of_sum(case, dtype))


@pytest.mark.usefixtures("isa")
@given(random_cases().map(for_each_step))
@settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # the same for all examples
)
def test_any_call_gives_what_the_reference_gives(case):
    for dtype in ("float32", "float16"):
        session = native(add_model(case, dtype))
        assert_identical(session.run(None, add_feeds(case, dtype)), expected_of_sum(case, dtype))


@pytest.mark.usefixtures("isa")
@all_dtypes
def test_one_factor_for_all_channels(dtype):
    case = Case(shape=(2, 3, 5))
    feeds = add_feeds(case, dtype) | {"R": np.array(0.75, dtype)}
    s, *_ = native(add_model(case, dtype)).run(None, feeds)
    wide = "float64" if dtype == "float64" else "float32"
    currents = feeds["x"].astype(wide) + np.array(0.75, wide) * feeds["r"].astype(wide)
    expected, *_ = if_neuron(currents, case.steps)
    np.testing.assert_array_equal(s, expected)


@pytest.mark.usefixtures("isa")
def test_spikes_beyond_the_cache_are_the_same():
    # Spikes that do not fit into the last-level cache take another way to memory.
    steps, different, copies = 33, 1009, 1075
    x, r = np.random.default_rng(0).integers(-20, 29, (2, steps, different)).astype("float32") / 16
    feeds = {"x": np.tile(x, copies), "r": np.tile(r, copies), "T": np.array(steps)}
    feeds["R"] = np.array(0.5, np.float32)
    (s,) = native(add_model(Case(outputs=("s",)), "float32"), threads=2).run(None, feeds)
    expected, *_ = if_neuron(x + r / 2, steps)
    s = s.reshape(steps, copies, different)
    assert (s == expected.reshape(steps, 1, different)).all()


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"r": np.zeros((6, 2), np.float32)}, r"r has shape \[6,2\], but that of x, \[6,3\]"),
        ({"r": np.zeros((3, 3), np.float32)}, r"r has shape \[3,3\], but that of x, \[6,3\]"),
        ({"R": np.zeros(2, np.float32)}, r"R must be one value, or one for .* shape \[2\]"),
        ({"R": np.zeros((1, 3), np.float32)}, r"R must be one value, or one for .* \[1,3\]"),
        ({"T": np.array(4)}, r"x has 6 rows, .* multiple of T = 4"),
        ({"v": np.zeros((3, 2), np.float32)}, r"v has shape \[3,2\], but \[2,3\]"),
    ],
)
def test_wrong_inputs_are_refused_and_the_session_lives_on(changed, match):
    case = Case(shape=(2, 3), steps=3, v="full")
    session = native(add_model(case, "float32"))
    feeds = add_feeds(case, "float32")
    with pytest.raises(InvalidArgument, match=f"onnx_snn.AddIFNeuron: .*{match}"):
        session.run(None, feeds | changed)
    assert_identical(session.run(None, feeds), expected_of_sum(case, "float32"))


def test_a_wrong_attribute_is_refused_when_the_model_is_loaded():
    with pytest.raises(RuntimeException, match=r"onnx_snn.AddIFNeuron: .*v_threshold"):
        native(add_model(Case(attributes={"v_threshold": -1.0}), "float32"))


def test_a_shortcut_of_another_type_is_refused_when_the_model_is_loaded():
    model = add_model(Case(), "float32")
    model.graph.input[-1].type.tensor_type.elem_type = TensorProto.DOUBLE
    with pytest.raises((Fail, InvalidGraph), match="AddIFNeuron"):
        native(model)
