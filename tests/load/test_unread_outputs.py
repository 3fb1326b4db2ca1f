"""Optional outputs: those that nobody reads go, those that are read stay."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import onnx_snn
from loading import loaded, model_of, ops, sample, value
from nets import Net
from onnx_snn.analyse import analyse
from onnx_snn.errors import UnsupportedModelError
from onnx_snn.load import load_graph
from onnx_snn.load.unread_outputs import drop_unread_outputs

N = helper.make_node
STATISTICS = {name: np.array([0.5, 2.0, 1.5], np.float32) for name in "sbmv"}


def _batch_normalization(outputs, **attributes):
    return N("BatchNormalization", ["x", "s", "b", "m", "v"], outputs, **attributes)


@pytest.mark.parametrize("opset", [7, 9, 13])
def test_batch_statistics_do_not_keep_an_opset_from_being_raised(opset):
    """onnx's converter knows no BatchNormalization with five outputs."""
    nodes = [_batch_normalization(["a", "m2", "v2", "sm", "sv"]), N("Relu", ["a"], ["y"])]
    model = model_of(nodes, [value("x", "N", 3, 2)], [value("y", "N", 3, 2)], STATISTICS)
    model.opset_import[0].version = opset
    graph = load_graph(model)
    assert ops(graph) == ["BatchNormalization", "Relu"]
    assert len(graph.nodes[0].outputs) == 1
    # Newer versions of onnxruntime do not run five outputs; one means the same.
    one = onnx.ModelProto.FromString(model.SerializeToString())
    del one.graph.node[0].output[1:]
    loaded(one, x=sample(2, 3, 2))


@pytest.mark.parametrize(
    ("node", "constants", "shape"),
    [
        (N("MaxPool", ["x"], ["a", "places"], kernel_shape=[2]), {}, (3, 4)),
        (N("Dropout", ["x"], ["a", "mask"]), {}, (3, 4)),
        (
            N("LayerNormalization", ["x", "s"], ["a", "mean", "deviation"]),
            {"s": np.ones(4, np.float32)},
            (3, 4),
        ),
    ],
    ids=lambda each: getattr(each, "op_type", ""),
)
def test_only_the_first_output_is_left(node, constants, shape):
    nodes = [node, N("Relu", ["a"], ["y"])]
    model = model_of(nodes, [value("x", "N", *shape)], [value("y", "N", 3, "L")], constants)
    for left in loaded(model, x=sample(2, *shape)).nodes:
        assert len(left.outputs) == 1


@pytest.mark.parametrize("reader", ["output", "node", "subgraph"])
def test_what_is_read_stays(reader):
    nodes = [N("Dropout", ["x"], ["a", "mask"])]
    outputs = [value("a", "N", 3)]
    if reader == "output":
        outputs.append(helper.make_tensor_value_info("mask", onnx.TensorProto.BOOL, ["N", 3]))
    else:
        cast = N("Cast", ["mask"], ["c"], to=onnx.TensorProto.FLOAT)
        outputs.append(value("y", "N", 3))
        branch = helper.make_graph([cast], "branch", [], [value("c", "N", 3)])
        inside = N("If", ["yes"], ["y"], then_branch=branch, else_branch=branch)
        cast_outside = N("Cast", ["mask"], ["y"], to=onnx.TensorProto.FLOAT)
        nodes.append(inside if reader == "subgraph" else cast_outside)
    constants = {"yes": np.array(True)}
    model = model_of(nodes, [value("x", "N", 3)], outputs, constants)
    loaded(model, x=sample(2, 3))
    drop_unread_outputs(model)
    assert list(model.graph.node[0].output) == ["a", "mask"]


def test_outputs_in_the_middle_become_empty_and_required_ones_stay():
    lstm = N("LSTM", ["x", "w", "r"], ["all", "last", "cell"], hidden_size=2)
    largest = N("TopK", ["x", "k"], ["largest", "where"])
    outputs = [value("last"), value("largest"), value("cell")]
    model = model_of([lstm, largest], [value("x", 2, "N", 4)], outputs)
    drop_unread_outputs(model)
    assert list(model.graph.node[0].output) == ["", "last", "cell"]
    assert list(model.graph.node[1].output) == ["largest", "where"]


def test_a_node_of_which_nothing_is_read_is_left_to_others():
    node = N("LSTM", ["x", "w", "r"], ["all", "last", "cell"], hidden_size=2)
    model = model_of([node], [value("x", 2, "N", 4)], [value("x", 2, "N", 4)])
    drop_unread_outputs(model)
    assert list(model.graph.node[0].output) == ["all", "last", "cell"]


@pytest.mark.parametrize("opset", [14, 18, 21])
@pytest.mark.parametrize("count", [1, 3])
def test_training_mode_is_refused_by_name_however_many_outputs_it_has(opset, count):
    net = Net({"x": ["N", 4, 6, 6]})
    ones = [net.constant(np.ones(4, np.float32))] * 4
    net.op("BatchNormalization", net.relu("x"), *ones, outputs=3, training_mode=1)
    model = net.model(net.relu("batchnormalization1"), opset)
    del model.graph.node[1].output[count:]
    model.graph.output[0].CopyFrom(value("y", "N", 4, 6, 6))
    verdict = analyse(load_graph(model)).refused[0]
    assert verdict.node == "BatchNormalization_1"
    with pytest.raises(UnsupportedModelError, match=r"training mode.*model\.eval\(\)"):
        onnx_snn.convert(model, np.ones((4, 4, 6, 6), np.float32))


def test_other_domains_and_unknown_operators_are_left_alone():
    nodes = [
        N("Dropout", ["x"], ["a", "mask"], domain="com.example"),
        N("Nonesuch", ["a"], ["y", "z"]),
    ]
    model = model_of(nodes, [value("x", "N", 3)], [value("y", "N", 3)])
    before = model.SerializeToString(deterministic=True)
    drop_unread_outputs(model)
    assert model.SerializeToString(deterministic=True) == before


def test_the_given_model_is_not_changed():
    nodes = [N("Dropout", ["x"], ["a", "mask"]), N("Relu", ["a"], ["y"])]
    model = model_of(nodes, [value("x", "N", 3)], [value("y", "N", 3)])
    model.graph.initializer.append(numpy_helper.from_array(sample(3), "unused"))
    before = model.SerializeToString(deterministic=True)
    load_graph(model)
    assert model.SerializeToString(deterministic=True) == before
