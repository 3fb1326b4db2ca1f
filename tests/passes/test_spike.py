import numpy as np
import pytest

import onnx_snn
from nets import Dyadic, Gaussian, Net, cnn, residual
from onnx_snn.analyse import analyse
from onnx_snn.coding import InputCoding
from onnx_snn.load import load_graph
from onnx_snn.neuron import Neuron
from onnx_snn.passes.spike import spike
from simulator import dyadic_thresholds, simulate, stats_of

W = Gaussian(1)


def _spike(model, *, options=None, coding=InputCoding.CONSTANT):
    graph = load_graph(model)
    return spike(graph, analyse(graph), options or Neuron(), coding)


def _ops(network):
    return [node.op for node in network.graph.nodes]


def test_relus_become_neurons_and_the_output_a_mean():
    network = _spike(cnn(W))
    assert _ops(network) == [
        *("Conv", "IFNeuron", "AveragePool", "Conv", "IFNeuron", "Flatten", "Gemm", "Readout")
    ]
    first, second = network.neurons()
    assert (first.name, first.domain) == ("Relu_1", "onnx_snn")
    assert first.outputs[0].name == "relu1"
    assert all(node.inputs[1] is network.timesteps for node in network.neurons())
    # The first layer is computed once: its current is the same at every step.
    assert first.attrs["constant_input"] == 1
    assert second.attrs["constant_input"] == 0
    assert network.graph.outputs[0].name == "y"
    assert network.graph.outputs[0].shape == ["N", 5]


def test_no_weight_is_touched():
    before = [t.values for n in load_graph(cnn(Gaussian(1))).nodes for t in n.inputs[1:]]
    network = _spike(cnn(Gaussian(1)))
    layers = [node for node in network.graph.nodes if node.op in ("Conv", "Gemm")]
    after = [tensor.values for node in layers for tensor in node.inputs[1:]]
    assert len(before) == len(after) == 6
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_options_of_the_neurons(reset):
    network = _spike(cnn(W), options=Neuron(v_init=0.25, reset=reset))
    for node in network.neurons():
        assert node.attrs == {
            "constant_input": node.attrs["constant_input"],
            "v_threshold": 1.0,
            "v_init": 0.25,
            "reset": reset,
            "spike_min": 0,
            "spike_max": 1,
            "count_min": 0,
            "count_max": -1,
        }
        assert node.inputs[2].values == np.float32(0.25)


def test_activations_are_rows_of_all_steps():
    network = _spike(cnn(W))
    shapes = {t.name: t.shape for node in network.graph.nodes for t in node.outputs if t.shape}
    assert shapes["conv0"] == ["N", 4, 8, 8]
    assert shapes["relu1"] == ["T*N", 4, 8, 8]
    assert shapes["averagepool2"] == ["T*N", 4, 4, 4]


def test_of_a_sequence_all_inputs_are_rows():
    network = _spike(cnn(W), coding=InputCoding.SEQUENCE)
    assert all(node.attrs["constant_input"] == 0 for node in network.neurons())
    assert network.graph.inputs[0].shape == ["T*N", 2, 8, 8]


def test_a_static_tensor_is_repeated_once_for_all_readers():
    net = Net({"x": ["N", 4]})
    static = net.gemm("x", W(4, 4))
    y = net.op("Add", net.relu(static), static)
    y = net.op("Sub", net.gemm(y, W(4, 4)), static)
    network = _spike(net.model(net.relu(y)))
    assert _ops(network).count("Tile") == 1
    (tile,) = [node for node in network.graph.nodes if node.op == "Tile"]
    assert {reader.op for reader in tile.outputs[0].outputs} == {"Add", "Sub"}


def test_of_a_sequence_nothing_is_repeated():
    net = Net({"x": ["N", 4]})
    y = net.op("Add", net.relu("x"), "x")
    assert "Tile" not in _ops(_spike(net.model(net.relu(y)), coding=InputCoding.SEQUENCE))


def test_the_tail_reads_the_mean():
    net = Net({"x": ["N", 4]})
    y = net.op("Softmax", net.gemm(net.relu("x"), W(4, 3)))
    network = _spike(net.model(y))
    assert _ops(network) == ["IFNeuron", "Gemm", "Readout", "Softmax"]
    assert network.temporal_nodes() == network.graph.nodes[:2]


def test_an_output_that_the_network_reads_too():
    net = Net({"x": ["N", 4]})
    hidden = net.relu("x")
    model = net.model({"a": hidden, "b": net.gemm(hidden, W(4, 3)), "c": net.op("Exp", hidden)})
    network = _spike(model)
    assert sorted(_ops(network)) == ["Exp", "Gemm", "IFNeuron", "Readout", "Readout"]
    by_op = {node.op: node for node in network.graph.nodes}
    assert by_op["Exp"].inputs[0] is network.graph.outputs[0]
    assert by_op["Gemm"].inputs[0] is by_op["IFNeuron"].outputs[0]


@pytest.mark.parametrize("name", ["T", "onnx_snn/v_init/float32"])
def test_names_that_are_taken(name):
    net = Net({name: ["N", 4]})
    network = _spike(net.model(net.relu(name)))
    tensors = {id(t): t.name for n in network.graph.nodes for t in (*n.inputs, *n.outputs)}
    names = [name for name in tensors.values() if name]
    assert len(set(names)) == len(names)


def _placeholders(network):
    """Operator, source and whether of means, of every crossing."""
    return [
        (node.op, node.inputs[0].name, bool(node.attrs["averages"])) for node in network.crossings()
    ]


def _neurons(net, channels=4):
    return net.relu(net.conv("x", W(channels, 4, 1, 1)))


class TestDomains:
    """Rows of steps, of sums so far or of means so far, and what stands between them."""

    @pytest.mark.parametrize("build", [cnn, residual])
    def test_spikes_alone_never_cross(self, build):
        assert _placeholders(_spike(build(W))) == []

    def test_a_maximum_is_of_sums(self):
        net = Net({"x": ["N", 4, 6, 6]})
        y = net.relu(net.op("MaxPool", _neurons(net), kernel_shape=[2, 2]))
        assert _placeholders(_spike(net.model(y))) == [
            ("Accumulate", "relu1", False),
            ("Difference", "maxpool2", False),
        ]

    def test_any_other_function_is_of_means(self):
        net = Net({"x": ["N", 4, 6, 6]})
        y = net.relu(net.op("Sigmoid", _neurons(net)))
        network = _spike(net.model(y))
        assert _placeholders(network) == [
            ("Accumulate", "relu1", True),
            ("Difference", "sigmoid2", True),
        ]
        assert _ops(network) == [
            *("Conv", "IFNeuron", "Accumulate", "Sigmoid", "Difference", "IFNeuron", "Readout")
        ]
        assert all(t.shape[0] == "T*N" for n in network.crossings() for t in n.outputs)

    def test_linear_layers_between_functions_are_of_means(self):
        net = Net({"x": ["N", 4, 6, 6]})
        y = net.op("Sigmoid", _neurons(net))
        y = net.op("AveragePool", net.conv(y, W(4, 4, 1, 1), W(4)), kernel_shape=[2, 2])
        y = net.relu(net.op("Tanh", y))
        assert _placeholders(_spike(net.model(y))) == [
            ("Accumulate", "relu1", True),
            ("Difference", "tanh5", True),
        ]

    def test_a_maximum_of_means_stays_one(self):
        net = Net({"x": ["N", 4, 6, 6]})
        y = net.op("MaxPool", net.op("Exp", _neurons(net)), kernel_shape=[2, 2])
        network = _spike(net.model(net.relu(net.op("Tanh", y))))
        assert [op for op, *_ in _placeholders(network)] == ["Accumulate", "Difference"]

    def test_maxima_in_a_row_share_their_sums(self):
        net = Net({"x": ["N", 4, 6, 6]})
        y = net.op("MaxPool", _neurons(net), kernel_shape=[2, 2])
        y = net.relu(net.op("GlobalMaxPool", y))
        assert [op for op, *_ in _placeholders(_spike(net.model(y)))] == [
            "Accumulate",
            "Difference",
        ]

    def test_a_linear_layer_behind_a_maximum_is_of_steps(self):
        net = Net({"x": ["N", 4, 6, 6]})
        y = net.op("MaxPool", _neurons(net), kernel_shape=[2, 2])
        network = _spike(net.model(net.relu(net.conv(y, W(4, 4, 1, 1), W(4)))))
        (conv,) = [node for node in network.graph.nodes if node.op == "Conv"][1:]
        assert conv.inputs[0].inputs[0].op == "Difference"

    def test_from_sums_to_means_by_way_of_steps(self):
        net = Net({"x": ["N", 4, 6, 6]})
        y = net.op("MaxPool", _neurons(net), kernel_shape=[2, 2])
        network = _spike(net.model(net.relu(net.op("Tanh", y))))
        assert _placeholders(network) == [
            ("Accumulate", "relu1", False),
            ("Difference", "maxpool2", False),
            ("Accumulate", "maxpool2/step", True),
            ("Difference", "tanh3", True),
        ]

    def test_several_readers_share_one_copy(self):
        net = Net({"x": ["N", 4, 6, 6]})
        s = _neurons(net)
        a, b = net.op("Tanh", s), net.op("Sigmoid", s)
        readers = [net.relu(net.conv(net.op("Mul", a, b), W(4, 4, 1, 1))) for _ in range(2)]
        y = net.relu(net.conv(a, W(4, 4, 1, 1)))
        network = _spike(net.model(net.relu(net.op("Sum", *readers, y, s))))
        sources = [(op, source) for op, source, _ in _placeholders(network)]
        assert len(set(sources)) == len(sources)
        assert sources.count(("Accumulate", s)) == 1

    def test_spikes_that_meet_means_are_brought_to_them(self):
        net = Net({"x": ["N", 4, 6, 6]})
        s = _neurons(net)
        y = net.relu(net.op("Mul", s, net.op("Sigmoid", s)))
        network = _spike(net.model(y))
        assert _placeholders(network) == [
            ("Accumulate", "relu1", True),
            ("Difference", "mul3", True),
        ]

    def test_an_image_that_meets_means_is_repeated(self):
        net = Net({"x": ["N", 4, 6, 6]})
        y = net.op("Mul", net.op("Sigmoid", _neurons(net)), "x")
        network = _spike(net.model(net.relu(y)))
        by_op = {node.op: node for node in network.graph.nodes}
        assert by_op["Tile"].inputs[0].name == "x"
        assert by_op["Tile"].outputs[0] in by_op["Mul"].inputs
        assert [op for op, *_ in _placeholders(network)] == ["Accumulate", "Difference"]

    def test_an_image_that_meets_spikes_in_a_product(self):
        net = Net({"x": ["N", 4, 6, 6]})
        network = _spike(net.model(net.relu(net.op("Mul", _neurons(net), "x"))))
        assert _ops(network).count("Tile") == 1
        assert [op for op, *_ in _placeholders(network)] == ["Accumulate", "Difference"]

    def test_frames_are_steps(self):
        net = Net({"x": ["N", 4, 6, 6]})
        y = net.relu(net.op("Mul", net.op("Sigmoid", _neurons(net)), "x"))
        network = _spike(net.model(y), coding=InputCoding.SEQUENCE)
        assert "Tile" not in _ops(network)
        assert ("Accumulate", "x", True) in _placeholders(network)

    def test_before_the_neurons_nothing_is_graded(self):
        net = Net({"x": ["N", 4, 6, 6]})
        y = net.relu(net.conv(net.op("Sigmoid", "x"), W(4, 4, 1, 1)))
        assert _placeholders(_spike(net.model(y))) == []

    def test_outputs_are_means_of_steps(self):
        net = Net({"x": ["N", 4, 6, 6]})
        z = net.op("Sigmoid", _neurons(net))
        network = _spike(net.model({"z": z, "y": net.relu(net.conv(z, W(2, 4, 1, 1)))}))
        (readout,) = [node for node in network.readouts() if node.outputs[0].name == "z"]
        assert readout.inputs[0].inputs[0].op == "Difference"
        assert network.graph.outputs[0].shape == ["N", 4, 6, 6]

    def test_crossings_are_temporal(self):
        net = Net({"x": ["N", 4, 6, 6]})
        network = _spike(net.model(net.relu(net.op("Sigmoid", _neurons(net)))))
        temporal = [node.op for node in network.temporal_nodes()]
        assert temporal == ["IFNeuron", "Accumulate", "Sigmoid", "Difference", "IFNeuron"]


def test_an_output_and_its_other_readers_share_what_one_step_adds():
    net = Net({"x": ["N", 2, 6, 6]})
    pooled = net.op("MaxPool", net.relu(net.conv("x", W(3, 2, 1, 1))), kernel_shape=[2, 2])
    y = net.op("Flatten", net.relu(pooled))
    network = _spike(net.model({"y": y, "z": pooled}))
    assert _ops(network).count("Difference") == 1
    names = [node.name for node in network.graph.nodes]
    assert len(set(names)) == len(names)


class TestSizesKnownAtRunTimeOnly:
    """Shapes computed from tensors with and without a time axis, for images of any size."""

    def _upsample(self, net, like, hidden, weights):
        """To the size of another feature map."""
        half = net.op("AveragePool", hidden, kernel_shape=[2, 2], strides=[2, 2])
        half = net.relu(net.conv(half, weights(4, 4, 3, 3), weights(4), pads=[1] * 4))
        size = net.op("Concat", self._sizes(net, half, 0, 2), self._sizes(net, like, 2, 4), axis=0)
        same = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        return net.op("Add", net.op("Resize", half, "", "", size, mode="nearest", **same), hidden)

    def _tokens(self, net, like, hidden, weights):
        """To a list of places and back."""
        flat = net.op("Concat", self._sizes(net, like, 0, 1), self._ints(net, 4, -1), axis=0)
        y = net.op("Transpose", net.op("Reshape", hidden, flat), perm=[0, 2, 1])
        y = net.relu(net.op("Add", net.matmul(y, weights(4, 4)), net.constant(weights(4))))
        whole = [self._sizes(net, like, 0, 1), self._ints(net, 4), self._sizes(net, like, 2, 4)]
        y = net.op("Transpose", y, perm=[0, 2, 1])
        return net.op("Reshape", y, net.op("Concat", *whole, axis=0))

    def _spread(self, net, like, hidden, weights):
        """The mean over all places, at every place."""
        mean = net.op("ReduceMean", hidden, self._ints(net, 2, 3))
        ends = [self._ints(net, 1, 4), self._sizes(net, like, 2, 4)]
        return net.op("Sub", hidden, net.op("Expand", mean, net.op("Concat", *ends, axis=0)))

    @staticmethod
    def _ints(net, *values):
        return net.constant(values, np.int64)

    def _sizes(self, net, tensor, start, end):
        bounds = self._ints(net, start), self._ints(net, end), self._ints(net, 0)
        return net.op("Slice", net.op("Shape", tensor), *bounds)

    @pytest.mark.parametrize("like", ["image", "hidden"])
    @pytest.mark.parametrize("middle", [_upsample, _tokens, _spread])
    def test_every_schedule_simulates_the_network(self, middle, like):
        weights, random = Dyadic(3), Dyadic(4)
        net = Net({"x": ["N", 3, "H", "W"]})
        hidden = net.relu(net.conv("x", weights(4, 3, 3, 3), weights(4), pads=[1] * 4))
        y = net.relu(middle(self, net, "x" if like == "image" else hidden, hidden, weights))
        model = net.model(net.conv(y, weights(2, 4, 1, 1), weights(2)))
        thresholds = dyadic_thresholds(model, {"x": random(4, 3, 8, 8, step=1 / 8)})
        options = {"neuron": "if", "mode": "max", "timesteps": 8}
        snn = onnx_snn.convert(model, stats=stats_of(model, thresholds), **options).model
        loop = onnx_snn.reschedule(snn, schedule="loop", block=3)
        for height, width in ((8, 8), (16, 4)):
            x = random(2, 3, height, width, step=1 / 8)
            expected = simulate(model, thresholds, [{"x": x}] * 8).running_means(thresholds)["y"]
            for use_native in (True, False):
                for schedule in (snn, loop):
                    session = onnx_snn.create_session(schedule, use_native=use_native)
                    np.testing.assert_array_equal(session.run(None, {"x": x})[0], expected[-1])
                stream = onnx_snn.Stream(loop, use_native=use_native)
                for steps in (1, 2, 5):
                    streamed = stream.run(x, timesteps=steps)["y"]
                    np.testing.assert_array_equal(streamed, expected[stream.timesteps - 1])
