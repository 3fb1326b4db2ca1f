"""Maxima of spikes, by cumulative difference: exact, whatever lies between."""

from functools import cache

import numpy as np
import pytest

from laws import assert_carried, before_neurons, normalised
from nets import Dyadic, Gaussian, Net, run
from onnx_snn import convert
from onnx_snn.analyse import analyse
from onnx_snn.load import load_graph
from onnx_snn.operators import Kind
from simulator import expose, play, stats_of
from two_layers import TwoLayers, running_mean

SCHEDULES = [("layer", 1), ("loop", 1), ("loop", 7), ("step", 1), ("step", 7)]
IMAGE = (4, 6, 6)
T = 20


def _op(op, *constants, **attributes):
    def between(net, s):
        return net.op(op, s, *[net.constant(values) for values in constants], **attributes)

    return between


def _of_two(op, count=2):
    """Of the spikes and of those of other layers, which need not have the same threshold."""

    def between(net, s):
        weights = Dyadic(13)
        others = [net.relu(net.conv("x", weights(4, 4, 1, 1))) for _ in range(count - 1)]
        return net.op(op, s, *others)

    return between


POOLINGS = {
    "MaxPool": (_op("MaxPool", kernel_shape=[2, 2]), IMAGE),
    "strides": (_op("MaxPool", kernel_shape=[2, 3], strides=[2, 1]), IMAGE),
    "pads": (_op("MaxPool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 0, 1, 2]), IMAGE),
    "ceil_mode": (_op("MaxPool", kernel_shape=[4, 3], strides=[3, 2], ceil_mode=1), IMAGE),
    "dilations": (_op("MaxPool", kernel_shape=[2, 2], dilations=[2, 3]), IMAGE),
    "SAME_UPPER": (
        _op("MaxPool", kernel_shape=[3, 2], strides=[2, 2], auto_pad="SAME_UPPER"),
        IMAGE,
    ),
    "SAME_LOWER": (_op("MaxPool", kernel_shape=[2, 2], auto_pad="SAME_LOWER"), IMAGE),
    "VALID": (_op("MaxPool", kernel_shape=[3, 3], auto_pad="VALID"), IMAGE),
    "1-D": (_op("MaxPool", kernel_shape=[3], strides=[2]), (4, 9)),
    "3-D": (_op("MaxPool", kernel_shape=[2, 1, 2], strides=[1, 2, 2]), (3, 4, 3, 4)),
    "GlobalMaxPool": (_op("GlobalMaxPool"), IMAGE),
    "GlobalMaxPool 1-D": (_op("GlobalMaxPool"), (4, 5)),
}
OTHERS = {
    "ReduceMax": (_op("ReduceMax", [2, 3], keepdims=0), IMAGE),
    "ReduceMax of channels": (_op("ReduceMax", [1]), IMAGE),
    "ReduceMin": (_op("ReduceMin", [-1]), IMAGE),
    "Max": (_of_two("Max"), IMAGE),
    "Min": (_of_two("Min"), IMAGE),
    "Max of three": (_of_two("Max", 3), IMAGE),
}
BRANCHED = {"Max", "Min", "Max of three"}
ALL = {**POOLINGS, **OTHERS}


@cache
def _case(name, per_channel=False):
    between, shape = ALL[name]
    return TwoLayers(between, shape, per_channel=per_channel)


@cache
def _simulated(name, per_channel=False):
    """Running means of s, z, h and y, by a simulation that knows nothing of the package."""
    case = _case(name, per_channel)
    spikes = case.spikes(T)
    sums = np.cumsum(spikes, axis=0)
    pooled = np.stack([case.apply(total) for total in sums])
    steps = np.diff(pooled, axis=0, prepend=np.float32(0))
    values = {"s": spikes, "z": steps, **{n: case.behind(steps, n) for n in "hy"}}
    return steps, {tensor: running_mean(rows) for tensor, rows in values.items()}


@pytest.mark.parametrize("name", [name for name in ALL if name not in BRANCHED])
@pytest.mark.parametrize("use_native", [True, False], ids=["native", "portable"])
def test_adds_up_exactly(name, use_native):
    actual = play(_case(name).convert(), {"x": _case(name).x}, use_native=use_native)
    _, expected = _simulated(name)
    for tensor, means in expected.items():
        np.testing.assert_array_equal(actual[tensor], means, err_msg=tensor)
    assert np.unique(expected["h"][-1]).size > 1  # it is no triviality


@pytest.mark.parametrize(("schedule", "block"), SCHEDULES)
@pytest.mark.parametrize("readout", ["running", "mean"])
@pytest.mark.parametrize("name", ["pads", "ReduceMin"])
def test_on_all_schedules(name, schedule, block, readout):
    case = _case(name)
    snn = case.convert(schedule=schedule, block=block, readout=readout)
    for use_native in (True, False):
        actual = play(snn, {"x": case.x}, use_native=use_native)
        for tensor, means in _simulated(name)[1].items():
            wanted = means if readout == "running" else means[-1]
            np.testing.assert_array_equal(actual[tensor], wanted, err_msg=tensor)


@pytest.mark.parametrize(("schedule", "block"), SCHEDULES)
@pytest.mark.parametrize("name", sorted(BRANCHED))
def test_of_several_activations(name, schedule, block):
    case = _case(name)
    (node,) = (node for node in case.model.graph.node if node.op_type in ("Max", "Min"))
    model = expose(case.model, node.input)
    options = {"neuron": "if", "mode": "max", "timesteps": T, "readout": "running"}
    options["schedule"] = schedule
    snn = convert(model, stats=stats_of(model, case.thresholds), block=block, **options).model
    actual = play(snn, {"x": case.x})
    wanted = np.minimum if node.op_type == "Min" else np.maximum
    means = [actual[tensor] for tensor in node.input]
    assert len({case.thresholds[name].item() for name in case.thresholds}) > 1
    np.testing.assert_array_equal(actual["z"], wanted.reduce(means))


@pytest.mark.parametrize("name", POOLINGS)
def test_binary_spikes_stay_binary(name):
    case = _case(name)
    snn = case.convert()
    z = play(snn, {"x": case.x})["z"]
    (threshold, *_) = case.thresholds.values()
    # Steps from running means, in units of the threshold: multiplied back they round a little.
    counts = np.arange(1, T + 1).reshape(-1, *[1] * (z.ndim - 1))
    steps = np.diff(z.astype(np.float64) * counts / threshold, axis=0, prepend=0)
    assert set(np.round(steps, 4).ravel().tolist()) <= {0.0, 1.0}
    assert steps.any()


@pytest.mark.parametrize("name", POOLINGS)
def test_thresholds_per_channel(name):
    case = _case(name, per_channel=True)
    actual = play(case.convert(granularity="channel"), {"x": case.x})
    for tensor, means in _simulated(name, per_channel=True)[1].items():
        np.testing.assert_array_equal(actual[tensor], means, err_msg=tensor)


def _between_neurons(op, *constants, **attributes):
    """Where no neuron follows, a maximum is one of the mean, and no matter of scales."""
    net, weights = Net({"x": ["N", 3, 6, 6]}), Gaussian(8)
    y = net.relu(net.conv("x", weights(4, 3, 1, 1), weights(4)))
    y = net.op("Flatten", _op(op, *constants, **attributes)(net, y))
    features = net.model(y).graph.output[0].type.tensor_type.shape.dim[1].dim_value
    y = net.relu(net.gemm(y, weights(features, 3), weights(3)))
    return net.model(net.gemm(y, weights(3, 2)))


class TestScales:
    @pytest.mark.parametrize("where", [_between_neurons, before_neurons])
    @pytest.mark.parametrize(
        ("op", "constants", "attributes"),
        [
            ("MaxPool", (), {"kernel_shape": [2, 2], "pads": [1, 1, 0, 0]}),
            ("GlobalMaxPool", (), {}),
            ("ReduceMax", ([2, 3],), {}),
            ("ReduceMin", ([-1],), {"keepdims": 0}),
        ],
    )
    def test_per_channel_are_carried(self, where, op, constants, attributes):
        assert_carried(where(op, *constants, **attributes))

    @pytest.mark.parametrize("per_channel", [False, True])
    def test_over_channels_there_is_one(self, per_channel):
        graph, scales = normalised(_between_neurons("ReduceMax", [1]), per_channel)
        assert scales[0].is_scalar
        assert "Mul" not in [node.op for node in graph.nodes]

    @pytest.mark.parametrize("per_channel", [False, True])
    @pytest.mark.parametrize("op", ["Max", "Min"])
    def test_of_several_activations_are_shared(self, op, per_channel):
        net, weights = Net({"x": ["N", 3, 4, 4]}), Gaussian(2)
        branches = [net.conv("x", weights(4, 3, 1, 1)) for _ in range(2)]
        y = net.op(op, net.relu(branches[0]), branches[1])
        y = net.relu(net.conv(net.relu(y), weights(4, 4, 1, 1)))
        normalised(net.model(y), per_channel)


class TestVerdicts:
    def test_between_neurons_they_are_exact_poolings(self):
        for name in ALL:
            verdicts = analyse(load_graph(_case(name).model)).verdicts
            (verdict,) = [
                v for v in verdicts if v.op.startswith(("Max", "Min", "Reduce", "Global"))
            ]
            assert verdict.kind is Kind.POOLING
            assert "exact" in verdict.reason

    def test_indices_that_are_read(self):
        net = Net({"x": ["N", 4, 6, 6]})
        y = net.op("MaxPool", net.relu("x"), kernel_shape=[2, 2], outputs=2)
        places = net.op("Cast", f"{y}_1", to=1)
        y = net.relu(net.op("Add", y, places))
        analysis = analyse(load_graph(net.model(y)))
        assert analysis.refused[0].node == "MaxPool_1"
        assert "indices" in analysis.refused[0].reason
        assert "max-unpooling" in analysis.refused[0].remedy

    @pytest.mark.parametrize("op", ["ReduceMax", "ReduceMin"])
    @pytest.mark.parametrize("axes", [[0], [0, 1], [-2], None])
    def test_over_samples(self, op, axes):
        net = Net({"x": ["N", 4]})
        y = net.op(op, net.relu("x"), *([] if axes is None else [net.constant(axes)]))
        model = net.model(net.relu(net.op("Add", y, "x")))
        verdict, *_ = analyse(load_graph(model)).refused  # and the Add that reads it
        assert verdict.op == op
        assert "batch" in verdict.reason

    def test_behind_the_last_neuron_it_is_of_the_mean(self):
        net, weights = Net({"x": ["N", 4, 6, 6]}), Dyadic(3)
        s = net.relu(net.conv("x", weights(4, 4, 1, 1)))
        model = net.model({"s": s, "y": net.op("GlobalMaxPool", s)})
        x = weights(8, 4, 6, 6, step=1 / 8)
        actual = play(convert(model, x, timesteps=9).model, {"x": x})
        np.testing.assert_array_equal(actual["y"], actual["s"].max(axis=(2, 3), keepdims=True))


def test_of_a_sequence_of_frames():
    case = _case("strides")
    frames = np.stack([Dyadic(seed)(3, *IMAGE, step=1 / 8) for seed in range(T)])
    snn = case.convert(input_coding="sequence")
    actual = play(snn, {"x": frames})
    # Of the mean so far and not of the sum so far: the same up to the rounding of one division.
    pooled = np.stack([case.apply(mean) for mean in actual["s"]])
    np.testing.assert_allclose(actual["z"], pooled, rtol=1e-6)
    for schedule in ("loop", "step"):
        moved = case.convert(input_coding="sequence", schedule=schedule, block=3)
        np.testing.assert_array_equal(play(moved, {"x": frames})["y"], actual["y"])


def test_poolings_in_a_row_cross_once():
    net, weights = Net({"x": ["N", 2, 8, 8]}), Dyadic(5)
    s = net.relu(net.conv("x", weights(3, 2, 1, 1)))
    z = net.op("MaxPool", net.op("MaxPool", s, kernel_shape=[2, 2]), kernel_shape=[2, 2])
    y = net.relu(net.op("GlobalMaxPool", z))
    model = net.model({"s": s, "z": z, "y": y})
    x = weights(4, 2, 8, 8, step=1 / 8)
    snn = convert(model, x, mode="max", timesteps=12).model
    assert sum(node.op_type == "CumSum" for node in snn.graph.node) == 1
    actual = play(snn, {"x": x})
    windows = np.lib.stride_tricks.sliding_window_view(actual["s"], (3, 3), axis=(2, 3))
    np.testing.assert_allclose(actual["z"], windows.max(axis=(-1, -2)), rtol=1e-6)


def test_the_network_converges():
    case = TwoLayers(_op("MaxPool", kernel_shape=[3, 3], strides=[2, 2]), weights=Gaussian(3))
    options = {"neuron": "if", "mode": "max", "bias_calibration": False}
    snn = convert(case.model, case.x, holdout=0, **options).model
    *_, wanted = run(case.model, {"x": case.x})
    errors = [np.abs(play(snn, {"x": case.x}, t)["y"] - wanted).max() for t in (64, 256, 1024)]
    assert errors[1] < 0.4 * errors[0]
    assert errors[2] < 0.4 * errors[1]
