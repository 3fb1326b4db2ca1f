import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algebra import assert_close
from nets import Gaussian, Net, cnn, mlp, residual, run
from onnx_snn.analyse import analyse
from onnx_snn.load import load_graph
from onnx_snn.passes.fold_batch_normalization import fold_batch_normalization
from onnx_snn.passes.normalise import normalise
from onnx_snn.scale import Scale
from onnx_snn.spiking_activations import spiking_nodes
from onnx_snn.thresholds import Threshold
from simulator import expose
from strategies import SEEDS, networks

W = Gaussian(21)
PADS = [1, 1, 1, 1]


def _thresholds(graph, per_channel, seed=0):
    """Any λ will do for the algebra: these are drawn, not calibrated."""
    random = np.random.default_rng(seed)
    limits = {}
    for node in spiking_nodes(graph):
        (tensor,) = node.outputs
        layer = Scale.of(random.uniform(0.2, 5))
        channels = per_channel and len(tensor.shape) > 1
        scale = Scale.of(random.uniform(0.2, 5, tensor.shape[1])) if channels else layer
        limits[tensor.name] = Threshold(scale, layer)
    return limits


def _normalise(model, per_channel, *, feeds=None, seed=0):
    """Normalise, and check all outputs and, divided by λ, the output of every neuron."""
    graph = load_graph(model)
    fold_batch_normalization(graph)
    neurons = [node.outputs[0].name for node in spiking_nodes(graph)]
    before = expose(gs.export_onnx(graph), neurons)
    scales = normalise(graph, analyse(graph), _thresholds(graph, per_channel, seed))
    assert list(scales) == neurons
    after = gs.export_onnx(graph)
    onnx.checker.check_model(after)
    for output in after.graph.output:
        output.type.tensor_type.ClearField("shape")
    produced = {name for node in after.graph.node for name in node.output}
    # A graph output that spikes stays in the ANN's units, behind a tensor that does not.
    spikes = {t: f"{t}/normalised" if f"{t}/normalised" in produced else t for t in neurons}
    after = expose(after, spikes.values())

    feeds = feeds or _feeds(model)
    old = dict(zip((o.name for o in before.graph.output), run(before, feeds), strict=True))
    new = dict(zip((o.name for o in after.graph.output), run(after, feeds), strict=True))
    for output in model.graph.output:
        # Far below the 1e-4 promised: weights are rounded once more, activations accumulate
        # the rounding of a dozen layers.
        assert_close(new[output.name], old[output.name], 1e-5, magnitude=0.1)
    for name, spiking in spikes.items():
        assert_close(new[spiking] * scales[name].shaped(new[spiking].ndim), old[name], 1e-5, 0.1)
    return graph, scales


def _feeds(model):
    random = np.random.default_rng(3)
    feeds = {}
    for value in model.graph.input:
        shape = [dim.dim_value or 4 for dim in value.type.tensor_type.shape.dim]
        feeds[value.name] = random.normal(size=shape).astype(np.float32)
    return feeds


def _ops(graph):
    return [node.op for node in graph.nodes]


GRANULARITY = pytest.mark.parametrize("per_channel", [False, True], ids=["layer", "channel"])


@GRANULARITY
@pytest.mark.parametrize("build", [cnn, residual, mlp])
def test_networks(build, per_channel):
    _, scales = _normalise(build(Gaussian(4)), per_channel)
    assert all(scale.is_scalar != per_channel for scale in scales.values())


@GRANULARITY
def test_after_folding(per_channel):
    graph, _ = _normalise(cnn(Gaussian(4), normalised=True), per_channel)
    assert _ops(graph) == ["Conv", "Relu", "AveragePool", "Conv", "Relu", "Flatten", "Gemm"]


@settings(max_examples=50, deadline=None)
@given(networks(), st.booleans(), SEEDS)
def test_random_networks(example, per_channel, seed):
    _normalise(example.model, per_channel, feeds={"x": example.x}, seed=seed)


class TestSynapses:
    """Where no weights can take a scale in, one Mul does, and nowhere else."""

    @GRANULARITY
    def test_networks_in_a_row_need_none(self, per_channel):
        for build in (cnn, mlp):
            graph, _ = _normalise(build(W), per_channel)
            assert "Mul" not in _ops(graph)

    @GRANULARITY
    def test_an_identity_shortcut_needs_one(self, per_channel):
        graph, _ = _normalise(self._block(None), per_channel)
        assert _ops(graph).count("Mul") == 1
        (synapse,) = [node for node in graph.nodes if node.op == "Mul"]
        assert synapse.inputs[0].inputs[0].op == "Relu"
        assert synapse.outputs[0].outputs[0].op == "Add"

    @GRANULARITY
    def test_a_shortcut_with_weights_needs_none(self, per_channel):
        graph, _ = _normalise(self._block(W(4, 4, 1, 1)), per_channel)
        assert "Mul" not in _ops(graph)

    @GRANULARITY
    def test_two_readers_of_one_scale_share_it(self, per_channel):
        net = Net({"x": ["N", 4, 6, 6]})
        stem = net.relu(net.conv("x", W(4, 4, 1, 1)))
        wide = net.op("Add", net.conv(stem, W(4, 4, 1, 1)), stem)
        y = net.conv(net.relu(net.op("Add", wide, stem)), W(2, 4, 1, 1))
        graph, _ = _normalise(net.model(y), per_channel)
        assert _ops(graph).count("Mul") == 1

    @GRANULARITY
    def test_weights_used_twice_are_copied(self, per_channel):
        net = Net({"x": ["N", 4, 6, 6]})
        weight, bias = net.constant(W(4, 4, 1, 1)), net.constant(W(4))
        y = "x"
        for _ in range(3):
            y = net.relu(net.op("Conv", y, weight, bias))
        graph, _ = _normalise(net.model(y), per_channel)
        assert _ops(graph)[:6] == ["Conv", "Relu"] * 3
        names = {node.inputs[1].name for node in graph.nodes if node.op == "Conv"}
        assert len(names) == 3

    @staticmethod
    def _block(shortcut):
        net = Net({"x": ["N", 3, 6, 6]})
        stem = net.relu(net.conv("x", W(4, 3, 3, 3), W(4), pads=PADS))
        y = net.conv(stem, W(4, 4, 3, 3), W(4), pads=PADS)
        other = stem if shortcut is None else net.conv(stem, shortcut)
        return net.model(net.conv(net.relu(net.op("Add", y, other)), W(2, 4, 1, 1)))


def _carried(*steps):
    """Relu [N, 4, 6, 6] → steps (op, constants, attributes) → a dense layer."""
    net = Net({"x": ["N", 3, 6, 6]})
    y = net.relu(net.conv("x", W(4, 3, 1, 1), W(4)))
    for op, constants, attributes in steps:
        y = net.op(op, y, *(net.constant(c, np.int64) for c in constants), **attributes)
    features = {"GlobalAveragePool": 4, "ReduceMean": 4}.get(steps[0][0])
    if features is None:
        model = net.model(y)
        shape = [dim.dim_value for dim in model.graph.output[0].type.tensor_type.shape.dim]
        features = int(np.prod(shape[1:]))
    y = net.relu(net.gemm(net.op("Flatten", y), W(features, 3), W(3)))
    return net.model(net.gemm(y, W(3, 2)))


CARRIED = {
    "AveragePool": _carried(("AveragePool", [], {"kernel_shape": [2, 2]})),
    "GlobalAveragePool": _carried(("GlobalAveragePool", [], {})),
    "Flatten": _carried(("Flatten", [], {})),
    "Reshape": _carried(("Reshape", [[0, 4, 36]], {})),
    "Reshape to features": _carried(("Reshape", [[-1, 144]], {})),
    "Transpose": _carried(("Transpose", [], {"perm": [0, 2, 3, 1]})),
    "Transpose and Reshape": _carried(
        ("Transpose", [], {"perm": [0, 2, 3, 1]}), ("Reshape", [[0, 36, 4]], {})
    ),
    "Pad": _carried(("Pad", [[0, 0, 1, 1, 0, 0, 1, 1]], {})),
    "ReduceMean": _carried(("ReduceMean", [[2, 3]], {"keepdims": 0})),
    "Unsqueeze and Squeeze": _carried(("Unsqueeze", [[2]], {}), ("Squeeze", [[2]], {})),
}


@pytest.mark.parametrize("name", CARRIED)
def test_channels_are_carried_to_the_next_layer(name):
    graph, scales = _normalise(CARRIED[name], per_channel=True)
    assert all(not scale.is_scalar for scale in scales.values())
    assert "Mul" not in _ops(graph)


class TestFallback:
    """A scale per channel becomes one number where the channels are lost."""

    @pytest.mark.parametrize(
        "step",
        [("ReduceMean", [[1]], {}), ("Reshape", [[0, 6, 4, 6]], {})],
        ids=lambda step: step[0],
    )  # fmt: skip
    def test_of_the_layer_in_front_only(self, step):
        net = Net({"x": ["N", 3, 6, 6]})
        first = net.relu(net.conv("x", W(4, 3, 1, 1), W(4)))
        second = net.relu(net.conv(first, W(4, 4, 1, 1), W(4)))
        op, constants, attributes = step
        y = net.op(op, second, *(net.constant(c, np.int64) for c in constants), **attributes)
        _, scales = _normalise(net.model(net.op("Flatten", y)), per_channel=True)
        assert not scales[first].is_scalar
        assert scales[second].is_scalar

    def test_of_a_sequence_whose_channels_are_not_the_last_axis(self):
        net = Net({"x": ["N", 3, 5]})
        y = net.relu(net.conv("x", W(4, 3, 1), W(4)))
        model = net.model(net.relu(net.matmul(y, W(5, 6))))
        _, scales = _normalise(model, per_channel=True)
        assert scales[y].is_scalar

    def test_of_a_scale_that_broadcasting_would_stretch(self):
        net = Net({"x": ["N", 3, 6, 6]})
        one = net.relu(net.conv("x", W(1, 3, 1, 1)))
        many = net.conv(one, W(4, 1, 1, 1))
        _normalise(net.model(net.relu(net.op("Add", many, one))), per_channel=True)
        linear = net.conv(one, W(1, 1, 1, 1))
        _normalise(net.model(net.relu(net.op("Add", many, linear))), per_channel=True)


@GRANULARITY
class TestConcat:
    def test_of_neurons(self, per_channel):
        net = Net({"x": ["N", 3, 6, 6]})
        parts = [net.relu(net.conv("x", W(count, 3, 1, 1))) for count in (2, 3)]
        y = net.conv(net.op("Concat", *parts, axis=1), W(4, 5, 1, 1), W(4))
        graph, _ = _normalise(net.model(y), per_channel)
        assert "Mul" not in _ops(graph)

    def test_of_neurons_and_the_input(self, per_channel):
        net = Net({"x": ["N", 3, 6, 6]})
        y = net.op("Concat", "x", net.relu(net.conv("x", W(3, 3, 1, 1))), axis=1)
        graph, _ = _normalise(net.model(net.conv(y, W(4, 6, 1, 1))), per_channel)
        assert "Mul" not in _ops(graph)

    def test_along_pixels(self, per_channel):
        net = Net({"x": ["N", 3, 6, 6]})
        parts = [net.relu(net.conv("x", W(2, 3, 1, 1))) for _ in range(2)]
        _normalise(net.model(net.relu(net.op("Concat", *parts, axis=2))), per_channel)

    def test_in_front_of_neurons(self, per_channel):
        net = Net({"x": ["N", 3, 6, 6]})
        y = net.op("Concat", net.conv("x", W(2, 3, 1, 1)), net.relu("x"), axis=1)
        _normalise(net.model(net.relu(y)), per_channel)


@GRANULARITY
class TestOutputs:
    def test_neurons_as_outputs_stay_in_the_units_of_the_ann(self, per_channel):
        net = Net({"x": ["N", 3, 6, 6]})
        hidden = net.relu(net.conv("x", W(4, 3, 1, 1)))
        y = net.relu(net.conv(hidden, W(2, 4, 1, 1)))
        graph, _ = _normalise(net.model({"hidden": hidden, "y": y}), per_channel)
        assert [tensor.name for tensor in graph.outputs] == ["hidden", "y"]
        assert _ops(graph).count("Mul") == 2

    def test_heads_of_several_kinds(self, per_channel):
        net = Net({"x": ["N", 3, 6, 6]})
        trunk = net.relu(net.conv("x", W(4, 3, 1, 1)))
        logits = net.gemm(net.op("Flatten", trunk), W(144, 3))
        outputs = {
            "pooled": net.op("GlobalAveragePool", trunk),
            "logits": logits,
            "probabilities": net.op("Softmax", logits),
            "sigmoid": net.op("Sigmoid", trunk),
        }
        _normalise(net.model(outputs), per_channel)

    def test_an_output_that_is_read_inside_too(self, per_channel):
        net = Net({"x": ["N", 3, 6, 6]})
        y = net.conv("x", W(4, 3, 1, 1))
        model = net.model({"a": y, "b": net.relu(y), "c": net.conv(net.relu(y), W(2, 4, 1, 1))})
        _normalise(model, per_channel)


@GRANULARITY
class TestOtherGraphs:
    def test_functions_in_front_of_the_neurons(self, per_channel):
        net = Net({"x": ["N", 3, 6, 6]})
        y = net.op("Sigmoid", net.conv("x", W(4, 3, 1, 1)))
        _normalise(net.model(net.relu(net.conv(y, W(4, 4, 1, 1), W(4)))), per_channel)

    def test_two_inputs(self, per_channel):
        net = Net({"a": ["N", 3], "b": ["N", 2]})
        y = net.op("Add", net.gemm("a", W(3, 4), W(4)), net.relu(net.gemm("b", W(2, 4))))
        _normalise(net.model(net.gemm(net.relu(y), W(4, 2))), per_channel)

    def test_scaling_and_shifting_by_constants(self, per_channel):
        net = Net({"x": ["N", 4, 3]})
        y = net.relu(net.conv("x", W(4, 4, 1)))
        y = net.op("Div", net.op("Sub", y, net.constant(W(1, 4, 1))), net.constant(W(4, 1) + 2))
        y = net.op("Sub", net.constant(np.float32(1)), net.op("Mul", y, net.constant(W(4, 1))))
        graph, _ = _normalise(net.model(net.relu(y)), per_channel)
        assert _ops(graph)[:5] == ["Conv", "Relu", "Mul", "Add", "Relu"]

    def test_relu_of_a_relu(self, per_channel):
        net = Net({"x": ["N", 4]})
        graph, _ = _normalise(net.model(net.gemm(net.relu(net.relu("x")), W(4, 2))), per_channel)
        assert _ops(graph).count("Mul") == 2  # of the input, and between the two

    def test_an_input_in_front_of_neurons_and_of_layers(self, per_channel):
        net = Net({"x": ["N", 4]})
        y = net.op("Add", net.relu("x"), net.gemm("x", W(4, 4)))
        _normalise(net.model(net.relu(y)), per_channel)

    def test_one_feature(self, per_channel):
        net = Net({"x": ["N"]})
        y = net.op("Mul", net.relu("x"), net.constant(np.float32(1.5)))
        _, scales = _normalise(net.model(net.relu(y)), per_channel)
        assert all(scale.is_scalar for scale in scales.values())


@pytest.mark.parametrize("scale", [np.ones(4), np.float64(1 + 1e-12)], ids=["vector", "rounded"])
def test_no_synapse_is_put_in_that_does_nothing(scale):
    net = Net({"x": ["N", 4, 3, 3]})
    hidden = net.relu("x")
    graph = load_graph(net.model({"y": net.op("Flatten", hidden), "z": hidden}))
    normalise(graph, analyse(graph), {"z": Threshold(Scale.of(scale), Scale.of(1.0))})
    assert sorted(node.op for node in graph.nodes) == ["Flatten", "Relu"]
