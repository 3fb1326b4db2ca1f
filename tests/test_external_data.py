"""Models and their weights apart: nothing is lost, nothing is changed, onnx reads it back."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from nets import run
from onnx_snn.external_data import detach, save_with_external_data
from wide_net import wide_net


def _bytes(model):
    return model.SerializeToString(deterministic=True)


def _everywhere():
    """Large weights in the graph, in a Constant, in a subgraph and in a function."""
    random = np.random.default_rng(0)
    names = ("graph", "constant", "branch", "function")
    weights = {n: random.normal(size=(20, 20)).astype(np.float32) for n in names}
    tensors = {name: numpy_helper.from_array(w, name) for name, w in weights.items()}
    node, value = helper.make_node, helper.make_tensor_value_info
    shape = value("b", TensorProto.FLOAT, ["N", 20])
    branch = helper.make_graph(
        [node("MatMul", ["m", "branch"], ["b"])], "g", [], [shape], [tensors["branch"]]
    )
    function = helper.make_function(
        "local",
        "F",
        ["u"],
        ["w"],
        [node("Constant", [], ["k"], value=tensors["function"]), node("MatMul", ["u", "k"], ["w"])],
        [helper.make_opsetid("", 18)],
    )
    nodes = [
        node("MatMul", ["x", "graph"], ["a"]),
        node("Constant", [], ["c"], value=tensors["constant"]),
        node("MatMul", ["a", "c"], ["m"]),
        node("If", ["yes"], ["b"], then_branch=branch, else_branch=branch),
        node("F", ["b"], ["y"], domain="local"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x", TensorProto.FLOAT, ["N", 20])],
        [value("y", TensorProto.FLOAT, ["N", 20])],
        [tensors["graph"], numpy_helper.from_array(np.array(True), "yes")],
        doc_string="text",
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("local", 1)]
    model = helper.make_model(graph, opset_imports=opsets, functions=[function], ir_version=8)
    helper.set_model_props(model, {"key": "value"})
    return model


@pytest.mark.parametrize("model", [wide_net(), _everywhere()], ids=["plain", "everywhere"])
class TestDetach:
    def test_with_the_bytes_put_back_it_is_the_model(self, model):
        detached = detach(model)
        assert detached.tensors
        for stub, content in detached.chunks():
            assert not stub.HasField("raw_data")
            stub.raw_data = content
        assert detached.outline == model

    def test_does_not_change_the_model(self, model):
        before = _bytes(model)
        detached = detach(model)
        detached.outline.graph.node[0].op_type = "Changed"
        detached.tensors[0][0].name = "changed"
        assert _bytes(model) == before

    def test_size_is_that_of_the_file_or_a_little_more(self, model):
        exact, detached = len(_bytes(model)), detach(model)
        assert exact <= detached.size <= exact + 16 * len(detached.tensors)


def test_weights_are_found_in_every_place():
    names = {stub.name for stub, _ in detach(_everywhere()).tensors}
    assert names == {"graph", "constant", "branch", "function"}
    assert detach(_everywhere()).outline.ByteSize() < 2048


def test_numbers_that_are_not_raw_bytes_stay(tmp_path):
    model = onnx.ModelProto()
    values = np.arange(1000, dtype=np.float32)
    model.graph.initializer.append(helper.make_tensor("w", TensorProto.FLOAT, [1000], values))
    detached = detach(model)
    assert not detached.tensors
    assert detached.outline == model


def test_onnx_reads_it_back(tmp_path):
    model = wide_net()
    save_with_external_data(detach(model), tmp_path / "m.onnx", tmp_path / "w.bin", "w.bin")
    outline = onnx.load(tmp_path / "m.onnx", load_external_data=False)
    external = [t for t in outline.graph.initializer if t.data_location == TensorProto.EXTERNAL]
    assert external
    offsets = [int(e.value) for t in external for e in t.external_data if e.key == "offset"]
    assert all(offset % 4096 == 0 for offset in offsets)
    again = onnx.load(tmp_path / "m.onnx")
    onnx.checker.check_model(again)
    for tensor, expected in zip(again.graph.initializer, model.graph.initializer, strict=True):
        np.testing.assert_array_equal(
            numpy_helper.to_array(tensor), numpy_helper.to_array(expected)
        )
    x = np.random.default_rng(1).normal(size=(3, 8)).astype(np.float32)
    np.testing.assert_array_equal(run(again, {"x": x})[0], run(model, {"x": x})[0])
