import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loading import loaded, ops, sample
from nets import Dyadic, Net

LAST, FIRST = [0, 2, 3, 1], [0, 3, 1, 2]  # channels last, channels first
X = sample(3, 2, 4, 5)
weights = Dyadic(1)


class TestJoin:
    @pytest.mark.parametrize("other_readers", [False, True])
    def test_two_that_cancel_go(self, other_readers):
        net = Net({"x": ["N", 2, 3, 4]})
        inner = net.op("Transpose", net.relu("x"), perm=[0, 2, 3, 1])
        outputs = {"y": net.relu(net.op("Transpose", inner, perm=[0, 3, 1, 2]))}
        if other_readers:
            outputs["z"] = inner
        graph = loaded(net.model(outputs), x=sample(2, 2, 3, 4))
        assert ops(graph).count("Transpose") == other_readers

    @settings(max_examples=20, deadline=None)
    @given(st.lists(st.permutations([1, 2, 3]), max_size=4))
    def test_any_chain_becomes_one_or_none(self, perms):
        net = Net({"x": ["N", 2, 3, 4]})
        y, expected = net.relu("x"), np.arange(4)
        for perm in perms:
            y = net.op("Transpose", y, perm=[0, *perm])
            expected = expected[[0, *perm]]
        graph = loaded(net.model(net.relu(y)), x=sample(2, 2, 3, 4))
        idle = list(expected) == [0, 1, 2, 3]
        assert ops(graph) == ["Relu", *([] if idle else ["Transpose"]), "Relu"]

    def test_one_without_an_order_reverses_the_axes(self):
        net = Net({"x": ["N", 2]})
        y = net.op("Transpose", net.op("Transpose", "x"), perm=[1, 0])
        loaded(net.model(net.relu(y)), x=sample(3, 2))


def _convolved(net, channels=3):
    return net.conv("x", weights(channels, 2, 1, 1), weights(channels))


def _last(net, x):
    return net.op("Transpose", x, perm=LAST)


def _first(net, x):
    return net.op("Transpose", x, perm=FIRST)


class TestSink:
    """Transposes behind a convolution go on until they meet another."""

    @pytest.mark.parametrize(
        "function",
        [
            lambda net, t: net.relu(t),
            lambda net, t: net.op(
                "Clip", t, net.constant(0, np.float32), net.constant(6, np.float32)
            ),
            lambda net, t: net.op("Clip", t, "", net.constant(1, np.float32)),
            lambda net, t: net.op("Min", net.constant(weights(3)), net.relu(t)),
            lambda net, t: net.op("Add", t, net.constant(weights(4, 5, 3))),
            lambda net, t: net.op("Mul", t, net.constant(weights(1, 1, 5, 1))),
            lambda net, t: net.op("PRelu", t, net.constant(weights(3))),
            lambda net, t: net.op("Mul", t, net.op("Sigmoid", t)),
        ],
        ids=["relu", "clip", "cap", "min", "add", "mul", "prelu", "silu"],
    )
    def test_behind_functions_of_each_value(self, function):
        net = Net({"x": ["N", 2, 4, 5]})
        y = _first(net, function(net, _last(net, _convolved(net))))
        graph = loaded(net.model(net.relu(y)), x=X)
        assert "Transpose" not in ops(graph)
        assert graph.nodes[-1].inputs[0].shape == ["N", 3, 4, 5]

    def test_of_two_branches_that_meet(self):
        net = Net({"x": ["N", 2, 4, 5]})
        a, b = (_last(net, net.relu(_convolved(net))) for _ in range(2))
        joined = net.op("Concat", net.op("Add", a, b), b, axis=-1)
        graph = loaded(net.model(_first(net, net.relu(joined))), x=X)
        assert "Transpose" not in ops(graph)
        assert graph.nodes[-1].inputs[0].shape == ["N", 6, 4, 5]

    @pytest.mark.parametrize("keepdims", [0, 1])
    @pytest.mark.parametrize(
        ("axes", "left"), [([1, 2], 0), ([-1], 0), ([-2], 1), ([1, 2, 3], 0)], ids=str
    )
    def test_behind_a_reduction(self, axes, left, keepdims):
        net = Net({"x": ["N", 2, 4, 5]})
        hidden = _last(net, net.relu(_convolved(net)))
        y = net.op("ReduceMax", hidden, net.constant(axes), keepdims=keepdims)
        graph = loaded(net.model(net.relu(y)), x=X)
        if keepdims:
            assert ops(graph) == ["Conv", "Relu", "ReduceMax", "Relu", "Transpose"]
        else:
            assert ops(graph).count("Transpose") == left

    def test_other_readers_and_outputs_keep_what_they_read(self):
        net = Net({"x": ["N", 2, 4, 5]})
        last = _last(net, _convolved(net))
        hidden = net.relu(last)
        outputs = {"last": last, "hidden": hidden, "soft": net.op("Softmax", hidden)}
        graph = loaded(net.model({**outputs, "y": _first(net, hidden)}), x=X)
        relu = next(node for node in graph.nodes if node.op == "Relu")
        assert relu.inputs[0].inputs[0].op == "Conv"

    def test_a_constant_that_others_read_is_left_to_them(self):
        net = Net({"x": ["N", 2, 2, 2]})
        shared = net.constant(weights(2, 2, 2))
        y = net.op("Add", _last(net, _convolved(net, channels=2)), shared)
        loaded(net.model({"y": y, "z": net.op("Add", "x", shared)}), x=sample(3, 2, 2, 2))

    def test_behind_a_layer_with_channels_last_they_stay(self):
        net = Net({"x": ["N", 4, 3]})
        y = net.op("Transpose", net.matmul("x", weights(3, 5)), perm=[0, 2, 1])
        y = net.relu(net.conv(net.relu(y), weights(2, 5, 1)))
        assert ops(loaded(net.model(y), x=sample(2, 4, 3))) == [
            *("MatMul", "Transpose", "Relu", "Conv", "Relu")
        ]

    @pytest.mark.parametrize("other", ["input", "order"])
    def test_unless_all_inputs_come_from_the_same_they_stay(self, other):
        net = Net({"x": ["N", 2, 4, 4]})
        first = _last(net, _convolved(net, 4))
        second = (
            _convolved(net, 4)
            if other == "input"
            else net.op("Transpose", _convolved(net, 4), perm=FIRST)
        )
        graph = loaded(net.model(net.relu(net.op("Add", first, second))), x=sample(2, 2, 4, 4))
        assert ops(graph)[-2:] == ["Add", "Relu"]

    def test_one_that_moves_the_batch_stays(self):
        net = Net({"x": ["N", 2, 4, 5]})
        y = net.op("Transpose", _convolved(net), perm=[1, 0, 2, 3])
        assert ops(loaded(net.model(net.relu(y)), x=X)) == ["Conv", "Transpose", "Relu"]

    def test_a_reduction_of_all_axes_or_of_none_stays(self):
        for noop in (0, 1):
            net = Net({"x": ["N", 2, 4, 5]})
            axes = net.constant([], np.int64)
            y = net.op("ReduceMax", _last(net, _convolved(net)), axes, noop_with_empty_axes=noop)
            loaded(net.model(net.relu(y)), x=X)

    @settings(max_examples=60, deadline=None)
    @given(st.data())
    def test_any_network_computes_the_same(self, data):
        net, weights = Net({"x": ["N", 3, 3, 3]}), Dyadic(2)
        start = [net.conv("x", weights(3, 3, 1, 1)) for _ in range(2)]
        tensors = [start[0], _last(net, start[1])]
        for _ in range(data.draw(st.integers(2, 10))):
            x, y = (data.draw(st.sampled_from(tensors)) for _ in range(2))
            kind = data.draw(st.sampled_from(["move", "relu", "add", "bias", "pool", "greatest"]))
            if kind == "move":
                x = net.op("Transpose", x, perm=[0, *data.draw(st.permutations([1, 2, 3]))])
            elif kind == "relu":
                x = net.relu(x)
            elif kind == "add":
                x = net.op("Add", x, y)
            elif kind == "bias":
                shape = data.draw(st.sampled_from([(3,), (3, 1), (1, 3, 1, 1), (3, 3, 3), (1,)]))
                x = net.op("Sub", net.constant(weights(*shape)), x)
            elif kind == "pool":
                x = net.op("AveragePool", x, kernel_shape=[1, 1])
            else:
                axis, kept = data.draw(st.sampled_from([1, 2, 3, -1, -2])), data.draw(st.booleans())
                joined = net.op("Concat", x, y, axis=axis)
                most = net.op("ReduceMax", joined, net.constant([axis]), keepdims=int(kept))
                x = net.op(
                    "Add", most if kept else net.op("Unsqueeze", most, net.constant([axis])), y
                )
            tensors.append(x)
        outputs = {"y": tensors[-1], "z": tensors[len(tensors) // 2]}
        loaded(net.model(outputs), x=Dyadic(3)(2, 3, 3, 3))
