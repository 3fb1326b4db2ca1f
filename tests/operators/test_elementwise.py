import pytest

from algebra import assert_refused, assert_wish_holds, channels, refusal_of, rescale
from nets import Gaussian, Net
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
@pytest.mark.parametrize("op", ["Add", "Sub", "Sum", "Mul"])
@pytest.mark.parametrize("scale", [Scale.of(3.0), channels(4)], ids=["scalar", "channel"])
def test_constants_take_the_scale_in(op, shape, first, scale):
    model = _with_constant(op, CONSTANTS[shape], first=first)
    assert refusal_of(model) is None
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


@pytest.mark.parametrize("op", ["Add", "Sub", "Sum"])
def test_sums_demand_one_scale_for_all(op):
    model = _activations(op)
    mine, other = channels(4, seed=1), Scale.of(2.0)
    assert rescale(model, [mine, mine]) == mine
    assert rescale(model, [mine, other]) == mine  # nobody minds: one synapse is enough
    assert rescale(model, [ONE, other]) == other
    assert rescale(model, [mine, other], Scale.of(0.5)) == Scale.of(0.5)
    assert_wish_holds(model, channels(4))


def test_sum_of_three():
    assert rescale(_activations("Sum", 3), [Scale.of(2.0)] * 3) == Scale.of(2.0)


def test_refuses_products_of_activations():
    assert_refused(_activations("Mul"), "not linear")


def test_refuses_a_reciprocal():
    assert_refused(_with_constant("Div", W(4, 5), first=True), "not linear")


@pytest.mark.parametrize("op", ["Add", "Mul"])
@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 3, 4, 5)])
def test_refuses_constants_with_a_batch_of_their_own(op, shape):
    assert_refused(_with_constant(op, W(*shape)), "batch axis of its own")


def test_refuses_sums_that_meet_along_the_batch():
    net = Net({"a": ["N", 4], "b": ["N", 4, 4]})
    assert_refused(net.model(net.op("Add", "a", "b"), check=False), "rank")
