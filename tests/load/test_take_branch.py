import numpy as np
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from loading import model_of, sample, unknown, value
from onnx_snn.load.take_branch import take_branch

N = helper.make_node


def _branch(name, *nodes, constant):
    tensor = helper.make_tensor("k", TensorProto.FLOAT, [], [constant])
    return helper.make_graph([*nodes], name, [], [unknown("o")], [tensor])


@pytest.mark.parametrize("condition", [True, False])
def test_the_branch_computes_what_the_if_does(condition):
    """Names are used twice, and an inner If reads those of the outer branch."""
    inner = N(
        "If",
        ["inner"],
        ["o"],
        then_branch=_branch("t", N("Add", ["m", "k"], ["o"]), constant=5.0),
        else_branch=_branch("e", N("Sub", ["m", "k"], ["o"]), constant=7.0),
    )
    node = N(
        "If",
        ["outer"],
        ["y"],
        then_branch=_branch("t", N("Mul", ["x", "k"], ["m"]), inner, constant=2.0),
        else_branch=_branch("e", N("Div", ["x", "k"], ["m"]), inner, constant=4.0),
    )
    flags = {"outer": np.array(condition), "inner": np.array(True)}
    inputs, outputs = [value("x", "N", 2)], [value("y", "N", 2)]
    nodes, constants = take_branch(node, condition, 7)
    assert [n.op_type for n in nodes] == ["Mul" if condition else "Div", "If", "Identity"]
    taken = model_of(nodes, inputs, outputs, flags)
    taken.graph.initializer.extend(constants)
    x = sample(3, 2)
    (actual,) = ReferenceEvaluator(taken).run(None, {"x": x})
    np.testing.assert_array_equal(actual, (x * 2 if condition else x / 4) + 5)


def test_a_branch_that_passes_an_outer_tensor_on():
    graph = helper.make_graph([], "g", [], [unknown("x")])
    node = N("If", ["c"], ["y"], then_branch=graph, else_branch=graph)
    nodes, constants = take_branch(node, True, 7)
    assert [(n.op_type, *n.input, *n.output) for n in nodes] == [("Identity", "x", "y")]
    assert constants == []
