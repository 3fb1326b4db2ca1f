"""Networks written for a GPU against the same with ONNX's own pooling between sums."""

from collections import Counter

import numpy as np
import onnx
import pytest

from nets import Array, Dyadic, Gaussian, Net, run
from onnx_snn import Stream, convert, reschedule
from onnx_snn.errors import OptionError
from onnx_snn.explain import explain
from onnx_snn.ops import DOMAIN
from onnx_snn.reference import reference
from onnx_snn.schedule import ScheduleRecord
from quantised import in_type
from simulator import play

T = 9


def _net(weights) -> onnx.ModelProto:
    """Windows that overlap, and that do not, and one that is dilated."""
    net = Net({"x": ["N", 2, 13, 11]})
    s = net.relu(net.conv("x", weights(4, 2, 3, 3), weights(4), pads=[1] * 4))
    s = net.op("MaxPool", s, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    s = net.relu(net.conv(s, weights(6, 4, 3, 3), weights(6), pads=[1] * 4))
    s = net.op("MaxPool", s, kernel_shape=[2, 2], strides=[2, 2])
    s = net.relu(net.conv(s, weights(5, 6, 1, 1), weights(5)))
    s = net.op("MaxPool", s, kernel_shape=[2, 2], dilations=[2, 1], auto_pad="VALID")
    s = net.relu(net.conv(s, weights(4, 5, 1, 1), weights(4)))
    return net.model({"y": net.gemm(net.op("Flatten", s), weights(8, 3), weights(3))})


def _convert(model, x, **options):
    given = {"timesteps": T, "holdout": 0, "bias_calibration": False, "mode": "max"}
    return convert(model, x, **{**given, **options}).model


def _example(weights=Dyadic) -> tuple[onnx.ModelProto, Array]:
    return _net(weights(1)), weights(2)(8, 2, 13, 11)


def _operators(model) -> Counter:
    bodies = [a.g for node in model.graph.node for a in node.attribute if a.HasField("g")]
    nodes = [node for graph in (model.graph, *bodies) for node in graph.node]
    return Counter(n.op_type for n in nodes if n.domain == DOMAIN or n.op_type == "MaxPool")


@pytest.mark.parametrize("neuron", ["if", "signed", "burst(3)"])
@pytest.mark.parametrize("readout", ["mean", "running"])
def test_the_same_bits_as_with_pools_of_sums(neuron, readout):
    model, x = _example(Gaussian)
    plain = _convert(model, x, neuron=neuron, readout=readout)
    pooled = _convert(model, x, neuron=neuron, readout=readout, target="cuda")
    onnx.checker.check_model(pooled, full_check=True)
    assert _operators(plain) == {"IFNeuron": 4, "MaxPool": 3}
    assert _operators(pooled) == {"IFNeuron": 4, "SpikeMaxPool": 3}
    expected = play(plain, {"x": x})["y"]
    assert np.unique(expected).size > 3
    for use_native in (True, False):
        actual = play(pooled, {"x": x}, use_native=use_native)["y"]
        np.testing.assert_array_equal(actual, expected, strict=True)


def test_double_precision():
    weights, net = Gaussian(1), Net({"x": ["N", 3, 9]})
    s = net.relu(net.matmul("x", weights(9, 12)))
    s = net.op("MaxPool", s, kernel_shape=[3], strides=[2])
    s = net.relu(net.matmul(s, weights(5, 4)))
    model, x = in_type(net.model(net.matmul(s, weights(4, 2))), np.float64), weights(8, 3, 9)
    x = x.astype(np.float64)
    plain, pooled = (_convert(model, x, target=target) for target in ("any", "cuda"))
    assert _operators(pooled) == {"IFNeuron": 2, "SpikeMaxPool": 1}
    expected = play(plain, {"x": x})["y"]
    for use_native in (True, False):
        actual = play(pooled, {"x": x}, use_native=use_native)["y"]
        np.testing.assert_array_equal(actual, expected, strict=True)


@pytest.mark.parametrize("coding", ["constant", "sequence"])
def test_counts_are_carried_on_every_schedule(coding):
    model, x = _example()
    frames = np.stack([x * k / 4 for k in (4, 0, -2, 3, 4, 1, 4, 4, 2)])
    options = {"input_coding": coding, "target": "cuda"}
    pooled = _convert(model, x, **options)
    plain = _convert(model, x, input_coding=coding)
    feeds = {"x": frames if coding == "sequence" else x}
    expected = play(plain, feeds)["y"]
    moved = pooled
    for schedule, block in [("loop", 4), ("step", 3), ("loop", 1), ("step", 1), ("layer", 1)]:
        direct = _convert(model, x, schedule=schedule, block=block, timesteps=T, **options)
        moved = reschedule(moved, schedule=schedule, block=block)
        for snn in (direct, moved):
            onnx.checker.check_model(snn)
            record = ScheduleRecord.of(snn)
            assert record.crossings == []
            assert _operators(snn) == {"IFNeuron": 4, "SpikeMaxPool": 3}
            counts = [state.input for state in record.states if state.input.endswith("/c")]
            assert len(counts) == (3 if schedule == "step" else 0)
            for use_native in (True, False):
                actual = play(snn, feeds, use_native=use_native)["y"]
                np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)
    assert moved == pooled


@pytest.mark.parametrize("schedule", ["layer", "loop", "step"])
def test_half_precision(schedule):
    model, x = _example(Gaussian)
    options = {"precision": "fp16", "schedule": schedule, "block": 4}
    plain = play(_convert(model, x, precision="fp16"), {"x": x})["y"]
    pooled = _convert(model, x, target="cuda", **options)
    onnx.checker.check_model(pooled, full_check=True)
    stream = Stream(reschedule(pooled, schedule="step"))
    for _ in range(T):
        last = stream.run({"x": x}, timesteps=1)["y"]
    counts = [values for name, values in stream.state.items() if name.endswith("/c")]
    assert [values.dtype for values in counts] == [np.float32] * 3
    found = [last]
    if schedule != "step":
        found += [play(pooled, {"x": x}, use_native=native)["y"] for native in (True, False)]
    for values in found:
        assert values.dtype == np.float32
        # Between the blocks of a loop or a stream a membrane is rounded to float16.
        error = np.sqrt(np.mean((values - plain) ** 2) / np.mean(plain**2))
        assert error < 0.05
    if schedule == "layer":
        np.testing.assert_array_equal(found[1], plain)


@pytest.mark.parametrize("coding", ["drain", "two_phase"])
def test_other_codings_whose_steps_weigh_alike(coding):
    model, x = _example()
    neuron = "signed" if coding == "drain" else "if"
    for schedule in ("layer", "step"):
        options = {"coding": coding, "neuron": neuron, "schedule": schedule, "v_init": 0.5}
        plain, pooled = (_convert(model, x, target=target, **options) for target in ("any", "cuda"))
        assert _operators(pooled)["SpikeMaxPool"] == 3
        expected, actual = play(plain, {"x": x}), play(pooled, {"x": x})
        np.testing.assert_array_equal(actual["y"], expected["y"])
        if coding == "drain":
            np.testing.assert_array_equal(actual["silent"], expected["silent"])


def test_radix_coding_stays_as_it_is():
    model, x = _example()
    options = {"coding": "radix", "neuron": "if", "timesteps": 4}
    assert _convert(model, x, target="cuda", **options) == _convert(model, x, **options)


def test_one_axis_and_sizes_known_at_run_time_only():
    for spatial in (["L"], ["H", "W"]):
        weights, axes = Dyadic(3), len(spatial)
        net = Net({"x": ["N", 3, *spatial]})
        s = net.relu(net.conv("x", weights(4, 3, *[3] * axes), weights(4)))
        s = net.op("MaxPool", s, kernel_shape=[3] * axes, strides=[2] * axes, pads=[1] * 2 * axes)
        s = net.relu(net.conv(s, weights(4, 4, *[1] * axes), weights(4)))
        model, x = net.model(net.op("GlobalAveragePool", s)), weights(4, 3, *[11] * axes)
        plain, pooled = (_convert(model, x, target=target) for target in ("any", "cuda"))
        assert _operators(pooled) == {"IFNeuron": 2, "SpikeMaxPool": 1}
        expected = play(plain, {"x": x})["y"]
        for schedule in ("layer", "loop"):
            actual = play(reschedule(pooled, schedule=schedule, block=4), {"x": x})["y"]
            np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)
        stream = Stream(reschedule(pooled, schedule="step"))
        actual = [stream.run({"x": x}, timesteps=steps)["y"] for steps in (2, 1, T - 3)][-1]
        np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("attributes", "size"),
    [
        ({"kernel_shape": [5, 6]}, 8),
        ({"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}, 8),
        ({"kernel_shape": [3, 3], "strides": [2, 2], "auto_pad": "SAME_UPPER"}, 8),
        ({"kernel_shape": [2, 2, 2]}, 3),
    ],
)
def test_pools_that_it_does_not_know_stay(attributes, size):
    axes = len(attributes["kernel_shape"])
    weights, net = Dyadic(3), Net({"x": ["N", 3, *[size] * axes]})
    s = net.relu(net.conv("x", weights(4, 3, *[1] * axes), weights(4)))
    s = net.op("MaxPool", s, **attributes)
    s = net.relu(net.conv(s, weights(4, 4, *[1] * axes), weights(4)))
    model, x = net.model(net.op("GlobalAveragePool", s)), weights(4, 3, *[size] * axes)
    assert "SpikeMaxPool" not in _operators(_convert(model, x, target="cuda"))


def test_a_pool_that_something_else_reads_stays_beside_it():
    weights, net = Dyadic(3), Net({"x": ["N", 3, 8, 8]})
    s = net.relu(net.conv("x", weights(4, 3, 1, 1), weights(4)))
    s = net.op("MaxPool", s, kernel_shape=[3, 3], pads=[1] * 4)
    again = net.op("MaxPool", s, kernel_shape=[3, 3], pads=[1] * 4)
    s = net.relu(net.conv(net.op("Concat", s, again, axis=1), weights(4, 8, 1, 1), weights(4)))
    model, x = net.model(net.op("GlobalAveragePool", s)), weights(4, 3, 8, 8)
    plain, pooled = (_convert(model, x, target=target) for target in ("any", "cuda"))
    assert _operators(pooled) == {"IFNeuron": 2, "SpikeMaxPool": 1, "MaxPool": 2}
    np.testing.assert_array_equal(play(pooled, {"x": x})["y"], play(plain, {"x": x})["y"])


def test_what_a_file_can_be_put_on():
    model, x = _example()
    plain, pooled = (_convert(model, x, target=target) for target in ("any", "cuda"))
    assert reschedule(plain, target="cuda") == pooled
    assert reschedule(pooled, target="cuda") == pooled
    for target in ("any", "cpu"):
        with pytest.raises(OptionError, match=rf"written for target 'cuda' .* '{target}'"):
            reschedule(pooled, target=target)
    events = reschedule(plain, target="cpu")
    for target in ("any", "cuda"):
        with pytest.raises(OptionError, match=rf"written for target 'cpu' .* '{target}'"):
            reschedule(events, target=target)


def test_its_quantised_network_and_its_errors_are_told():
    model, x = _example(Gaussian)
    plain, pooled = (_convert(model, x, target=target) for target in ("any", "cuda"))
    outputs = [run(reference(snn), {"x": x})[0] for snn in (plain, pooled)]
    np.testing.assert_array_equal(*outputs)
    assert explain(pooled, x, model) == explain(plain, x, model)
