from collections import Counter

import numpy as np
import onnx
import pytest

from nets import Dyadic, Net, residual_blocks, session
from onnx_snn import convert, explain, reference, reschedule
from onnx_snn.errors import OptionError
from onnx_snn.ops import DOMAIN
from simulator import dyadic_thresholds, play, stats_of

T = 6
X = Dyadic(9)(4, 3, 9, 9, step=1 / 8)
FUSED = {"IFNeuron": 3, "AddIFNeuron": 2}


def _converted(model, **options):
    stats = stats_of(model, dyadic_thresholds(model, {"x": X}))
    options = {"mode": "max", "timesteps": T, "holdout": 0, "granularity": "channel", **options}
    return convert(model, stats=stats, **options).model


def _operators(model):
    return Counter(node.op_type for node in model.graph.node if node.domain == DOMAIN)


@pytest.mark.parametrize("neuron", ["if", "signed", "burst(3)"])
def test_shortcuts_are_added_up_by_the_neurons(neuron):
    snn = _converted(residual_blocks(), neuron=neuron)
    fused = _converted(residual_blocks(), neuron=neuron, target="cuda")
    onnx.checker.check_model(fused)
    assert _operators(fused) == FUSED
    currents = {node.output[0] for node in fused.graph.node if node.op_type == "Conv"}
    readers = {n.op_type for n in fused.graph.node if currents.intersection(n.input)}
    assert readers == {"IFNeuron", "AddIFNeuron"}
    expected = play(snn, {"x": X})["y"]
    assert np.unique(expected).size > 3
    for use_native in (True, False):
        actual = play(fused, {"x": X}, use_native=use_native)["y"]
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize(("shape", "kept"), [((1, 1, 1), ()), ((4, 1, 1), (4,)), ((4, 9, 9), None)])
def test_factors_are_one_or_one_for_each_channel(shape, kept):
    weights = Dyadic(4)
    net = Net({"x": ["N", 3, 9, 9]})
    s = net.relu(net.conv("x", weights(4, 3, 3, 3), weights(4), pads=[1] * 4))
    scaled = net.op("Mul", s, net.constant(np.abs(weights(*shape)) + 1 / 4))
    s = net.relu(net.op("Add", scaled, net.conv(s, weights(4, 4, 1, 1), weights(4))))
    model = net.model({"y": net.op("Flatten", net.op("GlobalAveragePool", s))})
    fused = _converted(model, target="cuda")
    (node,) = (node for node in fused.graph.node if node.op_type == "AddIFNeuron")
    factors = next(t for t in fused.graph.initializer if t.name == node.input[2])
    assert tuple(factors.dims) == (kept or ())
    assert any(scaled in node.output for node in fused.graph.node) == (kept is None)
    expected = play(_converted(model), {"x": X})["y"]
    np.testing.assert_array_equal(play(fused, {"x": X})["y"], expected)


@pytest.mark.parametrize("schedule", ["loop", "step"])
def test_state_is_carried_from_block_to_block(schedule):
    snn = _converted(residual_blocks(), neuron="signed")
    fused = reschedule(snn, target="cuda")
    moved = reschedule(fused, schedule=schedule, block=4, timesteps=T)
    expected = play(snn, {"x": X})["y"]
    for use_native in (True, False):
        actual = play(moved, {"x": X}, use_native=use_native)["y"]
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6)  # sums of means by blocks
    again = reschedule(moved, schedule="layer", block=1)
    assert again.SerializeToString() == fused.SerializeToString()


def test_the_quantised_network_is_the_same():
    snn, fused = (_converted(residual_blocks(), target=target) for target in ("any", "cuda"))
    expected, actual = (session(reference(model)).run(None, {"x": X}) for model in (snn, fused))
    np.testing.assert_array_equal(actual, expected)


def test_errors_are_explained_as_before():
    model = residual_blocks()
    snn, fused = (_converted(model, target=target) for target in ("any", "cuda"))
    expected, actual = (explain(each, {"x": X}, model) for each in (snn, fused))
    assert len(expected) == 5
    assert [e.to_dict() for e in actual] == [e.to_dict() for e in expected]


def test_half_precision_is_near():
    snn = _converted(residual_blocks())
    fused = _converted(residual_blocks(), target="cuda", precision="fp16")
    assert _operators(fused) == FUSED
    expected, actual = (play(model, {"x": X})["y"] for model in (snn, fused))
    np.testing.assert_allclose(actual, expected, rtol=0.02, atol=0.02)


def test_a_sum_that_others_read_stays():
    weights = Dyadic(4)
    net = Net({"x": ["N", 3, 9, 9]})
    s = net.relu(net.conv("x", weights(4, 3, 3, 3), weights(4)))
    total = net.op("Add", net.conv(s, weights(4, 4, 1, 1), weights(4)), s)
    pooled = net.op("Flatten", net.op("GlobalAveragePool", total))
    fired = net.op("Flatten", net.op("GlobalAveragePool", net.relu(total)))
    model = net.model({"y": net.op("Add", pooled, fired)})
    fused = _converted(model, target="cuda")
    assert _operators(fused) == {"IFNeuron": 2}
    expected = play(_converted(model), {"x": X})["y"]
    np.testing.assert_array_equal(play(fused, {"x": X})["y"], expected)


def test_a_sum_that_broadcasts_stays():
    weights = Dyadic(5)
    net = Net({"x": ["N", 3, 9, 9]})
    s = net.relu(net.conv("x", weights(4, 3, 3, 3), weights(4)))
    mean = net.op("GlobalAveragePool", s)
    s = net.relu(net.op("Add", net.conv(s, weights(4, 4, 1, 1), weights(4)), mean))
    model = net.model({"y": net.op("Flatten", s)})
    assert _operators(_converted(model, target="cuda")) == {"IFNeuron": 2}


@pytest.mark.parametrize(("written", "wanted"), [("cuda", "any"), ("cuda", "cpu"), ("cpu", "cuda")])
def test_there_is_no_way_to_another_target(written, wanted):
    fused = _converted(residual_blocks(), target=written)
    with pytest.raises(OptionError, match=f"target '{written}'.*to target '{wanted}'; convert"):
        reschedule(fused, target=wanted)
