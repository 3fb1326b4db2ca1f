"""The references of EventConvAddIFNeuron and EventIFNeuron against Conv and IFNeuron."""

from dataclasses import replace

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from onnx import TensorProto, helper

from event_conv_add_cases import IDENTITY, AddCase, all_cases, random_add_cases
from event_conv_cases import SAME, Case
from if_neuron_cases import SIGNED
from if_neuron_cases import Case as NeuronCase
from onnx_snn.ops.reference import event_conv_add_if_neuron, event_if_neuron, if_neuron


def sum_of_convs(case: AddCase) -> np.ndarray:
    """The currents [T * N, Ho, Wo, M], by onnxruntime."""
    value = helper.make_tensor_value_info
    shortcut = {"strides": list(case.strides), "group": case.group}
    nodes = [
        helper.make_node("Conv", ["x", "W", "B"], ["main"], **case.main.conv),
        helper.make_node("Conv", ["r", "R"], ["shortcut"], **shortcut),
        helper.make_node("Add", ["main", "shortcut"], ["y"]),
    ]
    floats = [value(name, TensorProto.FLOAT, None) for name in "xWBrR"]
    graph = helper.make_graph(nodes, "sum", floats, [value("y", TensorProto.FLOAT, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {name: array.astype("f4") for name, array in case.weights.items()}
    feeds |= {name: feeds[name].transpose(3, 2, 0, 1) for name in "WR"}
    events = {"x": case.main.x, "r": case.r}
    feeds |= {name: e.transpose(0, 3, 1, 2).astype("f4") for name, e in events.items()}
    return session.run(None, feeds)[0].transpose(0, 2, 3, 1)


def check(case: AddCase) -> None:
    main = replace(case.main, outputs=("v_next", "n_next"))
    s, *state = replace(case, main=main).expected()
    expected, *expected_state = if_neuron(
        sum_of_convs(case), main.steps, **main.state, **main.neuron
    )
    assert s.dtype == np.int8
    np.testing.assert_array_equal(s, expected)
    for actual, e in zip(state, expected_state, strict=True):
        np.testing.assert_array_equal(actual, e, strict=True)


@all_cases
def test_neurons_follow_the_sum_of_both_convolutions(case):
    check(case)


@given(random_add_cases())
@settings(deadline=None, max_examples=30)
def test_any_neurons_follow_the_sum_of_both_convolutions(case):
    check(case)


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"shortcut": (5, 6, 10)}, r"shortcut's currents \(8, 5, 6, 10\) are not of the shape"),
        ({"shortcut": (1, 1, 10)}, "are not of the shape"),
        ({"strides": (2, 2)}, "are not of the shape"),
        ({"group": 3}, "do not fit"),
    ],
)
def test_a_shortcut_that_does_not_fit_is_refused(changed, match):
    with pytest.raises(ValueError, match=match):
        replace(IDENTITY, **changed).expected()


@pytest.mark.parametrize("shape", [(3, 3, 1, 10), (1, 1, 1, 9), (1, 1, 10)])
def test_wrong_weights_of_the_shortcut_are_refused(shape):
    weights = IDENTITY.weights
    with pytest.raises(ValueError, match=r"R must be \[1, 1, C'/shortcut_group, 10\]"):
        event_conv_add_if_neuron(
            IDENTITY.main.x,
            weights["W"],
            weights["B"],
            IDENTITY.r,
            np.zeros(shape, np.float32),
            IDENTITY.main.steps,
            **SAME,
        )


def test_events_are_the_spikes_of_if_neuron():
    case = NeuronCase(steps=12, attributes=SIGNED, v="full", n="full")
    feeds = case.feeds("float32")
    steps = int(feeds.pop("T"))
    s, *state = event_if_neuron(timesteps=steps, **feeds, **SIGNED)
    expected, *expected_state = if_neuron(timesteps=steps, **feeds, **SIGNED)
    assert s.dtype == np.int8
    assert set(np.unique(s)) == {-1, 0, 1}
    np.testing.assert_array_equal(s, expected)
    np.testing.assert_array_equal(state, expected_state)


@pytest.mark.parametrize("attributes", [{"spike_max": 128}, {"spike_min": -129}])
def test_spikes_beyond_a_byte_are_refused(attributes):
    case = AddCase(Case(conv=SAME, neuron=attributes), (5, 7, 4))
    with pytest.raises(ValueError, match="from -128 to 127"):
        case.expected()
    with pytest.raises(ValueError, match="from -128 to 127"):
        event_if_neuron(np.zeros((2, 3), np.float32), 2, **attributes)
