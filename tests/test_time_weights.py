"""The nodes that weigh time steps, run by onnxruntime, against the formulas in NumPy."""

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from nets import session
from onnx_snn.coding import Coding
from onnx_snn.emit import Emitter
from onnx_snn.time_weights import TimeWeights

FORMS = [
    TimeWeights(Coding.RATE),
    TimeWeights(Coding.TWO_PHASE),
    TimeWeights(Coding.DRAIN, window=3),
    TimeWeights(Coding.RADIX),
    TimeWeights(Coding.RATE, ramp=2),
    TimeWeights(Coding.RATE, ramp=4),
]
EVERY_FORM = pytest.mark.parametrize("weights", FORMS, ids=str)
EVERY_TYPE = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def _expected(weights, steps):
    """w_t and W_t for t = 1 … steps; W_t is their sum, of those at which anything comes in."""
    t = np.arange(1, steps + 1)
    is_radix = weights.coding is Coding.RADIX
    w = 2.0**-t if is_radix else np.minimum(t / weights.ramp, 1)
    return w, np.cumsum(np.where(t <= (weights.window or steps), w, 0))


def _evaluate(write, sequence, *, past=0, steps=None):
    """Run what ``write(emitter, sequence, past, count)`` wrote."""
    dtype = sequence.dtype
    given = gs.Variable("x", dtype, [None] * sequence.ndim)
    past_tensor, count = (gs.Variable(name, np.dtype(np.int64), []) for name in ("past", "count"))
    nodes = []
    result = write(Emitter(nodes, "test"), given, past_tensor, count)
    result.dtype = dtype
    graph = gs.Graph(nodes, inputs=[given, past_tensor, count], outputs=[result], opset=18)
    model = gs.export_onnx(graph, do_type_check=False)
    model.ir_version = 8
    steps = len(sequence) if steps is None else steps
    feeds = {"x": sequence, "past": np.array(past), "count": np.array(steps)}
    known = session(model)
    names = {value.name for value in known.get_inputs()}
    return known.run(None, {name: value for name, value in feeds.items() if name in names})[0]


def _sequence(dtype, steps=6, axes=2):
    shape = (steps, 3, 2, 2)[: 1 + axes]
    return (np.random.default_rng(axes).integers(-8, 9, shape) / 8).astype(dtype)


@EVERY_FORM
@EVERY_TYPE
@pytest.mark.parametrize("axes", [1, 3])
@pytest.mark.parametrize("past", [0, 3])
def test_steps_are_weighted_and_back(weights, dtype, axes, past):
    x = _sequence(dtype, axes=axes)
    w, _ = _expected(weights, past + len(x))
    w = w[past:].reshape(-1, *[1] * axes)

    def weighted(emit, tensor, past, count):
        return emit.node("Identity", [weights.weighted(emit, tensor, past, count)])

    def unweighted(emit, tensor, past, count):
        return emit.node("Identity", [weights.unweighted(emit, tensor, past, count)])

    # Powers of two and small multiples of 1/8: all exact.
    np.testing.assert_array_equal(_evaluate(weighted, x, past=past), x * w)
    np.testing.assert_array_equal(_evaluate(unweighted, (x * w).astype(dtype), past=past), x)


@EVERY_FORM
@EVERY_TYPE
@pytest.mark.parametrize("past", [0, 2, 5])
def test_the_weight_of_the_steps_so_far(weights, dtype, past):

    def elapsed(emit, tensor, past, count):
        return weights.elapsed(emit, past, count, tensor)

    x = _sequence(dtype, 4)
    actual = _evaluate(elapsed, x, past=past)
    assert actual.dtype == dtype
    assert actual.shape == (4, 1, 1)
    _, total = _expected(weights, past + 4)
    np.testing.assert_array_equal(actual.ravel(), total[past:].astype(dtype))


@EVERY_FORM
@EVERY_TYPE
@pytest.mark.parametrize("steps", [1, 3, 8])
def test_the_weight_of_all_steps(weights, dtype, steps):

    def total(emit, tensor, past, count):
        return weights.total(emit, count, tensor)

    actual = _evaluate(total, _sequence(dtype), steps=steps)
    assert actual.shape == (1,)
    assert actual == _expected(weights, steps)[1][-1].astype(dtype)


@pytest.mark.parametrize("past", [0, 2, 3, 9])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_gate_is_open_in_the_window(past, dtype):
    weights = TimeWeights(Coding.DRAIN, 3)

    def gate(emit, tensor, past, count):
        return weights.gate(emit, past, count, tensor)

    actual = _evaluate(gate, _sequence(dtype, 4), past=past)
    assert actual.shape == (4, 1, 1)
    expected = [float(t <= 3) for t in range(past + 1, past + 5)]
    np.testing.assert_array_equal(actual.ravel(), expected)


@pytest.mark.parametrize("weights", [form for form in FORMS if form.window is None], ids=str)
@EVERY_TYPE
def test_the_mean_of_many_ones_is_one(weights, dtype):
    x = np.ones((64, 1, 1), dtype)

    def mean(emit, tensor, past, count):
        weighted = weights.weighted(emit, tensor, past, count)
        total = emit.node("ReduceSum", [weighted], dtype=dtype, keepdims=0)
        return emit.node("Div", [total, weights.total(emit, count, tensor)], dtype=dtype)

    assert _evaluate(mean, x) == pytest.approx(1, rel=1e-6)
