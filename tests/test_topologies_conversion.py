"""The networks that the onnx package ships: nothing is refused, nothing changed, few Mul put in."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs
import pytest

import onnx_snn
from nets import run
from onnx_snn.analyse import analyse
from onnx_snn.calibrate import calibrate, spiking_nodes
from onnx_snn.data import Dataset, input_specs
from onnx_snn.load import load_graph
from onnx_snn.operators import Kind
from onnx_snn.passes.fold_batch_normalization import fold_batch_normalization
from onnx_snn.passes.normalise import normalise
from onnx_snn.passes.rewrite_activations import rewrite_activations
from onnx_snn.thresholds import Granularity, Mode, thresholds
from topologies import TOPOLOGIES, images, topology, without_softmax

pytestmark = pytest.mark.heavy

# tools/check_topologies.py converts all of them; that takes too long here.
SMALL = ("inception_v1", "resnet50", "shufflenet", "squeezenet")


def _input_name(model):
    return next(spec.name for spec in input_specs(model))


def _prepared(name):
    """The network, its graph with folded normalisation, and statistics of it."""
    model = without_softmax(topology(name))
    graph = load_graph(model)
    analysis = analyse(graph)
    assert analysis.problem is None
    rewrite_activations(graph)
    fold_batch_normalization(graph)
    specs = input_specs(gs.export_onnx(graph))
    stats = calibrate(graph, Dataset(images(2, seed=5), specs, 1))
    return model, graph, stats


def _same(graph, model, x):
    feeds = {_input_name(model): x}
    (actual,), (expected,) = run(gs.export_onnx(graph), feeds), run(model, feeds)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize("name", TOPOLOGIES)
def test_every_node_is_spiking_linear_or_pooling_or_aside(name):
    graph = load_graph(topology(name))
    verdicts = analyse(graph).verdicts
    assert len(verdicts) == len(graph.nodes)
    kinds = {verdict.kind for verdict in verdicts}
    # Local response normalisation is a function that no neuron computes.
    graded = {v.op for v in verdicts if v.kind is Kind.DIFFERENTIAL}
    assert graded <= {"LRN"}
    assert Kind.REFUSED not in kinds


@pytest.mark.parametrize("granularity", list(Granularity), ids=lambda grain: grain.value)
@pytest.mark.parametrize("name", ["resnet50", "densenet121", "shufflenet", "inception_v1"])
def test_folding_and_normalising_leave_the_outputs_as_they_are(name, granularity):
    model, graph, stats = _prepared(name)
    assert "BatchNormalization" not in {node.op for node in graph.nodes}
    x = images(1, seed=6)
    _same(graph, model, x)
    normalise(graph, analyse(graph), thresholds(stats, Mode.parse("99.9%"), granularity))
    _same(graph, model, x)


@pytest.mark.parametrize("name", ["resnet50", "densenet121"])
def test_scales_per_channel_survive_with_few_synapses(name):
    _, graph, stats = _prepared(name)
    edges = _identity_edges(graph)
    before = sum(node.op == "Mul" for node in graph.nodes)
    limits = thresholds(stats, Mode.parse("99.9%"), Granularity.CHANNEL)
    scales = normalise(graph, analyse(graph), limits)
    assert all(not scale.is_scalar for scale in scales.values())
    synapses = sum(node.op == "Mul" for node in graph.nodes) - before
    assert 0 <= synapses <= edges


def _identity_edges(graph):
    """Edges from a spiking tensor, maybe pooled, straight into a sum or a Concat."""
    spikes = {node.outputs[0].name for node in spiking_nodes(graph)}
    passed_on = {"MaxPool", "AveragePool", "Concat"}
    for node in graph.nodes:
        if node.op in passed_on and any(tensor.name in spikes for tensor in node.inputs):
            spikes.add(node.outputs[0].name)
    joins = [node for node in graph.nodes if node.op in ("Add", "Sum", "Concat")]
    return sum(tensor.name in spikes for node in joins for tensor in node.inputs)


@pytest.mark.parametrize("name", ["squeezenet", "shufflenet"])
def test_all_schedules_agree(name):
    model = topology(name)
    x = images(2, seed=7)
    snn = onnx_snn.convert(model, x, timesteps=3, holdout=0).model
    (layered,) = onnx_snn.create_session(snn).run(None, {_input_name(model): x[:1]})
    loop = onnx_snn.reschedule(snn, schedule="loop", block=2)
    (looped,) = onnx_snn.create_session(loop).run(None, {_input_name(model): x[:1]})
    stream = onnx_snn.Stream(loop)
    for _ in range(3):
        (streamed,) = stream.run(x[:1], timesteps=1).values()
    assert np.abs(layered).max() > 0
    np.testing.assert_allclose(looped, layered, atol=1e-5)
    np.testing.assert_allclose(streamed, layered, atol=1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_converted_networks_run_for_any_batch_and_any_number_of_steps(name):
    model = topology(name)
    snn = onnx_snn.convert(model, images(1, seed=8), timesteps=1, holdout=0).model
    session = onnx_snn.create_session(snn)
    for samples, steps in ((1, 2), (2, 1)):
        feeds = {_input_name(model): images(samples, seed=9), "T": np.array(steps, np.int64)}
        (outputs,) = session.run(None, feeds)
        assert len(outputs) == samples
        assert np.isfinite(outputs).all()
