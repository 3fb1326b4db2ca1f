"""What a time step weighs in a mean over time, as nodes of the graph.

The mean over the steps so far is M_t = Σ_{τ<=t} w_τ·x_τ / W_t:

    rate, two_phase    w_t = 1                     W_t = t
    rate, ramp R       w_t = min(t/R, 1)           W_t = w_t·(t + (1 − R·w_t)/2)
    drain              w_t = 1                     W_t = min(t, window): nothing comes in later
    radix              w_t = 2^(−t), t from 1      W_t = 1 − 2^(−t)

A ramp counts early steps less: spikes of a layer mean little until those of the layers ahead of
it have come through, and binary neurons cannot take them back. (SpikingJelly's delayed readout
leaves out the first steps; a ramp has an answer at every step.)

Only the ratios of the weights count: none is above 1, so that sums never overflow.
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
        ramp: R, a power of two, so that weights are exact; 1: all steps count alike. Only with
            coding rate.
    """

    coding: Coding
    window: int | None = None
    ramp: int = 1

    def weighted(
        self, emit: Emitter, sequence: gs.Tensor, past: gs.Tensor, count: gs.Tensor
    ) -> gs.Tensor:
        """w_t·x_t of ``count`` steps after ``past`` others, [count, N, …]."""
        if self.are_alike:
            return sequence
        weights = self._each(emit, past, count, sequence)
        return emit.node("Mul", [sequence, weights], dtype=sequence.dtype)

    def unweighted(
        self, emit: Emitter, sequence: gs.Tensor, past: gs.Tensor, count: gs.Tensor
    ) -> gs.Tensor:
        """x_t of w_t·x_t."""
        if self.are_alike:
            return sequence
        weights = self._each(emit, past, count, sequence)
        return emit.node("Div", [sequence, weights], dtype=sequence.dtype)

    def elapsed(
        self, emit: Emitter, past: gs.Tensor, count: gs.Tensor, like: gs.Tensor
    ) -> gs.Variable:
        """W_t of ``count`` steps after ``past`` others: [count, 1, …], of ``like``'s type, rank."""
        numbers = emit.step_numbers(past, count, like)
        if self.coding is Coding.RADIX:
            return self._complement(emit, self._power(emit, numbers))
        if self.ramp > 1:
            return self._sum_of_ramp(emit, numbers)
        if self.window is None:
            return numbers
        window = emit.node("CastLike", [emit.const(self.window), like], dtype=like.dtype)
        return emit.node("Min", [numbers, window], dtype=like.dtype)

    def total(self, emit: Emitter, count: gs.Tensor, like: gs.Tensor) -> gs.Variable:
        """W_T after ``count`` steps, [1] of ``like``'s type."""
        if self.coding is Coding.RADIX:
            return self._complement(emit, self._power(emit, emit.on_device(count, like)))
        if self.window is not None:
            count = emit.node("Min", [count, emit.const(self.window)], dtype=np.int64)
        number = emit.on_device(count, like)
        return self._sum_of_ramp(emit, number) if self.ramp > 1 else number

    def gate(
        self, emit: Emitter, past: gs.Tensor, count: gs.Tensor, like: gs.Tensor
    ) -> gs.Variable:
        """1 for the steps in the window and 0 for those behind it, [count, 1, …]."""
        assert self.window is not None, "only a window has steps behind it"
        numbers = emit.step_numbers(past, count, like)
        window = emit.node("CastLike", [emit.const(self.window), like], dtype=like.dtype)
        is_open = emit.node("LessOrEqual", [numbers, window], dtype=np.bool_)
        return emit.node("CastLike", [is_open, like], dtype=like.dtype)

    @property
    def are_alike(self) -> bool:
        """Whether all steps weigh the same."""
        return self.coding is not Coding.RADIX and self.ramp == 1

    def _each(
        self, emit: Emitter, past: gs.Tensor, count: gs.Tensor, like: gs.Tensor
    ) -> gs.Variable:
        """w_t, [count, 1, …]."""
        numbers = emit.step_numbers(past, count, like)
        return (
            self._power(emit, numbers) if self.coding is Coding.RADIX else self._rise(emit, numbers)
        )

    def _rise(self, emit: Emitter, numbers: gs.Variable) -> gs.Variable:
        """min(t/R, 1)."""
        dtype = numbers.dtype
        one, ramp = self._like(emit, 1, numbers), self._like(emit, self.ramp, numbers)
        return emit.node("Min", [emit.node("Div", [numbers, ramp], dtype=dtype), one], dtype=dtype)

    def _sum_of_ramp(self, emit: Emitter, numbers: gs.Variable) -> gs.Variable:
        """w_t·(t + (1 − R·w_t)/2)."""
        dtype = numbers.dtype
        one, two, ramp = (self._like(emit, value, numbers) for value in (1, 2, self.ramp))
        rise = self._rise(emit, numbers)
        risen = emit.node("Mul", [ramp, rise], dtype=dtype)
        rest = emit.node("Div", [emit.node("Sub", [one, risen], dtype=dtype), two], dtype=dtype)
        steps = emit.node("Add", [numbers, rest], dtype=dtype)
        return emit.node("Mul", [rise, steps], dtype=dtype)

    @staticmethod
    def _like(emit: Emitter, value: int, numbers: gs.Variable) -> gs.Variable:
        return emit.node("CastLike", [emit.const(value), numbers], dtype=numbers.dtype)

    @staticmethod
    def _power(emit: Emitter, numbers: gs.Variable) -> gs.Variable:
        """2^(−t)."""
        two = TimeWeights._like(emit, 2, numbers)
        exponents = emit.node("Neg", [numbers], dtype=numbers.dtype)
        return emit.node("Pow", [two, exponents], dtype=numbers.dtype)

    @staticmethod
    def _complement(emit: Emitter, powers: gs.Variable) -> gs.Variable:
        one = TimeWeights._like(emit, 1, powers)
        return emit.node("Sub", [one, powers], dtype=powers.dtype)
