import json

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest

import onnx_snn
from nets import Gaussian, Net, cnn, mlp, run
from onnx_snn.data import Batch
from onnx_snn.errors import DataError, OptionError, UnsupportedModelError
from onnx_snn.explain import explain, layer_errors, split
from onnx_snn.report import ConversionReport
from simulator import expose, relus, simulate, stats_of
from two_layers import TwoLayers

PARTS = ("inherited", "clipping", "quantisation", "unevenness")


def samples(count=40, width=7, seed=0):
    return np.random.default_rng(seed).normal(0, 1, (count, width)).astype(np.float32)


def rms(values):
    return np.sqrt(np.mean(np.square(np.asarray(values, np.float64))))


# The figures, against a simulation without the package.


def expected_errors(model, x, thresholds, timesteps, v_init=0.5):
    """From spikes and currents of a simulation, one time step after the other, in ANN units."""
    names = relus(model)
    shown = expose(model, names.values())
    values = run(shown, {"x": x})
    activations = {v.name: a for v, a in zip(shown.graph.output, values, strict=True)}
    result = simulate(model, thresholds, [{"x": x}] * timesteps, v_init=v_init)
    errors = {}
    for name, tensor in names.items():
        level = thresholds[name]
        count = result.spikes[name].sum(axis=0)
        # Charge is neither lost nor made: what came is in the membrane or was sent as spikes.
        charge = result.membranes[name] - v_init * level + level * count
        positive = np.maximum(charge / timesteps, 0)
        possible = np.minimum(positive, level)
        sendable = np.floor(charge / level + v_init)
        levels = np.minimum(np.maximum(sendable, 0), timesteps) * level / timesteps
        rate = level * count / timesteps
        signal = rms(activations[tensor])
        errors[name] = {
            "inherited": rms(activations[tensor] - positive) / signal,
            "clipping": rms(positive - possible) / signal,
            "quantisation": rms(possible - levels) / signal,
            "unevenness": rms(levels - rate) / signal,
            "total": rms(activations[tensor] - rate) / signal,
            "added": rms(positive - rate) / signal,
        }
    return errors


@pytest.mark.parametrize(  # 40: more than one block of steps
    ("schedule", "timesteps"), [("layer", 5), ("layer", 40), ("loop", 40), ("step", 40)]
)
@pytest.mark.parametrize("per_channel", [False, True])
def test_errors_are_those_of_a_simulation(schedule, per_channel, timesteps):
    net = TwoLayers(lambda net, s: s, samples=5, per_channel=per_channel)
    snn = net.convert(
        schedule=schedule,
        granularity="channel" if per_channel else "layer",
        timesteps=timesteps,
    )
    expected = expected_errors(net.model, net.x, net.thresholds, timesteps)
    found = explain(snn, net.x, net.model, batch_size=2)
    assert [error.name for error in found] == list(expected)
    for error in found:
        for part, value in expected[error.name].items():
            assert getattr(error, part) == pytest.approx(value, rel=1e-5, abs=1e-6), part
    assert all(max(errors[part] for errors in expected.values()) > 1e-3 for part in PARTS)
    added = np.array([expected[error.name]["added"] for error in found])
    shares = added**2 / (added**2).sum()
    np.testing.assert_allclose([error.share for error in found], shares, rtol=1e-4)


def test_t_and_the_number_of_samples_can_be_chosen():
    net = TwoLayers(lambda net, s: s, samples=5)
    snn = net.convert(timesteps=40)
    (first, second) = explain(snn, net.x, net.model, timesteps=7, limit=3)
    expected = expected_errors(net.model, net.x[:3], net.thresholds, 7)
    assert first.total == pytest.approx(expected[first.name]["total"], rel=1e-5)
    assert second.total == pytest.approx(expected[second.name]["total"], rel=1e-5)
    for option in ("timesteps", "limit", "batch_size"):
        with pytest.raises(OptionError, match="at least 1"):
            explain(snn, net.x, net.model, **{option: 0})


def test_rates_are_plain_means_however_a_readout_weighs_steps():
    net = TwoLayers(lambda net, s: s, samples=5)
    expected = explain(net.convert(timesteps=12), net.x, net.model)
    assert explain(net.convert(timesteps=12, readout_weights="ramp"), net.x, net.model) == expected


def test_a_constant_sequence_is_the_image():
    net = TwoLayers(lambda net, s: s, samples=5)
    constant = net.convert(timesteps=40)
    sequence = net.convert(timesteps=40, input_coding="sequence")
    shown = explain(sequence, np.repeat(net.x[:, None], 40, axis=1), net.model)
    assert shown == explain(constant, net.x, net.model)
    with pytest.raises(DataError, match="sequences have 6 steps, but 7"):
        explain(sequence, np.repeat(net.x[:, None], 6, axis=1), net.model, timesteps=7)


# The parts of one neuron.


def test_the_parts_add_up_to_the_error():
    random = np.random.default_rng(0)
    activation, rate, current = random.normal(0.3, 1, (3, 5, 4, 6))
    for options in ({}, {"v_init": 0.0}, {"most": 3.0}, {"cap": random.uniform(0, 2, (4, 1))}):
        parts = split(activation, rate, current, timesteps=7, **options)
        np.testing.assert_allclose(sum(parts), activation - rate, atol=1e-12)


@pytest.mark.parametrize(
    ("activation", "rate", "current", "options", "expected"),
    [
        (1.5, 1.0, 1.5, {}, (0, 0.5, 0, 0)),
        (1.5, 1.5, 1.5, {"most": 2.0}, (0, 0, 0, 0)),
        (2.5, 2.0, 2.5, {"most": 2.0}, (0, 0.5, 0, 0)),
        (1.5, 1.0, 2.5, {"cap": 1.5}, (0, 0.5, 0, 0)),  # f is Clip: no more is wanted
        (0.3, 0.25, 0.3, {}, (0, 0, 0.05, 0)),  # 1.2 + 0.5 spikes
        (0.4, 0.5, 0.4, {}, (0, 0, -0.1, 0)),  # 1.6 + 0.5 spikes
        (0.4, 0.25, 0.4, {"v_init": 0.0}, (0, 0, 0.15, 0)),
        (0.5, 0.75, 0.5, {}, (0, 0, 0, -0.25)),  # a spike too many
        (0.5, 0.25, 0.25, {}, (0.25, 0, 0, 0)),  # half the current came
        (0.0, 0.25, -1.0, {}, (0, 0, 0, -0.25)),  # it cannot be taken back
        (0.75, 0.25, 1.25, {}, (-0.5, 0.25, 0, 0.75)),
    ],
)
def test_the_parts_of_one_neuron(activation, rate, current, options, expected):
    values = (np.array([v]) for v in (activation, rate, current))
    parts = split(*values, timesteps=4, **options)
    np.testing.assert_allclose(np.ravel(parts), expected, atol=1e-12)


def test_a_whole_number_of_spikes_survives_a_mean_in_single_precision():
    for timesteps in range(1, 300):
        spikes = np.arange(1, timesteps + 1)
        rate = spikes / timesteps
        current = (spikes.astype(np.float32) / np.float32(timesteps)).astype(np.float32)
        parts = split(rate, rate, current, timesteps=timesteps, v_init=0.0)
        assert np.abs(parts.unevenness).max() < 1e-9


# Networks that show one part each, and what is to be done about it.


def dominant(error):
    return max(PARTS, key=lambda part: getattr(error, part))


def convert_with(model, thresholds, **options):
    """Converted with one λ for each layer."""
    levels = {name: np.asarray(value) for name, value in thresholds.items()}
    options = {"neuron": "if", "mode": "max", **options}
    return onnx_snn.convert(model, stats=stats_of(model, levels), **options).model


def test_a_threshold_too_low_clips_and_the_next_layer_inherits():
    x = samples()
    model = mlp(Gaussian(1))
    first, second = explain(convert_with(model, {"Relu_2": 0.2, "Relu_4": 4}), x, model)
    assert dominant(first) == "clipping"
    assert "larger thresholds" in first.remedy
    assert first.inherited < 1e-5
    assert dominant(second) == "inherited"
    assert second.remedy == f"look at '{first.name}', which adds the most ahead of it"
    assert first.share > 0.8
    assert first.share + second.share == pytest.approx(1)


def test_few_steps_round():
    x = samples()
    model = mlp(Gaussian(1))
    few = onnx_snn.convert(model, x, mode="max", timesteps=2, holdout=0).model
    first, _ = explain(few, x, model)
    assert dominant(first) == "quantisation"
    assert first.remedy.startswith("more steps")
    # Of currents in [0, 1] to the next of 0, 1/2, 1.
    (activations,) = run(expose(model, list(relus(model).values())[:1]), {"x": x})[-1:]
    scaled = activations / activations.max()
    rounded = np.floor(2 * scaled + 0.5) / 2
    assert first.total == pytest.approx(rms(scaled - rounded) / rms(scaled), rel=1e-4)

    classic = onnx_snn.convert(model, x, mode="max", timesteps=2, holdout=0, v_init=0.0).model
    first, _ = explain(classic, x, model)
    assert first.remedy.startswith("v_init 0.5")


def test_early_spikes_are_uneven():
    # Relu(x − 1.5·x) and, so that there is a signal, Relu(x). The inhibition comes as few spikes
    # of a high threshold: late.
    net = Net({"x": ["N", 6]})
    each = np.eye(6, dtype=np.float32)
    fast = net.relu(net.matmul("x", each))
    slow = net.relu(net.matmul("x", each))
    inhibition = net.op("Mul", slow, net.constant(np.array([1.5] * 3 + [0] * 3, np.float32)))
    model = net.model(net.relu(net.op("Sub", fast, inhibition)))
    x = np.random.default_rng(0).uniform(0.4, 1, (30, 6)).astype(np.float32)
    thresholds = dict(zip(relus(model), (1, 8, 1), strict=True))
    early = explain(convert_with(model, thresholds, timesteps=64), x, model)[-1]
    assert dominant(early) == "unevenness"
    assert early.remedy == "signed neurons, the drain or radix coding, or more steps"

    signed = convert_with(model, thresholds, timesteps=64, neuron="signed")
    assert explain(signed, x, model)[-1].unevenness < early.unevenness / 2


def test_hard_reset_is_told_as_such():
    x = samples()
    model = mlp(Gaussian(1))
    options = {"neuron": "if", "mode": "max", "reset": "zero"}
    snn = onnx_snn.convert(model, x, timesteps=64, holdout=0, **options).model
    first, _ = explain(snn, x, model)
    assert dominant(first) == "unevenness"
    assert first.remedy.startswith("reset 'subtract'")


def test_exact_networks_need_no_remedy():
    x = samples()
    model = mlp(Gaussian(1))
    snn = onnx_snn.convert(model, x, mode="max", timesteps=2000, holdout=0).model
    for error in explain(snn, x, model):
        assert error.total < 0.01
        assert error.remedy == ""


def test_another_model_is_what_is_inherited():
    x = samples()
    snn = onnx_snn.convert(mlp(Gaussian(1)), x, timesteps=64, holdout=0).model
    first, _ = explain(snn, x, mlp(Gaussian(2)))
    assert dominant(first) == "inherited"
    assert "check that the reference" in first.remedy


# Activations that are rewritten, and types.


def test_rewritten_activations_have_an_entry_for_each_population():
    net = Net({"x": ["N", 7]})
    weights = Gaussian(3)
    y = net.op("LeakyRelu", net.gemm("x", weights(7, 9), weights(9)), alpha=0.25)
    y = net.op("Clip", net.gemm(y, weights(9, 8)), net.constant(0.0, "f"), net.constant(0.5, "f"))
    model = net.model(net.gemm(y, weights(8, 3)))
    x = samples(width=7)
    snn = onnx_snn.convert(model, x, mode="max", timesteps=500, holdout=0).model
    errors = explain(snn, x, model)
    assert [error.name for error in errors] == [
        "LeakyRelu_1/positive",
        "LeakyRelu_1/negative",
        "Clip_3",
    ]
    assert [error.op for error in errors] == ["Relu", "Relu", "Clip"]
    for error in errors:  # what is above the Clip's bound is no error
        assert error.total < 0.02
        assert error.clipping < 0.02


@pytest.mark.parametrize("granularity", ["layer", "channel"])
def test_convolutions_folded_and_pooled(granularity):
    model = cnn(Gaussian(5), normalised=True)
    x = np.random.default_rng(0).normal(0, 1, (12, 2, 8, 8)).astype(np.float32)
    snn = onnx_snn.convert(
        model, x, mode="max", timesteps=400, granularity=granularity, holdout=0
    ).model
    for error in explain(snn, x, model):
        assert error.total < 0.05
        assert error.clipping < 1e-5 or error.inherited > 0


def test_half_precision():
    net = Net({"x": ["N", 7]}, onnx.TensorProto.FLOAT16)
    weights = Gaussian(3)
    y = net.relu(net.gemm("x", weights(7, 9).astype("f2"), weights(9).astype("f2")))
    model = net.model(net.relu(net.gemm(y, weights(9, 8).astype("f2"))))
    x = samples().astype(np.float16)
    snn = onnx_snn.convert(model, x, mode="max", timesteps=64, holdout=0).model
    for error in explain(snn, x, model):
        assert 0 < error.total < 0.1


def test_burst_neurons_can_say_more():
    x = samples()
    model = mlp(Gaussian(1))
    options = {"mode": 0.3, "timesteps": 64, "holdout": 0}
    binary, _ = explain(onnx_snn.convert(model, x, **options).model, x, model)
    burst, _ = explain(onnx_snn.convert(model, x, neuron="burst(4)", **options).model, x, model)
    assert binary.clipping > 0.1
    assert burst.clipping == 0
    assert burst.total < 0.05


# What is refused.


def test_another_reference_is_refused():
    x = samples()
    snn = onnx_snn.convert(mlp(Gaussian(1)), x, timesteps=4, holdout=0).model
    with pytest.raises(DataError, match="the model that it was converted from"):
        explain(snn, x, cnn(Gaussian(1)))
    narrow = Net({"x": ["N", 7]})
    weights = Gaussian(2)
    y = narrow.op("Add", narrow.matmul("x", weights(7, 4)), narrow.constant(weights(4)))
    y = narrow.relu(narrow.gemm(narrow.relu(y), weights(4, 8)))
    with pytest.raises(DataError, match="of another number in 'Relu_2'"):
        explain(snn, x, narrow.model(y))


def test_neurons_that_do_not_speak_by_their_rate_are_refused():
    x = samples()
    model = mlp(Gaussian(1))
    snn = onnx_snn.convert(model, x, timesteps=4, holdout=0).model
    neurons = [node for node in snn.graph.node if node.op_type == "IFNeuron"]
    neurons[1].op_type = "OtherNeuron"
    with pytest.raises(UnsupportedModelError, match="OtherNeuron node"):
        explain(snn, x, model)


def test_a_network_that_reads_events_is_refused_with_the_remedy():
    x = samples()
    model = mlp(Gaussian(1))
    snn = onnx_snn.convert(model, x, timesteps=4, target="cpu", holdout=0).model
    with pytest.raises(UnsupportedModelError, match=r"explain the same network .* target 'any'"):
        explain(snn, x, model)


@pytest.mark.parametrize(("coding", "neuron"), [("drain", "signed"), ("radix", "if")])
def test_codings_other_than_rates_are_refused(coding, neuron):
    x = samples()
    model = mlp(Gaussian(1))
    snn = onnx_snn.convert(model, x, timesteps=4, coding=coding, neuron=neuron, holdout=0).model
    with pytest.raises(UnsupportedModelError, match=f"coding '{coding}' cannot be explained"):
        explain(snn, x, model)


# For a report.


def test_a_report_holds_errors():
    x = samples()
    model = mlp(Gaussian(1))
    snn = onnx_snn.convert(model, x, timesteps=8, holdout=0).model
    seen = []
    graph = gs.import_onnx(onnx.shape_inference.infer_shapes(model))
    batches = [Batch({"x": x[:30]}), Batch({"x": x[30:]})]
    errors = layer_errors(snn, graph, batches, progress=seen.append)
    assert seen == [30, 10]
    assert [error.name for error in errors] == [error.name for error in explain(snn, x, model)]
    report = ConversionReport([], [], 0, 8, errors=errors)
    content = json.loads(json.dumps(report.to_dict()))
    assert content["errors"] == [error.to_dict() for error in errors]
    assert content["errors"][1]["unevenness"] == errors[1].unevenness
