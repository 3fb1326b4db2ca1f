"""The native kernels of EventConvAddIFNeuron, of every instruction set, against the reference."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from onnx import helper
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument, RuntimeException

from event_conv_add_cases import IDENTITY, AddCase, all_cases, random_add_cases
from event_conv_cases import COUNTED, SAME, Case, any_byte, signed, spikes
from if_neuron_cases import assert_identical, native


@pytest.mark.usefixtures("isa")
@all_cases
def test_kernel_gives_what_the_reference_gives(case):
    session = native(case.model(), threads=2)
    assert_identical(session.run(None, case.feeds()), case.expected())


@pytest.mark.usefixtures("isa")
@given(random_add_cases())
@settings(
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # the same for all examples
)
def test_any_call_gives_what_the_reference_gives(case):
    session = native(case.model())
    assert_identical(session.run(None, case.feeds()), case.expected())


def rounded_weights(case: AddCase) -> dict[str, np.ndarray]:
    """Weights whose sums are rounded, so that the order of additions shows."""
    random = np.random.default_rng(0)
    return {
        name: random.normal(0.02, 0.2, values.shape).astype(np.float32)
        for name, values in case.weights.items()
    }


WIDE = Case("", (3, 6, 7, 20), (3, 3, 70), SAME, steps=3, constant_weights=False)


@pytest.mark.parametrize(
    ("channels", "group"), [(70, 70), (9, 1), (10, 2)], ids=["identity", "projection", "groups"]
)
@pytest.mark.parametrize("events", [spikes(0.1), signed], ids=["ones", "signed"])
@pytest.mark.parametrize("dense", ["", "x", "r", "xr"])
def test_currents_are_added_in_the_order_specified(isa, channels, group, events, dense):
    if isa == "amx":
        pytest.skip("sums of tiles have no order; see test_event_conv_tiles.py")
    # Products with 0, 1 and -1 are exact, so any kernel has to give the sums written here. The
    # rate of the whole call decides upon the dense form; the ones are further images.
    case = AddCase(replace(WIDE, steps=1, events=events), (6, 7, channels), (1, 1), group, events)
    weights = rounded_weights(case)
    w, b, shortcut_w = weights.values()
    sources = {"x": case.main.x, "r": case.r}
    x, r = np.pad(sources["x"], ((0, 0), (1, 1), (1, 1), (0, 0))), sources["r"]
    expected = np.empty((3, 6, 7, 70), np.float32)
    expected[:] = b
    for i, j, c in np.ndindex(w.shape[:3]):
        expected += x[:, i : i + 6, j : j + 7, c : c + 1] * w[i, j, c]
    per_group, outputs = channels // group, 70 // group
    for c in range(per_group):
        seen = np.repeat(r[..., c::per_group], outputs, axis=-1)
        expected += seen * shortcut_w[0, 0, c]

    further = {
        name: np.full((60, *e.shape[1:]), name in dense, np.int8) for name, e in sources.items()
    }
    feeds = {name: np.concatenate([e, further[name]]) for name, e in sources.items()}
    main = replace(case.main, v="scalar", neuron={"v_threshold": 1e30}, outputs=("v_next",))
    feeds |= {"T": np.array(1), "v": np.zeros((), np.float32), **weights}
    _, currents = native(replace(case, main=main).model(), 2).run(None, feeds)
    assert_identical([currents[:3]], [expected])


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("group", [1, 70])
@pytest.mark.parametrize("events", [spikes(0.1), spikes(0.7), any_byte])
def test_number_of_threads_changes_no_bit(group, events):
    case = AddCase(replace(WIDE, steps=7), (6, 7, 70), (1, 1), group, events)
    feeds = case.feeds() | rounded_weights(case)
    expected = native(case.model(), 1).run(None, feeds)
    for threads in (2, 5):
        assert_identical(native(case.model(), threads).run(None, feeds), expected)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize(("group", "steps"), [(1, 30), (2, 30), (1, 3)])
def test_calls_larger_than_the_lists_are_done_in_parts(group, steps):
    # Of 30 steps, one image does not fit; of 3, not all images do.
    main = Case(
        shape=(2 if steps > 3 else 10, 64, 64, 18),
        kernel=(1, 1, 2),
        conv={"strides": [3, 3]},
        steps=steps,
        outputs=(),
        neuron=COUNTED,
    )
    case = AddCase(main, (64, 64, 18), (3, 3), group)
    assert_identical(native(case.model(), 2).run(None, case.feeds()), case.expected())


@pytest.mark.usefixtures("isa")
def test_two_calls_with_the_state_carried_over_are_one():
    case = replace(IDENTITY, main=replace(IDENTITY.main, neuron=COUNTED, v="full", n="full"))
    session, feeds, parts = native(case.model()), case.feeds(), []
    for steps, rows in ((1, slice(0, 2)), (3, slice(2, 8))):
        given = feeds | {"x": feeds["x"][rows], "r": feeds["r"][rows], "T": np.array(steps)}
        s, feeds["v"], feeds["n"] = session.run(None, given)
        parts.append(s)
    assert_identical([np.concatenate(parts), feeds["v"], feeds["n"]], case.expected())


@pytest.mark.parametrize(
    ("attributes", "match"),
    [
        ({"shortcut_strides": [0, 1]}, r"shortcut_strides must be 2 integers from 1 to 2147483647"),
        ({"shortcut_strides": [1]}, r"shortcut_strides must be 2 integers"),
        ({"shortcut_group": 0}, "shortcut_group must be 1 or more, not 0"),
        ({"shortcut_group": 3}, "R has 10 output .* not a multiple of shortcut_group = 3"),
        ({"strides": [1]}, "strides must be 2 integers"),
        ({"spike_max": 128}, "from -128 to 127, not from 0 to 128"),
    ],
)
def test_wrong_attributes_are_refused_when_the_model_is_loaded(attributes, match):
    model = AddCase(Case(), (3, 5, 4)).model()
    model.graph.node[0].attribute.extend(helper.make_attribute(*a) for a in attributes.items())
    with pytest.raises(RuntimeException, match=f"onnx_snn.EventConvAddIFNeuron: .*{match}"):
        native(model)


def zeros(*shape: int, dtype: str = "int8") -> np.ndarray:
    return np.zeros(shape, dtype)


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"r": zeros(8, 5, 7)}, r"r must be \[T\*N, H, W, C\], not \[8,5,7\]"),
        ({"r": zeros(8, 5, 7, 9)}, "r has 9 channels, but R wants 10 .*shortcut_group = 10"),
        ({"r": zeros(8, 5, 0, 10)}, r"kernel of R \[1,1,1,10\] is larger than r \[8,5,0,10\]"),
        ({"r": zeros(4, 5, 7, 10)}, "r has 4 rows, but x has 8"),
        ({"r": zeros(9, 5, 7, 10)}, "x has 9 rows, .* multiple of T = 4"),
        (
            {"r": zeros(8, 5, 6, 10)},
            r"shortcut's output is of the size \[5,6\], but the convolution's of \[5,7\] "
            r"\(x shape \[8,5,7,6\], r shape \[8,5,6,10\]\)",
        ),
        ({"r": zeros(8, 1, 1, 10)}, r"shortcut's output is of the size \[1,1\]"),
        ({"R": zeros(1, 1, 10, dtype="float32")}, r"R must be \[1, 1, C'/shortcut_group, 10\]"),
        ({"R": zeros(1, 1, 0, 10, dtype="float32")}, r"R must be .*, not \[1,1,0,10\]"),
        ({"R": zeros(3, 3, 1, 10, dtype="float32")}, r"R must be .*, not \[3,3,1,10\]"),
        ({"R": zeros(1, 1, 1, 9, dtype="float32")}, r"R must be .*, not \[1,1,1,9\]"),
        ({"x": zeros(8, 5, 7, 5)}, "x has 5 channels, but W wants 6"),
        ({"v": zeros(2, 5, 7, 9, dtype="float32")}, "v has shape"),
        ({"T": np.array(0)}, "T must be 1 or more, not 0"),
    ],
)
def test_wrong_inputs_are_refused_and_the_session_lives_on(changed, match):
    case = replace(IDENTITY, main=replace(IDENTITY.main, constant_weights=False, v="full"))
    session = native(case.model())
    feeds = case.feeds()
    with pytest.raises(InvalidArgument, match=f"onnx_snn.EventConvAddIFNeuron: .*{match}"):
        session.run(None, feeds | changed)
    assert_identical(session.run(None, feeds), case.expected())
