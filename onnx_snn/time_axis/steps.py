"""The time steps that rows hold: all at once, or one block among others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from onnx_snn.emit import Emitter
from onnx_snn.ops import STATEFUL, STATEFUL_POOLS

Carry = Callable[[str, np.dtype[np.generic], gs.Variable], tuple[gs.Variable, gs.Variable]]
"""Carries a state: its name, type and the rows it is of → itself before and after the steps."""


@dataclass(frozen=True)
class Steps:
    """Steps evaluated together.

    Attributes:
        count: how many, int64, [].
        past: how many came before them; None: 0.
        carry: how a state gets from one run or block to the next; None: there is only one.
    """

    count: gs.Tensor
    past: gs.Tensor | None = None
    carry: Carry | None = None

    def start(self, emit: Emitter) -> gs.Tensor:
        """``past`` as a tensor."""
        return emit.const(0) if self.past is None else self.past


@dataclass(frozen=True)
class State:
    """What an operator keeps from step to step.

    Attributes:
        name: of its membrane ``v``, or of its count ``n``; for a max pooling the counts ``c``.
        dtype: its type.
        rows: a tensor [T·N, …] of its shape, but for the leading axis.
        input: index among the operator's inputs.
        output: index among its outputs.
    """

    name: str
    dtype: np.dtype[np.generic]
    rows: gs.Variable
    input: int
    output: int


def sum_type(dtype: np.dtype[np.generic]) -> np.dtype[np.generic]:
    """The type that values are summed in over time: sums outgrow the 11 bits of float16."""
    return np.dtype(np.float64 if dtype == np.float64 else np.float32)


def states_of(node: gs.Node) -> list[State]:
    """The states of a stateful operator; its inputs behind T."""
    first = STATEFUL[node.op] + 1
    spikes = node.outputs[0]
    is_pool = node.op in STATEFUL_POOLS
    dtype = np.dtype(spikes.dtype)
    if dtype == np.int8 or is_pool:
        dtype = sum_type(dtype)
    names, rows = ("c" if is_pool else "vn"), (node.inputs[0] if is_pool else spikes)
    given = len(node.inputs) - first
    return [State(name, dtype, rows, first + i, 1 + i) for i, name in enumerate(names[:given])]
