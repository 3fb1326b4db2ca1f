import numpy as np
import pytest

from algebra import channels, only_node, rescale
from laws import (
    assert_carried,
    assert_not_linear,
    before_neurons,
    behind_neurons,
    linear_refusal,
    normalised,
    run_time_integers,
)
from nets import Gaussian, Net
from onnx_snn.load import load_graph
from onnx_snn.operators import OPERATORS, CannotCarryError, operator_of
from onnx_snn.scale import Scale

W = Gaussian(9)
END = 2**63 - 1


def _net(shape, op, *constants, opset=18, check=True, **attributes):
    net = Net({"x": shape})
    inputs = ["" if values is None else net.constant(values) for values in constants]
    return net.model(net.op(op, "x", *inputs, **attributes), opset=opset, check=check)


def _ints(*values):
    return np.asarray(values, np.int64)


# name: (op, constants, attributes)
BOTH_WAYS = {
    "slice of pixels": ("Slice", [_ints(1), _ints(-1), _ints(2)], {}),
    "slice by steps": ("Slice", [_ints(0, 0), _ints(END, END), _ints(2, 3), _ints(2, 2)], {}),
    "slice of all axes": ("Slice", [_ints(0, 0, 1, 0), _ints(END, END, 5, END)], {}),
    "slice backward": ("Slice", [_ints(-1), _ints(-END), _ints(3), _ints(-1)], {}),
    "slice of channels": ("Slice", [_ints(1), _ints(3), _ints(1)], {}),
    "slice of the last channels": ("Slice", [_ints(-2), _ints(100), _ints(-3)], {}),
    "channels backward": ("Slice", [_ints(END), _ints(-END), _ints(1), _ints(-2)], {}),
    "gather of channels": ("Gather", [_ints(3, 0, 2)], {"axis": 1}),
    "gather from the end": ("Gather", [_ints(-1, 0)], {"axis": -3}),
    "gather of pixels": ("Gather", [_ints(5, 5, 0)], {"axis": 2}),
    "gather of one row": ("Gather", [np.int64(2)], {"axis": 2}),
    "gather in two axes": ("Gather", [_ints(5, 5, 0, 1).reshape(2, 2)], {"axis": 2}),
    "tile of pixels": ("Tile", [_ints(1, 1, 2, 3)], {}),
    "pad with zeros": ("Pad", [_ints(0, 0, 1, 2, 0, 0, 0, 1)], {}),
    "pad of channels": ("Pad", [_ints(0, 1, 0, 0, 0, 2, 0, 0)], {}),
    "pad of named channels": ("Pad", [_ints(1, 2), None, _ints(-3)], {}),
    "pad that crops channels": ("Pad", [_ints(0, -1, 0, 0, 0, 1, 0, 0)], {}),
    "pad of pixels by reflection": ("Pad", [_ints(0, 0, 2, 1, 0, 0, 1, 2)], {"mode": "reflect"}),
}  # fmt: skip


@pytest.mark.parametrize("name", BOTH_WAYS)
class TestChannels:
    def test_are_carried_to_the_next_layer(self, name):
        op, constants, attributes = BOTH_WAYS[name]
        assert_carried(behind_neurons(op, *constants, **attributes))

    def test_are_wanted_from_the_layer_before(self, name):
        op, constants, attributes = BOTH_WAYS[name]
        assert_carried(before_neurons(op, *constants, **attributes))

    def test_need_not_be_told_apart(self, name):
        op, constants, attributes = BOTH_WAYS[name]
        graph, _ = normalised(behind_neurons(op, *constants, **attributes), per_channel=False)
        assert "Mul" not in [node.op for node in graph.nodes]


# Entries of several channels, or several of one: carried forward, but a wish may contradict itself.
FORWARD = {
    "gather of one channel twice": ("Gather", [_ints(3, 3, 0)], {"axis": 1}),
    "one channel": ("Gather", [np.int64(2)], {"axis": 1}),
    "tile of channels": ("Tile", [_ints(1, 3, 1, 1)], {}),
    "pad of channels by their edge": ("Pad", [_ints(0, 1, 0, 0, 0, 2, 0, 0)], {"mode": "edge"}),
    "pad of channels around": ("Pad", [_ints(0, 1, 0, 0, 0, 2, 0, 0)], {"mode": "reflect"}),
    "pixels to channels": ("SpaceToDepth", [], {"blocksize": 2}),
}


@pytest.mark.parametrize("name", FORWARD)
def test_repeated_channels_are_carried_forward(name):
    op, constants, attributes = FORWARD[name]
    assert_carried(behind_neurons(op, *constants, **attributes))


@pytest.mark.parametrize("name", FORWARD)
@pytest.mark.parametrize("per_channel", [False, True])
def test_a_wish_that_contradicts_itself_costs_a_synapse_at_most(name, per_channel):
    op, constants, attributes = FORWARD[name]
    normalised(before_neurons(op, *constants, **attributes), per_channel)


def test_padding_around_carries_channels():
    pad = _net(["N", 4, 6], "Pad", _ints(0, 1, 0, 0, 2, 0), opset=19, mode="wrap")
    scale = channels(4)
    out = operator_of(only_node(pad)).output(only_node(pad), [scale], None)
    np.testing.assert_array_equal(out.values, np.pad(scale.values, (1, 2), mode="wrap"))


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
class TestDepthToSpace:
    def test_wishes_for_pixels_reach_their_channels(self, mode):
        assert_carried(before_neurons("DepthToSpace", channels=12, blocksize=2, mode=mode))

    def test_channels_that_become_pixels_need_one_scale(self, mode):
        model = behind_neurons("DepthToSpace", channels=12, blocksize=2, mode=mode)
        _, (scale,) = normalised(model, per_channel=True)
        assert scale.is_scalar

    def test_equal_scales_of_the_pixels_of_a_channel_are_carried(self, mode):
        model = _net(["N", 8, 3, 3], "DepthToSpace", blocksize=2, mode=mode)
        first, second = 0.7, 3.0
        block = [first] * 4 + [second] * 4 if mode == "CRD" else [first, second] * 4
        assert rescale(model, [Scale.of(block)]) == Scale.of([first, second])


def test_a_shuffle_of_channels_carries_their_scales():
    net = Net({"x": ["N", 3, 4, 4]})
    y = net.relu(net.conv("x", W(6, 3, 1, 1)))
    y = net.op("Reshape", y, net.constant(_ints(0, 2, 3, 4, 4)))
    y = net.op("Transpose", y, perm=[0, 2, 1, 3, 4])
    y = net.op("Reshape", y, net.constant(_ints(0, 6, 4, 4)))
    model = net.model(net.conv(y, W(2, 3, 1, 1), group=2))
    graph, (scale,) = normalised(model, per_channel=True)
    assert not scale.is_scalar
    assert "Mul" not in {node.op for node in graph.nodes}


class TestExpand:
    # x [N, 4, 1] → [N, 4, 5]: channels survive; [N, 1, 4] → [N, 3, 4]: as many as there are copies.
    @pytest.mark.parametrize("target", [_ints(1, 4, 5), _ints(4, 5), _ints(1, 1, 5)])
    def test_repeats_pixels(self, target):
        model = _net(["N", 4, 1], "Expand", target)
        assert linear_refusal(model) is None
        assert rescale(model, [channels(4)]) == channels(4)

    def test_repeats_a_channel(self):
        model = _net(["N", 1, 4], "Expand", _ints(1, 3, 1))
        assert linear_refusal(model) is None
        assert rescale(model, [Scale.of([0.7])]) == Scale.of([0.7] * 3)

    @pytest.mark.parametrize("target", [_ints(3, 1, 1), _ints(1, 1, 4, 1)])
    def test_of_the_batch_is_refused(self, target):
        assert_not_linear(_net(["N", 4, 1], "Expand", target, check=False), "batch")


BATCH_MIXERS = {
    "slice": _net(["N", 4], "Slice", _ints(0), _ints(1), _ints(0)),
    "slice from 1": _net(["N", 4], "Slice", _ints(1, 0), _ints(END, END)),
    "flip": _net(["N", 4], "Slice", _ints(-1), _ints(-END), _ints(0), _ints(-1)),
    "gather": _net(["N", 4], "Gather", _ints(0, 1)),
    "one sample": _net(["N", 4], "Gather", np.int64(0), axis=-2),
    "tile": _net(["N", 4], "Tile", _ints(2, 1)),
    "pad": _net(["N", 4], "Pad", _ints(0, 0, 1, 0)),
}


@pytest.mark.parametrize("name", BATCH_MIXERS)
def test_refuses_what_mixes_samples(name):
    assert_not_linear(BATCH_MIXERS[name], "mixes the batch axis")


@pytest.mark.parametrize(
    ("op", "count", "reason"),
    [("Slice", 2, "bounds"), ("Gather", 1, "indices"), ("Tile", 1, "repeats"),
     ("Expand", 1, "target shape"), ("Pad", 1, "amount")],
)  # fmt: skip
def test_refuses_parameters_computed_at_run_time(op, count, reason):
    net = Net({"x": ["N", 4], "p": ["N", 2]})
    index = run_time_integers(net, "p")
    attributes = {"axis": 1} if op == "Gather" else {}
    node = load_graph(net.model(net.op(op, "x", *[index] * count, **attributes))).nodes[-1]
    refusal = OPERATORS[node.op].refusal(node)
    assert reason in refusal.reason
    assert "run time" in refusal.reason
    assert refusal.remedy


def test_refuses_axes_of_a_slice_computed_at_run_time():
    net = Net({"x": ["N", 4], "p": ["N", 2]})
    bounds = [net.constant(_ints(0, 0)), net.constant(_ints(2, 2))]
    y = net.op("Slice", "x", *bounds, run_time_integers(net, "p"))
    assert_not_linear(net.model(y, check=False), "axes")


def test_entries_picked_in_two_axes_have_no_channels():
    node = only_node(_net(["N", 4, 3], "Gather", _ints(0, 1, 2, 3).reshape(2, 2), axis=1))
    operator = operator_of(node)
    with pytest.raises(CannotCarryError):
        operator.output(node, [channels(4)], None)
    assert operator.wish(node, channels(2)) == [None]
    assert operator.output(node, [channels(3, 2)], None) == channels(3, 3)


def test_pixels_of_any_number():
    model = _net(["N", 4, "H", "W"], "Slice", _ints(1), _ints(-1), _ints(2))
    node = only_node(model)
    assert linear_refusal(model) is None
    assert operator_of(node).output(node, [channels(4)], None) == channels(4)
