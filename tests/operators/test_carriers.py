import numpy as np
import pytest
from onnx import TensorProto

from algebra import assert_wish_holds, channels, only_node, rescale
from laws import (
    assert_carried,
    assert_not_linear,
    before_neurons,
    behind_neurons,
    linear_refusal,
    run_time_integers,
)
from nets import Gaussian, Net
from onnx_snn.load import load_graph
from onnx_snn.operators import OPERATORS, CannotCarryError, Kind, operator_of
from onnx_snn.scale import Scale


def _net(op, shape, *constants, opset=18, **attributes):
    net = Net({"x": shape})
    inputs = ["" if values is None else net.constant(values, np.int64) for values in constants]
    return net.model(net.op(op, "x", *inputs, **attributes), opset=opset)


IMAGE = ["N", 4, 6, 6]
# name: (model, axis of the channels, where they go)
CARRIES = {
    "average pool": (_net("AveragePool", IMAGE, kernel_shape=[2, 2]), 1, 1),
    "global pool": (_net("GlobalAveragePool", IMAGE), 1, 1),
    "global pool 1-D": (_net("GlobalAveragePool", IMAGE[:3]), 1, 1),
    "pad": (_net("Pad", IMAGE, [0, 0, 1, 2, 0, 0, 0, 1]), 1, 1),
    "pad with axes": (_net("Pad", IMAGE, [1, 2], None, [2]), 1, 1),
    "pad with the edge": (_net("Pad", IMAGE, [0, 0, 1, 1, 0, 0, 1, 1], mode="edge"), 1, 1),
    "mean": (_net("ReduceMean", IMAGE, [2, 3], keepdims=0), 1, 1),
    "mean, axes kept": (_net("ReduceMean", IMAGE, [-1, -2]), 1, 1),
    "sum": (_net("ReduceSum", IMAGE, [2], keepdims=0), 1, 1),
    "sum, axes kept": (_net("ReduceSum", IMAGE, [-1, -2]), 1, 1),
    "negation": (_net("Neg", IMAGE), 1, 1),
    "average pool, ceil": (
        _net("AveragePool", IMAGE, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
        1,
        1,
    ),
    "average pool, padded": (
        _net("AveragePool", IMAGE, kernel_shape=[3, 3], pads=[1] * 4, count_include_pad=1),
        1,
        1,
    ),
    "average pool, same": (
        _net("AveragePool", IMAGE, kernel_shape=[3, 3], auto_pad="SAME_UPPER"),
        1,
        1,
    ),
    "average pool, dilated": (
        _net("AveragePool", IMAGE, opset=19, kernel_shape=[2, 2], dilations=[2, 2]),
        1,
        1,
    ),
    "mean over channels first": (_net("ReduceMean", IMAGE, [1], keepdims=0), 2, 1),
    "transpose": (_net("Transpose", IMAGE, perm=[0, 2, 3, 1]), 1, 3),
    "transpose back": (_net("Transpose", ["N", 6, 6, 4], perm=[0, 3, 1, 2]), 3, 1),
    "flatten to itself": (_net("Flatten", ["N", 4]), 1, 1),
    "flatten of pixels": (_net("Flatten", ["N", 4, 1, 1]), 1, 1),
    "flatten by negative axis": (_net("Flatten", ["N", 4, 1], axis=-2), 1, 1),
    "reshape": (_net("Reshape", IMAGE, [0, 4, 36]), 1, 1),
    "reshape of the rest": (_net("Reshape", ["N", 6, 6, 4], [0, -1, 4]), 3, 2),
    "squeeze": (_net("Squeeze", ["N", 4, 1, 6], [2]), 1, 1),
    "squeeze in front": (_net("Squeeze", ["N", 1, 4], [1]), 2, 1),
    "unsqueeze": (_net("Unsqueeze", ["N", 4], [2, 3]), 1, 1),
    "unsqueeze in front": (_net("Unsqueeze", ["N", 4], [1]), 1, 2),
}


@pytest.mark.parametrize("name", CARRIES)
def test_carries_channels_along(name):
    model, source, target = CARRIES[name]
    assert linear_refusal(model) is None
    count = only_node(model).inputs[0].shape[source]
    scale = channels(count, source)
    assert rescale(model, [scale]) == Scale(scale.values, target)
    assert_wish_holds(model, Scale(scale.values, target))


@pytest.mark.parametrize("name", CARRIES)
def test_carries_a_scalar_anywhere(name):
    model = CARRIES[name][0]
    assert rescale(model, [Scale.of(3.0)]) == Scale.of(3.0)
    assert_wish_holds(model, Scale.of(0.3))


def test_flatten_spreads_a_channel_over_its_pixels():
    scale = channels(4)
    out = rescale(_net("Flatten", ["N", 4, 3, 2]), [scale])
    assert out == Scale(np.repeat(scale.values, 6), 1)


@pytest.mark.parametrize(
    ("model", "axis"),
    [
        (_net("AveragePool", IMAGE, kernel_shape=[2, 2]), 2),
        (_net("ReduceMean", IMAGE, [1]), 1),
        (_net("Reshape", ["N", 2, 3], [0, 3, 2]), 1),
    ],
    ids=["pool along the channels", "mean of channels", "mixed by reshape"],
)
def test_channels_that_cannot_be_carried(model, axis):
    node = only_node(model)
    count = node.inputs[0].shape[axis]
    with pytest.raises(CannotCarryError):
        operator_of(node).output(node, [channels(count, axis)], None)


def test_a_wish_for_what_a_mean_has_lost():
    node = only_node(_net("ReduceMean", IMAGE, [1]))
    assert operator_of(node).wish(node, channels(1)) == [None]


def test_averages_are_reported_as_pooling():
    assert operator_of(only_node(CARRIES["average pool"][0])).kind is Kind.POOLING
    assert operator_of(only_node(CARRIES["mean"][0])).kind is Kind.POOLING
    assert operator_of(only_node(CARRIES["pad"][0])).kind is Kind.LINEAR
    assert operator_of(only_node(CARRIES["sum"][0])).kind is Kind.LINEAR


BATCH_MIXERS = {
    "transpose": _net("Transpose", ["N", 4], perm=[1, 0]),
    "default transpose": _net("Transpose", ["N", 4]),
    "flatten": _net("Flatten", IMAGE, axis=0),
    "flatten by axis 2": _net("Flatten", IMAGE, axis=2),
    "reshape": _net("Reshape", ["N", 4], [4, -1]),
    "reshape into the batch": _net("Reshape", ["N", 4], [-1, 2]),
    "mean": _net("ReduceMean", IMAGE, [0]),
    "sum of everything": _net("ReduceSum", IMAGE),
    "mean of everything": _net("ReduceMean", IMAGE),
    "pad": _net("Pad", ["N", 4], [1, 0, 0, 0]),
    "unsqueeze": _net("Unsqueeze", ["N", 4], [0]),
}


@pytest.mark.parametrize("name", BATCH_MIXERS)
def test_refuses_what_mixes_samples(name):
    assert_not_linear(BATCH_MIXERS[name], "mixes the batch axis")


def test_mean_over_no_axes_is_not_a_mean_over_all():
    # By the operator alone: old releases of onnxruntime cannot run this node.
    model = _net("ReduceMean", IMAGE, noop_with_empty_axes=1)
    assert linear_refusal(model) is None
    node = only_node(model)
    assert operator_of(node).output(node, [channels(4)], None) == channels(4)


def test_refuses_padding_with_ones():
    net = Net({"x": ["N", 4]})
    pads, one = net.constant([0, 1, 0, 1], np.int64), net.constant(np.float32(1))
    assert_not_linear(net.model(net.op("Pad", "x", pads, one)), "other than 0")


@pytest.mark.parametrize(
    ("op", "reason"),
    [("Pad", "amount"), ("Unsqueeze", "target"), ("ReduceMean", "axes"), ("ReduceSum", "axes")],
)
def test_refuses_shapes_computed_at_run_time(op, reason):
    net = Net({"x": ["N", 4], "p": ["N", 2]})
    model = net.model(net.op(op, "x", run_time_integers(net, "p")), check=False)
    node = load_graph(model).nodes[-1]
    refusal = OPERATORS[node.op].refusal(node)
    assert reason in refusal.reason
    assert "run time" in refusal.reason
    assert refusal.remedy


def test_refuses_data_that_are_constant():
    net = Net({"x": ["N", 2]})
    index = net.op("Cast", "x", to=TensorProto.INT64)
    table = net.constant(np.ones((5, 3), np.float32))
    node = load_graph(net.model(net.op("Gather", table, index))).nodes[-1]
    assert "constant" in OPERATORS[node.op].refusal(node).reason


class TestCast:
    @pytest.mark.parametrize("target", [TensorProto.FLOAT16, TensorProto.DOUBLE])
    def test_between_floating_point_types_every_value_stays(self, target):
        node = only_node(_net("Cast", IMAGE, to=target))
        operator = operator_of(node)
        assert operator.refusal(node) is None
        assert operator.output(node, [channels(4)], None) == channels(4)
        assert operator.wish(node, channels(4)) == [channels(4)]

    @pytest.mark.parametrize("target", [TensorProto.INT32, TensorProto.BOOL])
    def test_to_other_types_is_refused(self, target):
        assert_not_linear(_net("Cast", IMAGE, to=target), "not linear")

    def test_from_another_type_is_refused(self):
        net = Net({"x": ["N", 4]}, TensorProto.UINT8)
        assert_not_linear(net.model(net.op("Cast", "x", to=TensorProto.FLOAT)), "not linear")


# name: (op, constants, attributes)
LAYERS = {
    "negation": ("Neg", [], {}),
    "sum": ("ReduceSum", [np.asarray([2])], {"keepdims": 0}),
    "mean": ("ReduceMean", [np.asarray([-1])], {}),
    "pool, ceil": ("AveragePool", [], {"kernel_shape": [4, 4], "strides": [3, 3], "ceil_mode": 1}),
    "pool, padded": ("AveragePool", [], {"kernel_shape": [3, 3], "pads": [1, 0, 1, 2]}),
    "pool, same": ("AveragePool", [], {"kernel_shape": [2, 2], "auto_pad": "SAME_LOWER"}),
    "global pool": ("GlobalAveragePool", [], {}),
}


@pytest.mark.parametrize("build", [behind_neurons, before_neurons])
@pytest.mark.parametrize("name", LAYERS)
def test_channels_survive_between_layers(name, build):
    op, constants, attributes = LAYERS[name]
    assert_carried(build(op, *constants, **attributes))


def test_channels_survive_a_cast_and_back():
    net, weights = Net({"x": ["N", 3, 6, 6]}), Gaussian(5)
    y = net.relu(net.conv("x", weights(4, 3, 1, 1)))
    y = net.op("AveragePool", net.op("Cast", y, to=TensorProto.FLOAT16), kernel_shape=[1, 1])
    y = net.op("Cast", y, to=TensorProto.FLOAT)
    assert_carried(net.model(net.conv(y, weights(2, 4, 1, 1))))


@pytest.mark.parametrize("op", ["LpPool", "GlobalLpPool"])
def test_other_pooling_is_not_linear(op):
    assert op not in OPERATORS
