import numpy as np
import onnx_graphsurgeon as gs
import pytest

from algebra import channels, only_node, rescale
from laws import assert_not_linear, linear_refusal, normalised
from nets import Gaussian, Net
from onnx_snn.operators import OPERATORS, CannotCarryError, operator_of
from onnx_snn.scale import ONE, Scale

W = Gaussian(6)


def _einsum(equation, shape, weight, *, first=False):
    net = Net({"x": ["N", *shape]})
    pair = [net.constant(weight), "x"] if first else ["x", net.constant(weight)]
    return net.model(net.op("Einsum", *pair, equation=equation))


# name: (model, λ_in: count and axis, λ_out: count and axis)
PRODUCTS = {
    "dense": (_einsum("bi,io->bo", [4], W(4, 6)), (4, 1), (6, 1)),
    "weights transposed": (_einsum("bi, oi -> bo", [4], W(6, 4)), (4, 1), (6, 1)),
    "weights first": (_einsum("oi,bi->bo", [4], W(6, 4), first=True), (4, 1), (6, 1)),
    "sequence": (_einsum("bsi,io->bso", [5, 4], W(4, 6)), (4, 2), (6, 2)),
    "ellipsis": (_einsum("...i,io->...o", [5, 4], W(4, 6)), (4, 2), (6, 2)),
    "1x1 convolution": (_einsum("bchw,oc->bohw", [4, 3, 2], W(6, 4)), (4, 1), (6, 1)),
    "heads": (_einsum("bsd,dhk->bhsk", [5, 4], W(4, 3, 2)), (4, 2), (3, 1)),
    "depthwise": (_einsum("bcs,cs->bc", [4, 5], W(4, 5)), (4, 1), (4, 1)),
}


@pytest.mark.parametrize("name", PRODUCTS)
@pytest.mark.parametrize("per_channel_in", [False, True])
@pytest.mark.parametrize("wish", [None, "scalar", "channel"])
def test_absorbs_every_pair_of_scales(name, per_channel_in, wish):
    model, inside, outside = PRODUCTS[name]
    assert linear_refusal(model) is None
    scale = channels(*inside) if per_channel_in else Scale.of(3.0)
    wanted = {None: None, "scalar": Scale.of(0.7), "channel": channels(*outside, 1)}[wish]
    assert rescale(model, [scale], wanted) == (ONE if wanted is None else wanted)


def test_channels_that_the_weights_do_not_have():
    node = only_node(PRODUCTS["sequence"][0])
    operator = operator_of(node)
    with pytest.raises(CannotCarryError):
        operator.output(node, [channels(5, 1)], None)
    assert operator.output(node, [ONE], channels(5, 1)) == ONE


def test_between_neurons():
    net = Net({"x": ["N", 3, 5]})
    y = net.relu(net.conv("x", W(4, 3, 1)))
    y = net.relu(net.op("Einsum", y, net.constant(W(4, 6)), equation="bcs,co->bos"))
    graph, scales = normalised(net.model(net.conv(y, W(2, 6, 1))), per_channel=True)
    assert not any(scale.is_scalar for scale in scales)
    assert "Mul" not in [node.op for node in graph.nodes]


@pytest.mark.parametrize(
    ("equation", "weight", "reason"),
    [
        ("bii,io->bo", W(4, 6), "more than"),
        ("bsi,...i->bs", W(2, 4), "more than"),
        ("bsi,io->sbo", W(4, 6), "batch"),
        ("bsi,io->so", W(4, 6), "batch"),
        ("bsi,bi->bs", W(1, 4), "batch"),
        ("bsi,io", W(4, 6), "batch"),
    ],
)
def test_refuses_other_equations(equation, weight, reason):
    net = Net({"x": ["N", 4, 4]})
    model = net.model(net.op("Einsum", "x", net.constant(weight), equation=equation), check=False)
    assert_not_linear(model, reason)


@pytest.mark.parametrize(("inputs", "equation"), [("ab", "bi,bi->bi"), ("a", "bi->bi")])
def test_refuses_products_of_activations(inputs, equation):
    tensors = [gs.Variable(name, np.float32, ["N", 4]) for name in inputs]
    out = gs.Variable("y", np.float32, ["N", 4])
    node = gs.Node("Einsum", "e", {"equation": equation}, inputs=tensors, outputs=[out])
    assert "constant weights" in OPERATORS["Einsum"].refusal(node).reason
