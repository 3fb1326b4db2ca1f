import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from hypothesis import given, settings
from onnx import TensorProto, helper, numpy_helper

import exporters
from loading import loaded, loaded_from_one, model_of, ops, sample, value
from nets import Gaussian, Net, cnn, mlp, residual, run, session
from onnx_snn.errors import ModelError, UnsupportedModelError
from onnx_snn.load import load_graph
from strategies import networks
from topologies import topology

W = Gaussian(5)


def _model(nodes, inputs, outputs, initializers=(), opset=18, functions=(), ir_version=8, **more):
    model = model_of(
        nodes,
        inputs,
        outputs,
        opset=opset,
        functions=functions,
        ir_version=ir_version,
        domains=more,
    )
    model.graph.initializer.extend(initializers)
    return model


@pytest.mark.parametrize("build", [cnn, residual, mlp])
def test_a_clean_model_keeps_its_nodes(build):
    model = build(W)
    shape = [d.dim_value or 3 for d in model.graph.input[0].type.tensor_type.shape.dim]
    graph = loaded(model, x=sample(*shape))
    kept = [node.op_type for node in model.graph.node if node.op_type != "Identity"]
    assert sorted(ops(graph)) == sorted(kept)


def test_the_given_model_is_not_changed():
    model = cnn(W, normalised=True)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4
    before = model.SerializeToString(deterministic=True)
    load_graph(model)
    assert model.SerializeToString(deterministic=True) == before


@settings(max_examples=20, deadline=None)
@given(networks())
def test_random_networks_stay_the_same_function(example):
    graph = loaded(example.model, x=example.x)
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
        model = _model(nodes, [value("x", "N", 2, 3)], [value("y", "N", 2)], opset=9)
        graph = loaded(model, x=sample(4, 2, 3))
        assert graph.opset >= 18
        assert ops(graph) == ["Pad", "Relu", "Unsqueeze", "Squeeze", "ReduceMean"]

    def test_a_newer_one_stays(self):
        net = Net({"x": ["N", 3]})
        graph = loaded(net.model(net.relu("x"), opset=20), x=sample(4, 3))
        assert graph.opset == 20

    def test_one_that_cannot_be_raised(self):
        # An experimental operator of the first files, in no later opset.
        node = helper.make_node("Affine", ["x"], ["y"], alpha=1.0, beta=1.0)
        model = _model([node], [value("x", "N", 2)], [value("y", "N", 2)], opset=5)
        with pytest.raises(
            UnsupportedModelError, match=r"^opset 5 cannot be raised to 18 .*export"
        ):
            load_graph(model)

    def test_weights_listed_as_inputs_of_ir_version_3(self):
        weight = numpy_helper.from_array(W(3, 2), "w")
        nodes = [helper.make_node("MatMul", ["x", "w"], ["a"]), helper.make_node("Relu", "a", "y")]
        inputs = [value("x", "N", 3), value("w", 3, 2)]
        model = _model(nodes, inputs, [value("y", "N", 2)], [weight], opset=9, ir_version=3)
        graph = loaded(model, x=sample(4, 3))
        assert [tensor.name for tensor in graph.inputs] == ["x"]


class TestBatch:
    def test_a_fixed_one_is_freed(self):
        model = cnn(W)
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
        model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 2
        graph = loaded(model, x=sample(2, 2, 8, 8))
        assert graph.inputs[0].shape[0] == "N"
        assert graph.outputs[0].shape == ["N", 5]
        (y,) = run(gs.export_onnx(graph), {"x": sample(7, 2, 8, 8)})
        free = run(cnn(Gaussian(5)), {"x": sample(7, 2, 8, 8)})
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
        graph = loaded(net.model(net.gemm(y, W(6, 5))), x=sample(4, 2, 3))
        assert graph.nodes[1].outputs[0].shape == ["N", 6]
        (y,) = run(gs.export_onnx(graph), {"x": sample(9, 2, 3)})
        assert y.shape == (9, 5)

    def test_a_reshape_to_no_values_is_left(self):
        net = Net({"x": ["N", 0, 3]})
        y = net.op("Reshape", "x", net.constant([-1, 3], np.int64), allowzero=1)
        loaded(net.model(y), x=sample(4, 0, 3))

    def test_a_reshape_that_spreads_samples_is_left(self):
        net = Net({"x": ["N", 4]})
        graph = loaded(net.model(net.op("Reshape", "x", net.constant([-1, 2]))), x=sample(3, 4))
        assert list(graph.nodes[0].inputs[1].values) == [-1, 2]

    def test_a_target_read_by_two_reshapes(self):
        net = Net({"x": ["N", 4], "z": ["N", 2]})
        target = net.constant([-1, 2, 2], np.int64)
        outputs = {"a": net.op("Reshape", "x", target), "b": net.op("Reshape", "z", target)}
        graph = loaded(net.model(outputs), x=sample(2, 4), z=sample(2, 2))
        by_name = {node.outputs[0].name: node for node in graph.nodes}
        assert list(by_name["a"].inputs[1].values) == [0, 2, 2]
        assert list(by_name["b"].inputs[1].values) == [-1, 2, 2]


class TestCleaning:
    def test_constants_become_weights(self):
        net = Net({"x": ["N", 3]})
        weight = net.op("Constant", value=numpy_helper.from_array(W(2, 3), "w"))
        transposed = net.op("Transpose", weight)
        graph = loaded(net.model(net.relu(net.op("MatMul", "x", transposed))), x=sample(4, 3))
        assert ops(graph) == ["MatMul", "Relu"]
        assert isinstance(graph.nodes[0].inputs[1], gs.Constant)

    def test_identity_and_dropout_go(self):
        net = Net({"x": ["N", 3]})
        y = net.relu(net.op("Identity", net.op("Dropout", "x")))
        graph = loaded(net.model(net.op("Dropout", net.op("Identity", y))), x=sample(4, 3))
        assert ops(graph) == ["Relu"]
        assert graph.inputs[0].name == "x"
        assert graph.outputs[0].name == "y"

    def test_one_tensor_under_two_output_names(self):
        net = Net({"x": ["N", 3]})
        y = net.relu("x")
        graph = loaded(net.model({"a": y, "b": y}), x=sample(4, 3))
        assert [tensor.name for tensor in graph.outputs] == ["a", "b"]

    def test_an_input_that_is_an_output(self):
        net = Net({"x": ["N", 3]})
        graph = loaded(net.model({"a": net.relu("x"), "b": "x"}), x=sample(4, 3))
        assert [tensor.name for tensor in graph.outputs] == ["a", "b"]

    @pytest.mark.parametrize("op", ["Identity", "Dropout"])
    def test_what_is_called_the_same_in_another_domain_stays(self, op):
        nodes = [
            helper.make_node(op, ["x"], ["a"], domain="com.example"),
            helper.make_node("Relu", ["a"], ["y"]),
        ]
        model = _model(nodes, [value("x", "N", 3)], [value("y", "N", 3)], **{"com.example": 1})
        assert ops(load_graph(model)) == [op, "Relu"]

    @pytest.mark.parametrize("names", [["", "", ""], ["a", "a", "a"], ["", "Relu_p", "Relu_p"]])
    def test_every_node_gets_a_name_of_its_own(self, names):
        net = Net({"x": ["N", 3]})
        model = net.model(net.relu(net.gemm(net.relu("x"), W(3, 2))))
        for node, name in zip(model.graph.node, names, strict=False):
            node.name = name
        graph = load_graph(model)
        assert ops(graph) == ["Relu", "Gemm", "Relu"]
        found = [node.name for node in graph.nodes]
        assert all(found)
        assert len(set(found)) == len(found)

    def test_nodes_out_of_order_are_sorted_and_unused_ones_go(self):
        net = Net({"x": ["N", 3]})
        y = net.gemm(net.relu("x"), W(3, 2))
        net.op("Sigmoid", "x")
        graph = load_graph(net.model(y))
        assert ops(graph) == ["Relu", "Gemm"]


class TestFunctions:
    @pytest.mark.parametrize("opset", [18, 17])
    def test_are_inlined(self, opset):
        graph = loaded(self._layers(opset, opset), x=sample(4, 3))
        assert ops(graph) == ["MatMul", "Relu"] * 2
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
        inputs, outputs = [value("x", "N", 3)], [value("y", "N", 3)]
        return _model(nodes, inputs, outputs, [weight], opset, [function], local=1)


class TestStructure:
    def test_what_inputs_and_outputs_are_called_is_kept(self):
        inputs = [
            value("x/é:0 ", "batch", 2, "H", "N"),
            value("unused", "batch", 3),
            value("b", "batch", 1, 1, 1, elem_type=TensorProto.DOUBLE),
        ]
        nodes = [
            helper.make_node("Relu", ["x/é:0 "], ["r n"], name="a/b:c"),
            helper.make_node("Cast", ["b"], ["c"], name="é ☃", to=TensorProto.FLOAT),
            helper.make_node("Add", ["r n", "c"], ["ÿ☃"]),
        ]
        graph = load_graph(_model(nodes, inputs, [value("ÿ☃", "batch", 2, "H", "N")]))
        assert [(tensor.name, tensor.shape, tensor.dtype) for tensor in graph.inputs] == [
            ("x/é:0 ", ["N", 2, "H", "N_"], np.float32),
            ("unused", ["N", 3], np.float32),
            ("b", ["N", 1, 1, 1], np.float64),
        ]
        assert [tensor.name for tensor in graph.outputs] == ["ÿ☃"]
        feeds = {
            "x/é:0 ": sample(3, 2, 4, 5),
            "unused": sample(3, 3),
            "b": sample(3, 1, 1, 1).astype(np.float64),
        }
        loaded(_model(nodes, inputs, [value("ÿ☃", "batch", 2, "H", "N")]), **feeds)

    @pytest.mark.parametrize("elem_type", [TensorProto.FLOAT16, TensorProto.DOUBLE])
    def test_other_precisions(self, elem_type):
        dtype = helper.tensor_dtype_to_np_dtype(elem_type)
        net = Net({"x": ["N", 2, 3]}, elem_type)
        y = net.op("Reshape", net.relu("x"), net.constant([-1, 6], np.int64))
        graph = loaded(
            net.model(net.matmul(y, W(6, 400).astype(dtype))), x=sample(3, 2, 3).astype(dtype)
        )
        assert graph.nodes[-1].inputs[1].values.dtype == dtype
        assert graph.outputs[0].dtype == dtype

    def test_constants_and_shapes_as_outputs(self):
        nodes = [
            helper.make_node("Relu", ["x"], ["y"]),
            helper.make_node("Constant", [], ["k"], value_floats=[1.0, 2.0]),
            helper.make_node("Shape", ["x"], ["s"]),
            helper.make_node("Shape", ["x"], ["features"], start=1),
        ]
        outputs = [
            value("y", "N", 2),
            value("k", 2),
            value("s", 2, elem_type=TensorProto.INT64),
            value("features", 1, elem_type=TensorProto.INT64),
        ]
        graph = loaded(_model(nodes, [value("x", "N", 2)], outputs), x=sample(3, 2))
        assert ops(graph) == ["Relu", "Shape"]

    def test_an_initializer_that_the_file_lets_a_caller_replace(self):
        inputs = [value("x", "N", 2), value("w", 2, 2)]
        weight = numpy_helper.from_array(W(2, 2), "w")
        node = helper.make_node("MatMul", ["x", "w"], ["y"])
        graph = loaded(_model([node], inputs, [value("y", "N", 2)], [weight]), x=sample(3, 2))
        assert [tensor.name for tensor in graph.inputs] == ["x"]

    def test_the_shape_of_an_output_that_nobody_can_infer_is_believed(self):
        nodes = [
            helper.make_node("Relu", ["x"], ["a"]),
            helper.make_node("Strange", ["a"], ["y"], domain="com.example"),
        ]
        model = _model(nodes, [value("x", 1, 3)], [value("y", 1, 7)], **{"com.example": 1})
        assert load_graph(model).outputs[0].shape == ["N", 7]

    def test_nested_functions_with_attributes(self):
        inner = helper.make_function(
            "local",
            "Inner",
            ["a"],
            ["b"],
            [helper.make_node("LeakyRelu", ["a"], ["b"])],
            [helper.make_opsetid("", 18)],
            attributes=["slope"],
        )
        inner.node[0].attribute.append(
            onnx.AttributeProto(name="alpha", ref_attr_name="slope", type=onnx.AttributeProto.FLOAT)
        )
        body = [
            helper.make_node("Inner", ["a"], ["b"], domain="local", slope=0.25),
            helper.make_node("Constant", [], ["k"], value_float=2.0),
            helper.make_node("Mul", ["b", "k"], ["c"]),
        ]
        opsets = [helper.make_opsetid("", 18), helper.make_opsetid("local", 1)]
        outer = helper.make_function("local", "Outer", ["a"], ["c"], body, opsets)
        nodes = [
            helper.make_node("Outer", ["x"], ["t"], domain="local"),
            helper.make_node("Outer", ["t"], ["y"], domain="local"),
        ]
        model = _model(
            nodes, [value("x", "N", 2)], [value("y", "N", 2)], functions=[inner, outer], local=1
        )
        assert ops(loaded(model, x=sample(4, 2))) == ["LeakyRelu", "Mul"] * 2


@pytest.mark.parametrize("name", exporters.names())
def test_what_real_exporters_write(name):
    fixture = exporters.load(name)
    graph = load_graph(fixture.model)
    assert not {"Shape", "Constant", "Identity", "Dropout"} & set(ops(graph))
    clean = session(gs.export_onnx(graph))
    for batch in (1, 3):
        feeds = {key: array[:batch] for key, array in fixture.inputs.items()}
        outputs = [output.name for output in clean.get_outputs()]
        assert outputs == list(fixture.outputs)
        for key, actual in zip(outputs, clean.run(None, feeds), strict=True):
            expected = fixture.outputs[key][:batch]
            np.testing.assert_allclose(actual, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["shufflenet", "squeezenet"])
def test_a_published_topology_takes_any_batch(name):
    model = topology(name)
    (x,) = [value.name for value in model.graph.input if value.name in _data_inputs(model)]
    graph = loaded_from_one(model, **{x: sample(2, 3, 224, 224)})
    assert all(node.outputs[0].shape[0] == "N" for node in graph.nodes)


def _data_inputs(model):
    return {value.name for value in model.graph.input} - {t.name for t in model.graph.initializer}


def test_constants_between_weights_are_folded():
    graph = load_graph(topology("densenet121", image=64))
    assert set(ops(graph)) == {
        "Add",
        "AveragePool",
        "BatchNormalization",
        "Concat",
        "Conv",
        "GlobalAveragePool",
        "MaxPool",
        "Mul",
        "Relu",
    }


def test_a_spiking_network_is_refused():
    node = helper.make_node("IFNeuron", ["x"], ["y"], domain="onnx_snn")
    model = _model([node], [value("x", "N", 3)], [value("y", "N", 3)], onnx_snn=1)
    with pytest.raises(
        UnsupportedModelError, match="spiking network already; convert the original"
    ):
        load_graph(model)


def test_contradictory_shapes():
    net = Net({"x": ["N", 3]})
    model = net.model(net.matmul("x", W(4, 2)), check=False)
    with pytest.raises(ModelError, match=r"^the model's shapes contradict each other: .*MatMul_0"):
        load_graph(model)


@pytest.mark.parametrize("size", [3, 20_000])
@pytest.mark.parametrize("op", ["Identity", "Dropout"])
def test_weights_behind_a_node_that_changes_nothing(size, op):
    """As torch writes weights that two layers share."""
    net = Net({"x": ["N", size]})
    bias = net.op(op, net.constant(np.arange(size, dtype=np.float32)))
    model = net.model({"y": net.op("Add", "x", bias), "z": net.op("Mul", "x", bias)})
    graph = loaded(model, x=sample(2, size))
    assert ops(graph) == ["Add", "Mul"]
