from itertools import pairwise

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from nets import Gaussian, Net, cnn
from onnx_snn.check_model import check_model
from onnx_snn.errors import ModelError, UnsupportedModelError


def _assert_refused(model, *parts, error=ModelError):
    with pytest.raises(error) as caught:
        check_model(model, "the file")
    message = str(caught.value)
    assert "\n" not in message
    for part in ("the file: ", *parts):
        assert part in message


def _nested(depth):
    """A Relu in If in If in If …, built in place: protobuf copies nothing so deep."""
    net = Net({"x": ["N", 3]})
    condition = net.constant(True)
    model = net.model(net.relu("x"))
    graph, output = model.graph, "branched"
    for _ in range(depth):
        node = graph.node.add(op_type="If", input=[condition], output=[output])
        output = "out"
        for name in ("else_branch", "then_branch"):
            attribute = node.attribute.add(name=name, type=onnx.AttributeProto.GRAPH)
            graph = attribute.g
            graph.name = name
            graph.output.add(name=output).type.tensor_type.elem_type = TensorProto.FLOAT
            if name == "else_branch":
                graph.node.add(op_type="Neg", input=["x"], output=[output])
    graph.node.add(op_type="Relu", input=["x"], output=[output])
    return model


def _with_functions(**bodies):
    """A model that calls ``F``; each function calls those named, one after the other."""
    model = cnn(Gaussian())
    model.opset_import.append(helper.make_opsetid("local", 1))
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("local", 1)]
    for name, callees in bodies.items():
        tensors = ["a", *(f"t{i}" for i in range(len(callees) - 1)), "b"]
        nodes = [
            helper.make_node(callee, [before], [after], domain="local" if callee in bodies else "")
            for callee, before, after in zip(callees, tensors, tensors[1:], strict=False)
        ]
        model.functions.append(helper.make_function("local", name, ["a"], ["b"], nodes, opsets))
    call = helper.make_node("F", [model.graph.node[-1].output[0]], ["called"], domain="local")
    model.graph.node.append(call)
    return model


class TestNesting:
    def test_as_deep_as_a_file_can_be(self):
        model = _nested(30)
        check_model(onnx.ModelProto.FromString(model.SerializeToString()), "the file")

    @pytest.mark.parametrize("depth", [40, 200])
    def test_deeper(self, depth):
        _assert_refused(_nested(depth), "nested too deeply", "export the model as a flat graph")


class TestFunctions:
    def test_that_end(self):
        check_model(_with_functions(F=["G", "Relu", "G"], G=["Neg"]), "the file")

    @pytest.mark.parametrize(
        "bodies", [{"F": ["F"]}, {"F": ["G"], "G": ["F"]}, {"F": ["Relu", "G"], "G": ["G"]}]
    )
    def test_that_call_themselves(self, bodies):
        _assert_refused(_with_functions(**bodies), "call themselves")

    def test_that_are_a_million_nodes_when_written_out(self):
        """Each calls the next one twice: 2^21 - 2 nodes, of 20 functions."""
        names = ["F", *(f"F{i}" for i in range(1, 20)), "Neg"]
        bodies = {name: [after] * 2 for name, after in pairwise(names)}
        _assert_refused(_with_functions(**bodies), "more than 1,000,000 nodes")
        bodies = {"F": ["F12", "F12"], **dict(list(bodies.items())[12:])}
        check_model(_with_functions(**bodies), "the file")  # 1,022 nodes


class TestOpsets:
    def test_newer_than_the_installed_onnx(self):
        newest = onnx.defs.onnx_opset_version()
        model = cnn(Gaussian())
        model.opset_import[0].version = newest
        check_model(model, "the file")
        for version in (newest + 1, 10**9):
            model.opset_import[0].version = version
            _assert_refused(
                model, f"has opset {version}", f"up to {newest}", error=UnsupportedModelError
            )

    @pytest.mark.parametrize("domains", [("", "ai.onnx"), ("", "a", "b", "a")])
    def test_two_of_one_domain(self, domains):
        model = cnn(Gaussian())
        del model.opset_import[:]
        model.opset_import.extend(helper.make_opsetid(domain, 18) for domain in domains)
        _assert_refused(model, "two opsets of the domain", repr(domains[-1]))


class TestGraph:
    def test_without_outputs(self):
        model = cnn(Gaussian())
        del model.graph.output[:]
        _assert_refused(model, "has no outputs")

    def test_an_output_named_twice(self):
        model = cnn(Gaussian())
        model.graph.output.append(model.graph.output[0])
        _assert_refused(model, "names the output 'y' twice")

    @pytest.mark.parametrize("name", ["alpha", "beta"])
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_factors_that_are_not_finite(self, name, value):
        net = Net({"x": ["N", 3]})
        weight = np.ones((3, 4), np.float32)
        y = net.gemm("x", weight, np.ones(4, np.float32), **{name: value})
        _assert_refused(net.model(y), f"{name} of Gemm node 'Gemm_0' is {value}")

    def test_infinity_elsewhere(self):
        """Padding with minus infinity, before max pooling, is usual."""
        net = Net({"x": ["N", 3]})
        pads = net.constant([0, 1, 0, 1])
        net.constant(np.ones(1, np.float32))
        low = net.op("Constant", value_float=-np.inf)
        check_model(net.model(net.op("Pad", "x", pads, low)), "the file")


class TestInitializers:
    @pytest.mark.parametrize("dims", [[-1, 2, 3, 3], [4, -2, -3, 3]])
    def test_of_negative_size(self, dims):
        """NumPy would take -1 for what is left, and the product of two for a size."""
        model = cnn(Gaussian())
        model.graph.initializer[0].dims[:] = dims
        _assert_refused(model, "initializer 'c0' is damaged (a negative dimension)")


class TestWindows:
    @pytest.mark.parametrize(
        ("name", "values"),
        [
            ("strides", [0, 1]),
            ("strides", [-1, -1]),
            ("dilations", [0, 0]),
            ("dilations", [1, 2**31]),
            ("kernel_shape", [0, 3]),
            ("pads", [0, 0, -1, 0]),
            ("pads", [2**62] * 4),
        ],
    )
    @pytest.mark.parametrize("op_type", ["Conv", "MaxPool"])
    def test_absurd_sizes(self, op_type, name, values):
        net = Net({"x": ["N", 2, 8, 8]})
        weights = [net.constant(np.ones((4, 2, 3, 3), np.float32))] if op_type == "Conv" else []
        model = net.model(net.op(op_type, "x", *weights, kernel_shape=[3, 3]))
        node = model.graph.node[0]
        kept = [attribute for attribute in node.attribute if attribute.name != name]
        del node.attribute[:]
        node.attribute.extend([*kept, helper.make_attribute(name, values)])
        _assert_refused(model, f"{op_type} node '{op_type}_0' has {name} {values}")

    @pytest.mark.parametrize("group", [-1, 0, 3, 2**31])
    def test_groups(self, group):
        model = cnn(Gaussian())
        model.graph.node[0].attribute.append(helper.make_attribute("group", group))
        _assert_refused(model, "Conv node 'Conv_0'", "group", str(group))

    @pytest.mark.parametrize("op_type", ["Conv", "ConvTranspose"])
    def test_groups_that_fit(self, op_type):
        net = Net({"x": ["N", 4, 8, 8]})
        shape = (6, 2, 3, 3) if op_type == "Conv" else (4, 3, 3, 3)
        weight = net.constant(np.ones(shape, np.float32))
        check_model(net.model(net.op(op_type, "x", weight, group=2)), "the file")


def test_outputs_need_no_shape():
    model = cnn(Gaussian())
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    check_model(model, "the file")
