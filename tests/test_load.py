import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from hypothesis import given, settings
from onnx import TensorProto, helper, numpy_helper

from nets import Gaussian, Net, cnn, mlp, residual, run
from onnx_snn.errors import ModelError, UnsupportedModelError
from onnx_snn.load import load_graph
from strategies import networks

W = Gaussian(5)


def _x(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def _loaded(model, **feeds):
    """Load, and check that the clean graph computes exactly the same."""
    graph = load_graph(model)
    clean = gs.export_onnx(graph)
    onnx.checker.check_model(clean)
    for actual, expected in zip(run(clean, feeds), run(model, feeds), strict=True):
        np.testing.assert_array_equal(actual, expected)
    return graph


def _model(nodes, inputs, outputs, initializers=(), opset=18, functions=(), ir_version=8, **more):
    graph = helper.make_graph(nodes, "g", inputs, outputs, list(initializers))
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 1) for d in more)]
    model = helper.make_model(graph, opset_imports=opsets, functions=list(functions))
    model.ir_version = ir_version
    return model


def _value(name, *shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _ops(graph):
    return [node.op for node in graph.nodes]


@pytest.mark.parametrize("build", [cnn, residual, mlp])
def test_a_clean_model_keeps_its_nodes(build):
    model = build(W)
    shape = [d.dim_value or 3 for d in model.graph.input[0].type.tensor_type.shape.dim]
    graph = _loaded(model, x=_x(*shape))
    kept = [node.op_type for node in model.graph.node if node.op_type != "Identity"]
    assert sorted(_ops(graph)) == sorted(kept)


def test_the_given_model_is_not_changed():
    model = cnn(W, normalised=True)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    before = model.SerializeToString(deterministic=True)
    load_graph(model)
    assert model.SerializeToString(deterministic=True) == before


@settings(max_examples=20, deadline=None)
@given(networks())
def test_random_networks_stay_the_same_function(example):
    graph = _loaded(example.model, x=example.x)
    names = [node.name for node in graph.nodes]
    assert len(set(names)) == len(names)
    assert all(tensor.shape for node in graph.nodes for tensor in node.outputs)


class TestOpset:
    def test_an_old_one_is_raised(self):
        # Opset 9: Pad and Squeeze take attributes, Dropout a ratio.
        nodes = [
            helper.make_node("Pad", ["x"], ["a"], pads=[0, 0, 1, 0, 0, 1], mode="constant"),
            helper.make_node("Relu", ["a"], ["b"]),
            helper.make_node("Dropout", ["b"], ["c"], ratio=0.5),
            helper.make_node("Unsqueeze", ["c"], ["d"], axes=[2]),
            helper.make_node("Squeeze", ["d"], ["e"], axes=[2]),
            helper.make_node("ReduceMean", ["e"], ["y"], axes=[2], keepdims=0),
        ]
        model = _model(nodes, [_value("x", "N", 2, 3)], [_value("y", "N", 2)], opset=9)
        graph = _loaded(model, x=_x(4, 2, 3))
        assert graph.opset >= 18
        assert _ops(graph) == ["Pad", "Relu", "Unsqueeze", "Squeeze", "ReduceMean"]

    def test_a_newer_one_stays(self):
        net = Net({"x": ["N", 3]})
        graph = _loaded(net.model(net.relu("x"), opset=20), x=_x(4, 3))
        assert graph.opset == 20

    def test_one_that_cannot_be_raised(self):
        # An experimental operator of the first files, in no later opset.
        node = helper.make_node("Affine", ["x"], ["y"], alpha=1.0, beta=1.0)
        model = _model([node], [_value("x", "N", 2)], [_value("y", "N", 2)], opset=5)
        with pytest.raises(
            UnsupportedModelError, match=r"^opset 5 cannot be raised to 18 .*export"
        ):
            load_graph(model)

    def test_weights_listed_as_inputs_of_ir_version_3(self):
        weight = numpy_helper.from_array(W(3, 2), "w")
        nodes = [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("Relu", "a", "y")]
        inputs = [_value("x", "N", 3), _value("w", 3, 2)]
        model = _model(nodes, inputs, [_value("y", "N", 2)], [weight], opset=9, ir_version=3)
        graph = _loaded(model, x=_x(4, 3))
        assert [tensor.name for tensor in graph.inputs] == ["x"]


class TestBatch:
    def test_a_fixed_one_is_freed(self):
        model = cnn(W)
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
        model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 2
        graph = _loaded(model, x=_x(2, 2, 8, 8))
        assert graph.inputs[0].shape[0] == "N"
        assert graph.outputs[0].shape == ["N", 5]
        (y,) = run(gs.export_onnx(graph), {"x": _x(7, 2, 8, 8)})
        free = run(cnn(Gaussian(5)), {"x": _x(7, 2, 8, 8)})
        assert y.shape == free[0].shape

    @pytest.mark.parametrize(
        ("batch", "target", "allowzero"),
        [
            (4, [4, 6], 0),
            (4, [4, 6], 1),
            (4, [4, -1], 0),
            (4, [4, -1], 1),
            (4, [-1, 6], 0),
            ("N", [-1, 6], 0),
            ("N", [-1, 6], 1),
            ("N", [0, 6], 0),
            ("N", [0, -1], 0),
        ],
        ids=str,
    )
    @pytest.mark.parametrize("as_node", [False, True])
    def test_in_the_target_of_a_reshape(self, batch, target, allowzero, as_node):
        net = Net({"x": [batch, 2, 3]})
        shape = net.constant(target, np.int64)
        if as_node:
            shape = net.op("Constant", value=numpy_helper.from_array(np.array(target), "t"))
        y = net.op("Reshape", net.relu("x"), shape, allowzero=allowzero)
        graph = _loaded(net.model(net.gemm(y, W(6, 5))), x=_x(4, 2, 3))
        assert graph.nodes[1].outputs[0].shape == ["N", 6]
        (y,) = run(gs.export_onnx(graph), {"x": _x(9, 2, 3)})
        assert y.shape == (9, 5)

    def test_a_reshape_to_no_values_is_left(self):
        net = Net({"x": ["N", 0, 3]})
        y = net.op("Reshape", "x", net.constant([-1, 3], np.int64), allowzero=1)
        _loaded(net.model(y), x=_x(4, 0, 3))

    def test_a_reshape_that_spreads_samples_is_left(self):
        net = Net({"x": ["N", 4]})
        graph = _loaded(net.model(net.op("Reshape", "x", net.constant([-1, 2]))), x=_x(3, 4))
        assert list(graph.nodes[0].inputs[1].values) == [-1, 2]

    def test_a_target_read_by_two_reshapes(self):
        net = Net({"x": ["N", 4], "z": ["N", 2]})
        target = net.constant([-1, 2, 2], np.int64)
        outputs = {"a": net.op("Reshape", "x", target), "b": net.op("Reshape", "z", target)}
        graph = _loaded(net.model(outputs), x=_x(2, 4), z=_x(2, 2))
        by_name = {node.outputs[0].name: node for node in graph.nodes}
        assert list(by_name["a"].inputs[1].values) == [0, 2, 2]
        assert list(by_name["b"].inputs[1].values) == [-1, 2, 2]


class TestCleaning:
    def test_constants_become_weights(self):
        net = Net({"x": ["N", 3]})
        weight = net.op("Constant", value=numpy_helper.from_array(W(2, 3), "w"))
        transposed = net.op("Transpose", weight)
        graph = _loaded(net.model(net.relu(net.op("MatMul", "x", transposed))), x=_x(4, 3))
        assert _ops(graph) == ["MatMul", "Relu"]
        assert isinstance(graph.nodes[0].inputs[1], gs.Constant)

    def test_identity_and_dropout_go(self):
        net = Net({"x": ["N", 3]})
        y = net.relu(net.op("Identity", net.op("Dropout", "x")))
        graph = _loaded(net.model(net.op("Dropout", net.op("Identity", y))), x=_x(4, 3))
        assert _ops(graph) == ["Relu"]
        assert graph.inputs[0].name == "x"
        assert graph.outputs[0].name == "y"

    def test_one_tensor_under_two_output_names(self):
        net = Net({"x": ["N", 3]})
        y = net.relu("x")
        graph = _loaded(net.model({"a": y, "b": y}), x=_x(4, 3))
        assert [tensor.name for tensor in graph.outputs] == ["a", "b"]

    def test_an_input_that_is_an_output(self):
        net = Net({"x": ["N", 3]})
        graph = _loaded(net.model({"a": net.relu("x"), "b": "x"}), x=_x(4, 3))
        assert [tensor.name for tensor in graph.outputs] == ["a", "b"]

    @pytest.mark.parametrize("op", ["Identity", "Dropout"])
    def test_what_is_called_the_same_in_another_domain_stays(self, op):
        nodes = [
            helper.make_node(op, ["x"], ["a"], domain="com.example"),
            helper.make_node("Relu", ["a"], ["y"]),
        ]
        model = _model(nodes, [_value("x", "N", 3)], [_value("y", "N", 3)], **{"com.example": 1})
        assert _ops(load_graph(model)) == [op, "Relu"]

    @pytest.mark.parametrize("names", [["", "", ""], ["a", "a", "a"], ["", "Relu_p", "Relu_p"]])
    def test_every_node_gets_a_name_of_its_own(self, names):
        net = Net({"x": ["N", 3]})
        model = net.model(net.relu(net.gemm(net.relu("x"), W(3, 2))))
        for node, name in zip(model.graph.node, names, strict=False):
            node.name = name
        graph = load_graph(model)
        assert _ops(graph) == ["Relu", "Gemm", "Relu"]
        found = [node.name for node in graph.nodes]
        assert all(found)
        assert len(set(found)) == len(found)

    def test_nodes_out_of_order_are_sorted_and_unused_ones_go(self):
        net = Net({"x": ["N", 3]})
        y = net.gemm(net.relu("x"), W(3, 2))
        net.op("Sigmoid", "x")
        graph = load_graph(net.model(y))
        assert _ops(graph) == ["Relu", "Gemm"]


class TestFunctions:
    @pytest.mark.parametrize("opset", [18, 17])
    def test_are_inlined(self, opset):
        graph = _loaded(self._layers(opset, opset), x=_x(4, 3))
        assert _ops(graph) == ["MatMul", "Relu"] * 2
        assert len({node.name for node in graph.nodes}) == 4

    def test_of_another_opset_are_refused(self):
        with pytest.raises(
            UnsupportedModelError, match=r"'local.Layer' cannot be inlined .*export"
        ):
            load_graph(self._layers(20, 18))

    @staticmethod
    def _layers(opset, inner):
        body = [
            helper.make_node("MatMul", ["a", "w"], ["b"]),
            helper.make_node("Relu", ["b"], ["c"]),
        ]
        opsets = [helper.make_opsetid("", inner)]
        function = helper.make_function("local", "Layer", ["a", "w"], ["c"], body, opsets)
        nodes = [
            helper.make_node("Layer", ["x", "w"], ["h"], domain="local"),
            helper.make_node("Layer", ["h", "w"], ["y"], domain="local"),
        ]
        weight = numpy_helper.from_array(W(3, 3), "w")
        inputs, outputs = [_value("x", "N", 3)], [_value("y", "N", 3)]
        return _model(nodes, inputs, outputs, [weight], opset, [function], local=1)


def test_a_spiking_network_is_refused():
    node = helper.make_node("IFNeuron", ["x"], ["y"], domain="onnx_snn")
    model = _model([node], [_value("x", "N", 3)], [_value("y", "N", 3)], onnx_snn=1)
    with pytest.raises(
        UnsupportedModelError, match="spiking network already; convert the original"
    ):
        load_graph(model)


def test_contradictory_shapes():
    net = Net({"x": ["N", 3]})
    model = net.model(net.matmul("x", W(4, 2)), check=False)
    with pytest.raises(ModelError, match=r"^the model's shapes contradict each other: .*MatMul_0"):
        load_graph(model)
