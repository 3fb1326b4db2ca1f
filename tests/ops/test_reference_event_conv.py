"""The reference of EventConv against onnxruntime's Conv and sums written out."""

from dataclasses import replace

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from onnx import TensorProto, helper

from event_conv_cases import COUNTED, SAME, Case, all_cases, random_cases
from onnx_snn.ops.reference import event_conv, event_conv_if_neuron, if_neuron


def conv_of_onnx(case: Case) -> np.ndarray:
    value = helper.make_tensor_value_info
    node = helper.make_node("Conv", ["x", "W", "B"], ["y"], **case.conv)
    floats = [value(name, TensorProto.FLOAT, None) for name in "xWB"]
    graph = helper.make_graph([node], "conv", floats, [value("y", TensorProto.FLOAT, None)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    w, b = case.weights.values()
    feeds = {"x": case.x.transpose(0, 3, 1, 2).astype("f4"), "W": w.transpose(3, 2, 0, 1), "B": b}
    return session.run(None, feeds)[0].transpose(0, 2, 3, 1)


@all_cases
def test_currents_are_those_of_conv(case):
    np.testing.assert_array_equal(*case.expected(fused=False), conv_of_onnx(case), strict=True)


@given(random_cases())
@settings(deadline=None, max_examples=30)
def test_any_currents_are_those_of_conv(case):
    np.testing.assert_array_equal(*case.expected(fused=False), conv_of_onnx(case), strict=True)


def test_a_current_is_the_sum_of_the_weights_under_the_kernel():
    case = Case(kernel=(2, 3, 4), conv={"group": 2, "strides": [2, 1], "pads": [1, 0, 0, 2]})
    x, (w, b), (y,) = case.x, case.weights.values(), case.expected(fused=False)
    for image, row, column, m in np.ndindex(y.shape):
        group = m // 2
        total = b[m]
        for i, j, c in np.ndindex(2, 3, 3):
            at = row * 2 - 1 + i, column + j
            if 0 <= at[0] < 5 and at[1] < 7:
                total += x[image, *at, group * 3 + c] * w[i, j, c, m]
        assert y[image, row, column, m] == total


def test_neurons_follow_the_currents():
    case = Case(conv=SAME, neuron=COUNTED, v="full", n="full", steps=8)
    s, *state = case.expected(fused=True)
    (currents,) = case.expected(fused=False)
    expected, *expected_state = if_neuron(currents, 8, **case.state, **COUNTED)
    assert s.dtype == np.int8
    assert set(np.unique(s)) == {-1, 0, 1}
    np.testing.assert_array_equal(s, expected)
    np.testing.assert_array_equal(state, expected_state)


@pytest.mark.parametrize(
    ("changed", "match"),
    [
        ({"shape": (2, 2, 7, 6)}, "larger than the padded x"),
        ({"shape": (2, 0, 7, 6)}, "larger than the padded x"),
        ({"conv": {"strides": [0, 1]}}, "strides and dilations >= 1"),
        ({"conv": {"dilations": [1, 0]}}, "strides and dilations >= 1"),
        ({"conv": {"pads": [0, 0, -1, 0]}}, "pads >= 0"),
        ({"conv": {"group": 3}}, "do not fit"),
        ({"conv": {"group": 0}}, "do not fit"),
    ],
)
def test_a_wrong_shape_or_attribute_is_refused(changed, match):
    case = Case()
    wrong = replace(case, **changed)
    with pytest.raises(ValueError, match=match):
        event_conv(wrong.x, *case.weights.values(), **wrong.conv)


@pytest.mark.parametrize(
    ("w", "b"), [((3, 3, 6), (3,)), ((3, 3, 6, 4), (5,)), ((3, 0, 6, 4), (4,))]
)
def test_wrong_weights_are_refused(w, b):
    with pytest.raises(ValueError, match=r"need x \[N, H, W, C\], W"):
        event_conv(Case().x, np.zeros(w, np.float32), np.zeros(b, np.float32))


@pytest.mark.parametrize("attributes", [{"spike_max": 128}, {"spike_min": -129}])
def test_spikes_beyond_a_byte_are_refused(attributes):
    case = Case()
    with pytest.raises(ValueError, match="from -128 to 127"):
        event_conv_if_neuron(case.x, *case.weights.values(), case.steps, **attributes)
