import numpy as np
import onnx_graphsurgeon as gs
import pytest

from algebra import assert_wish_holds, channels, rescale
from laws import assert_not_linear, linear_refusal, normalised
from nets import Gaussian, Net
from onnx_snn.operators import OPERATORS
from onnx_snn.scale import ONE, Scale

W = Gaussian(3)


def _with_constant(op, constant, *, first=False):
    net = Net({"x": ["N", 4, 5]})
    pair = [net.constant(constant), "x"] if first else ["x", net.constant(constant)]
    return net.model(net.op(op, *pair))


def _activations(op, count=2):
    net = Net({f"x{index}": ["N", 4, 5] for index in range(count)})
    return net.model(net.op(op, *(f"x{index}" for index in range(count))))


CONSTANTS = {"scalar": W(), "per channel": W(1, 4, 1), "per feature": W(5), "full": W(4, 5)}


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("shape", CONSTANTS)
@pytest.mark.parametrize("op", ["Add", "Sub", "Sum", "Mean", "Mul"])
@pytest.mark.parametrize("scale", [Scale.of(3.0), channels(4)], ids=["scalar", "channel"])
def test_constants_take_the_scale_in(op, shape, first, scale):
    model = _with_constant(op, CONSTANTS[shape], first=first)
    assert linear_refusal(model) is None
    assert rescale(model, [scale]) == scale


@pytest.mark.parametrize("shape", CONSTANTS)
@pytest.mark.parametrize("op", ["Mul", "Div"])
@pytest.mark.parametrize("wish", [Scale.of(0.3), channels(4, seed=1)], ids=["scalar", "channel"])
@pytest.mark.parametrize("scale", [Scale.of(3.0), channels(4)], ids=["scalar", "channel"])
def test_products_give_any_scale_wished_for(op, shape, scale, wish):
    assert rescale(_with_constant(op, CONSTANTS[shape]), [scale], wish) == wish


def test_a_product_keeps_its_scale_if_the_wish_is_along_another_axis():
    model = _with_constant("Mul", CONSTANTS["full"])
    assert rescale(model, [channels(4, 1)], channels(5, 2)) == channels(4, 1)


@pytest.mark.parametrize("op", ["Add", "Sub", "Sum", "Mean"])
def test_sums_demand_one_scale_for_all(op):
    model = _activations(op)
    mine, other = channels(4, seed=1), Scale.of(2.0)
    assert rescale(model, [mine, mine]) == mine
    assert rescale(model, [mine, other]) == mine  # nobody minds: one synapse is enough
    assert rescale(model, [ONE, other]) == other
    assert rescale(model, [mine, other], Scale.of(0.5)) == Scale.of(0.5)
    assert_wish_holds(model, channels(4))


@pytest.mark.parametrize("op", ["Sum", "Mean"])
def test_of_three(op):
    assert rescale(_activations(op, 3), [Scale.of(2.0)] * 3) == Scale.of(2.0)


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("op", ["Add", "Mul", "Div"])
def test_constants_that_make_channels_of_one(op, per_channel):
    net = Net({"x": ["N", 3, 4]})
    one = net.relu(net.conv("x", W(1, 3, 1)))
    many = net.op(op, one, net.constant(W(4, 1) + 2))
    normalised(net.model(net.relu(net.conv(many, W(2, 4, 1)))), per_channel)
    normalised(net.model(net.relu(many)), per_channel)


@pytest.mark.parametrize("per_channel", [False, True])
def test_one_number_per_channel_joins_all_pixels(per_channel):
    net = Net({"x": ["N", 3, 4]})
    pixels = net.relu(net.conv("x", W(4, 3, 1)))
    pooled = net.relu(net.conv(net.op("GlobalAveragePool", pixels), W(4, 4, 1)))
    normalised(net.model(net.relu(net.op("Add", pixels, pooled))), per_channel)


@pytest.mark.parametrize("per_channel", [False, True])
def test_mean_of_branches(per_channel):
    net = Net({"x": ["N", 3, 4]})
    branches = [net.relu(net.conv("x", W(4, 3, 1))) for _ in range(3)]
    y = net.conv(net.op("Mean", *branches), W(2, 4, 1))
    _, scales = normalised(net.model(y), per_channel)
    assert all(scale.is_scalar != per_channel for scale in scales)


@pytest.mark.parametrize("op", ["Add", "Concat"])
def test_refuses_integers(op):
    tensors = [gs.Variable(name, np.int64, ["N", 4]) for name in ("a", "b", "y")]
    node = gs.Node(op, op, {"axis": 1}, inputs=tensors[:2], outputs=tensors[2:])
    assert "integers" in OPERATORS[op].refusal(node).reason


def test_refuses_products_of_activations():
    assert_not_linear(_activations("Mul"), "not linear")


def test_refuses_a_reciprocal():
    assert_not_linear(_with_constant("Div", W(4, 5), first=True), "not linear")


@pytest.mark.parametrize("op", ["Add", "Mul"])
@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 3, 4, 5)])
def test_refuses_constants_with_a_batch_of_their_own(op, shape):
    assert_not_linear(_with_constant(op, W(*shape)), "batch axis of its own")


def test_refuses_sums_that_meet_along_the_batch():
    net = Net({"a": ["N", 4], "b": ["N", 4, 4]})
    assert_not_linear(net.model(net.op("Add", "a", "b"), check=False), "rank")
