import numpy as np
import onnx_graphsurgeon as gs
import pytest

from algebra import assert_close
from nets import Gaussian, Net, run
from onnx_snn.affine import Affine, affine_of
from onnx_snn.load import load_graph

W = Gaussian(3)
SHAPE = ["N", 4, 5, 4]


def _read(net, y):
    """The model and its last node's affine function, of the data it is given."""
    model = net.model(y)
    return model, affine_of(load_graph(model).nodes[-1])


def _values(affine, x):
    """factor·x + shift in NumPy."""
    shape = [1] * x.ndim
    shape[affine.axis] = -1
    return x * affine.factor.reshape(shape) + affine.shift.reshape(shape)


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div"])
@pytest.mark.parametrize(
    ("shape", "axis"),
    [((), None), ((1,), None), ((4,), 3), ((5, 1), 2), ((4, 1, 1), 1), ((1, 1, 5, 1), 2)],
    ids=str,
)
def test_reads_what_onnxruntime_computes(shape, axis, op, first):
    net = Net({"x": SHAPE})
    c = net.constant(W(*shape) + np.float32(3))
    model, affine = _read(net, net.op(op, *([c, "x"] if first else ["x", c])))
    if op == "Div" and first:
        assert affine is None
        return
    assert affine.is_scalar == (axis is None)
    assert axis is None or affine.axis == axis
    x = np.random.default_rng(0).normal(size=(3, 4, 5, 4)).astype(np.float32)
    # onnxruntime rounds to float32 at each of two steps.
    assert_close(_values(affine, x), run(model, {"x": x})[0], 2e-7)


@pytest.mark.parametrize("shape", [(5, 4), (1, 4, 5, 1), (2, 1, 1, 1), (1, 1, 1, 1, 1)], ids=str)
def test_reads_no_more_than_one_axis_and_never_the_batch(shape):
    net = Net({"x": [2, 4, 5, 4]})
    constant = gs.Constant("c", W(*shape))
    node = load_graph(net.model(net.op("Mul", "x", net.constant(np.float32(1))))).nodes[-1]
    node.inputs[1] = constant
    assert affine_of(node) is None


def test_one_after_the_other():
    first = Affine(W(4).astype(float), W(4).astype(float), axis=1)
    second = Affine(np.float64(2.0).reshape(()), W(4).astype(float), axis=1)
    x = np.random.default_rng(0).normal(size=(3, 4, 2))
    both = first.then(second)
    np.testing.assert_allclose(_values(both, x), _values(second, _values(first, x)), rtol=1e-12)
    assert first.then(Affine(W(2).astype(float), np.zeros(()), axis=2)) is None


def test_a_number_has_any_axis():
    number = Affine(np.full((), 2.0), np.zeros(()))
    vector = Affine(np.ones(()), W(4).astype(float), axis=2)
    assert number.then(vector).axis == vector.then(number).axis == 2


def test_goes_through_a_transpose_both_ways():
    net = Net({"x": ["N", 4, 5, 6]})
    node = load_graph(net.model(net.op("Transpose", "x", perm=[0, 2, 3, 1]))).nodes[-1]
    affine = Affine(W(4).astype(float), W(4).astype(float), axis=1)
    behind = affine.behind(node)
    assert behind.axis == 3
    assert behind.before(node).axis == 1
    x = np.random.default_rng(0).normal(size=(3, 4, 5, 6))
    expected = _values(affine, x).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(_values(behind, x.transpose(0, 2, 3, 1)), expected)


def test_goes_through_flatten_forward_only():
    net = Net({"x": ["N", 4, 2, 3]})
    node = load_graph(net.model(net.op("Flatten", "x"))).nodes[-1]
    affine = Affine(W(4).astype(float), W(4).astype(float), axis=1)
    x = np.random.default_rng(0).normal(size=(3, 4, 2, 3))
    expected = _values(affine, x).reshape(3, 24)
    np.testing.assert_array_equal(_values(affine.behind(node), x.reshape(3, 24)), expected)
    assert Affine(W(24).astype(float), np.zeros(()), axis=1).before(node) is None


def test_goes_through_nothing_that_computes():
    net = Net({"x": ["N", 4]})
    node = load_graph(net.model(net.relu("x"))).nodes[-1]
    assert Affine(np.full((), 2.0), np.zeros(())).before(node) is None
