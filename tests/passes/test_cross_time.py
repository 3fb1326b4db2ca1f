"""The nodes of Accumulate and Difference, run by onnxruntime, against sums in NumPy."""

from functools import cache

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nets import session
from onnx_snn.passes.cross_time import cross_time
from onnx_snn.spiking_graph import ACCUMULATE, DIFFERENCE, placeholder

OPS = [ACCUMULATE, DIFFERENCE]
DTYPES = [np.float16, np.float32, np.float64]
FORMS = [(op, averages) for op in OPS for averages in (False, True)]
EVERY_FORM = pytest.mark.parametrize(("op", "averages"), FORMS)


def _wide(dtype):
    return np.float32 if dtype is np.float16 else dtype


@cache
def _session(op, averages, dtype, carries):
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

    node = placeholder(op, rows, result, averages)
    if carries:
        inputs.append(past)
        nodes = cross_time(node, timesteps, past, carry)
    else:
        nodes = cross_time(node, timesteps, None, None)
    graph = gs.Graph(nodes, inputs=inputs, outputs=outputs, opset=18)
    model = gs.export_onnx(graph, do_type_check=False)
    model.ir_version = 8
    return session(model)


def _run(op, averages, values, blocks=None, *, scalar_start=False):
    """One run, or one for each block with the state carried on; [T, N, …] in and out."""
    dtype = values.dtype.type
    known = _session(op, averages, dtype, blocks is not None)
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


def _expected(op, averages, values):
    exact = values.astype(np.float64)
    steps = np.arange(1.0, len(values) + 1).reshape(-1, *[1] * (values.ndim - 1))
    if op == ACCUMULATE:
        sums = np.cumsum(exact, axis=0)
        wide = _wide(values.dtype.type)
        return ((sums.astype(wide) / steps.astype(wide)) if averages else sums).astype(values.dtype)
    sums = exact * steps if averages else exact
    return np.diff(sums, axis=0, prepend=0).astype(values.dtype)


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
    node = placeholder(op, rows, result, averages)
    nodes = cross_time(node, gs.Variable("T", np.dtype(np.int64), []), None, None)
    assert node not in rows.outputs
    assert len(result.inputs) == 1
    assert result.inputs[0] is nodes[-1]
    names = [new.name for new in nodes]
    assert len(set(names)) == len(names)
    assert all(name.startswith(node.name) for name in names)
