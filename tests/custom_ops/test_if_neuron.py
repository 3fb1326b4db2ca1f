"""The native kernels of every instruction set against the reference."""

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import HealthCheck, given, settings
from onnx import TensorProto
from onnxruntime.capi.onnxruntime_pybind11_state import (
    Fail,
    InvalidArgument,
    InvalidGraph,
    RuntimeException,
)

from if_neuron_cases import (
    CASES,
    OUTPUTS,
    SIGNED,
    Case,
    all_cases,
    all_dtypes,
    assert_identical,
    if_neuron_model,
    native,
    random_cases,
)
from onnx_snn.ops.reference import if_neuron

HALVES = np.arange(2**16, dtype=np.uint16).view(np.float16)


@pytest.mark.usefixtures("isa")
@all_cases
@all_dtypes
def test_kernel_gives_what_the_reference_gives(case, dtype):
    session = native(case.model(dtype))
    assert_identical(session.run(None, case.feeds(dtype)), case.expected(dtype))


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("threads", [2, 5])
@pytest.mark.parametrize("case", [c for c in CASES if "task" in c.name], ids=lambda c: c.name)
@all_dtypes
def test_threads_share_the_work(case, dtype, threads):
    session = native(case.model(dtype), threads)
    assert_identical(session.run(None, case.feeds(dtype)), case.expected(dtype))


@pytest.mark.usefixtures("isa")
@given(random_cases())
@settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # the same for all examples
)
def test_any_call_gives_what_the_reference_gives(case):
    for dtype in ("float32", "float16"):
        session = native(case.model(dtype))
        assert_identical(session.run(None, case.feeds(dtype)), case.expected(dtype))


@pytest.mark.usefixtures("isa")
@all_dtypes
def test_spikes_beyond_the_cache_are_the_same(dtype):
    # Spikes that do not fit into the last-level cache take another way to memory. An odd number of
    # neurons puts every row at another place in a cache line, and leaves a block of three.
    steps, different, copies = 33, 1009, 1075
    x = np.random.default_rng(0).integers(-20, 29, (steps, different)) / 16
    feeds = {"x": np.tile(x.astype(dtype), copies), "T": np.array(steps)}
    model = if_neuron_model(("x", "T"), ("s", "v_next"), dtype, {})
    s, v_next = native(model, threads=2).run(None, feeds)
    expected, v_expected, _ = if_neuron(x.astype(dtype), steps)
    s = s.reshape(steps, copies, different)
    assert (s == expected.reshape(steps, 1, different)).all()
    assert (v_next.reshape(copies, different) == v_expected).all()


def test_a_model_without_a_body_needs_the_kernel():
    with pytest.raises((Fail, InvalidArgument), match="IFNeuron"):
        ort.InferenceSession(Case().model("float32").SerializeToString())


@pytest.mark.parametrize("asked", ["sse9", "AVX2", "plain "])
def test_unknown_instruction_set_is_refused(monkeypatch, asked):
    monkeypatch.setenv("ONNX_SNN_ISA", asked)
    with pytest.raises(RuntimeException, match=r"IFNeuron: .*ONNX_SNN_ISA"):
        native(Case().model("float32"))


def test_empty_wish_for_an_instruction_set_is_none(monkeypatch):
    monkeypatch.setenv("ONNX_SNN_ISA", "")
    case = Case()
    session = native(case.model("float32"))
    assert_identical(session.run(None, case.feeds("float32")), case.expected("float32"))


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("threshold", [1.0, 0.7])
@all_dtypes
def test_floors_around_every_power_of_two(threshold, dtype):
    # Where a floor made of additions would go wrong: ties, and from where on there is no fraction.
    info = np.finfo(dtype)
    powers = 2.0 ** np.arange(max(info.minexp, -60), min(info.maxexp, 60))
    edges = np.concatenate([powers, np.nextafter(powers, 0), np.nextafter(powers, np.inf)])
    x = np.concatenate([edges, -edges, edges + 0.5, -edges - 0.5]).astype(dtype)
    attributes = {"v_threshold": threshold, "v_init": 0.0, "spike_max": 2**62}
    attributes |= {"spike_min": -(2**62), "count_min": -(2**62)}
    session = native(if_neuron_model(("x", "T"), OUTPUTS, dtype, attributes))
    assert_identical(session.run(None, {"x": x, "T": np.array(1)}), if_neuron(x, 1, **attributes))


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("offset", [1, 3])
@all_dtypes
def test_buffers_of_the_caller_are_filled_and_nothing_around_them(dtype, offset):
    # They are aligned to their values only.
    case = Case(shape=(3, 37), attributes=SIGNED, v="full", n="full")
    feeds, expected = case.feeds(dtype), dict(zip(OUTPUTS, case.expected(dtype), strict=True))
    session = native(case.model(dtype))
    binding = session.io_binding()
    binding.bind_cpu_input("T", feeds.pop("T"))

    def with_margins(values):
        return np.pad(values.ravel(), offset, constant_values=77)

    def placed(buffer, values):
        return "cpu", 0, values.dtype, values.shape, buffer[offset:].ctypes.data

    sources = {name: with_margins(values) for name, values in feeds.items()}
    results = {name: with_margins(np.full_like(v, 55)) for name, v in expected.items()}
    for name, buffer in sources.items():
        binding.bind_input(name, *placed(buffer, feeds[name]))
    for name, buffer in results.items():
        binding.bind_output(name, *placed(buffer, expected[name]))
    session.run_with_iobinding(binding)
    for name, buffer in results.items():
        np.testing.assert_array_equal(buffer, with_margins(expected[name]))


@pytest.mark.usefixtures("isa")
def test_two_calls_with_the_state_carried_over_are_one():
    case = Case(shape=(7, 5), steps=12, attributes={"count_max": 3, **SIGNED}, v="full", n="full")
    session = native(case.model("float32"))
    feeds = case.feeds("float32")
    x = feeds.pop("x").reshape(case.steps, *case.shape)
    spikes = []
    for part in np.split(x, [1, 8]):
        feeds |= {"x": part.reshape(-1, 5), "T": np.array(len(part))}
        s, feeds["v"], feeds["n"] = session.run(None, feeds)
        spikes.append(s)
    assert_identical([np.concatenate(spikes), feeds["v"], feeds["n"]], case.expected("float32"))


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("size", [7, 13, 2**16])
def test_float16_keeps_every_value(size):
    # The potential after the step is the current. Rows below 8 and the ends of others take the
    # way without vectors.
    x = np.resize(HALVES, -(-(2**16) // size) * size).reshape(-1, size)
    attributes = {"v_threshold": 1e30, "v_init": 0.0}
    session = native(if_neuron_model(("x", "T"), ("s", "v_next"), "float16", attributes))
    one = np.array(1)
    for row in x:
        s, v_next = session.run(None, {"x": row, "T": one})
        assert np.array_equal(s, row == np.inf)
        assert np.array_equal(v_next, row, equal_nan=True)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("attributes", [{}, SIGNED, {"spike_max": 2**15, "v_threshold": 0.75}])
@pytest.mark.parametrize("tail", range(8))
def test_float16_currents_of_every_value(attributes, tail):
    x = np.resize(HALVES, 2**16 + tail)
    session = native(if_neuron_model(("x", "T"), OUTPUTS, "float16", attributes))
    assert_identical(session.run(None, {"x": x, "T": np.array(1)}), if_neuron(x, 1, **attributes))


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("size", [7, 2**16])
def test_float16_state_is_rounded_to_nearest_even(size):
    # Sums of two random halves are nearly all rounded; the second is made of like size, so that
    # both halves count. Some overflow and some are subnormal.
    random = np.random.default_rng(0)
    x = random.permutation(HALVES)[: 2**16 // size * size].reshape(-1, size)
    nearby = random.integers(-(2**12), 2**12, x.shape) + x.view(np.uint16)
    v = nearby.astype(np.uint16).view(np.float16)
    session = native(
        if_neuron_model(("x", "T", "v"), ("s", "v_next"), "float16", {"v_threshold": 1e30})
    )
    with np.errstate(over="ignore", invalid="ignore"):
        expected = (x.astype(np.float32) + v.astype(np.float32)).astype(np.float16)
    for row, state, wanted in zip(x, v, expected, strict=True):
        _, v_next = session.run(None, {"x": row, "T": np.array(1), "v": state})
        assert np.array_equal(v_next, wanted, equal_nan=True)


def test_one_session_runs_calls_of_any_shape():
    session = native(Case(v="full", n="full").model("float32"), threads=2)
    for shape, steps in [((3, 5), 6), ((70_001,), 2), ((0, 3), 4), ((2, 3, 4), 257), ((3, 5), 6)]:
        case = Case(shape=shape, steps=steps, v="full", n="full")
        assert_identical(session.run(None, case.feeds("float32")), case.expected("float32"))


@pytest.mark.parametrize(
    ("attributes", "match"),
    [
        ({"constant_input": 2}, "constant_input must be 0 or 1, not 2"),
        ({"v_threshold": 0.0}, "v_threshold must be positive"),
        ({"v_threshold": -1.0}, "v_threshold must be positive"),
        ({"v_threshold": np.inf}, "v_threshold must be positive and finite"),
        ({"v_threshold": np.nan}, "v_threshold must be positive and finite"),
        ({"v_init": np.inf}, "v_init must be finite"),
        ({"v_init": np.nan}, "v_init must be finite"),
        ({"reset": "soft"}, 'reset must be "subtract" or "zero", not "soft"'),
        ({"spike_min": 1}, "spike_min must be 0 or less, not 1"),
        ({"spike_max": 0}, "spike_max must be 1 or more, not 0"),
        ({"count_min": 1}, "count_min must be 0 or less, not 1"),
        ({"count_max": -2}, "count_max must be 0 or more, or -1 for no limit, not -2"),
        ({"v_threshold": 1}, "v_threshold must be a float"),
        ({"v_init": "half"}, "v_init must be a float"),
        ({"v_threshold": [1.0, 2.0]}, "v_threshold must be a float"),
        ({"reset": 0}, "reset must be a string"),
        ({"constant_input": 1.0}, "constant_input must be an integer"),
        ({"spike_max": 1.5}, "spike_max must be an integer"),
        ({"count_max": [1, 2]}, "count_max must be an integer"),
    ],
)
def test_wrong_attributes_are_refused_when_the_model_is_loaded(attributes, match):
    # onnxruntime makes any error in the creation of a kernel this one.
    with pytest.raises(RuntimeException, match=f"onnx_snn.IFNeuron: .*{match}"):
        native(Case(attributes=attributes).model("float32"))


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"T": np.array(0)}, "T must be 1 or more, not 0"),
        ({"T": np.array(-3)}, "T must be 1 or more, not -3"),
        ({"T": np.array(-(2**63))}, "T must be 1 or more, not -9223372036854775808"),
        ({"T": np.array([3, 3])}, r"T must be one value, not a tensor of shape \[2\]"),
        ({"T": np.zeros((1, 1), np.int64)}, r"T must be one value, .* \[1,1\]"),
        ({"T": np.zeros(0, np.int64)}, r"T must be one value, .* \[0\]"),
        ({"T": np.array(4)}, r"x has 6 rows, .* multiple of T = 4 \(x shape \[6,3\]\)"),
        ({"x": np.array(1, np.float32)}, "x must have a leading axis of T\\*N rows.* scalar"),
        ({"v": np.zeros((3, 2), np.float32)}, r"v has shape \[3,2\], but \[2,3\].*\[6,3\], T = 3"),
        ({"n": np.zeros((6, 3), np.float32)}, r"n has shape \[6,3\], but \[2,3\].*\[6,3\], T = 3"),
        ({"v": np.zeros(1, np.float32)}, r"v has shape \[1\], but \[2,3\]"),
        ({"n": np.zeros(6, np.float32)}, r"n has shape \[6\], but \[2,3\]"),
        ({"x": np.zeros((3, 3), np.float32)}, r"v has shape \[2,3\], but \[1,3\]"),
    ],
)
def test_wrong_inputs_are_refused_and_the_session_lives_on(changed, match):
    case = Case(shape=(2, 3), steps=3, v="full", n="full")
    session = native(case.model("float32"))
    feeds = case.feeds("float32")
    with pytest.raises(InvalidArgument, match=f"onnx_snn.IFNeuron: .*{match}"):
        session.run(None, feeds | changed)
    assert_identical(session.run(None, feeds), case.expected("float32"))


@pytest.mark.parametrize(
    "types",
    [
        {"x": TensorProto.INT64},
        {"x": TensorProto.BFLOAT16},
        {"x": TensorProto.FLOAT16},
        {"v": TensorProto.DOUBLE},
        {"n": TensorProto.INT64},
        {"T": TensorProto.FLOAT},
        {"T": TensorProto.INT32},
    ],
    ids=str,
)
def test_wrong_types_are_refused_when_the_model_is_loaded(types):
    # In the words of onnxruntime, which finds no kernel.
    model = Case(v="full", n="full").model("float32")
    for value in model.graph.input:
        tensor = value.type.tensor_type
        tensor.elem_type = types.get(value.name, tensor.elem_type)
    with pytest.raises((Fail, InvalidGraph), match="IFNeuron"):
        native(model)


@pytest.mark.parametrize(
    ("shape", "steps"),
    [((2, 3), 2**50), ((2, 3), 2**58), ((4, 2), 2**60), ((2, 3), 2**62), ((2, 0), 2**62)],
)
def test_number_of_steps_beyond_any_memory_is_refused(shape, steps):
    # onnxruntime itself would not run the session again after 2^58.
    case = Case(shape=shape, steps=3, attributes={"constant_input": 1})
    session = native(case.model("float32"))
    with pytest.raises(InvalidArgument, match=r"IFNeuron: .*is too large.*"):
        session.run(None, case.feeds("float32") | {"T": np.array(steps)})
    assert_identical(session.run(None, case.feeds("float32")), case.expected("float32"))


def test_number_of_steps_beyond_this_memory_is_survived():
    case = Case(shape=(2, 3), steps=3, attributes={"constant_input": 1})
    session = native(case.model("float32"))
    with pytest.raises((Fail, RuntimeException), match="IFNeuron"):
        session.run(None, case.feeds("float32") | {"T": np.array(2**44)})
    assert_identical(session.run(None, case.feeds("float32")), case.expected("float32"))
