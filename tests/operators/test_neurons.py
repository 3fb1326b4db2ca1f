import re

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from onnx import TensorProto

from algebra import only_node
from nets import Net
from onnx_snn.operators import Kind, operator_of
from onnx_snn.operators.neurons import (
    Abs,
    Clip,
    ConstantExtremum,
    HardSigmoid,
    Interval,
    LeakyRelu,
    PRelu,
    Relu,
)

OPERATORS = {
    "Abs": Abs(),
    "Clip": Clip(),
    "HardSigmoid": HardSigmoid(),
    "LeakyRelu": LeakyRelu(),
    "Max": ConstantExtremum(),
    "Min": ConstantExtremum(),
    "PRelu": PRelu(),
    "Relu": Relu(),
}


def _node(op, *constants, shape=("N", 4, 5), elem_type=TensorProto.FLOAT, **attributes):
    """``op(x, constants…)`` where None leaves an input out."""
    net = Net({"x": shape}, elem_type)
    inputs = ["" if c is None else net.constant(c, np.float32) for c in constants]
    return only_node(net.model(net.op(op, "x", *inputs, **attributes)))


def _refusal(node):
    return OPERATORS[node.op].refusal(node)


def _assert_refused(node, reason):
    refusal = _refusal(node)
    assert refusal is not None
    assert reason in refusal.reason
    assert refusal.remedy


CHANNELS = np.float32([[1], [2], [3], [4]])

NODES = {
    "Relu": ("Relu", [], {}),
    "Clip": ("Clip", [0, 6], {}),
    "Clip below": ("Clip", [-1], {}),
    "Clip above": ("Clip", [None, 6], {}),
    "Max": ("Max", [0], {}),
    "Max per channel": ("Max", [CHANNELS], {}),
    "Min": ("Min", [6], {}),
    "Min of several": ("Min", [6, CHANNELS], {}),
    "LeakyRelu": ("LeakyRelu", [], {"alpha": 0.1}),
    "PRelu": ("PRelu", [0.25], {}),
    "PRelu per channel": ("PRelu", [CHANNELS], {}),
    "Abs": ("Abs", [], {}),
    "HardSigmoid": ("HardSigmoid", [], {}),
}


@pytest.mark.parametrize("name", NODES)
def test_what_spikes(name):
    op, constants, attributes = NODES[name]
    node = _node(op, *constants, **attributes)
    assert _refusal(node) is None
    operator = operator_of(node)
    assert type(operator) is type(OPERATORS[op])
    assert operator.kind is Kind.SPIKING
    assert "neurons" in operator.reason_of(node)


@pytest.mark.parametrize("name", NODES)
def test_they_have_no_wish_for_their_input(name):
    # Their own threshold decides, which normalise knows.
    op, constants, attributes = NODES[name]
    node = _node(op, *constants, **attributes)
    assert OPERATORS[op].wish(node, None) == [None]


@pytest.mark.parametrize("op", ["Relu", "Abs", "LeakyRelu", "HardSigmoid"])
def test_one_number_per_sample_has_a_batch_axis_and_a_constant_has_none(op):
    assert _refusal(_node(op, shape=("N",))) is None
    _assert_refused(_node(op, shape=()), "shape")


def test_thresholded_relu_does_not_spike():
    # It jumps at its threshold, which no rate does.
    assert operator_of(_node("ThresholdedRelu")).kind is not Kind.SPIKING


def test_extrema_of_two_activations_do_not_spike():
    net = Net({"a": ["N", 4], "b": ["N", 4]})
    node = only_node(net.model(net.op("Max", "a", "b")))
    assert operator_of(node).kind is not Kind.SPIKING
    _assert_refused(node, "compares activations")


@pytest.mark.parametrize(
    ("bounds", "low", "high"),
    [
        ([], -np.inf, np.inf),
        ([0], 0, np.inf),
        ([None, 6], -np.inf, 6),
        ([-1, 6], -1, 6),
        ([np.finfo(np.float32).min, np.finfo(np.float32).max], -np.inf, np.inf),
        ([-np.inf, np.inf], -np.inf, np.inf),
    ],
)
def test_interval_of_a_clip(bounds, low, high):
    interval = Clip().interval(_node("Clip", *bounds))
    assert (interval.low, interval.high) == (low, high)


@pytest.mark.parametrize(
    ("constants", "expected"),
    [([2], 2), ([2, -3], 2), ([np.full((4, 1), 3)], 3), ([CHANNELS, 2], [[2], [2], [3], [4]])],
    ids=str,
)
def test_interval_of_a_maximum(constants, expected):
    interval = ConstantExtremum().interval(_node("Max", *constants))
    np.testing.assert_array_equal(interval.low, np.asarray(expected), strict=False)
    assert np.shape(interval.low) == np.shape(expected)
    assert interval.high == np.inf


@pytest.mark.parametrize("inner", [(-2, 3), (0, np.inf), (-np.inf, 1), (5, 6)])
@pytest.mark.parametrize("outer", [(-1, 4), (0, np.inf), (-np.inf, -1), (2, 3)])
def test_intervals_in_a_row(inner, outer):
    x = np.linspace(-10, 10, 81)
    first, second = (Interval(*(np.float64(bound) for bound in i)) for i in (inner, outer))
    both = first.then(second)
    expected = np.minimum(
        np.maximum(np.minimum(np.maximum(x, inner[0]), inner[1]), outer[0]), outer[1]
    )
    np.testing.assert_array_equal(np.minimum(np.maximum(x, both.low), both.high), expected)
    assert both.is_constant == (np.unique(expected).size == 1)


class TestRefusals:
    @pytest.mark.parametrize("bounds", [(1, 1), (2, 1), (0, 0), (np.inf, None), (None, -np.inf)])
    def test_bounds_that_leave_nothing_between_them(self, bounds):
        _assert_refused(_node("Clip", *bounds), "constant")

    @pytest.mark.parametrize("bounds", [(), (-np.inf, np.inf)])
    def test_no_bounds(self, bounds):
        _assert_refused(_node("Clip", *bounds), "no bounds")

    def test_no_bounds_for_some_channels(self):
        _assert_refused(_node("Min", np.float32([[1], [np.inf], [1], [1]])), "some channels")

    @pytest.mark.parametrize("bounds", [(np.nan, 1), (0, np.nan)])
    def test_nan_as_a_bound(self, bounds):
        _assert_refused(_node("Clip", *bounds), "NaN")
        _assert_refused(_node("Max", np.float32(np.nan)), "NaN")

    def test_bounds_computed_at_run_time(self):
        x, bound, y = (
            gs.Variable(n, np.float32, s) for n, s in (("x", ["N", 4]), ("b", []), ("y", ["N", 4]))
        )
        node = gs.Node("Clip", "clip", inputs=[x, bound], outputs=[y])
        _assert_refused(node, "run time")
        node.inputs = [gs.Constant("c", np.zeros((1, 4), np.float32)), bound]
        _assert_refused(node, "input is constant")

    def test_constants_alone(self):
        parts = [gs.Constant(name, np.ones((1, 4), np.float32)) for name in "ab"]
        node = gs.Node("Max", "max", inputs=parts, outputs=[gs.Variable("y", np.float32, [1, 4])])
        _assert_refused(node, "constant")

    @pytest.mark.parametrize("op", ["Max", "Min"])
    def test_constants_with_a_batch_of_their_own(self, op):
        _assert_refused(_node(op, np.ones((3, 4, 5)) * [1, 2, 3, 4, 5]), "batch axis of its own")

    def test_constants_that_repeat_the_activation(self):
        _assert_refused(_node("Max", CHANNELS, shape=("N", 1, 5)), "more entries")

    def test_integers(self):
        _assert_refused(_node("Abs", elem_type=TensorProto.INT32), "floating-point")
        _assert_refused(_node("Relu", elem_type=TensorProto.INT32), "floating-point")
        net = Net({"x": ["N", 4]}, TensorProto.INT64)
        node = only_node(net.model(net.op("Clip", "x", net.constant(0, np.int64))))
        _assert_refused(node, "floating-point")

    def test_slopes_computed_at_run_time(self):
        net = Net({"x": ["N", 4], "slope": ["N", 4]})
        _assert_refused(only_node(net.model(net.op("PRelu", "x", "slope"))), "run time")

    @pytest.mark.parametrize("slope", [np.nan, np.inf])
    def test_slopes_that_are_not_finite(self, slope):
        _assert_refused(_node("PRelu", slope), "not finite")
        _assert_refused(_node("LeakyRelu", alpha=slope), "not finite")
        _assert_refused(_node("HardSigmoid", alpha=slope), "not finite")

    def test_slopes_with_a_batch_of_their_own(self):
        _assert_refused(_node("PRelu", np.ones((3, 4, 5)), shape=(3, 4, 5)), "batch axis")


class TestReasons:
    @pytest.mark.parametrize(
        ("op", "constants", "reason"),
        [
            ("Relu", [], "integrate-and-fire"),
            ("Max", [0], "integrate-and-fire"),
            ("PRelu", [0], "integrate-and-fire"),
            ("Clip", [0, 6], "capped at 6"),
            ("Clip", [-1, 1.5], "two populations of neurons, .*, capped at -1 … 1.5"),
            ("Clip", [1, 3], r"distance from a bound \(1 … 3\)"),
            ("Min", [6], r"distance from a bound \(-inf … 6\)"),
            ("Abs", [], "two populations"),
            ("PRelu", [0.5], "two populations"),
            ("HardSigmoid", [], "capped at 1"),
        ],
    )
    def test_say_what_becomes_of_the_node(self, op, constants, reason):
        node = _node(op, *constants)
        text = OPERATORS[op].reason_of(node)
        assert re.search(reason, text), text
