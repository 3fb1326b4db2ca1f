"""Write the nodes of Accumulate and Difference: what one step takes over from those before it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_graphsurgeon as gs

from onnx_snn.emit import Emitter
from onnx_snn.spiking_graph import ACCUMULATE

Carry = Callable[[str, np.dtype[np.generic], gs.Variable], tuple[gs.Variable, gs.Variable]]
"""Carries a state: its name, type and the rows it is of → itself before and after the steps."""


def cross_time(
    node: gs.Node, timesteps: gs.Tensor, past: gs.Tensor | None, carry: Carry | None
) -> list[gs.Node]:
    """The nodes for a placeholder, which is taken apart.

    Args:
        node: an Accumulate (X_t = X_{t−1} + x_t; with averages X_t/t) or a Difference
            (y_t = z_t − z_{t−1}; with averages t·z_t − (t − 1)·z_{t−1}).
        timesteps: number of steps in its rows.
        past: number of steps before them; None: 0.
        carry: how state gets from one run or block to the next; None: there is only one.
    """
    rows, result = node.inputs[0], node.outputs[0]
    node.inputs.clear()
    node.outputs.clear()
    nodes: list[gs.Node] = []
    emit = Emitter(nodes, node.name)
    dtype = np.dtype(rows.dtype or np.float32)
    # Sums outgrow the 11 bits of float16, and not every runtime sums it.
    wide = np.dtype(np.float32) if dtype == np.float16 else dtype
    sequence = emit.split_time(_cast(emit, rows, dtype, wide), timesteps)
    state = carry(f"{node.name}/state", wide, rows) if carry else None
    numbers = None
    if node.attrs["averages"]:
        start = past if past is not None else emit.const(0)
        numbers = emit.step_numbers(start, timesteps, sequence)
    if node.op == ACCUMULATE:
        values = _accumulate(emit, sequence, state, numbers)
    else:
        values = _difference(emit, sequence, state, numbers, wide)
    if dtype == wide:
        emit.join_time(values, into=result)
    else:
        _cast(emit, emit.join_time(values), wide, dtype, into=result)
    return nodes


def _accumulate(
    emit: Emitter,
    sequence: gs.Variable,
    state: tuple[gs.Variable, gs.Variable] | None,
    numbers: gs.Variable | None,
) -> gs.Variable:
    sums = emit.node("CumSum", [sequence, emit.const(0)], dtype=sequence.dtype)
    if state is not None:
        sums = emit.node("Add", [sums, state[0]], dtype=sequence.dtype)
        _last(emit, sums, state[1])
    if numbers is None:
        return sums
    return emit.node("Div", [sums, numbers], dtype=sequence.dtype)


def _difference(
    emit: Emitter,
    sequence: gs.Variable,
    state: tuple[gs.Variable, gs.Variable] | None,
    numbers: gs.Variable | None,
    dtype: np.dtype[np.generic],
) -> gs.Variable:
    # Before anything has come in, a function may have no value there, such as 0/0: hand on nothing.
    zero = emit.const(0, dtype)
    rest = emit.node("Sub", [sequence, sequence], dtype=dtype)  # NaN for what is not finite
    finite = emit.node("Equal", [rest, zero], dtype=np.bool_)
    sequence = emit.node("Where", [finite, sequence, zero], dtype=dtype)
    sums = sequence
    if numbers is not None:
        sums = emit.node("Mul", [sequence, numbers], dtype=dtype)
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
