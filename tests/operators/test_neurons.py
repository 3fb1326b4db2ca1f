from algebra import only_node, refusal_of
from nets import Net
from onnx_snn.operators import Kind, operator_of


def test_relu_spikes():
    net = Net({"x": ["N", 4]})
    model = net.model(net.relu("x"))
    assert operator_of(only_node(model)).kind is Kind.SPIKING
    assert refusal_of(model) is None


def test_relu_of_one_number_per_sample():
    net = Net({"x": ["N"]})
    assert refusal_of(net.model(net.relu("x"))) is None


def test_relu_without_a_batch_axis_is_refused():
    net = Net({"x": []})
    refusal = refusal_of(net.model(net.relu("x")))
    assert refusal is not None
    assert refusal.remedy


def test_relu_has_no_wish_for_its_input():
    # Its own threshold decides, which normalise knows.
    net = Net({"x": ["N", 4]})
    node = only_node(net.model(net.relu("x")))
    assert operator_of(node).wish(node, None) == [None]
