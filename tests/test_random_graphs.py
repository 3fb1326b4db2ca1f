"""The invariants of every room, on networks of any shape."""

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import onnx_snn
from nets import run
from onnx_snn.analyse import analyse
from onnx_snn.calibrate import spiking_nodes
from onnx_snn.load import load_graph
from onnx_snn.operators import Kind
from onnx_snn.passes.fold_batch_normalization import fold_batch_normalization
from onnx_snn.passes.normalise import normalise
from onnx_snn.passes.rewrite_activations import rewrite_activations
from onnx_snn.scale import Scale
from onnx_snn.thresholds import Threshold
from random_graphs import INPUT, networks

many = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
few = settings(many, max_examples=25)
T = {steps: {"T": np.array(steps, np.int64)} for steps in (5, 64, 1024)}


def _images(count: int) -> np.ndarray:
    return np.random.default_rng(count).normal(0, 1, (count, *INPUT)).astype(np.float32)


def _assert_same_function(graph: gs.Graph, model: onnx.ModelProto) -> None:
    for count in (1, 3):
        feeds = {"x": _images(count)}
        for actual, expected in zip(
            run(gs.export_onnx(graph), feeds), run(model, feeds), strict=True
        ):
            # Activations are about 1, of which a difference may leave little but rounding.
            most = max(np.abs(expected).max(), 0.1)
            np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-4 * most)


def _thresholds(graph: gs.Graph, per_channel: bool, seed: int) -> dict[str, Threshold]:
    random = np.random.default_rng(seed)
    limits = {}
    for node in spiking_nodes(graph):
        output = node.outputs[0]
        values = random.uniform(0.5, 2, output.shape[1] if per_channel else ())
        limits[output.name] = Threshold(Scale.of(values), Scale.of(values.max()))
    return limits


@given(networks(graded=True), st.booleans(), st.integers(0, 99))
@many
def test_no_pass_before_the_neurons_changes_the_function(model, per_channel, seed):
    graph = load_graph(model)
    _assert_same_function(graph, model)
    rewrite_activations(graph)
    _assert_same_function(graph, model)
    fold_batch_normalization(graph)
    _assert_same_function(graph, model)
    limits = _thresholds(graph, per_channel, seed)
    normalise(graph, analyse(graph), limits)
    _assert_same_function(graph, model)


@given(networks(graded=True))
@many
def test_every_node_has_a_verdict_and_none_is_refused(model):
    graph = load_graph(model)
    verdicts = analyse(graph).verdicts
    assert [verdict.node for verdict in verdicts] == [node.name for node in graph.nodes]
    assert all(verdict.kind is not Kind.REFUSED for verdict in verdicts)
    assert all(verdict.reason for verdict in verdicts)


@given(networks(), st.sampled_from(["layer", "channel"]))
@few
def test_all_schedules_and_bodies_agree(model, granularity):
    x = _images(4)
    snn = onnx_snn.convert(model, x, timesteps=5, granularity=granularity, holdout=0).model
    expected = onnx_snn.create_session(snn).run(None, {"x": x})
    names = [value.name for value in snn.graph.output]
    portable = onnx_snn.create_session(snn, use_native=False).run(None, {"x": x})
    looped = onnx_snn.reschedule(snn, schedule="loop", block=2)
    in_blocks = onnx_snn.create_session(looped).run(None, {"x": x})
    stream = onnx_snn.Stream(onnx_snn.reschedule(looped, schedule="step"))
    for _ in range(5):
        streamed = stream.run(x, timesteps=1)
    for index, name in enumerate(names):
        most = max(np.abs(expected[index]).max(), 1e-3)
        for other in (portable[index], in_blocks[index], streamed[name]):
            # A sum in another order may tip a membrane over its threshold, once in a while.
            differing = np.abs(other - expected[index]) > 1e-4 * most
            assert differing.mean() < 0.05


@given(networks(graded=True), st.sampled_from(["layer", "channel"]))
@few
def test_the_error_falls_with_the_number_of_steps(model, granularity):
    x = _images(8)
    expected = run(model, {"x": x})
    snn = onnx_snn.convert(model, x, mode="max", granularity=granularity, holdout=0).model
    session = onnx_snn.create_session(snn)
    errors = []
    for steps in (64, 1024):
        outputs = session.run(None, {"x": x, **T[steps]})
        pairs = zip(outputs, expected, strict=True)
        errors.append(
            sum(float(np.abs(a - e).mean() / (np.abs(e).mean() + 1e-3)) for a, e in pairs)
        )
    assert errors[1] < 0.02 or errors[1] < errors[0] / 4
