"""The arithmetic of readouts: sums over time steps, and means weighted as the coding says."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from onnx_snn.emit import Emitter
from onnx_snn.time_axis.steps import Steps
from onnx_snn.time_weights import TimeWeights


def add_up(emit: Emitter, sequence: gs.Tensor, before: gs.Tensor, after: gs.Variable) -> None:
    """Add the sum over all steps of [T, N, …] to that of the steps before."""
    block = emit.node("ReduceSum", [sequence, emit.const([0])], keepdims=0)
    emit.node("Add", [before, block], into=after)


def sums_so_far(emit: Emitter, sequence: gs.Tensor, before: gs.Tensor | None = None) -> gs.Variable:
    """The sums up to each step of [T, N, …], with those of the steps before."""
    sums = emit.node("CumSum", [sequence, emit.const(0)])
    return sums if before is None else emit.node("Add", [sums, before])


def mean_over_time(
    emit: Emitter,
    weights: TimeWeights,
    sequence: gs.Tensor,
    count: gs.Tensor,
    into: gs.Variable | None = None,
) -> gs.Variable:
    """The mean of a whole window [T, N, …]: [N, …]."""
    weighted = weights.weighted(emit, sequence, emit.const(0), count)
    total = emit.node("ReduceSum", [weighted, emit.const([0])], dtype=sequence.dtype, keepdims=0)
    weight = weights.total(emit, count, total)
    return emit.node("Div", [total, weight], dtype=sequence.dtype, into=into)


def mean_of_sum(
    emit: Emitter, weights: TimeWeights, total: gs.Tensor, count: gs.Tensor, into: gs.Variable
) -> None:
    """The weighted sum of ``count`` steps, divided by their weight."""
    emit.node("Div", [total, weights.total(emit, count, total)], into=into)


def running_mean(
    emit: Emitter, weights: TimeWeights, sums: gs.Tensor, steps: Steps, into: gs.Variable
) -> None:
    """Weighted sums so far [T, N, …], divided by their weight, as rows."""
    elapsed = weights.elapsed(emit, steps.start(emit), steps.count, sums)
    means = emit.node("Div", [sums, elapsed], dtype=into.dtype)
    emit.join_time(means, into=into)
    if into.shape:
        into.shape = ["T*N", *into.shape[1:]]
