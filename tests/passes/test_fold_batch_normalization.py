import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from hypothesis import given, settings

from algebra import assert_close
from nets import Gaussian, Net, cnn, run
from onnx_snn.analyse import analyse
from onnx_snn.load import load_graph
from onnx_snn.passes.fold_batch_normalization import fold_batch_normalization
from strategies import networks

W = Gaussian(11)


def _ops(graph):
    return [node.op for node in graph.nodes]


def _fold(model):
    """Fold, and check that all outputs stay; float32 weights are rounded once, to 6e-8."""
    graph = load_graph(model)
    assert fold_batch_normalization(graph)
    random = np.random.default_rng(2)
    feeds = {}
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        shape = [dim.dim_value if dim.HasField("dim_value") else 3 for dim in dims]
        feeds[value.name] = random.normal(size=shape).astype(np.float32)
    folded = gs.export_onnx(graph)
    onnx.checker.check_model(folded)
    for actual, expected in zip(run(folded, feeds), run(model, feeds), strict=True):
        assert_close(actual, expected, 2e-6)
    assert not fold_batch_normalization(graph)
    return graph


def _conv(dims, inputs, outputs, groups=1, op="conv", bias=True):
    net = Net({"x": ["N", inputs, *[5] * dims]})
    rows = (inputs, outputs // groups) if op == "conv_transpose" else (outputs, inputs // groups)
    weight = W(*rows, *[3] * dims)
    y = getattr(net, op)("x", weight, W(outputs) if bias else None, group=groups)
    return net.model(net.batch_normalization(y, outputs))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("op", ["conv", "conv_transpose"])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_convolutions(op, dims, groups, bias):
    model = _conv(dims, 4, 8, groups, op, bias)
    expected = "Conv" if op == "conv" else "ConvTranspose"
    assert _ops(_fold(model)) == [expected]


@pytest.mark.parametrize("bias", [None, W(6), W(1, 6), W(1), W(), W(1, 1)], ids=str)
@pytest.mark.parametrize("attributes", [{}, {"transB": 1, "alpha": 0.6, "beta": 1.7}], ids=str)
def test_gemm(bias, attributes):
    net = Net({"x": ["N", 4]})
    weight = W(6, 4) if attributes else W(4, 6)
    model = net.model(net.batch_normalization(net.gemm("x", weight, bias, **attributes), 6))
    assert _ops(_fold(model)) == ["Gemm"]


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("bias", [W(6), W(1, 6), W(1), W(), W(1, 1)], ids=str)
def test_matmul_and_add(bias, first):
    net = Net({"x": ["N", 4]})
    pair = [net.matmul("x", W(4, 6)), net.constant(bias)]
    y = net.op("Add", *(pair if first else pair[::-1]))
    assert _ops(_fold(net.model(net.batch_normalization(y, 6)))) == ["MatMul", "Add"]


def test_matmul_alone_gets_an_add():
    net = Net({"x": ["N", 4]})
    model = net.model(net.batch_normalization(net.matmul("x", W(4, 6)), 6))
    assert _ops(_fold(model)) == ["MatMul", "Add"]


def test_epsilon_and_two_in_a_row():
    net = Net({"x": ["N", 2, 5, 5]})
    y = net.batch_normalization(net.conv("x", W(3, 2, 3, 3)), 3, epsilon=0.1)
    y = net.batch_normalization(y, 3, seed=1)
    assert _ops(_fold(net.model(y))) == ["Conv"]


@pytest.mark.parametrize("op", ["Identity", "Dropout"])
def test_behind_what_load_removes(op):
    net = Net({"x": ["N", 2, 5, 5]})
    y = net.op(op, net.conv("x", W(3, 2, 3, 3)))
    assert _ops(_fold(net.model(net.batch_normalization(y, 3)))) == ["Conv"]


def test_inside_a_network():
    graph = _fold(cnn(Gaussian(), normalised=True))
    assert _ops(graph) == ["Conv", "Relu", "AveragePool", "Conv", "Relu", "Flatten", "Gemm"]


def test_nothing_to_fold():
    graph = load_graph(cnn(Gaussian()))
    before = gs.export_onnx(graph).SerializeToString(deterministic=True)
    assert not fold_batch_normalization(graph)
    assert gs.export_onnx(graph).SerializeToString(deterministic=True) == before


def test_output_read_by_two_nodes_is_not_folded():
    net = Net({"x": ["N", 2, 5, 5]})
    y = net.conv("x", W(3, 2, 3, 3))
    model = net.model({"a": net.batch_normalization(y, 3), "b": net.relu(y)})
    assert sorted(_ops(_fold(model))) == ["Add", "Conv", "Mul", "Relu"]


def test_output_of_the_graph_is_not_folded():
    net = Net({"x": ["N", 2, 5, 5]})
    y = net.conv("x", W(3, 2, 3, 3))
    model = net.model({"a": net.batch_normalization(y, 3), "b": y})
    assert _ops(_fold(model)) == ["Conv", "Mul", "Add"]


@pytest.mark.parametrize("read", ["node", "output"])
def test_matmul_whose_output_is_read_twice_is_not_folded(read):
    net = Net({"x": ["N", 4]})
    product = net.matmul("x", W(4, 6))
    y = net.batch_normalization(net.op("Add", product, net.constant(W(6))), 6)
    other = net.relu(product) if read == "node" else product
    ops = _ops(_fold(net.model({"a": y, "b": other})))
    assert ops.count("Add") == 2
    assert ops.count("Mul") == 1


def test_shared_weights_are_left_to_the_other_layer():
    net = Net({"x": ["N", 3, 5, 5]})
    weight, bias = net.constant(W(3, 3, 1, 1)), net.constant(W(3))
    y = net.batch_normalization(net.op("Conv", "x", weight, bias), 3)
    model = net.model(net.op("Conv", y, weight, bias))
    graph = _fold(model)
    assert _ops(graph) == ["Conv", "Conv"]
    assert [tensor.name for tensor in graph.nodes[1].inputs[1:]] == [weight, bias]


def test_shared_weights_whose_name_is_the_layers_own():
    # As tf2onnx names them: the copy for this layer must not take the name of the original.
    net = Net({"x": ["N", 3, 5, 5]})
    weight, bias = net.constant(W(3, 3, 1, 1)), net.constant(W(3))
    y = net.batch_normalization(net.op("Conv", "x", weight, bias), 3)
    model = net.model(net.op("Conv", y, weight, bias))
    for old, new in ((weight, "Conv_0/weight"), (bias, "Conv_0/bias")):
        _rename(model, old, new)
    assert _ops(_fold(model)) == ["Conv", "Conv"]


def test_a_new_bias_whose_name_is_taken():
    net = Net({"x": ["N", 3, 5, 5]})
    bias = net.constant(W(3))
    y = net.batch_normalization(net.op("Conv", "x", net.constant(W(3, 3, 1, 1))), 3)
    model = net.model(net.op("Conv", y, net.constant(W(3, 3, 1, 1)), bias))
    _rename(model, bias, "Conv_0/bias")
    assert _ops(_fold(model)) == ["Conv", "Conv"]


def _rename(model, old, new):
    for tensor in model.graph.initializer:
        tensor.name = new if tensor.name == old else tensor.name
    for node in model.graph.node:
        node.input[:] = [new if name == old else name for name in node.input]


def test_shared_normalization_parameters():
    net = Net({"x": ["N", 3, 5, 5]})
    parameters = [net.constant(np.abs(W(3)) + 0.5) for _ in range(4)]
    y = "x"
    for _ in range(2):
        y = net.op("BatchNormalization", net.conv(y, W(3, 3, 1, 1)), *parameters)
    assert _ops(_fold(net.model(y))) == ["Conv", "Conv"]


@pytest.mark.parametrize(
    "shape", [["N", 4], ["N", 4, 5], ["N", 4, 5, 5], ["N", 4, 2, 2, 2]], ids=len
)
def test_no_layer_in_front(shape):
    net = Net({"x": shape})
    assert _ops(_fold(net.model(net.batch_normalization("x", 4)))) == ["Mul", "Add"]


def test_channels_of_a_matmul_elsewhere():
    # [N, 4, 5] · [5, 6]: BatchNormalization's channels are axis 1, the matrix makes axis 2.
    net = Net({"x": ["N", 4, 5]})
    model = net.model(net.batch_normalization(net.matmul("x", W(5, 6)), 4))
    assert _ops(_fold(model)) == ["MatMul", "Mul", "Add"]


def test_behind_a_sum_of_activations():
    net = Net({"x": ["N", 4]})
    y = net.op("Add", net.matmul("x", W(4, 6)), net.matmul("x", W(4, 6)))
    ops = _ops(_fold(net.model(net.batch_normalization(y, 6))))
    assert ops == ["MatMul", "MatMul", "Add", "Mul", "Add"]


def test_weights_computed_at_run_time_are_not_folded():
    net = Net({"x": ["N", 4], "w": [4, 6]})
    model = net.model(net.batch_normalization(net.op("MatMul", "x", "w"), 6))
    graph = load_graph(model)
    assert fold_batch_normalization(graph)
    assert _ops(graph) == ["MatMul", "Mul", "Add"]


def test_training_mode_is_refused_and_left_alone():
    net = Net({"x": ["N", 4, 5]})
    ones = net.constant(np.ones(4, np.float32))
    y = net.op("BatchNormalization", "x", *[ones] * 4, outputs=3, training_mode=1)
    graph = load_graph(net.model(net.relu(y)))
    assert not fold_batch_normalization(graph)
    assert _ops(graph) == ["BatchNormalization", "Relu"]


def test_statistics_computed_at_run_time_are_left_alone():
    net = Net({"x": ["N", 4, 5], "m": [4]})
    ones = net.constant(np.ones(4, np.float32))
    y = net.op("BatchNormalization", net.relu("x"), ones, ones, "m", ones)
    graph = load_graph(net.model(net.relu(y)))
    assert not fold_batch_normalization(graph)
    assert [v.node for v in analyse(graph).refused] == ["BatchNormalization_1"]


@settings(max_examples=40, deadline=None)
@given(networks())
def test_random_networks_stay_the_same_function(example):
    graph = load_graph(example.model)
    before = sum(node.op_type == "BatchNormalization" for node in example.model.graph.node)
    assert fold_batch_normalization(graph) == (before > 0)
    assert "BatchNormalization" not in _ops(graph)
    feeds = {"x": example.x}
    # A dozen layers, each rounded to 6e-8 of its largest value.
    folded = gs.export_onnx(graph)
    assert_close(run(folded, feeds)[0], run(example.model, feeds)[0], 1e-5, magnitude=0.1)
