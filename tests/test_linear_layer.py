import numpy as np
import pytest

from nets import Gaussian, Net
from onnx_snn.affine import Affine
from onnx_snn.linear_layer import LinearLayer
from onnx_snn.load import load_graph

W = Gaussian(4)


def _affine(channels, seed=0):
    random = np.random.default_rng(seed)
    return Affine(random.normal(size=channels), random.normal(size=channels), axis=1)


def _layer(net, y, at=-1):
    graph = load_graph(net.model(y))
    return graph, LinearLayer.of(graph, graph.nodes[at])


@pytest.mark.parametrize("bias", [None, W(4), W(1, 4), W()], ids=["none", "[O]", "[1, O]", "[]"])
def test_gemm_in_numpy(bias):
    net = Net({"x": ["N", 3]})
    weight = W(4, 3)
    _, layer = _layer(net, net.gemm("x", weight, bias, transB=1, alpha=0.5, beta=3.0))
    x = np.random.default_rng(1).normal(size=(5, 3))
    b = 3.0 * (0.0 if bias is None else bias.astype(float))

    behind, ahead = _affine(4), _affine(3, seed=1)
    new_weight, new_bias = layer.absorbed_behind(behind)
    expected = (0.5 * x @ weight.T + b) * behind.factor + behind.shift
    np.testing.assert_allclose(0.5 * x @ new_weight.T + new_bias, expected, rtol=1e-12)

    new_weight, new_bias = layer.absorbed_ahead(ahead)
    expected = 0.5 * (x * ahead.factor + ahead.shift) @ weight.T + b
    np.testing.assert_allclose(0.5 * x @ new_weight.T + new_bias, expected, rtol=1e-12, atol=1e-12)


def test_the_add_behind_a_matmul_is_its_bias():
    net = Net({"x": ["N", 2, 3]})
    bias = W(4)
    graph, layer = _layer(net, net.op("Add", net.constant(bias), net.matmul("x", W(3, 4))))
    assert layer.node.op == "MatMul"
    assert layer.add is graph.nodes[-1]
    assert layer.axis == 2
    np.testing.assert_array_equal(layer.bias, bias)


@pytest.mark.parametrize("case", ["read twice", "two activations", "rows"])
def test_other_additions_are_no_bias(case):
    net = Net({"x": ["N", 2, 4]})
    product = net.matmul("x", W(4, 4))
    other = "x" if case == "two activations" else net.constant(W(*((2, 1), (4,))[case != "rows"]))
    y = net.op("Add", product, other)
    graph = load_graph(net.model({"a": y, "b": product} if case == "read twice" else y))
    add = next(node for node in graph.nodes if node.op == "Add")
    assert LinearLayer.of(graph, add) is None
    matmul = next(node for node in graph.nodes if node.op == "MatMul")
    assert LinearLayer.of(graph, matmul).add is None


@pytest.mark.parametrize("op", ["Relu", "Softmax"])
def test_other_nodes_are_no_layer(op):
    net = Net({"x": ["N", 4]})
    assert _layer(net, net.op(op, "x"))[1] is None


def test_weights_computed_at_run_time_are_no_layer():
    net = Net({"x": ["N", 4]})
    weight = net.op("MatMul", net.op("Transpose", "x", perm=[1, 0]), "x")
    assert _layer(net, net.op("MatMul", "x", weight))[1] is None


@pytest.mark.parametrize("weights", [W(2, 4), W(1, 4, 4)], ids=["left", "stack"])
def test_other_products_are_no_layer(weights):
    net = Net({"x": ["N", 4, 5] if weights.ndim == 2 else ["N", 3, 4]})
    c = net.constant(weights)
    y = net.op("MatMul", *([c, "x"] if weights.ndim == 2 else ["x", c]))
    assert _layer(net, y)[1] is None


def test_what_overflows_is_not_absorbed():
    net = Net({"x": ["N", 3]})
    _, layer = _layer(net, net.gemm("x", W(3, 4)))
    large = Affine(np.full((), 1e39), np.zeros(()))
    assert layer.absorbed_behind(large) is None
    assert layer.absorbed_ahead(large) is None
