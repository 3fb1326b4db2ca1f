"""Whichever exporter wrote a network, the spiking one is the same."""

import json
from functools import cache

import numpy as np
import onnx_graphsurgeon as gs
import pytest

import exporters
from nets import run
from onnx_snn import convert, create_session, reschedule
from onnx_snn.analyse import analyse
from onnx_snn.calibrate import calibrate
from onnx_snn.compute import graded_share
from onnx_snn.data import Dataset, input_specs
from onnx_snn.export import THRESHOLDS_KEY
from onnx_snn.load import load_graph
from onnx_snn.operators import Kind
from onnx_snn.passes.fold_batch_normalization import fold_batch_normalization
from onnx_snn.passes.normalise import normalise
from onnx_snn.passes.rewrite_activations import rewrite_activations
from onnx_snn.scale import ONE
from onnx_snn.thresholds import Granularity, Mode, thresholds
from simulator import play

pytestmark = pytest.mark.heavy

EVERY_FILE = pytest.mark.parametrize("name", exporters.names())
EVERY_GRANULARITY = pytest.mark.parametrize("granularity", ["layer", "channel"])
NETS = ("cnn", "residual", "depthwise")
# With the reference of each: the first file that torch wrote.
PAIRS = [
    pytest.param(name, f"torch_script_{net}", id=name)
    for net in NETS
    for name in exporters.names(f"_{net}")
    if name != f"torch_script_{net}"
]
EVERY_PAIR = pytest.mark.parametrize(("name", "reference"), PAIRS)

load = cache(exporters.load)


@cache
def statistics(name):
    fixture = load(name)
    graph = prepared(fixture)
    return calibrate(
        graph, Dataset(fixture.inputs, input_specs(gs.export_onnx(graph)), 8), percentiles=[99.9]
    )


def prepared(fixture):
    """The graph that thresholds are put in."""
    graph = load_graph(fixture.model)
    rewrite_activations(graph)
    fold_batch_normalization(graph)
    return graph


@cache
def converted(name, granularity="layer", mode="max"):
    model, stats = load(name).model, statistics(name)
    options = {"neuron": "if", "mode": mode, "granularity": granularity}
    return convert(model, stats=stats, **options).model


def lambdas(model):
    """λ of every layer of neurons, in the order of evaluation."""
    text = next(entry.value for entry in model.metadata_props if entry.key == THRESHOLDS_KEY)
    scales = json.loads(text)
    return [np.asarray(scales[node.name]) for node in neurons(model)]


def neurons(model):
    return [node for node in model.graph.node if node.op_type == "IFNeuron"]


def scores(fixture, outputs):
    """The first output of floating-point numbers, of the fixture or of a run."""
    at = next(i for i, v in enumerate(fixture.outputs.values()) if v.dtype.kind == "f")
    return list(outputs)[at]


def assert_same(fixture, outputs):
    """Outputs are the fixture's, to 1e-4 of the greatest."""
    for actual, expected in zip(outputs, fixture.outputs.values(), strict=True):
        tolerance = 1e-4 * np.abs(expected).max()
        np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance)


def sliced(fixture, samples):
    return {name: values[samples] for name, values in fixture.inputs.items()}


@EVERY_FILE
def test_nothing_is_graded(name):
    graph = load_graph(load(name).model)
    analysis = analyse(graph)
    assert analysis.problem is None
    assert graded_share(graph, analysis) == 0
    kinds = {verdict.kind for verdict in analysis.verdicts}
    assert Kind.SPIKING in kinds
    assert not kinds & {Kind.DIFFERENTIAL, Kind.REFUSED}


@EVERY_FILE
def test_every_pass_before_the_neurons_leaves_the_outputs_as_they_are(name):
    fixture = load(name)
    graph = load_graph(fixture.model)
    assert_same(fixture, run(gs.export_onnx(graph), fixture.inputs))
    rewrite_activations(graph)
    assert_same(fixture, run(gs.export_onnx(graph), fixture.inputs))
    fold_batch_normalization(graph)
    assert "BatchNormalization" not in {node.op for node in graph.nodes}
    assert_same(fixture, run(gs.export_onnx(graph), fixture.inputs))


@EVERY_GRANULARITY
@EVERY_FILE
def test_normalising_leaves_the_outputs_as_they_are(name, granularity):
    fixture = load(name)
    graph = prepared(fixture)
    limits = thresholds(statistics(name), Mode.parse("99.9%"), Granularity(granularity))
    scales = normalise(graph, analyse(graph), limits)
    assert all(scale != ONE for scale in scales.values())
    assert_same(fixture, run(gs.export_onnx(graph), fixture.inputs))


@EVERY_FILE
def test_the_error_falls_as_one_over_the_time(name):
    fixture = load(name)
    expected = scores(fixture, fixture.outputs.values())

    def error(timesteps):
        actual = scores(fixture, play(converted(name), fixture.inputs, timesteps).values())
        return np.sqrt(((actual - expected) ** 2).mean() / (expected**2).mean())

    # At 1/T the factors are 4 and 4; single values of the error scatter about that.
    assert error(64) < 0.04
    assert error(256) < error(64) / 2
    assert error(1024) < error(64) / 8


@pytest.mark.parametrize(("schedule", "block"), [("loop", 3), ("step", 1)])
@EVERY_FILE
def test_schedules_agree(name, schedule, block):
    fixture = load(name)
    model = converted(name)
    layer = play(model, fixture.inputs, 16)
    other = play(reschedule(model, schedule=schedule, block=block), fixture.inputs, 16)
    for key, values in layer.items():
        np.testing.assert_allclose(other[key], values, rtol=1e-5, atol=1e-5)


@EVERY_FILE
def test_any_number_of_samples_and_steps(name):
    fixture = load(name)
    model = converted(name)
    for timesteps in (1, 13):
        whole = play(model, fixture.inputs, timesteps)
        for samples in (slice(1), slice(3, 6)):
            part = play(model, sliced(fixture, samples), timesteps)
            for key, values in whole.items():
                np.testing.assert_allclose(part[key], values[samples], rtol=1e-5, atol=1e-5)


# Calibration reads quantiles off values rounded by up to 2⁻¹²; maxima are exact.
@pytest.mark.parametrize(("mode", "tolerance"), [("max", 1e-5), ("99.9%", 2**-11)])
@EVERY_GRANULARITY
@EVERY_PAIR
def test_thresholds_are_those_of_any_exporter(name, reference, granularity, mode, tolerance):
    found, expected = (lambdas(converted(n, granularity, mode)) for n in (name, reference))
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.ndim == theirs.ndim == (granularity == "channel")
        np.testing.assert_allclose(ours, theirs, rtol=tolerance)


@EVERY_GRANULARITY
@EVERY_PAIR
def test_no_exporter_needs_more_synapses(name, reference, granularity):
    models = [converted(n, granularity) for n in (name, reference)]
    count, least = (sum(n.op_type == "Mul" for n in model.graph.node) for model in models)
    assert count <= least


@cache
def spikes(name):
    """All spikes of every layer of neurons, [T, N, …], with the default options."""
    fixture = load(name)
    model = convert(fixture.model, fixture.inputs).model
    tensors = [node.output[0] for node in neurons(model)]
    for tensor in tensors:
        model.graph.output.add().name = tensor
    session = create_session(model.SerializeToString(), ["CPUExecutionProvider"])
    rows = session.run(tensors, fixture.inputs)
    return [r.reshape(-1, 8, *r.shape[1:]) for r in rows]


@EVERY_PAIR
def test_spikes_are_those_of_any_exporter(name, reference):
    differing = total = 0
    for ours, theirs in zip(spikes(name), spikes(reference), strict=True):
        assert ours.shape == theirs.shape  # channels first, whatever the file has
        assert 0.01 < ours.mean() < 0.7
        differing += np.count_nonzero(ours != theirs)
        total += ours.size
    # A membrane may come within a rounding error of the threshold; one spike too early or late
    # is two that differ, and moves a few behind it. So far there was none.
    assert differing <= 1e-4 * total
