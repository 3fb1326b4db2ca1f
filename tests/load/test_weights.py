import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx import helper, numpy_helper

from loading import loaded, model_of, ops, sample, unknown, value
from onnx_snn.errors import UnsupportedModelError
from onnx_snn.load import load_graph
from onnx_snn.load.weights import SMALL, detach_weights


def _sparse(coordinates):
    values = numpy_helper.from_array(np.array([2.0, -3.0, 0.5], np.float32), "w")
    linear = np.array([1, 3, 4])
    indices = np.stack(np.unravel_index(linear, (3, 2)), 1) if coordinates else linear
    return helper.make_sparse_tensor(values, numpy_helper.from_array(indices, "i"), [3, 2])


class TestDetached:
    def test_large_weights_come_back_unchanged(self):
        weight = sample(3, SMALL)
        node = helper.make_node("MatMul", ["x", "w"], ["y"])
        model = model_of([node], [value("x", "N", 3)], [value("y", "N", SMALL)], {"w": weight})
        structure = detach_weights(model)
        assert not structure.model.graph.initializer
        assert structure.model.ByteSize() < 300
        graph = loaded(model, x=sample(2, 3))
        np.testing.assert_array_equal(graph.nodes[0].inputs[1].values, weight)
        assert [tensor.name for tensor in graph.inputs] == ["x"]

    @pytest.mark.parametrize("size", [2, 2 * SMALL])
    def test_a_weight_may_be_an_output(self, size):
        node = helper.make_node("Relu", ["x"], ["y"])
        outputs = [value("y", "N", 3), value("w", size)]
        model = model_of([node], [value("x", "N", 3)], outputs, {"w": sample(size)})
        loaded(model, x=sample(2, 3))


class TestConstants:
    @pytest.mark.parametrize(
        "attribute",
        [
            {"value": numpy_helper.from_array(np.array([2.0, 3.0], np.float32), "v")},
            {"value_float": 2.5},
            {"value_floats": [2.0, 3.0]},
        ],
        ids=lambda attribute: next(iter(attribute)),
    )
    def test_every_attribute_of_floats(self, attribute):
        nodes = [
            helper.make_node("Constant", [], ["k"], **attribute),
            helper.make_node("Mul", ["x", "k"], ["y"]),
        ]
        model = model_of(nodes, [value("x", "N", 2)], [value("y", "N", 2)])
        graph = loaded(model, x=sample(3, 2))
        assert isinstance(graph.nodes[0].inputs[1], gs.Constant)

    @pytest.mark.parametrize("attribute", [{"value_int": 1}, {"value_ints": [1]}], ids=str)
    def test_every_attribute_of_integers(self, attribute):
        nodes = [
            helper.make_node("Constant", [], ["k"], **attribute),
            helper.make_node("Gather", ["x", "k"], ["y"], axis=1),
        ]
        graph = loaded(model_of(nodes, [value("x", "N", 2)], [unknown("y")]), x=sample(3, 2))
        assert ops(graph) == ["Gather"]
        assert graph.nodes[0].inputs[1].values.dtype == np.int64

    @pytest.mark.parametrize("coordinates", [False, True])
    @pytest.mark.parametrize("as_node", [False, True])
    def test_sparse_ones_become_dense(self, coordinates, as_node):
        nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
        if as_node:
            constant = helper.make_node("Constant", [], ["w"], sparse_value=_sparse(coordinates))
            nodes.insert(0, constant)
        model = model_of(nodes, [value("x", "N", 3)], [value("y", "N", 2)])
        if not as_node:
            model.graph.sparse_initializer.append(_sparse(coordinates))
        weight = load_graph(model).nodes[0].inputs[1].values
        np.testing.assert_array_equal(weight, [[0, 2], [0, -3], [0.5, 0]])

    def test_a_sparse_one_of_terabytes_is_refused(self):
        sparse = _sparse(False)
        sparse.dims[:] = [1 << 20, 1 << 20]
        node = helper.make_node("Relu", ["x"], ["y"])
        model = model_of([node], [value("x", "N", 3)], [value("y", "N", 3)])
        model.graph.sparse_initializer.append(sparse)
        with pytest.raises(UnsupportedModelError, match=r"constant 'w' is too large .*export"):
            load_graph(model)


def test_the_given_model_is_not_changed():
    nodes = [
        helper.make_node("Constant", [], ["k"], value_float=2.0),
        helper.make_node("Mul", ["x", "k"], ["y"]),
    ]
    inputs = [value("x", 1, 2), value("w", 2)]
    model = model_of(nodes, inputs, [value("y", 1, 2)], {"w": sample(2)})
    before = onnx.ModelProto()
    before.CopyFrom(model)
    load_graph(model)
    assert model == before
