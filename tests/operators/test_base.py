import numpy as np
import onnx_graphsurgeon as gs
import pytest

from algebra import channels, only_node
from nets import Net
from onnx_snn.operators import OPERATORS, Analog, Kind, Operator, operator_of
from onnx_snn.operators.base import broadcast_refusal
from onnx_snn.scale import ONE, Scale


def test_analog_functions_see_the_units_of_the_ann():
    net = Net({"a": ["N", 4], "b": ["N", 4]})
    node = only_node(net.model(net.op("Pow", "a", "b")))
    operator = operator_of(node)
    assert operator.kind is Kind.DIFFERENTIAL
    assert operator.wish(node, Scale.of(2.0)) == [ONE, ONE]
    assert operator.demand(node, [channels(4), Scale.of(3.0)], None) == [ONE, ONE]
    assert operator.output(node, [ONE, ONE], Scale.of(2.0)) == ONE


def test_what_the_table_does_not_name_is_analog():
    assert isinstance(operator_of(gs.Node("NonZero", "a")), Analog)
    net = Net({"x": ["N", 4, 5]})
    node = only_node(net.model(net.conv("x", np.ones((2, 4, 3), np.float32))))
    assert operator_of(node) is OPERATORS["Conv"]


@pytest.mark.parametrize("domain", ["", None, "ai.onnx"])
def test_the_standard_domain_has_several_names(domain):
    net = Net({"x": ["N", 4, 5]})
    node = only_node(net.model(net.conv("x", np.ones((2, 4, 3), np.float32))))
    node.domain = domain
    assert operator_of(node) is OPERATORS["Conv"]


def test_a_custom_operator_of_a_known_name_is_not_known():
    assert isinstance(operator_of(gs.Node("Conv", "a", domain="com.example")), Analog)


def test_the_base_has_no_wishes_and_takes_any_scale():
    net = Net({"x": ["N", 4]})
    node = only_node(net.model(net.relu("x")))
    base = Operator()
    assert base.refusal(node) is None
    assert base.wish(node, ONE) == [None]
    assert base.demand(node, [channels(4)], None) == [None]
    with pytest.raises(NotImplementedError):
        base.output(node, [ONE], None)


def test_shapes_that_are_not_known_are_refused():
    x, y = gs.Variable("x", "float32"), gs.Variable("y", "float32")
    node = gs.Node("Add", "add", inputs=[x, gs.Constant("c", channels(4).values)], outputs=[y])
    refusal = broadcast_refusal(node)
    assert "unknown" in refusal.reason
    assert refusal.remedy
