"""f(x) is f without its constant part, plus that part: run by onnxruntime."""

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from nets import Gaussian, Net, run
from onnx_snn.constant_part import take_constant_part
from onnx_snn.load import load_graph

W = Gaussian(1)


def _conv(net, **attributes):
    return net.conv("x", W(4, 2, 3), W(4), pads=[1, 1], **attributes)


def _constant(net, *shape):
    return net.constant(W(*shape))


IMAGES = {
    "Conv": _conv,
    "ConvTranspose": lambda net: net.op(
        "ConvTranspose", "x", _constant(net, 2, 4, 3), _constant(net, 4)
    ),
    "Add": lambda net: net.op("Add", "x", _constant(net, 2, 1)),
    "Add, the constant first": lambda net: net.op("Add", _constant(net), "x"),
    "Sub": lambda net: net.op("Sub", "x", _constant(net, 2, 1)),
    "Sub, the constant first": lambda net: net.op("Sub", _constant(net, 1, 2, 1), "x"),
    "Sum": lambda net: net.op("Sum", "x", _constant(net, 2, 1), "x", _constant(net)),
    "Mean": lambda net: net.op("Mean", _constant(net, 2, 1), "x", "x"),
    "BatchNormalization": lambda net: net.batch_normalization("x", 2),
}
ROWS = {
    "Gemm": lambda net: net.gemm("x", W(7, 3), W(3)),
    "Gemm, scaled": lambda net: net.op(
        "Gemm", "x", _constant(net, 3, 7), _constant(net, 1, 3), alpha=0.5, beta=-2.0, transB=1
    ),
    "Gemm, one number": lambda net: net.op("Gemm", "x", _constant(net, 7, 3), _constant(net, 1)),
    "BatchNormalization": lambda net: net.batch_normalization("x", 7),
}
CASES = [(write, (2, 5)) for write in IMAGES.values()] + [(w, (7,)) for w in ROWS.values()]
NAMES = [*IMAGES, *(f"{name}, rows" for name in ROWS)]


def _built(write, shape):
    net = Net({"x": ["N", *shape]})
    return net.model(write(net))


@pytest.mark.parametrize(("write", "shape"), CASES, ids=NAMES)
def test_what_is_left_and_what_is_taken_add_up(write, shape):
    model = _built(write, shape)
    x = W(3, *shape)
    graph = load_graph(model)
    node = next(node for node in graph.nodes if node.op != "Identity")
    part = take_constant_part(node)
    rest = gs.export_onnx(graph)
    (expected,), (left,) = run(model, {"x": x}), run(rest, {"x": x})
    assert part.values.dtype == expected.dtype
    assert np.broadcast_shapes(part.values.shape, left.shape) == left.shape
    np.testing.assert_allclose(left + part.values, expected, rtol=1e-5, atol=1e-6)
    # What is left is linear: nothing comes of nothing.
    (nothing,) = run(rest, {"x": np.zeros_like(x)})
    np.testing.assert_array_equal(nothing, 0)
    assert take_constant_part(node) is None


@pytest.mark.parametrize(
    ("write", "shape"),
    [
        (lambda net: net.conv("x", W(4, 2, 3)), (2, 5)),
        (lambda net: net.conv("x", W(4, 2, 3), np.zeros(4, np.float32)), (2, 5)),
        (lambda net: net.op("Gemm", "x", _constant(net, 7, 3)), (7,)),
        (lambda net: net.op("Gemm", "x", _constant(net, 7, 3), _constant(net, 3), beta=0.0), (7,)),
        (lambda net: net.matmul("x", W(7, 3)), (7,)),
        (lambda net: net.op("Mul", "x", _constant(net, 2, 1)), (2, 5)),
        (lambda net: net.op("Add", "x", "x"), (2, 5)),
        (lambda net: net.op("AveragePool", "x", kernel_shape=[2]), (2, 5)),
    ],
    ids=["Conv", "zeros", "Gemm", "beta 0", "MatMul", "Mul", "Add", "AveragePool"],
)
def test_what_adds_nothing(write, shape):
    model = _built(write, shape)
    x = W(3, *shape)
    (expected,) = run(model, {"x": x})
    graph = load_graph(model)
    assert [take_constant_part(node) for node in graph.nodes] == [None] * len(graph.nodes)
    np.testing.assert_array_equal(run(gs.export_onnx(graph), {"x": x})[0], expected)


def test_others_keep_the_constants_they_share():
    net = Net({"x": ["N", 3]})
    shared = net.constant(W(3))
    first = net.op("Add", "x", shared)
    second = net.op("Mul", net.op("Mul", "x", "x"), shared)
    model = net.model({"first": first, "second": second})
    x = W(4, 3)
    before = run(model, {"x": x})
    graph = load_graph(model)
    part = take_constant_part(next(node for node in graph.nodes if node.op == "Add"))
    after = run(gs.export_onnx(graph), {"x": x})
    np.testing.assert_allclose(after[0] + part.values, before[0], rtol=1e-6)
    np.testing.assert_array_equal(after[1], before[1])


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_of_the_type_of_the_network(dtype):
    net = Net({"x": ["N", 3]}, {np.float16: 10, np.float64: 11}[dtype])
    model = net.model(net.op("Add", "x", net.constant(W(3).astype(dtype))))
    graph = load_graph(model)
    node = next(node for node in graph.nodes if node.op == "Add")
    assert take_constant_part(node).values.dtype == dtype
