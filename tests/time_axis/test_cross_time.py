"""The nodes of placeholders inside a network, run by onnxruntime, against sums in NumPy."""

from functools import cache

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nets import session
from onnx_snn.coding import Coding
from onnx_snn.spiking_graph import ACCUMULATE, DIFFERENCE, GATE, INTEGRATE, placeholder
from onnx_snn.time_axis.cross_time import cross_time
from onnx_snn.time_axis.steps import Steps
from onnx_snn.time_weights import TimeWeights

RATE = TimeWeights(Coding.RATE)
DRAIN = TimeWeights(Coding.DRAIN, window=4)
RADIX = TimeWeights(Coding.RADIX)
OPS = [ACCUMULATE, DIFFERENCE]
DTYPES = [np.float16, np.float32, np.float64]
FORMS = [(op, averages) for op in OPS for averages in (False, True)]
EVERY_FORM = pytest.mark.parametrize(("op", "averages"), FORMS)


def _wide(dtype):
    return np.float32 if dtype is np.float16 else dtype


@cache
def _session(op, averages, dtype, carries, weights):
    """A model of one placeholder, for rows of any rank; with or without state."""
    rows = gs.Variable("rows", np.dtype(dtype))
    result = gs.Variable("result", np.dtype(dtype))
    timesteps, past = (gs.Variable(name, np.dtype(np.int64), []) for name in ("T", "past"))
    inputs, outputs = [rows, timesteps], [result]

    def carry(name, dtype, rows):
        assert rows is inputs[0]
        # Its first value may be a scalar, as in a Loop, so that no shape is given.
        inputs.append(gs.Variable("before", dtype))
        outputs.append(gs.Variable("after", dtype))
        return inputs[-1], outputs[-1]

    node = placeholder(op, [rows], result, averages)
    if carries:
        inputs.append(past)
        nodes = cross_time(node, weights, Steps(timesteps, past, carry))
    else:
        nodes = cross_time(node, weights, Steps(timesteps))
    return _opened(nodes, inputs, outputs)


def _opened(nodes, inputs, outputs):
    graph = gs.Graph(nodes, inputs=inputs, outputs=outputs, opset=18)
    model = gs.export_onnx(graph, do_type_check=False)
    model.ir_version = 8
    return session(model)


def _run(op, averages, values, blocks=None, *, scalar_start=False, weights=RATE):
    """One run, or one for each block with the state carried on; [T, N, …] in and out."""
    dtype = values.dtype.type
    known = _session(op, averages, dtype, blocks is not None, weights)
    taken = {value.name for value in known.get_inputs()}
    state = np.zeros(() if scalar_start else values.shape[1:], _wide(dtype))
    results, start = [], 0
    for steps in blocks or [len(values)]:
        block = values[start : start + steps]
        feeds = {
            "rows": block.reshape(-1, *values.shape[2:]),
            "T": np.array(steps),
            "past": np.array(start),
            "before": state,
        }
        result, *rest = known.run(None, {n: v for n, v in feeds.items() if n in taken})
        assert result.dtype == dtype
        results.append(result.reshape(block.shape))
        if rest:
            (state,) = rest
            assert state.dtype == _wide(dtype)
            assert state.shape == values.shape[1:]
        start += steps
    return np.concatenate(results)


def _expected(op, averages, values, weights=RATE):
    if weights is not RATE:
        return _weighed(op, averages, values, weights)
    exact = values.astype(np.float64)
    steps = np.arange(1.0, len(values) + 1).reshape(-1, *[1] * (values.ndim - 1))
    if op == ACCUMULATE:
        sums = np.cumsum(exact, axis=0)
        wide = _wide(values.dtype.type)
        return ((sums.astype(wide) / steps.astype(wide)) if averages else sums).astype(values.dtype)
    sums = exact * steps if averages else exact
    return np.diff(sums, axis=0, prepend=0).astype(values.dtype)


def _weighed(op, averages, values, weights):
    """M_t = Σ w_τ·x_τ / W_t, or what leads back."""
    exact = values.astype(np.float64)
    w, total = (v.reshape(-1, *[1] * (values.ndim - 1)) for v in _weights(weights, len(values)))
    divisor = total if averages else 1
    if op == ACCUMULATE:
        return np.cumsum(w * exact, axis=0) / divisor
    return np.diff(exact * divisor, axis=0, prepend=0) / w


def _weights(weights, steps):
    """w_t and W_t, for t = 1 … steps."""
    t = np.arange(1.0, steps + 1)
    if weights is RADIX:
        return 2**-t, 1 - 2**-t
    return np.ones(steps), np.minimum(t, 4)


@st.composite
def _sequences(draw):
    """Small multiples of 1/16, of which every sum and every product by a step is exact."""
    steps = draw(st.integers(1, 12))
    shape = [draw(st.integers(1, 3)) for _ in range(draw(st.integers(1, 5)))]
    random = np.random.default_rng(draw(st.integers(0, 2**16)))
    values = random.integers(-16, 17, (steps, *shape)) / 16
    return values.astype(draw(st.sampled_from(DTYPES)))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(FORMS), _sequences())
def test_in_one_run(form, values):
    np.testing.assert_array_equal(_run(*form, values), _expected(*form, values))


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(FORMS), _sequences(), st.booleans(), st.data())
def test_in_blocks_of_any_size(form, values, scalar_start, data):
    blocks, left = [], len(values)
    while left:
        blocks.append(data.draw(st.integers(1, left), label="block"))
        left -= blocks[-1]
    actual = _run(*form, values, blocks, scalar_start=scalar_start)
    np.testing.assert_array_equal(actual, _expected(*form, values))


@EVERY_FORM
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("axes", [1, 2, 3, 4, 5])
def test_one_step_changes_nothing(op, averages, dtype, axes):
    values = np.random.default_rng(axes).normal(size=(1, 3, 2, 2, 1, 2)[: axes + 1]).astype(dtype)
    np.testing.assert_array_equal(_run(op, averages, values), values)
    np.testing.assert_array_equal(_run(op, averages, values, [1]), values)


@EVERY_FORM
@pytest.mark.parametrize("blocks", [None, [2, 3]])
def test_no_samples(op, averages, blocks):
    assert _run(op, averages, np.zeros((5, 0, 3), np.float32), blocks).shape == (5, 0, 3)


@pytest.mark.parametrize("averages", [False, True])
@pytest.mark.parametrize("blocks", [None, [7, 1, 12]])
def test_a_difference_takes_an_accumulation_back(averages, blocks):
    values = np.random.default_rng(1).integers(0, 2, (20, 3, 4)).astype(np.float64)
    there = _run(ACCUMULATE, averages, values, blocks)
    back = _run(DIFFERENCE, averages, there, blocks)
    # A mean rounds once, and is multiplied by at most 20 steps again.
    np.testing.assert_allclose(back, values, rtol=0, atol=20 * np.finfo(np.float64).eps)


@pytest.mark.parametrize("blocks", [None, [1000] * 3])
def test_float16_sums_beyond_its_own_bits(blocks):
    ones = np.ones((3000, 1, 2), np.float16)
    # Summed in float16 it would stand still at 2048, the mean at 0.68.
    np.testing.assert_array_equal(_run(ACCUMULATE, True, ones, blocks), ones)
    assert (_run(ACCUMULATE, False, ones, blocks)[-1] == 3000).all()
    np.testing.assert_array_equal(_run(DIFFERENCE, True, ones, blocks), ones)


@EVERY_FORM
def test_the_placeholder_is_taken_apart(op, averages):
    rows, result = (gs.Variable(name, np.dtype(np.float32), ["T*N", 3]) for name in "xy")
    node = placeholder(op, [rows], result, averages)
    nodes = cross_time(node, RATE, Steps(gs.Variable("T", np.dtype(np.int64), [])))
    assert node not in rows.outputs
    assert len(result.inputs) == 1
    assert result.inputs[0] is nodes[-1]
    names = [new.name for new in nodes]
    assert len(set(names)) == len(names)
    assert all(name.startswith(node.name) for name in names)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(FORMS), _sequences(), st.sampled_from([DRAIN, RADIX]))
def test_weighed_steps(form, values, weights):
    """Sums are exact here, a quotient is rounded once, and again where it is handed on."""
    expected = _expected(*form, values, weights)
    bits = np.finfo(values.dtype).eps
    actual = _run(*form, values, weights=weights)
    most = np.abs(expected).max(initial=1)
    np.testing.assert_allclose(actual, expected, rtol=2 * bits, atol=2 * bits * most)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(FORMS), _sequences(), st.booleans(), st.data())
def test_weighed_steps_in_blocks(form, values, scalar_start, data):
    """Drained networks run in blocks; the window ends in any of them."""
    blocks, left = [], len(values)
    while left:
        blocks.append(data.draw(st.integers(1, left), label="block"))
        left -= blocks[-1]
    actual = _run(*form, values, blocks, scalar_start=scalar_start, weights=DRAIN)
    np.testing.assert_array_equal(actual, _run(*form, values, weights=DRAIN))
    most = np.abs(actual).max(initial=1)
    bits = 2 * np.finfo(values.dtype).eps
    np.testing.assert_allclose(actual, _expected(*form, values, DRAIN), rtol=bits, atol=bits * most)


@pytest.mark.parametrize("weights", [RATE, RADIX], ids=["two_phase", "radix"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("steps", [1, 5])
def test_the_mean_of_a_window(weights, dtype, steps):
    rows, result = (gs.Variable(name, np.dtype(dtype)) for name in ("rows", "result"))
    timesteps = gs.Variable("T", np.dtype(np.int64), [])
    node = placeholder(INTEGRATE, [rows], result)
    known = _opened(cross_time(node, weights, Steps(timesteps)), [rows, timesteps], [result])
    values = (np.random.default_rng(1).integers(-16, 17, (steps, 3, 2)) / 16).astype(dtype)
    (actual,) = known.run(None, {"rows": values.reshape(-1, 2), "T": np.array(steps)})
    w, total = _weights(weights, steps)
    total = w.sum() if weights is RATE else total[-1]
    expected = np.tensordot(w, values.astype(np.float64), axes=1) / total
    assert actual.dtype == dtype
    np.testing.assert_allclose(actual, expected, rtol=np.finfo(dtype).eps)


@pytest.mark.parametrize("past", [None, 0, 2, 4, 7])
@pytest.mark.parametrize("has_rows", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_gate_closes_behind_the_window(past, has_rows, dtype):
    value, rows, result = (gs.Variable(name, np.dtype(dtype)) for name in ("v", "rows", "result"))
    timesteps, before = (gs.Variable(name, np.dtype(np.int64), []) for name in ("T", "past"))
    node = placeholder(GATE, [timesteps, value, *([rows] if has_rows else [])], result)
    start = None if past is None else before
    nodes = cross_time(node, DRAIN, Steps(timesteps, start))
    inputs = [value, timesteps, *([rows] if has_rows else []), *([before] if start else [])]
    known = _opened(nodes, inputs, [result])
    random = np.random.default_rng(0)
    image = (random.integers(-8, 9, (3, 2)) / 8).astype(dtype)
    given = (random.integers(-8, 9, (6, 3, 2)) / 8).astype(dtype)
    feeds = {"v": image, "T": np.array(6), "rows": given.reshape(18, 2)}
    feeds["past"] = np.array(past or 0)
    names = {entry.name for entry in known.get_inputs()}
    (actual,) = known.run(None, {name: feeds[name] for name in names})
    is_open = np.arange(1, 7) + (past or 0) <= 4
    expected = is_open.reshape(-1, 1, 1) * image + (given if has_rows else 0)
    assert actual.dtype == dtype
    np.testing.assert_array_equal(actual.reshape(6, 3, 2), expected)
