"""The time steps that rows hold: all at once, or one block among others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from onnx_snn.emit import Emitter

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


def states_of(neuron: gs.Node) -> Sequence[str]:
    """What a neuron keeps from step to step: its membrane, and if it is signed its count."""
    return ("v", "n")[: len(neuron.inputs) - 2]
