"""Calibrated biases against neurons in NumPy."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from nets import Dyadic, Gaussian, Net, cnn, mlp
from onnx_snn import create_session
from onnx_snn.analyse import analyse
from onnx_snn.calibrate_biases import calibrate_biases
from onnx_snn.coding import Coding, InputCoding
from onnx_snn.data import Batch
from onnx_snn.errors import CalibrationError, OptionError
from onnx_snn.export import export
from onnx_snn.load import load_graph
from onnx_snn.neuron import Neuron
from onnx_snn.passes.normalise import normalise
from onnx_snn.passes.put_on_schedule import put_on_schedule
from onnx_snn.passes.spike import spike
from onnx_snn.schedule import Readout, Schedule, ScheduleOptions
from onnx_snn.thresholds import Granularity, Mode, thresholds
from simulator import dyadic_thresholds, relus, stats_of


def _spiking(model, levels, neuron="if", coding=Coding.RATE, window=None, shown="constant"):
    """The spiking network and the normalised ANN; ``levels``: λ by the name of the Relu.

    All membranes start at 0, so that rates are half a spike too low on the whole.
    """
    graph = load_graph(model)
    limits = thresholds(stats_of(model, levels), Mode.parse("max"), Granularity.LAYER)
    normalise(graph, analyse(graph), limits)
    ann = graph.copy()
    kind = Neuron.parse(neuron, v_init=0)
    return spike(graph, analyse(graph), kind, InputCoding(shown), coding, window), ann


def _calibrated(model, feeds, timesteps, levels, *, steps=None, ramp=1, **options):
    """Corrections, and the network's outputs after it has been calibrated on the same data."""
    network, ann = _spiking(model, levels, **options)
    network.ramp = ramp
    corrections = calibrate_biases(network, ann, _batches(feeds), steps or timesteps)
    record = put_on_schedule(network, ScheduleOptions(timesteps=steps or timesteps))
    session = create_session(export(network.graph, record, {}), ["CPUExecutionProvider"])
    return corrections, session.run(None, dict(feeds))[0]


def _batches(feeds, size=7):
    """Of a size that does not divide the number of samples."""
    count = len(next(iter(feeds.values())))
    for start in range(0, count, size):
        yield Batch({name: values[start : start + size] for name, values in feeds.items()})


def _layers(seed=0, width=24):
    """Weights and biases of two layers of neurons and a readout, λ = 1."""
    weights = Gaussian(seed)
    shapes = [(10, width), (width, width), (width, 3)]
    return [(weights(*s) * np.float32(1.5), weights(s[1]) * np.float32(0.1)) for s in shapes]


def _mlp(layers, *, bias=True, dtype=TensorProto.FLOAT):
    net = Net({"x": ["N", layers[0][0].shape[0]]}, dtype)
    kind = helper.tensor_dtype_to_np_dtype(dtype)
    y = "x"
    for index, (w, b) in enumerate(layers):
        y = net.matmul(y, w.astype(kind))
        if bias:
            y = net.op("Add", y, net.constant(b.astype(kind)))
        y = net.relu(y) if index < len(layers) - 1 else y
    return net.model(y)


def _ones(model):
    return {name: np.ones((), np.float32) for name in relus(model)}


def _rates(layers, x, timesteps, corrections):
    """Mean spikes of every layer of integrate-and-fire neurons, in NumPy."""
    potentials = [0.0] * len(corrections)
    total = [0.0] * len(corrections)
    for _ in range(timesteps):
        spikes = x
        for index, correction in enumerate(corrections):
            w, b = layers[index]
            potentials[index] = potentials[index] + spikes @ w + b + correction
            spikes = (potentials[index] >= 1).astype(np.float64)
            potentials[index] -= spikes
            total[index] = total[index] + spikes
    return [count / timesteps for count in total]


def _activations(layers, x):
    values = []
    for w, b in layers[:-1]:
        x = np.maximum(x @ w + b, 0)
        values.append(x)
    return values


def test_the_mean_rates_become_those_of_the_ann():
    layers, timesteps = _layers(), 8
    x = np.random.default_rng(1).normal(size=(400, 10)).astype(np.float32) / 2
    model = _mlp(layers)
    corrections = list(_calibrated(model, {"x": x}, timesteps, _ones(model))[0].values())
    wanted = [np.clip(values, 0, 1) for values in _activations(layers, x)]

    def errors(biases):
        return [w - r for w, r in zip(wanted, _rates(layers, x, timesteps, biases), strict=True)]

    before, after = errors([0.0, 0.0]), errors(corrections)
    means = [np.abs(error[:256].mean(axis=0)) for error in (*before, *after)]
    assert max(means[2].max(), means[3].max()) < 1 / (4 * timesteps)
    assert np.mean(means[2:]) < np.mean(means[:2]) / 2
    # Samples that took no part: of the 256 used, every other is fitted.
    for old, new in zip(before, after, strict=True):
        assert np.square(new[256:]).mean() < np.square(old[256:]).mean()


def test_drain_ends_a_correction_with_the_input():
    layers, timesteps = _layers(2), 6
    x = np.random.default_rng(3).normal(size=(60, 10)).astype(np.float32) / 2
    for bias in (True, False):  # with a gate that is there, and without
        model = _mlp(layers, bias=bias)
        corrections, output = _calibrated(
            model,
            {"x": x},
            timesteps,
            _ones(model),
            steps=10 * timesteps,
            neuron="signed",
            coding=Coding.DRAIN,
            window=timesteps,
        )
        assert all(np.any(correction) for correction in corrections.values())
        counts = timesteps * x.astype(np.float64)
        for (w, b), correction in zip(layers, corrections.values(), strict=False):
            current = counts @ w + timesteps * (bias * b + correction)
            counts = np.clip(np.floor(current), 0, timesteps)
        expected = counts @ layers[-1][0] / timesteps + bias * layers[-1][1]
        _assert_same_but_for_a_shift(output, expected)


@pytest.mark.parametrize("coding", [Coding.TWO_PHASE, Coding.RADIX])
def test_a_phased_layer_counts_its_correction_once_for_each_step(coding):
    layers, timesteps = _layers(4), 3
    levels = 2**timesteps - 1 if coding is Coding.RADIX else timesteps
    x = np.random.default_rng(5).normal(size=(60, 10)).astype(np.float32) / 2
    model = _mlp(layers)
    corrections, output = _calibrated(model, {"x": x}, timesteps, _ones(model), coding=coding)
    assert any(np.any(correction) for correction in corrections.values())
    counts = levels * x.astype(np.float64)
    for (w, b), correction in zip(layers, corrections.values(), strict=False):
        current = counts @ w + levels * (b + correction)
        counts = np.clip(np.floor(current), 0, levels)
    expected = counts @ layers[-1][0] / levels + layers[-1][1]
    _assert_same_but_for_a_shift(output, expected)


@pytest.mark.parametrize("dtype", [TensorProto.FLOAT16, TensorProto.DOUBLE])
def test_other_types(dtype):
    layers = _layers(6)
    model = _mlp(layers, dtype=dtype)
    x = np.random.default_rng(7).normal(size=(40, 10)) / 2
    x = x.astype(helper.tensor_dtype_to_np_dtype(dtype))
    corrections, output = _calibrated(model, {"x": x}, 4, _ones(model))
    assert output.dtype == x.dtype
    single = _calibrated(_mlp(layers), {"x": x.astype(np.float32)}, 4, _ones(model))[0]
    for name, correction in corrections.items():
        np.testing.assert_allclose(correction.mean(), single[name].mean(), atol=0.01)


def test_silent_neurons_are_left_alone():
    layers = _layers(8)
    for w, b in layers[:2]:
        w[:, 3], b[3] = 0, -1
    layers[1][0][:], layers[1][1][:] = 0, -0.25
    model = _mlp(layers)
    x = np.random.default_rng(9).normal(size=(40, 10)).astype(np.float32)
    first, second = _calibrated(model, {"x": x}, 4, _ones(model))[0].values()
    assert first[3] == 0
    assert np.any(first)
    assert not np.any(second)


def test_a_saturated_neuron_is_not_asked_for_more():
    layers = _layers(10)
    layers[0][0][:], layers[0][1][:] = 0, 3.0  # the ANN's activation is 3, the greatest rate 1
    model = _mlp(layers)
    x = np.zeros((10, 10), np.float32)
    first = next(iter(_calibrated(model, {"x": x}, 4, _ones(model))[0].values()))
    assert not np.any(first)


def test_one_sample_is_enough_and_runs_repeat():
    model = cnn(Gaussian(1))
    x = np.random.default_rng(2).normal(size=(1, 2, 8, 8)).astype(np.float32)
    levels = dyadic_thresholds(model, {"x": x})
    first, second = (_calibrated(model, {"x": x}, 5, levels)[0] for _ in range(2))
    for name, correction in first.items():
        np.testing.assert_array_equal(correction, second[name])


def test_no_more_samples_than_asked_for_are_used():
    model = mlp(Gaussian(1))
    x = np.random.default_rng(2).normal(size=(40, 7)).astype(np.float32)
    levels = dyadic_thresholds(model, {"x": x})

    def corrections(values, samples):
        network, ann = _spiking(model, levels)
        steps = []
        batches = _batches({"x": values})
        result = calibrate_biases(network, ann, batches, 5, samples=samples, progress=steps.append)
        assert steps == [1] * len(result)
        return result

    few, many = corrections(x, 20), corrections(x[:20], 256)
    for name, correction in few.items():
        np.testing.assert_array_equal(correction, many[name])
    assert any(np.any(c != few[n]) for n, c in corrections(x, 40).items())


@pytest.mark.parametrize("schedule", [Schedule.LOOP, Schedule.STEP])
def test_the_network_can_be_put_on_any_schedule(schedule):
    layers, timesteps = _layers(11), 4
    x = np.random.default_rng(12).normal(size=(20, 10)).astype(np.float32)
    model = _mlp(layers)
    network, ann = _spiking(model, _ones(model))
    corrections = calibrate_biases(network, ann, _batches({"x": x}), timesteps)
    options = ScheduleOptions(schedule, Readout.MEAN, timesteps)
    record = put_on_schedule(network, options)
    session = create_session(export(network.graph, record, {}), ["CPUExecutionProvider"])
    states = {
        state.input: np.full(_shape(session, state.input, len(x)), state.init, np.float32)
        for state in record.states
        if state.input != "onnx_snn/t"
    }
    clock = {"onnx_snn/t": np.array(0)} if record.states else {}
    output = session.run(["y"], {"x": x, **states, **clock})[0]
    rates = _rates(layers, x, timesteps, list(corrections.values()))
    expected = rates[-1] @ layers[-1][0] + layers[-1][1]
    _assert_same_but_for_a_shift(output, expected)


def _assert_same_but_for_a_shift(scores, expected):
    """Each score may be off by a number that is the same for all samples: its own correction."""
    difference = scores - expected
    np.testing.assert_allclose(difference, np.broadcast_to(difference[:1], scores.shape), atol=2e-4)


def _shape(session, name, samples):
    shape = next(value.shape for value in session.get_inputs() if value.name == name)
    return [samples, *shape[1:]]


def test_refusals():
    model = mlp(Dyadic(1))
    levels = _ones(model)
    x = np.zeros((4, 7), np.float32)
    network, ann = _spiking(model, levels, shown="sequence")
    with pytest.raises(OptionError, match="constant"):
        calibrate_biases(network, ann, _batches({"x": x}), 4)
    network, ann = _spiking(model, levels)
    with pytest.raises(CalibrationError, match="no samples"):
        calibrate_biases(network, ann, [], 4)
    with pytest.raises(OptionError, match="samples"):
        calibrate_biases(network, ann, _batches({"x": x}), 4, samples=0)


@pytest.mark.parametrize(
    ("coding", "ramp"), [(Coding.RATE, 1), (Coding.RATE, 2), (Coding.DRAIN, 1)]
)
def test_the_mean_scores_become_those_of_the_ann(coding, ramp):
    layers, timesteps = _layers(3), 4
    # Every sample twice, so that the ones fitted to are the ones checked on.
    x = np.random.default_rng(2).normal(size=(40, 10)).astype(np.float32).repeat(2, axis=0) / 2
    model = _mlp(layers)
    options = {"coding": coding, "neuron": "if", "ramp": ramp}
    if coding is Coding.DRAIN:
        options |= {"neuron": "signed", "window": timesteps, "steps": 24}
    scores = _calibrated(model, {"x": x}, timesteps, _ones(model), **options)[1]
    w, b = layers[-1]
    expected = _activations(layers, x)[-1] @ w + b
    np.testing.assert_allclose(scores.mean(axis=0), expected.mean(axis=0), atol=1e-5)


def test_rates_are_plain_means_however_a_readout_weighs_steps():
    layers = _layers(4)
    model = _mlp(layers)
    x = np.random.default_rng(3).normal(size=(60, 10)).astype(np.float32) / 2
    even, ramp = (_calibrated(model, {"x": x}, 8, _ones(model), ramp=r)[0] for r in (1, 2))
    assert even.keys() == ramp.keys()
    for name, values in even.items():
        np.testing.assert_array_equal(ramp[name], values)
