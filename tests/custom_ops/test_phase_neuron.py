"""The native kernels of every instruction set against the reference."""

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

from if_neuron_cases import all_dtypes, assert_identical, native
from onnx_snn.ops.portable import phase_neuron_function
from onnx_snn.ops.reference import phase_neuron
from phase_neuron_cases import BASES, CASES, Case, all_cases, random_cases

all_bases = pytest.mark.parametrize("base", BASES.values(), ids=BASES)


@pytest.mark.usefixtures("isa")
@all_cases
@all_dtypes
def test_kernel_gives_what_the_reference_gives(case, dtype):
    session = native(case.model(dtype))
    assert_identical(session.run(None, case.feeds(dtype)), case.expected(dtype))


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("case", [c for c in CASES if "task" in c.name], ids=lambda c: c.name)
@all_dtypes
def test_threads_share_the_work(case, dtype):
    session = native(case.model(dtype), threads=3)
    assert_identical(session.run(None, case.feeds(dtype)), case.expected(dtype))


@pytest.mark.usefixtures("isa")
@given(random_cases())
@settings(
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # the same for all examples
)
def test_any_call_gives_what_the_reference_gives(case):
    for dtype in ("float32", "float16"):
        session = native(case.model(dtype))
        assert_identical(session.run(None, case.feeds(dtype)), case.expected(dtype))


@pytest.mark.usefixtures("isa")
@all_dtypes
def test_spikes_beyond_the_cache_are_the_same(dtype):
    # They take another way to memory. An odd number of neurons puts every row at another place in
    # a cache line, and leaves a block of three.
    steps, different, copies = 8, 1009, 1075 * 4
    x = np.random.default_rng(0).integers(-20, 29, different) / 16
    feeds = {"x": np.tile(x.astype(dtype), copies), "T": np.array(steps)}
    case = Case(attributes={"constant_input": 1})
    (s,) = native(case.model(dtype), threads=2).run(None, feeds)
    expected = phase_neuron(x.astype(dtype), steps, constant_input=True)
    s = s.reshape(steps, copies, different)
    assert (s == expected.reshape(steps, 1, different)).all()


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("offset", [1, 3])
@all_dtypes
def test_buffers_of_the_caller_are_filled_and_nothing_around_them(dtype, offset):
    # They are aligned to their values only.
    case = Case(shape=(3, 37))
    feeds, (expected,) = case.feeds(dtype), case.expected(dtype)
    session = native(case.model(dtype))
    x = np.pad(feeds["x"].ravel(), offset, constant_values=77)
    s = np.pad(np.full_like(expected.ravel(), 55), offset, constant_values=77)
    binding = session.io_binding()
    binding.bind_cpu_input("T", feeds["T"])
    binding.bind_input("x", "cpu", 0, x.dtype, feeds["x"].shape, x[offset:].ctypes.data)
    binding.bind_output("s", "cpu", 0, s.dtype, expected.shape, s[offset:].ctypes.data)
    session.run_with_iobinding(binding)
    np.testing.assert_array_equal(s, np.pad(expected.ravel(), offset, constant_values=77))


@all_bases
def test_the_kernel_goes_before_the_body(base):
    case = Case(attributes=base)
    model = case.model("float32", [phase_neuron_function(TensorProto.FLOAT, 18)])
    (body,) = model.functions
    del body.node[:]
    body.node.add(op_type="Identity", input=["x"], output=["s"])
    assert_identical(native(model).run(None, case.feeds("float32")), case.expected("float32"))


@pytest.mark.parametrize(
    ("attributes", "match"),
    [
        ({"constant_input": 2}, "constant_input must be 0 or 1, not 2"),
        ({"base": 0}, "base must be 1 or 2, not 0"),
        ({"base": 3}, "base must be 1 or 2, not 3"),
        ({"v_threshold": 0.0}, "v_threshold must be positive"),
        ({"v_threshold": np.inf}, "v_threshold must be positive and finite"),
        ({"v_threshold": np.nan}, "v_threshold must be positive and finite"),
        ({"v_init": np.inf}, "v_init must be finite"),
        ({"v_init": np.nan}, "v_init must be finite"),
        ({"v_threshold": 1}, "v_threshold must be a float"),
        ({"base": 2.0}, "base must be an integer"),
    ],
)
def test_wrong_attributes_are_refused_when_the_model_is_loaded(attributes, match):
    # onnxruntime makes any error in the creation of a kernel this one.
    with pytest.raises(RuntimeException, match=f"onnx_snn.PhaseNeuron: .*{match}"):
        native(Case(attributes=attributes).model("float32"))


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"T": np.array(0)}, "T must be 1 or more, not 0"),
        ({"T": np.array(-3)}, "T must be 1 or more, not -3"),
        ({"T": np.array(65)}, "T must be 64 or less with base 2, not 65"),
        ({"T": np.array([3, 3])}, r"T must be one value, not a tensor of shape \[2\]"),
        ({"T": np.array(4)}, r"x has 6 rows, .* multiple of T = 4 \(x shape \[6,3\]\)"),
        ({"x": np.array(1, np.float32)}, "x must have a leading axis of T\\*N rows.* scalar"),
    ],
)
def test_wrong_inputs_are_refused_and_the_session_lives_on(changed, match):
    case = Case(shape=(2, 3), steps=3)
    session = native(case.model("float32"))
    feeds = case.feeds("float32")
    with pytest.raises(InvalidArgument, match=f"onnx_snn.PhaseNeuron: .*{match}"):
        session.run(None, feeds | changed)
    assert_identical(session.run(None, feeds), case.expected("float32"))


@pytest.mark.parametrize("steps", [2**58, 2**62])
def test_number_of_steps_beyond_any_memory_is_refused(steps):
    case = Case(shape=(2, 3), steps=3, attributes={"constant_input": 1, "base": 1})
    session = native(case.model("float32"))
    with pytest.raises(InvalidArgument, match=r"PhaseNeuron: .*is too large.*"):
        session.run(None, case.feeds("float32") | {"T": np.array(steps)})
    assert_identical(session.run(None, case.feeds("float32")), case.expected("float32"))


@pytest.mark.parametrize(
    "types",
    [{"x": TensorProto.INT64}, {"x": TensorProto.BFLOAT16}, {"T": TensorProto.INT32}],
    ids=str,
)
def test_wrong_types_are_refused_when_the_model_is_loaded(types):
    # In the words of onnxruntime, which finds no kernel.
    model = Case().model("float32")
    for value in model.graph.input:
        tensor = value.type.tensor_type
        tensor.elem_type = types.get(value.name, tensor.elem_type)
    with pytest.raises((Fail, InvalidGraph), match="PhaseNeuron"):
        native(model)
