"""The native kernels of every instruction set against the reference."""

from typing import Any

import numpy as np
import onnx
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

from event_conv_cases import (
    COUNTED,
    SAME,
    Case,
    all_cases,
    any_byte,
    both_operators,
    random_cases,
    spikes,
)
from if_neuron_cases import assert_identical, if_neuron_model, native


@pytest.mark.usefixtures("isa")
@all_cases
@both_operators
def test_kernel_gives_what_the_reference_gives(case, fused):
    session = native(case.model(fused=fused))
    actual = session.run(None, case.feeds(fused=fused))
    assert_identical(actual, case.expected(fused=fused))


@pytest.mark.usefixtures("isa")
@both_operators
@given(random_cases())
@settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # the same for all examples
)
def test_any_call_gives_what_the_reference_gives(fused, case):
    session = native(case.model(fused=fused))
    actual = session.run(None, case.feeds(fused=fused))
    assert_identical(actual, case.expected(fused=fused))


def rounded(case: Case, fused: bool, threads: int) -> list[np.ndarray]:
    """The outputs with weights whose sums are rounded, so that the order of additions shows."""
    model = case.model(fused=fused)
    random = np.random.default_rng(0)
    feeds = case.feeds(fused=fused)
    for name, values in case.weights.items():
        feeds[name] = random.normal(0.02, 0.2, values.shape).astype(np.float32)
    return native(model, threads).run(None, feeds)


ROUNDED = [
    Case("sparse", (3, 12, 13, 20), (3, 3, 70), SAME, steps=9, constant_weights=False),
    Case("dense", (3, 12, 13, 20), (3, 3, 70), SAME, spikes(0.7), 9, constant_weights=False),
    Case("values", (3, 12, 13, 20), (3, 3, 70), SAME, any_byte, 9, constant_weights=False),
    Case(
        "depthwise",
        (3, 12, 13, 70),
        (3, 3, 70),
        {"group": 70, **SAME},
        steps=9,
        constant_weights=False,
    ),
]


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("case", ROUNDED, ids=lambda case: case.name)
@both_operators
def test_number_of_threads_changes_no_bit(case, fused):
    expected = rounded(case, fused, 1)
    for threads in (2, 5):
        assert_identical(rounded(case, fused, threads), expected)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("case", ROUNDED, ids=lambda case: case.name)
def test_fused_is_the_convolution_and_then_the_neuron(case):
    (currents,) = rounded(case, False, 1)
    neuron = native(if_neuron_model(("x", "T"), ("s", "v_next", "n_next"), "float32", {}))
    s, *state = neuron.run(None, {"x": currents, "T": np.array(case.steps)})
    assert_identical(rounded(case, True, 1), [s.astype(np.int8), *state])


@pytest.mark.usefixtures("isa")
def test_the_dense_form_changes_no_bit():
    # The rate of the whole call decides; images of the sparse one are images of the dense one.
    sparse = Case(shape=(6, 9, 9, 20), kernel=(3, 3, 70), conv=SAME, steps=1)
    random = np.random.default_rng(0)
    weights = {k: random.normal(0, 1, v.shape).astype("f4") for k, v in sparse.weights.items()}
    session = native(Case(kernel=(3, 3, 70), conv=SAME, constant_weights=False).model(fused=False))
    ones = np.ones((60, 9, 9, 20), np.int8)
    (alone,) = session.run(None, {"x": sparse.x, **weights})
    (among_dense,) = session.run(None, {"x": np.concatenate([sparse.x, ones]), **weights})
    assert_identical([among_dense[:6]], [alone])


@pytest.mark.usefixtures("isa")
@both_operators
@pytest.mark.parametrize(("rate", "steps"), [(0.01, 40), (0.6, 40), (0.01, 3)])
def test_calls_larger_than_the_lists_are_done_in_parts(fused, rate, steps):
    # Of 40 steps, one image does not fit; of 3, not all images do.
    case = Case(
        shape=(2 if steps > 3 else 10, 64, 64, 18),
        kernel=(1, 1, 2),
        conv={"strides": [3, 3]},
        events=spikes(rate),
        steps=steps,
        outputs=(),
        neuron=COUNTED,
    )
    session = native(case.model(fused=fused), 2)
    assert_identical(session.run(None, case.feeds(fused=fused)), case.expected(fused=fused))


@pytest.mark.usefixtures("isa")
def test_two_calls_with_the_state_carried_over_are_one():
    case = Case(conv=SAME, steps=12, neuron={"count_max": 3, **COUNTED}, v="full", n="full")
    session = native(case.model(fused=True))
    feeds = case.feeds(fused=True)
    parts = []
    for x in np.split(feeds["x"].reshape(12, *case.shape), [1, 8]):
        feeds |= {"x": x.reshape(-1, *case.shape[1:]), "T": np.array(len(x))}
        s, feeds["v"], feeds["n"] = session.run(None, feeds)
        parts.append(s)
    actual = [np.concatenate(parts), feeds["v"], feeds["n"]]
    assert_identical(actual, case.expected(fused=True))


@pytest.mark.usefixtures("isa")
def test_buffers_of_the_caller_are_filled_and_nothing_around_them():
    case = Case(shape=(2, 5, 7, 19), kernel=(3, 3, 37), neuron=COUNTED, v="full", n="full")
    feeds, expected = case.feeds(fused=True), case.expected(fused=True)
    session = native(case.model(fused=True))
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
    for name, values in zip(("s", "v_next", "n_next"), expected, strict=True):
        binding.bind_output(name, *placed(values, np.full_like(values, 55)))
    session.run_with_iobinding(binding)
    for buffer, values in zip(held[-3:], expected, strict=True):
        np.testing.assert_array_equal(buffer, np.pad(values.ravel(), 3, constant_values=77))


def test_a_model_without_a_body_needs_the_kernel():
    with pytest.raises((Fail, InvalidArgument), match="EventConv"):
        ort.InferenceSession(Case().model(fused=False).SerializeToString())


def test_one_session_runs_calls_of_any_shape():
    first = Case(conv=SAME, v="full", n="full")
    session = native(first.model(fused=True), threads=2)
    for shape, steps in [
        ((2, 5, 7, 6), 4),
        ((1, 1, 1, 6), 9),
        ((0, 5, 7, 6), 2),
        ((3, 3, 40, 6), 1),
    ]:
        case = Case(shape=shape, steps=steps, conv=SAME, v="full", n="full")
        feeds = case.feeds(fused=True)
        assert_identical(session.run(None, feeds), case.expected(fused=True))


def with_attributes(model: onnx.ModelProto, attributes: dict[str, Any]) -> onnx.ModelProto:
    for name, value in attributes.items():
        model.graph.node[0].attribute.append(helper.make_attribute(name, value))
    return model


@pytest.mark.parametrize(
    ("attributes", "match"),
    [
        ({"strides": [0, 1]}, r"strides must be 2 integers from 1 to 2147483647, not \[0,1\]"),
        ({"strides": [1]}, r"strides must be 2 integers from 1 to 2147483647, not \[1\]"),
        ({"strides": [1, 2**40]}, "strides must be 2 integers from 1 to 2147483647"),
        ({"pads": [1, 1]}, r"pads must be 4 integers from 0 to 2147483647, not \[1,1\]"),
        ({"pads": [0, 0, -1, 0]}, "pads must be 4 integers from 0 to 2147483647"),
        ({"dilations": [1, -1]}, "dilations must be 2 integers from 1 to 2147483647"),
        ({"dilations": 1}, r"dilations must be 2 integers from 1 to 2147483647, not \[\]"),
        ({"group": 0}, "group must be 1 or more, not 0"),
        ({"group": 3}, "W has 10 output channels, which is not a multiple of group = 3"),
        ({"group": 1.0}, "group must be an integer"),
    ],
)
@both_operators
def test_wrong_attributes_are_refused_when_the_model_is_loaded(attributes, match, fused):
    model = with_attributes(Case().model(fused=fused), attributes)
    with pytest.raises(RuntimeException, match=f"onnx_snn.EventConv.*: .*{match}"):
        native(model)


@pytest.mark.parametrize(
    ("attributes", "match"),
    [
        ({"v_threshold": 0.0}, "v_threshold must be positive"),
        ({"reset": "soft"}, 'reset must be "subtract" or "zero", not "soft"'),
        ({"spike_max": 128}, "from -128 to 127, not from 0 to 128"),
        ({"spike_min": -129}, "from -128 to 127, not from -129 to 1"),
        ({"count_max": -2}, "count_max must be 0 or more"),
    ],
)
def test_wrong_attributes_of_the_neuron_are_refused(attributes, match):
    model = with_attributes(Case().model(fused=True), attributes)
    with pytest.raises(RuntimeException, match=f"onnx_snn.EventConvIFNeuron: .*{match}"):
        native(model)


def zeros(*shape: int, dtype: str = "float32") -> np.ndarray:
    return np.zeros(shape, dtype)


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"x": zeros(8, 5, 7, dtype="int8")}, r"x must be \[T\*N, H, W, C\], not \[8,5,7\]"),
        ({"x": zeros(8, 5, 7, 5, dtype="int8")}, "x has 5 channels, but W wants 6 .*group = 1"),
        (
            {"x": zeros(8, 2, 7, 6, dtype="int8")},
            r"kernel of W \[3,3,6,10\] is larger than x \[8,2",
        ),
        ({"x": zeros(8, 5, 0, 6, dtype="int8")}, "kernel of W .* is larger than x"),
        ({"x": zeros(9, 5, 7, 6, dtype="int8")}, "x has 9 rows, .* multiple of T = 4"),
        ({"T": np.array(0)}, "T must be 1 or more, not 0"),
        ({"T": np.array([4, 4])}, r"T must be one value, not a tensor of shape \[2\]"),
        ({"W": zeros(3, 3, 10)}, r"W must be \[kH, kW, C/group, M\] and not empty, not \[3,3,10\]"),
        ({"W": zeros(3, 0, 6, 10)}, r"W must be .* not empty, not \[3,0,6,10\]"),
        ({"B": zeros(9)}, r"B has shape \[9\], but \[10\] is needed"),
        ({"B": zeros(1, 10)}, r"B has shape \[1,10\], but \[10\] is needed"),
        ({"v": zeros(2, 3, 5, 9)}, r"v has shape \[2,3,5,9\], but \[2,3,5,10\]"),
        ({"n": zeros(10)}, r"n has shape \[10\], but \[2,3,5,10\]"),
    ],
)
def test_wrong_inputs_are_refused_and_the_session_lives_on(changed, match):
    case = Case(v="full", n="full", constant_weights=False)
    session = native(case.model(fused=True))
    feeds = case.feeds(fused=True)
    with pytest.raises(InvalidArgument, match=f"onnx_snn.EventConvIFNeuron: .*{match}"):
        session.run(None, feeds | changed)
    assert_identical(session.run(None, feeds), case.expected(fused=True))


@pytest.mark.parametrize(
    "types",
    [{"x": TensorProto.FLOAT}, {"x": TensorProto.UINT8}, {"W": TensorProto.DOUBLE}],
    ids=str,
)
def test_wrong_types_are_refused_when_the_model_is_loaded(types):
    model = Case(constant_weights=False).model(fused=False)
    for value in model.graph.input:
        tensor = value.type.tensor_type
        tensor.elem_type = types.get(value.name, tensor.elem_type)
    with pytest.raises((Fail, InvalidGraph), match="EventConv"):
        native(model)
