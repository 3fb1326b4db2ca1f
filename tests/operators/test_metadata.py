import numpy as np
import pytest

from laws import normalised
from nets import Gaussian, Net, run
from onnx_snn.graph import is_constant
from onnx_snn.load import load_graph
from onnx_snn.operators import Kind, operator_of
from onnx_snn.operators.metadata import is_metadata

W = Gaussian(4)


def _ints(*values):
    return np.asarray(values, np.int64)


def _batch(net, x):
    """The batch size, as exporters compute it: a vector of one number."""
    size = net.op("Gather", net.op("Shape", x), net.constant(np.int64(0)))
    return net.op("Unsqueeze", size, net.constant(_ints(0)))


def _shape(net, x, *rest):
    return net.op("Concat", _batch(net, x), *(net.constant(_ints(n)) for n in rest), axis=0)


def _kinds(model):
    return {node.op: operator_of(node).kind for node in load_graph(model).nodes}


def test_what_is_computed_from_shapes_is_metadata():
    net = Net({"x": ["N", "S", 4]})
    length = net.op("Gather", net.op("Shape", "x"), net.constant(_ints(1)))
    half = net.op("Div", net.op("Cast", length, to=1), net.constant(np.float32(2)))
    half = net.op("Cast", net.op("Floor", half), to=7)
    graph = load_graph(net.model({"half": half, "count": net.op("Size", "x")}))
    assert {node.op for node in graph.nodes} >= {"Shape", "Gather", "Floor", "Cast", "Size"}
    assert {operator_of(node).kind for node in graph.nodes} == {Kind.METADATA}
    assert all(is_metadata(tensor) for tensor in graph.outputs)


def test_what_is_computed_from_values_is_not():
    net = Net({"x": ["N", 4]})
    total = net.op("ReduceSum", "x", net.constant(_ints(1)), keepdims=0)
    mixed = net.op("Mul", total, net.op("Cast", _batch(net, "x"), to=1))
    graph = load_graph(net.model(mixed))
    assert not is_metadata(graph.inputs[0])
    assert not is_metadata(graph.outputs[0])
    assert operator_of(graph.nodes[-1]).kind is not Kind.METADATA


def test_a_tensor_of_constants_and_a_batch_is_not():
    net = Net({"x": ["N", 4]})
    tokens = net.op("Expand", net.constant(W(1, 1, 4)), _shape(net, "x", 1, 4))
    graph = load_graph(net.model(tokens))
    assert not is_metadata(graph.outputs[0])
    node = graph.nodes[-1]
    assert is_constant(node.inputs[0])
    assert operator_of(node).refusal(node) is not None


def _conv(net):
    return net.relu(net.conv("x", W(4, 3, 1, 1), W(4)))


def _reshape(net):
    y = _conv(net)
    return net.op("Reshape", y, _shape(net, y, 144))


def _resize(net):
    y = _conv(net)
    sizes = net.op("Add", net.op("Shape", y, start=2), net.constant(_ints(-3, 3)))
    return net.op("Flatten", net.op("Resize", y, "", "", sizes, mode="linear", axes=[2, 3]))


def _slice(net):
    y = _conv(net)
    end = net.op("Sub", net.op("Shape", y, start=2, end=3), net.constant(_ints(1)))
    sliced = net.op("Slice", y, net.constant(_ints(0)), end, net.constant(_ints(2)))
    return net.op("Flatten", sliced)


def _expand(net):
    y = _conv(net)
    pooled = net.op("GlobalAveragePool", y)
    return net.op("Flatten", net.op("Expand", pooled, net.op("Shape", y)))


FEATURES = {_reshape: 144, _resize: 4 * 27, _slice: 4 * 30, _expand: 144}


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("build", FEATURES, ids=lambda build: build.__name__.strip("_"))
def test_shapes_may_be_computed_from_shapes(build, per_channel):
    net = Net({"x": ["N", 3, 6, 6]})
    y = net.gemm(build(net), W(FEATURES[build], 3), W(3))
    model = net.model(y)
    assert run(model, {"x": np.zeros((2, 3, 6, 6), np.float32)})[0].shape == (2, 3)
    normalised(model, per_channel)


def test_metadata_has_no_wish_and_no_scale():
    net = Net({"x": ["N", "S"]})
    (node,) = load_graph(net.model(net.op("Shape", "x"))).nodes
    operator = operator_of(node)
    assert operator.wish(node, None) == [None]
    assert operator.output(node, [None], None).values == 1
