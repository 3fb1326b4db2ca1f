import numpy as np
import onnx_graphsurgeon as gs
import pytest

from algebra import channels, rescale
from laws import assert_not_linear, linear_refusal
from nets import Gaussian, Net
from onnx_snn.load import load_graph
from onnx_snn.operators import OPERATORS, CannotCarryError, operator_of
from onnx_snn.scale import ONE, Scale

W = Gaussian(7)


def _conv(dims, inputs, outputs, groups=1, op="conv", bias=True, **attributes):
    net = Net({"x": ["N", inputs, *[5] * dims]})
    rows = (inputs, outputs // groups) if op == "conv_transpose" else (outputs, inputs // groups)
    weight = W(*rows, *[3] * dims)
    return net.model(
        getattr(net, op)("x", weight, W(outputs) if bias else None, group=groups, **attributes)
    )


def _gemm(bias=None, **attributes):
    net = Net({"x": ["N", 4]})
    weight = W(6, 4) if attributes.get("transB") else W(4, 6)
    return net.model(net.gemm("x", weight, bias, **attributes))


def _matmul(*features):
    net = Net({"x": ["N", *features]})
    return net.model(net.matmul("x", W(features[-1], 6)))


def _product(first, second, *features):
    net = Net({"x": ["N", *features]})
    return net.model(
        net.op("MatMul", *(t if isinstance(t, str) else net.constant(t) for t in (first, second)))
    )


# name: (model, input channels, output channels, channel axis)
LAYERS = {
    "conv 1-D": (_conv(1, 4, 6), 4, 6, 1),
    "conv 2-D": (_conv(2, 4, 6), 4, 6, 1),
    "conv 2-D without bias": (_conv(2, 4, 6, bias=False), 4, 6, 1),
    "conv 3-D": (_conv(3, 4, 6), 4, 6, 1),
    "conv in groups": (_conv(2, 4, 6, groups=2), 4, 6, 1),
    "conv, same": (_conv(2, 4, 6, auto_pad="SAME_LOWER", strides=[2, 2]), 4, 6, 1),
    "conv, padded unevenly": (_conv(2, 4, 6, pads=[0, 1, 2, 0], dilations=[2, 1]), 4, 6, 1),
    "conv depthwise": (_conv(2, 4, 8, groups=4), 4, 8, 1),
    "transposed": (_conv(2, 4, 6, op="conv_transpose"), 4, 6, 1),
    "transposed 1-D": (_conv(1, 4, 6, op="conv_transpose"), 4, 6, 1),
    "transposed in groups": (_conv(2, 4, 6, groups=2, op="conv_transpose"), 4, 6, 1),
    "gemm": (_gemm(W(6)), 4, 6, 1),
    "gemm without bias": (_gemm(), 4, 6, 1),
    "gemm transB alpha beta": (_gemm(W(6), transB=1, alpha=0.7, beta=1.3), 4, 6, 1),
    "gemm bias [1, 6]": (_gemm(W(1, 6)), 4, 6, 1),
    "gemm bias [1]": (_gemm(W(1)), 4, 6, 1),
    "gemm bias []": (_gemm(np.float32(0.3)), 4, 6, 1),
    "matmul": (_matmul(4), 4, 6, 1),
    "matmul of a sequence": (_matmul(5, 4), 4, 6, 2),
    "matmul, weights first": (_product(W(6, 4), "x", 4, 5), 4, 6, 1),
    "matmul, a stack": (_product("x", W(1, 3, 4, 6), 3, 5, 4), 4, 6, 3),
    "matmul, a stack that widens": (_product("x", W(3, 4, 6), 1, 5, 4), 4, 6, 3),
    "matmul, a stack first": (_product(W(3, 6, 4), "x", 3, 4, 5), 4, 6, 2),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("per_channel_in", [False, True])
@pytest.mark.parametrize("wish", [None, "scalar", "channel"])
def test_absorbs_every_pair_of_scales(name, per_channel_in, wish):
    model, inputs, outputs, axis = LAYERS[name]
    scale = channels(inputs, axis) if per_channel_in else Scale.of(3.0)
    wanted = {None: None, "scalar": Scale.of(0.7), "channel": channels(outputs, axis, 1)}[wish]
    assert rescale(model, [scale], wanted) == (ONE if wanted is None else wanted)


@pytest.mark.parametrize("name", LAYERS)
def test_units_of_one_leave_the_weights_untouched(name):
    (node,) = load_graph(LAYERS[name][0]).nodes
    before = list(node.inputs)
    operator_of(node).apply(node, [ONE], ONE)
    assert all(a is b for a, b in zip(before, node.inputs, strict=True))


@pytest.mark.parametrize(("name", "axis"), [("conv 2-D", 2), ("matmul of a sequence", 1)])
def test_a_scale_along_another_axis(name, axis):
    (node,) = load_graph(LAYERS[name][0]).nodes
    operator = operator_of(node)
    with pytest.raises(CannotCarryError):
        operator.output(node, [channels(5, axis)], None)
    # A wish that cannot be absorbed is not taken, and the readers have to cope.
    assert operator.output(node, [ONE], channels(5, axis)) == ONE


def test_what_can_be_converted_is_not_refused():
    for model, *_ in LAYERS.values():
        assert linear_refusal(model) is None


def test_refuses_weights_computed_at_run_time():
    net = Net({"x": ["N", 2, 5, 5], "b": [3]})
    weight = net.constant(W(3, 2, 3, 3))
    assert_not_linear(net.model(net.op("Conv", "x", weight, "b")), "computed at run time")


def test_refuses_a_gemm_that_moves_the_batch():
    net = Net({"x": ["N", 4]})
    weight = net.constant(W(4, 6))
    assert_not_linear(net.model(net.op("Gemm", "x", weight, transA=1), check=False), "transA")


def test_refuses_a_bias_per_sample():
    net = Net({"x": ["N", 4]})
    assert_not_linear(net.model(net.gemm("x", W(4, 6), W(3, 6))), "sample")


class TestMatMulRefuses:
    @staticmethod
    def _product(features, weight, first=False):
        net = Net({"x": ["N", *features]})
        pair = [net.constant(weight), "x"] if first else ["x", net.constant(weight)]
        return net.model(net.op("MatMul", *pair), check=False)

    def test_products_of_two_activations(self):
        net = Net({"x": ["N", 3, 4], "w": ["N", 4, 6]})
        assert_not_linear(net.model(net.op("MatMul", "x", "w")), "two activations")

    def test_weights_that_mix_samples(self):
        assert_not_linear(self._product([4], W(3, 3), first=True), "batch axis")

    def test_a_vector(self):
        assert_not_linear(self._product([5, 4], W(4)), "not a matrix")

    @pytest.mark.parametrize("first", [False, True])
    @pytest.mark.parametrize("stack", [(3,), (1, 1), (3, 1)])
    def test_a_stack_along_the_batch(self, stack, first):
        assert_not_linear(self._product([4, 4], W(*stack, 4, 4), first), "batch axis of their own")


def test_refuses_a_matmul_without_a_batch():
    x, y = gs.Variable("x", np.float32, ["N"]), gs.Variable("y", np.float32, [6])
    node = gs.Node("MatMul", "m", inputs=[x, gs.Constant("w", W(4, 6))], outputs=[y])
    assert "no batch axis" in OPERATORS["MatMul"].refusal(node).reason
