"""Write the nodes of placeholders inside a network: what steps take over from others."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from onnx_snn.emit import Emitter
from onnx_snn.spiking_graph import ACCUMULATE, GATE, INTEGRATE
from onnx_snn.time_axis.means import mean_over_time
from onnx_snn.time_axis.placeholders import take_apart
from onnx_snn.time_axis.steps import Steps, sum_type
from onnx_snn.time_weights import TimeWeights


def cross_time(node: gs.Node, weights: TimeWeights, steps: Steps) -> list[gs.Node]:
    """The nodes for a placeholder, which is taken apart.

    Args:
        node: an Accumulate (X_t = X_{t−1} + w_t·x_t; with averages X_t/W_t), a Difference
            (y_t = (z_t − z_{t−1})/w_t; with averages W_t·z_t − W_{t−1}·z_{t−1}), an Integrate
            (X_T/W_T) or a Gate.
        weights: w and W.
        steps: those in its rows.
    """
    sources, result = take_apart(node)
    nodes: list[gs.Node] = []
    emit = Emitter(nodes, node.name)
    start, timesteps = steps.start(emit), steps.count
    if node.op == GATE:
        _gate(emit, weights, start, timesteps, sources[1:], result)
        return nodes
    rows = sources[0]
    dtype = np.dtype(rows.dtype or np.float32)
    wide = sum_type(dtype)  # besides, not every runtime sums float16
    sequence = emit.split_time(_cast(emit, rows, dtype, wide), timesteps)
    if node.op == INTEGRATE:
        if dtype == wide:
            mean_over_time(emit, weights, sequence, timesteps, into=result)
        else:
            mean = mean_over_time(emit, weights, sequence, timesteps)
            _cast(emit, mean, wide, dtype, into=result)
        return nodes
    state = steps.carry(f"{node.name}/state", wide, rows) if steps.carry else None
    elapsed = None
    if node.attrs["averages"]:
        elapsed = weights.elapsed(emit, start, timesteps, sequence)
    if node.op == ACCUMULATE:
        weighted = weights.weighted(emit, sequence, start, timesteps)
        values = _accumulate(emit, weighted, state, elapsed)
    else:
        changes = _difference(emit, sequence, state, elapsed, wide)
        values = weights.unweighted(emit, changes, start, timesteps)
    if dtype == wide:
        emit.join_time(values, into=result)
    else:
        _cast(emit, emit.join_time(values), wide, dtype, into=result)
    return nodes


def _gate(
    emit: Emitter,
    weights: TimeWeights,
    past: gs.Tensor,
    timesteps: gs.Tensor,
    sources: list[gs.Tensor],
    result: gs.Variable,
) -> None:
    """Rows of a value while the window is open; added to given rows."""
    value, *given = sources
    if given:
        sequence = emit.split_time(given[0], timesteps)
        gate = weights.gate(emit, past, timesteps, sequence)
        shown = emit.node("Mul", [gate, value], dtype=result.dtype)
        values = emit.node("Add", [sequence, shown], dtype=result.dtype)
    else:
        sample = emit.node("Unsqueeze", [value, emit.const([0])], dtype=result.dtype)
        gate = weights.gate(emit, past, timesteps, sample)
        values = emit.node("Mul", [gate, sample], dtype=result.dtype)
    emit.join_time(values, into=result)


def _accumulate(
    emit: Emitter,
    sequence: gs.Variable,
    state: tuple[gs.Variable, gs.Variable] | None,
    elapsed: gs.Variable | None,
) -> gs.Variable:
    sums = emit.node("CumSum", [sequence, emit.const(0)], dtype=sequence.dtype)
    if state is not None:
        sums = emit.node("Add", [sums, state[0]], dtype=sequence.dtype)
        _last(emit, sums, state[1])
    if elapsed is None:
        return sums
    return emit.node("Div", [sums, elapsed], dtype=sequence.dtype)


def _difference(
    emit: Emitter,
    sequence: gs.Variable,
    state: tuple[gs.Variable, gs.Variable] | None,
    elapsed: gs.Variable | None,
    dtype: np.dtype[np.generic],
) -> gs.Variable:
    # Before anything has come in, a function may have no value there, such as 0/0: hand on nothing.
    zero = emit.const(0, dtype)
    rest = emit.node("Sub", [sequence, sequence], dtype=dtype)  # NaN for what is not finite
    finite = emit.node("Equal", [rest, zero], dtype=np.bool_)
    sequence = emit.node("Where", [finite, sequence, zero], dtype=dtype)
    sums = sequence
    if elapsed is not None:
        sums = emit.node("Mul", [sequence, elapsed], dtype=dtype)
    first = emit.node("Slice", [sums, emit.const([0]), emit.const([1]), emit.const([0])])
    before = state[0] if state is not None else emit.const(0, dtype)
    before = emit.node("Expand", [before, emit.shape(first)], dtype=dtype)
    if state is not None:
        _last(emit, sums, state[1])
    all_but_last = [sums, emit.const([0]), emit.const([-1]), emit.const([0])]
    earlier = emit.node("Slice", all_but_last, dtype=dtype)
    shifted = emit.node("Concat", [before, earlier], dtype=dtype, axis=0)
    return emit.node("Sub", [sums, shifted], dtype=dtype)


def _last(emit: Emitter, sequence: gs.Variable, into: gs.Variable) -> None:
    emit.node("Gather", [sequence, emit.const(-1)], into=into, axis=0)


def _cast(
    emit: Emitter,
    tensor: gs.Variable,
    given: np.dtype[np.generic],
    wanted: np.dtype[np.generic],
    into: gs.Variable | None = None,
) -> gs.Variable:
    if given == wanted:
        return tensor
    onnx_type = {np.float16: 10, np.float32: 1}[wanted.type]
    return emit.node("Cast", [tensor], dtype=wanted, into=into, to=onnx_type)
