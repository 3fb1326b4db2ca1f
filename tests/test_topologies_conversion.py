"""The networks that the onnx package ships: nothing is refused, nothing changed, few Mul put in."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest

import onnx_snn
from nets import run
from onnx_snn.activation_stats import ActivationStats
from onnx_snn.analyse import analyse
from onnx_snn.calibrate import calibrate
from onnx_snn.data import Dataset, input_specs
from onnx_snn.load import load_graph
from onnx_snn.operators import Kind
from onnx_snn.passes.fold_batch_normalization import fold_batch_normalization
from onnx_snn.passes.normalise import normalise
from onnx_snn.passes.rewrite_activations import rewrite_activations
from onnx_snn.spiking_activations import spiking_nodes
from onnx_snn.thresholds import Granularity, Mode, thresholds
from topologies import TOPOLOGIES, images, topology, without_softmax

pytestmark = pytest.mark.heavy

# tools/check_topologies.py converts all of them; that takes too long here.
SMALL = ("inception_v1", "resnet50", "shufflenet", "squeezenet")


def of(*names):
    """For each of these networks; all tests of one stand together, and share what it costs."""
    return pytest.mark.parametrize("name", names, scope="session")


@dataclass(frozen=True)
class Prepared:
    """A network up to its logits, its graph with folded normalisation, and statistics of it."""

    model: onnx.ModelProto
    graph: gs.Graph
    stats: ActivationStats
    x: np.ndarray
    expected: np.ndarray


@lru_cache(maxsize=1)
def prepared(name):
    model = without_softmax(topology(name))
    graph = load_graph(model)
    assert analyse(graph).problem is None
    rewrite_activations(graph)
    fold_batch_normalization(graph)
    specs = input_specs(gs.export_onnx(graph))
    stats = calibrate(graph, Dataset(images(2, seed=5), specs, 1))
    x = images(1, seed=6)
    (expected,) = run(model, {_input_name(model): x})
    return Prepared(model, graph, stats, x, expected)


@lru_cache(maxsize=1)
def converted(name):
    """The whole network as a spiking one; 3 steps by default."""
    return onnx_snn.convert(
        topology(name), stats=prepared(name).stats, mode="99.9%", timesteps=3
    ).model


def _input_name(model):
    return next(spec.name for spec in input_specs(model))


def _assert_same(graph, network):
    (actual,) = run(gs.export_onnx(graph), {_input_name(network.model): network.x})
    expected = network.expected
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


@of(*TOPOLOGIES)
def test_every_node_is_spiking_linear_or_pooling_or_aside(name):
    graph = load_graph(topology(name))
    verdicts = analyse(graph).verdicts
    assert len(verdicts) == len(graph.nodes)
    kinds = {verdict.kind for verdict in verdicts}
    # Local response normalisation is a function that no neuron computes.
    graded = {v.op for v in verdicts if v.kind is Kind.DIFFERENTIAL}
    assert graded <= {"LRN"}
    assert Kind.REFUSED not in kinds


@of("resnet50", "densenet121", "shufflenet", "inception_v1")
def test_folding_leaves_the_outputs_as_they_are(name):
    network = prepared(name)
    assert "BatchNormalization" not in {node.op for node in network.graph.nodes}
    _assert_same(network.graph, network)


@pytest.mark.parametrize("granularity", list(Granularity), ids=lambda grain: grain.value)
@of("resnet50", "densenet121", "shufflenet", "inception_v1")
def test_normalising_leaves_the_outputs_as_they_are(name, granularity):
    network = prepared(name)
    graph = network.graph.copy()
    limits = thresholds(network.stats, Mode.parse("99.9%"), granularity)
    normalise(graph, analyse(graph), limits)
    _assert_same(graph, network)


@of("resnet50", "densenet121")
def test_scales_per_channel_survive_with_few_synapses(name):
    graph, stats = prepared(name).graph.copy(), prepared(name).stats
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


@of("squeezenet", "shufflenet")
def test_all_schedules_agree(name):
    snn = converted(name)
    x = images(1, seed=7)
    feeds = {_input_name(topology(name)): x}
    (layered,) = onnx_snn.create_session(snn).run(None, feeds)
    loop = onnx_snn.reschedule(snn, schedule="loop", block=2)
    (looped,) = onnx_snn.create_session(loop).run(None, feeds)
    stream = onnx_snn.Stream(loop)
    for _ in range(3):
        (streamed,) = stream.run(x, timesteps=1).values()
    assert np.abs(layered).max() > 0
    np.testing.assert_allclose(looped, layered, atol=1e-5)
    np.testing.assert_allclose(streamed, layered, atol=1e-5)


@of(*SMALL)
def test_converted_networks_run_for_any_batch_and_any_number_of_steps(name):
    session = onnx_snn.create_session(converted(name))
    for samples, steps in ((1, 2), (2, 1)):
        x = images(samples, seed=9)
        feeds = {_input_name(topology(name)): x, "T": np.array(steps, np.int64)}
        (outputs,) = session.run(None, feeds)
        assert len(outputs) == samples
        assert np.isfinite(outputs).all()
