"""The invariants of every room, on networks of any shape."""

from dataclasses import replace

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

import onnx_snn
from nets import run
from onnx_snn.analyse import analyse
from onnx_snn.load import load_graph
from onnx_snn.operators import Kind
from onnx_snn.ops import DOMAIN, IF_NEURON
from onnx_snn.passes.fold_batch_normalization import fold_batch_normalization
from onnx_snn.passes.normalise import normalise
from onnx_snn.passes.rewrite_activations import rewrite_activations
from onnx_snn.reschedule import unschedule
from onnx_snn.scale import Scale
from onnx_snn.schedule import ScheduleRecord
from onnx_snn.spiking_activations import spiking_nodes
from onnx_snn.thresholds import Threshold
from random_graphs import networks, samples

many = settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
few = settings(many, max_examples=15)
fewer = settings(many, max_examples=10)
T = {steps: {"T": np.array(steps, np.int64)} for steps in (5, 64, 1024)}


def _assert_same_function(graph: gs.Graph, model: onnx.ModelProto) -> None:
    for count in (1, 3):
        feeds = samples(model, count)
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
    x = samples(model, 4)
    snn = onnx_snn.convert(model, x, timesteps=5, granularity=granularity, holdout=0).model
    expected = onnx_snn.create_session(snn).run(None, x)
    names = [value.name for value in snn.graph.output]
    portable = onnx_snn.create_session(snn, use_native=False).run(None, x)
    looped = onnx_snn.reschedule(snn, schedule="loop", block=2)
    in_blocks = onnx_snn.create_session(looped).run(None, x)
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
    x = samples(model, 8)
    expected = run(model, x)
    snn = onnx_snn.convert(model, x, mode="max", granularity=granularity, holdout=0).model
    session = onnx_snn.create_session(snn)
    errors = []
    for steps in (64, 1024):
        outputs = session.run(None, {**x, **T[steps]})
        pairs = zip(outputs, expected, strict=True)
        errors.append(
            sum(float(np.abs(a - e).mean() / (np.abs(e).mean() + 1e-3)) for a, e in pairs)
        )
    assert errors[1] < 0.02 or errors[1] < errors[0] / 4


STEPS = 8


ALPHABETS = {"if": (0, 1), "signed": (-1, 0, 1), "burst(2)": (0, 1, 2)}
KINDS = st.tuples(st.sampled_from(["layer", "channel"]), st.sampled_from(sorted(ALPHABETS)))


@given(networks(dyadic=True), KINDS, st.integers(0, 99))
@fewer
def test_where_every_sum_is_exact_all_agree_bit_for_bit(model, kind, seed):
    x, snn = _exact(model, kind, seed)
    expected = onnx_snn.create_session(snn).run(None, x)
    _assert_gives_everywhere(snn, x, expected)


@given(networks(dyadic=True), KINDS, st.integers(0, 99))
@fewer
def test_events_give_the_same_bits(model, kind, seed):
    x, snn = _exact(model, kind, seed)
    expected = onnx_snn.create_session(snn).run(None, x)
    fused = onnx_snn.reschedule(snn, target="cpu")
    onnx.checker.check_model(fused)
    _assert_gives_everywhere(fused, x, expected)


def _assert_gives_everywhere(snn, x, expected):
    """All schedules and bodies of a network in schedule ``layer`` give the same bits."""
    looped = onnx_snn.reschedule(snn, schedule="loop", block=3)
    stepped = onnx_snn.reschedule(looped, schedule="step")
    back = onnx_snn.reschedule(stepped, schedule="layer", block=1)
    for other in (snn, looped, back):
        for use_native in (True, False):
            actual = onnx_snn.create_session(other, use_native=use_native).run(None, x)
            _assert_equal(actual, expected)
    for use_native in (True, False):
        stream = onnx_snn.Stream(stepped, use_native=use_native)
        for steps in (1, 5, 2):
            actual = stream.run(x, timesteps=steps)
        _assert_equal([actual[value.name] for value in snn.graph.output], expected)
    assert len(back.graph.node) == len(snn.graph.node)


@given(networks(dyadic=True), KINDS, st.integers(0, 99))
@few
def test_neurons_keep_their_charge_and_their_alphabet(model, kind, seed):
    x, snn = _exact(model, kind, seed)
    stepped = onnx_snn.reschedule(snn, schedule="step")
    neurons = [n for n in stepped.graph.node if n.domain == DOMAIN and n.op_type == IF_NEURON]
    present = {value.name for value in (*stepped.graph.output, *stepped.graph.input)}
    wanted = {name for n in neurons for name in (n.input[0], *n.output)}
    for name in sorted(wanted - present):
        stepped.graph.output.append(
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        )
    record = ScheduleRecord.of(stepped)
    session = onnx_snn.create_session(stepped)
    sizes = {value.name: value.shape for value in session.get_inputs()}
    states = {
        entry.input: np.full(
            [4, *sizes[entry.input][1:]] if sizes[entry.input] else [],
            entry.init,
            np.float32 if sizes[entry.input] else np.int64,
        )
        for entry in record.states
    }
    names = [value.name for value in stepped.graph.output]
    after = {**x, **dict(zip(names, session.run(None, {**x, **states}), strict=True))}
    assert neurons
    for node in neurons:
        currents, spikes, membrane = (after[n] for n in (node.input[0], *node.output[:2]))
        assert np.isin(spikes, ALPHABETS[kind[1]]).all()
        constant = next(a.i for a in node.attribute if a.name == "constant_input")
        arrived = _over_time(currents, 1) * STEPS if constant else _over_time(currents, STEPS)
        charge = states[node.input[2]] + arrived - _over_time(spikes, STEPS)
        # An average of three values is not dyadic, so its sums are rounded.
        np.testing.assert_allclose(membrane, charge, rtol=0, atol=1e-5)


@given(networks(graded=True), st.sampled_from(["layer", "channel"]))
@few
def test_between_neurons_stands_only_what_analyse_says(model, granularity):
    x = samples(model, 4)
    snn = onnx_snn.convert(model, x, timesteps=5, granularity=granularity, holdout=0).model
    assert {node.domain for node in snn.graph.node} <= {"", DOMAIN}
    assert {node.op_type for node in snn.graph.node if node.domain} == {IF_NEURON}
    graded = {verdict.node for verdict in analyse(load_graph(model)).graded}
    network = unschedule(snn, ScheduleRecord.of(snn))
    for node in network.temporal_nodes():
        if not _is_linear(node) and node.op not in MAXIMA and node.domain != DOMAIN:
            assert node.name in graded
    synapses = [n for n in network.graph.nodes if n.op == "Mul" and "/synapse" in n.name]
    for node in synapses:
        source, weight = node.inputs
        assert np.any(weight.values != 1)
        assert not any(producer in synapses for producer in source.inputs)
        # It stands at an edge: what owns weights takes a λ in, and so never reads one of one λ.
        if weight.values.size == 1:
            assert not any(reader.op in WEIGHTED for reader in node.outputs[0].outputs)


WEIGHTED = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
MAXIMA = {"MaxPool", "GlobalMaxPool", "Max", "Min", "ReduceMax", "ReduceMin"}
LINEAR = {
    *("Add", "Sub", "Sum", "Mean", "Neg", "AveragePool", "GlobalAveragePool", "ReduceMean"),
    *("Concat", "DepthToSpace", "Flatten", "Gather", "Pad", "Reshape", "Resize", "Slice"),
    *("SpaceToDepth", "Squeeze", "Tile", "Transpose", "Unsqueeze"),
}


def _is_linear(node: gs.Node) -> bool:
    constants = sum(isinstance(tensor, gs.Constant) for tensor in node.inputs)
    if node.op in ("Mul", "MatMul"):
        return constants == 1
    if node.op in WEIGHTED or node.op == "Div":
        return isinstance(node.inputs[1], gs.Constant)
    # What computes shapes and repeats what is static has no values of neurons in it.
    return node.op in LINEAR or not np.issubdtype(node.outputs[0].dtype or float, np.floating)


def _exact(model: onnx.ModelProto, kind: tuple[str, str], seed: int):
    """Inputs of small multiples of 1/8, and a conversion whose thresholds are powers of two."""
    x = samples(model, 4, dyadic=True)
    granularity, neuron = kind
    options = {"mode": "max", "timesteps": STEPS, "granularity": granularity, "holdout": 0}
    options["neuron"] = neuron
    found = onnx_snn.convert(model, x, **options).stats
    random = np.random.default_rng(seed)
    tensors = {}
    for name, entry in found.tensors.items():
        channels = 2.0 ** random.integers(-1, 2, len(entry.channel_max))
        most = float(channels.max(initial=0.5))
        tensors[name] = replace(entry, max=most, channel_max=channels.tolist())
    return x, onnx_snn.convert(model, stats=replace(found, tensors=tensors), **options).model


def _over_time(rows: np.ndarray, steps: int) -> np.ndarray:
    return rows.reshape(steps, -1, *rows.shape[1:]).sum(axis=0)


def _assert_equal(actual: list[np.ndarray], expected: list[np.ndarray]) -> None:
    for one, other in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(one, other)
