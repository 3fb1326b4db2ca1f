import numpy as np
import pytest

from algebra import assert_refused, channels, refusal_of, rescale
from nets import Gaussian, Net
from onnx_snn.load import load_graph
from onnx_snn.operators import CannotCarryError, operator_of
from onnx_snn.scale import ONE, Scale

W = Gaussian(7)


def _conv(dims, inputs, outputs, groups=1, op="conv", bias=True):
    net = Net({"x": ["N", inputs, *[5] * dims]})
    rows = (inputs, outputs // groups) if op == "conv_transpose" else (outputs, inputs // groups)
    weight = W(*rows, *[3] * dims)
    return net.model(getattr(net, op)("x", weight, W(outputs) if bias else None, group=groups))


def _gemm(bias=None, **attributes):
    net = Net({"x": ["N", 4]})
    weight = W(6, 4) if attributes.get("transB") else W(4, 6)
    return net.model(net.gemm("x", weight, bias, **attributes))


def _matmul(*features):
    net = Net({"x": ["N", *features]})
    return net.model(net.matmul("x", W(features[-1], 6)))


# name: (model, input channels, output channels, channel axis)
LAYERS = {
    "conv 1-D": (_conv(1, 4, 6), 4, 6, 1),
    "conv 2-D": (_conv(2, 4, 6), 4, 6, 1),
    "conv 2-D without bias": (_conv(2, 4, 6, bias=False), 4, 6, 1),
    "conv 3-D": (_conv(3, 4, 6), 4, 6, 1),
    "conv in groups": (_conv(2, 4, 6, groups=2), 4, 6, 1),
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
    before = [tensor.values for tensor in node.inputs[1:]]
    operator_of(node).apply(node, [ONE], ONE)
    assert all(a is b.values for a, b in zip(before, node.inputs[1:], strict=True))


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
        assert refusal_of(model) is None


def test_refuses_weights_computed_at_run_time():
    net = Net({"x": ["N", 4], "w": [4, 6]})
    assert_refused(net.model(net.op("MatMul", "x", "w")), "computed at run time")
    net = Net({"x": ["N", 2, 5, 5], "b": [3]})
    weight = net.constant(W(3, 2, 3, 3))
    assert_refused(net.model(net.op("Conv", "x", weight, "b")), "computed at run time")


def test_refuses_constants_times_activations():
    net = Net({"x": ["N", 4]})
    assert_refused(net.model(net.op("MatMul", net.constant(W(3, 3)), "x"), check=False), "run time")


def test_refuses_a_gemm_that_moves_the_batch():
    net = Net({"x": ["N", 4]})
    weight = net.constant(W(4, 6))
    assert_refused(net.model(net.op("Gemm", "x", weight, transA=1), check=False), "transA")


def test_refuses_a_bias_per_sample():
    net = Net({"x": ["N", 4]})
    assert_refused(net.model(net.gemm("x", W(4, 6), W(3, 6))), "sample")


def test_refuses_a_matmul_that_is_not_a_matrix():
    net = Net({"x": ["N", 2, 5, 4]})
    assert_refused(net.model(net.matmul("x", W(2, 4, 6))), "not a matrix")


def test_refuses_a_matmul_without_a_batch():
    net = Net({"x": [4]})
    assert_refused(net.model(net.matmul("x", W(4, 6))), "no batch axis")
