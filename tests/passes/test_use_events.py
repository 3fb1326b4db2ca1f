from collections import Counter

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest

from nets import Dyadic, Net, residual_blocks
from onnx_snn import convert, reschedule
from onnx_snn.ops import DOMAIN
from simulator import dyadic_thresholds, play, stats_of

T = 6
NEURONS = ["if", "signed", "burst(3)"]


def _converted(model, x, **options):
    thresholds = dyadic_thresholds(model, {"x": x})
    options = {"mode": "max", "neuron": "signed", "timesteps": T, "holdout": 0, **options}
    return convert(model, stats=stats_of(model, thresholds), **options).model


def _operators(model):
    return Counter(node.op_type for node in model.graph.node if node.domain == DOMAIN)


def _assert_same(snn, fused, x, **feeds):
    onnx.checker.check_model(fused)
    expected = play(snn, {"x": x, **feeds})
    assert all(np.unique(values).size > 3 for values in expected.values())
    for use_native in (True, False):
        actual = play(fused, {"x": x, **feeds}, use_native=use_native)
        for name, values in expected.items():
            np.testing.assert_array_equal(actual[name], values)


def _image_net():
    """Pooling, two branches, and a layer over the whole image."""
    weights = Dyadic(1)
    net = Net({"x": ["N", 3, 12, 10]})
    s = net.relu(net.conv("x", weights(8, 3, 3, 3), weights(8), pads=[1] * 4))
    s = net.op("MaxPool", s, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    a = net.relu(net.conv(s, weights(6, 8, 3, 3), weights(6), pads=[1] * 4))
    b = net.relu(net.conv(s, weights(6, 4, 1, 1), weights(6), group=2))
    s = net.op("Concat", a, b, axis=1)
    s = net.op("AveragePool", s, kernel_shape=[2, 2], strides=[2, 2])
    s = net.relu(net.conv(s, weights(4, 12, 2, 2), weights(4)))
    s = net.relu(net.gemm(net.op("Flatten", s), weights(4 * 2, 9), weights(9)))
    return net.model({"y": net.gemm(s, weights(9, 3), weights(3))})


def _signal_net():
    """Convolutions of one dimension, and matrix products."""
    weights = Dyadic(3)
    net = Net({"x": ["N", 2, 20]})
    s = net.relu(net.conv("x", weights(4, 2, 3), weights(4), pads=[1, 1]))
    s = net.op("MaxPool", s, kernel_shape=[2], strides=[2])
    s = net.relu(net.conv(s, weights(6, 4, 3), weights(6), strides=[2], pads=[2, 0]))
    s = net.op("MatMul", net.op("Flatten", s), net.constant(weights(6 * 5, 8)))
    s = net.relu(net.op("Add", s, net.constant(weights(8))))
    return net.model({"y": net.op("MatMul", s, net.constant(weights(8, 3)))})


IMAGE = {
    "EventIFNeuron": 1,
    "EventMaxPool": 1,
    "EventConvIFNeuron": 4,
    "EventSumPool": 1,
    "EventConv": 1,
}
RESIDUAL = {"EventIFNeuron": 1, "EventConvIFNeuron": 2, "EventConvAddIFNeuron": 2}
SIGNAL = {"EventIFNeuron": 1, "EventMaxPool": 1, "EventConvIFNeuron": 2, "EventConv": 1}
NETS = {
    "image": (_image_net, (3, 12, 10), IMAGE),
    "residual": (residual_blocks, (3, 9, 9), RESIDUAL),
    "signal": (_signal_net, (2, 20), SIGNAL),
}


@pytest.mark.parametrize("neuron", NEURONS)
@pytest.mark.parametrize("name", NETS)
def test_every_layer_between_spikes_reads_events(name, neuron):
    build, shape, operators = NETS[name]
    model, x = build(), Dyadic(9)(4, *shape, step=1 / 8)
    snn = _converted(model, x, neuron=neuron)
    fused = reschedule(snn, target="cpu")
    assert _operators(fused) == operators
    _assert_same(snn, fused, x)


@pytest.mark.parametrize(("name", "casts"), [("image", 0), ("residual", 1), ("signal", 0)])
def test_spikes_are_of_8_bits_up_to_the_last_layer(name, casts):
    build, shape, _ = NETS[name]
    fused = reschedule(_converted(build(), Dyadic(9)(4, *shape, step=1 / 8)), target="cpu")
    graph = gs.import_onnx(fused)
    given = {node.op: node.outputs[0].dtype for node in graph.nodes if node.domain == DOMAIN}
    assert all(dtype == np.int8 for op, dtype in given.items() if op != "EventConv")
    assert sum(node.op == "Cast" for node in graph.nodes) == casts


@pytest.mark.parametrize("schedule", ["loop", "step"])
@pytest.mark.parametrize("name", NETS)
def test_state_is_carried_from_block_to_block(name, schedule):
    build, shape, _ = NETS[name]
    x = Dyadic(9)(4, *shape, step=1 / 8)
    snn = _converted(build(), x)
    fused = reschedule(snn, target="cpu")
    moved = reschedule(fused, schedule=schedule, block=4, timesteps=T)
    expected = play(snn, {"x": x})["y"]
    for use_native in (True, False):
        actual = play(moved, {"x": x}, use_native=use_native)["y"]
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-6)  # sums of means by blocks
    again = reschedule(moved, schedule="layer", block=1)
    assert _operators(again) == _operators(fused)


def test_what_else_reads_spikes_reads_floats():
    weights = Dyadic(4)
    net = Net({"x": ["N", 3, 8, 8]})
    s = net.relu(net.conv("x", weights(4, 3, 3, 3), weights(4)))
    z = net.relu(net.conv(s, weights(4, 4, 3, 3), weights(4)))
    model = net.model({"y": net.op("Sigmoid", net.conv(z, weights(2, 4, 1, 1))), "s": s, "z": z})
    x = Dyadic(9)(4, 3, 8, 8, step=1 / 8)
    snn = _converted(model, x)
    fused = reschedule(snn, target="cpu")
    assert _operators(fused) == {"EventIFNeuron": 1, "EventConvIFNeuron": 1, "EventConv": 1}
    _assert_same(snn, fused, x)


def test_neurons_that_no_layer_reads_stay_as_they_are():
    weights = Dyadic(5)
    net = Net({"x": ["N", 3, 8, 8]})
    s = net.relu(net.conv("x", weights(4, 3, 3, 3), weights(4)))
    model = net.model({"y": net.op("GlobalAveragePool", net.op("Sigmoid", s))})
    snn = _converted(model, Dyadic(9)(4, 3, 8, 8, step=1 / 8))
    assert _operators(reschedule(snn, target="cpu")) == {"IFNeuron": 1}


def test_sequences_and_drained_networks():
    x = Dyadic(9)(4, 3, 9, 9, step=1 / 8)
    sequence = np.stack([x, 0 * x, -x, x / 2, x, 0 * x])
    snn = _converted(residual_blocks(), x, input_coding="sequence")
    _assert_same(snn, reschedule(snn, target="cpu"), sequence)
    drained = _converted(residual_blocks(), x, coding="drain", drain_steps=9, v_init=0.5)
    fused = reschedule(drained, target="cpu")
    expected, actual = play(drained, {"x": x}), play(fused, {"x": x})
    np.testing.assert_array_equal(actual["y"], expected["y"])
    np.testing.assert_array_equal(actual["silent"], expected["silent"])


@pytest.mark.parametrize("coding", ["radix", "two_phase"])
def test_networks_that_integrate_first_stay_as_they_are(coding):
    x = Dyadic(9)(4, 3, 9, 9, step=1 / 8)
    snn = _converted(residual_blocks(), x, coding=coding, neuron="if")
    assert _operators(reschedule(snn, target="cpu")) == _operators(snn) == {"PhaseNeuron": 5}


def test_sizes_known_at_run_time_only_stay_dense():
    weights = Dyadic(6)
    net = Net({"x": ["N", 3, "H", "W"]})
    s = net.relu(net.conv("x", weights(4, 3, 3, 3), weights(4)))
    s = net.relu(net.conv(s, weights(4, 4, 3, 3), weights(4)))
    model = net.model({"y": net.op("GlobalAveragePool", s)})
    snn = _converted(model, Dyadic(9)(4, 3, 8, 8, step=1 / 8))
    assert _operators(reschedule(snn, target="cpu")) == {"IFNeuron": 2}


def test_convert_writes_for_a_target():
    x = Dyadic(9)(4, 3, 9, 9, step=1 / 8)
    model = residual_blocks()
    thresholds = dyadic_thresholds(model, {"x": x})
    options = {"mode": "max", "neuron": "signed", "timesteps": T, "holdout": 0}
    fused = convert(model, stats=stats_of(model, thresholds), target="cpu", **options).model
    assert fused == reschedule(_converted(model, x), target="cpu")
