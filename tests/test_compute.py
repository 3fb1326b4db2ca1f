"""Operations counted by hand."""

import numpy as np
import pytest

from nets import Gaussian, Net, cnn, mlp, residual
from onnx_snn.analyse import analyse
from onnx_snn.compute import graded_share, operations
from onnx_snn.load import load_graph

W = Gaussian(2)
IMAGE = [3, 8, 8]


def _of(op, shape, *constants, **attributes):
    net = Net({"x": ["N", *shape]})
    parameters = [net.constant(values) for values in constants]
    (node,) = load_graph(net.model(net.op(op, "x", *parameters, **attributes))).nodes
    return operations(node)


@pytest.mark.parametrize(
    ("weight", "attributes", "expected"),
    [
        # outputs × inputs of each
        (W(4, 3, 3, 3), {}, 4 * 6 * 6 * 3 * 9),
        (W(4, 3, 3, 3), {"pads": [1] * 4}, 4 * 8 * 8 * 3 * 9),
        (W(4, 3, 2, 2), {"strides": [2, 2]}, 4 * 4 * 4 * 3 * 4),
        (W(6, 1, 3, 3), {"group": 3}, 6 * 6 * 6 * 9),
        (W(4, 3, 1, 1), {}, 4 * 8 * 8 * 3),
        (W(4, 3, 3, 3), {"dilations": [2, 2]}, 4 * 4 * 4 * 3 * 9),
    ],
)
def test_convolutions(weight, attributes, expected):
    assert _of("Conv", IMAGE, weight, **attributes) == expected


@pytest.mark.parametrize(
    ("weight", "attributes", "expected"),
    [
        # inputs × outputs that each adds to
        (W(3, 4, 2, 2), {"strides": [2, 2]}, 3 * 8 * 8 * 4 * 4),
        (W(3, 4, 3, 3), {}, 3 * 8 * 8 * 4 * 9),
        (W(3, 1, 2, 2), {"group": 3}, 3 * 8 * 8 * 4),
    ],
)
def test_transposed_convolutions(weight, attributes, expected):
    assert _of("ConvTranspose", IMAGE, weight, **attributes) == expected


def test_dense_layers():
    assert _of("Gemm", [7], W(7, 5), W(5)) == 7 * 5
    assert _of("Gemm", [7], W(5, 7), transB=1) == 7 * 5
    assert _of("MatMul", [7], W(7, 5)) == 7 * 5
    assert _of("MatMul", [6, 7], W(7, 5)) == 6 * 7 * 5
    assert _of("MatMul", [2, 6, 7], W(7, 5)) == 2 * 6 * 7 * 5


def test_products_of_activations():
    net = Net({"a": ["N", 2, 4, 7], "b": ["N", 2, 7, 5]})
    (node,) = load_graph(net.model(net.op("MatMul", "a", "b"))).nodes
    assert operations(node) == 2 * 4 * 7 * 5


@pytest.mark.parametrize(
    ("op", "constants", "attributes", "expected"),
    [
        ("AveragePool", (), {"kernel_shape": [2, 2], "strides": [2, 2]}, 3 * 4 * 4 * 4),
        ("MaxPool", (), {"kernel_shape": [3, 3]}, 3 * 6 * 6 * 9),
        ("LpPool", (), {"kernel_shape": [2, 4]}, 3 * 7 * 5 * 8),
        ("GlobalAveragePool", (), {}, 3 * 8 * 8),
        ("GlobalMaxPool", (), {}, 3 * 8 * 8),
        ("ReduceMean", ([2, 3],), {}, 3 * 8 * 8),
        ("ReduceSum", ([1],), {"keepdims": 0}, 3 * 8 * 8),
        ("Relu", (), {}, 3 * 8 * 8),
        ("Sigmoid", (), {}, 3 * 8 * 8),
        ("Add", (np.float32(1),), {}, 3 * 8 * 8),
        ("Softmax", (), {}, 3 * 8 * 8),
        ("Flatten", (), {}, 3 * 8 * 8),
    ],
)
def test_others(op, constants, attributes, expected):
    assert _of(op, IMAGE, *constants, **attributes) == expected


def test_axes_of_unknown_size_count_as_one():
    net = Net({"x": ["N", 3, "H", "W"]})
    (node,) = load_graph(net.model(net.conv("x", W(4, 3, 3, 3)))).nodes
    assert operations(node) == 4 * 3 * 9


def _share(model):
    graph = load_graph(model)
    return graded_share(graph, analyse(graph))


def test_of_spiking_networks_nothing_is_graded():
    assert [_share(build(W)) for build in (cnn, residual, mlp)] == [0, 0, 0]
    net = Net({"x": ["N", 2, 8, 8]})
    y = net.op("MaxPool", net.relu(net.conv("x", W(4, 2, 3, 3))), kernel_shape=[2, 2])
    y = net.relu(net.conv(y, W(4, 4, 3, 3)))
    assert _share(net.model(net.op("Softmax", net.op("Flatten", y)))) == 0


def test_the_share_is_that_of_operations():
    net = Net({"x": ["N", 4]})
    a = net.relu(net.gemm("x", W(4, 6)))  # 24, 6
    b = net.relu(net.gemm("x", W(4, 6)))  # 24, 6
    y = net.op("Mul", a, b)  # 6
    y = net.op("Tanh", y)  # 6
    y = net.gemm(net.relu(net.gemm(y, W(6, 5))), W(5, 3))  # 30, 5, 15
    assert _share(net.model(y)) == pytest.approx(12 / (24 + 6 + 24 + 6 + 12 + 30 + 5 + 15))


def test_shapes_computed_do_not_count():
    net = Net({"x": ["N", 4]})
    shape = net.op("Shape", "x")
    y = net.relu(net.op("Reshape", net.op("Tanh", net.relu("x")), shape))
    graph = load_graph(net.model(y))
    share = graded_share(graph, analyse(graph))
    assert share == pytest.approx(4 / sum(4 for node in graph.nodes if node.op != "Shape"))


def test_an_empty_network():
    net = Net({"x": ["N", 4]})
    graph = load_graph(net.model(net.relu("x")))
    analysis = analyse(graph)
    graph.nodes.clear()
    assert graded_share(graph, analysis) == 0
