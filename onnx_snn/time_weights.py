"""What a time step weighs in a mean over time, as nodes of the graph.

The mean over the steps so far is M_t = Σ_{τ<=t} w_τ·x_τ / W_t:

    rate, two_phase    w_t = 1                     W_t = t
    drain              w_t = 1                     W_t = min(t, window): nothing comes in later
    radix              w_t = 2^(−t), t from 1      W_t = 1 − 2^(−t)

Only the ratios of the weights count, so that those of radix are below 1 and never overflow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from onnx_snn.coding import Coding
from onnx_snn.emit import Emitter


@dataclass(frozen=True)
class TimeWeights:
    """Writes the arithmetic of weighted means.

    Attributes:
        coding: see the module's text.
        window: steps during which input and biases are on; None: always.
    """

    coding: Coding
    window: int | None = None

    def weighted(self, emit: Emitter, sequence: gs.Tensor, count: gs.Tensor) -> gs.Tensor:
        """w_t·x_t of a whole window [T, N, …]."""
        if self.coding is not Coding.RADIX:
            return sequence
        weights = self._powers(emit, emit.const(0), count, sequence)
        return emit.node("Mul", [sequence, weights], dtype=sequence.dtype)

    def unweighted(self, emit: Emitter, sequence: gs.Tensor, count: gs.Tensor) -> gs.Tensor:
        """x_t of w_t·x_t."""
        if self.coding is not Coding.RADIX:
            return sequence
        weights = self._powers(emit, emit.const(0), count, sequence)
        return emit.node("Div", [sequence, weights], dtype=sequence.dtype)

    def elapsed(
        self, emit: Emitter, past: gs.Tensor, count: gs.Tensor, like: gs.Tensor
    ) -> gs.Variable:
        """W_t of ``count`` steps after ``past`` others: [count, 1, …], of ``like``'s type, rank."""
        if self.coding is Coding.RADIX:
            return self._complement(emit, self._powers(emit, past, count, like))
        numbers = emit.step_numbers(past, count, like)
        if self.window is None:
            return numbers
        window = emit.node("CastLike", [emit.const(self.window), like], dtype=like.dtype)
        return emit.node("Min", [numbers, window], dtype=like.dtype)

    def total(self, emit: Emitter, count: gs.Tensor, like: gs.Tensor) -> gs.Variable:
        """W_T after ``count`` steps, a scalar of ``like``'s type."""
        if self.coding is Coding.RADIX:
            number = emit.node("CastLike", [count, like], dtype=like.dtype)
            return self._complement(emit, self._power(emit, number))
        if self.window is not None:
            count = emit.node("Min", [count, emit.const(self.window)], dtype=np.int64)
        return emit.node("CastLike", [count, like], dtype=like.dtype)

    def gate(
        self, emit: Emitter, past: gs.Tensor, count: gs.Tensor, like: gs.Tensor
    ) -> gs.Variable:
        """1 for the steps in the window and 0 for those behind it, [count, 1, …]."""
        assert self.window is not None, "only a window has steps behind it"
        numbers = emit.step_numbers(past, count, like)
        window = emit.node("CastLike", [emit.const(self.window), like], dtype=like.dtype)
        is_open = emit.node("LessOrEqual", [numbers, window], dtype=np.bool_)
        return emit.node("CastLike", [is_open, like], dtype=like.dtype)

    def _powers(
        self, emit: Emitter, past: gs.Tensor, count: gs.Tensor, like: gs.Tensor
    ) -> gs.Variable:
        return self._power(emit, emit.step_numbers(past, count, like))

    @staticmethod
    def _power(emit: Emitter, numbers: gs.Variable) -> gs.Variable:
        """2^(−t)."""
        two = emit.node("CastLike", [emit.const(2), numbers], dtype=numbers.dtype)
        exponents = emit.node("Neg", [numbers], dtype=numbers.dtype)
        return emit.node("Pow", [two, exponents], dtype=numbers.dtype)

    @staticmethod
    def _complement(emit: Emitter, powers: gs.Variable) -> gs.Variable:
        one = emit.node("CastLike", [emit.const(1), powers], dtype=powers.dtype)
        return emit.node("Sub", [one, powers], dtype=powers.dtype)
