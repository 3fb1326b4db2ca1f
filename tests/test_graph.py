import numpy as np
import onnx_graphsurgeon as gs
import pytest

from nets import Gaussian, Net, run
from onnx_snn import graph as helpers
from onnx_snn.load import load_graph

W = Gaussian(1)


def _graph(*ops):
    """x → ops → y, by graphsurgeon alone."""
    tensors = [gs.Variable(f"t{i}", np.float32, ["N", 3]) for i in range(len(ops) + 1)]
    nodes = [
        gs.Node(op, f"n{i}", inputs=[tensors[i]], outputs=[tensors[i + 1]])
        for i, op in enumerate(ops)
    ]
    return gs.Graph(nodes, [tensors[0]], [tensors[-1]], opset=18)


@pytest.mark.parametrize(
    ("ops", "bypassed", "left"),
    [
        (["Relu", "Identity", "Neg"], 1, ["Relu", "Neg"]),
        (["Identity", "Relu"], 0, ["Relu"]),
        (["Relu", "Identity"], 1, ["Relu"]),
        (["Identity"], 0, ["Identity"]),  # an output cannot be an input
    ],
)
def test_bypass(ops, bypassed, left):
    graph = _graph(*ops)
    ends = graph.inputs[0].name, graph.outputs[0].name
    x = W(2, 3)
    expected = run(gs.export_onnx(graph), {"t0": x})
    helpers.bypass(graph, graph.nodes[bypassed])
    readers = [reader for tensor in graph.tensors().values() for reader in tensor.outputs]
    assert all(reader in graph.nodes for reader in readers)
    assert [node.op for node in graph.nodes] == left
    assert (graph.inputs[0].name, graph.outputs[0].name) == ends
    np.testing.assert_array_equal(run(gs.export_onnx(graph), {"t0": x}), expected)


def test_bypass_keeps_a_constant_output():
    constant = gs.Constant("c", W(2))
    result = gs.Variable("y", np.float32, [2])
    graph = gs.Graph([gs.Node("Identity", "n", inputs=[constant], outputs=[result])], [], [result])
    helpers.bypass(graph, graph.nodes[0])
    assert len(graph.nodes) == 1


def test_set_constant_spares_the_other_readers():
    net = Net({"x": ["N", 3]})
    shared = net.constant(W(3, 3))
    graph = load_graph(net.model(net.op("MatMul", net.op("MatMul", "x", shared), shared)))
    first, second = graph.nodes
    original = second.inputs[1].values.copy()
    helpers.set_constant(first, 1, np.zeros((3, 3)), "weight")
    assert second.inputs[1].name == shared
    np.testing.assert_array_equal(second.inputs[1].values, original)
    assert first.inputs[1].name != shared
    assert first.inputs[1].dtype == np.float32
    # The second is the only reader now, so that the name may stay.
    helpers.set_constant(second, 1, np.zeros((3, 3)), "weight")
    assert second.inputs[1].name == shared


def test_replace_uses_reaches_outputs_too():
    graph = _graph("Relu", "Neg")
    old, new = graph.outputs[0], gs.Variable("new", np.float32)
    helpers.replace_uses(graph, old, new)
    assert graph.outputs == [new]
    middle = graph.nodes[0].outputs[0]
    helpers.replace_uses(graph, middle, new)
    assert graph.nodes[1].inputs == [new]


def test_activations_are_what_is_computed():
    x = gs.Variable("x", np.float32)
    inputs = [x, gs.Variable.empty(), gs.Constant("c", W(2))]
    node = gs.Node("Clip", "n", inputs=inputs, outputs=[])
    assert helpers.activations(node) == [x]


def test_data_variables_are_listed_once_inputs_first():
    graph = _graph("Relu", "Neg")
    graph.nodes[1].inputs.append(graph.inputs[0])
    assert [tensor.name for tensor in helpers.data_variables(graph)] == ["t0", "t1", "t2"]


def test_rank_and_integers():
    assert helpers.rank(gs.Variable("a", np.float32)) is None
    assert helpers.rank(gs.Variable("a", np.float32, [])) == 0
    assert helpers.rank(gs.Variable("a", np.float32, ["N", 2])) == 2
    assert helpers.int_list(helpers.constant("c", [[1], [-2]])) == [1, -2]


def test_unique_name():
    graph = _graph("Relu")
    assert helpers.unique_name(graph, "T") == "T"
    assert helpers.unique_name(graph, "t1") == "t1_1"
    graph.inputs[0].name = "t1_1"
    assert helpers.unique_name(graph, "t1") == "t1_2"


def test_insert_before_keeps_the_order():
    graph = _graph("Relu", "Neg")
    helpers.insert_before(graph, graph.nodes[1], [gs.Node("Abs", "a"), gs.Node("Exp", "b")])
    assert [node.op for node in graph.nodes] == ["Relu", "Abs", "Exp", "Neg"]
