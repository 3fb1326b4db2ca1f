"""Activation functions that spiking neurons stand in for.

``onnx_snn.passes.rewrite_activations`` brings them all to Relu, or Clip from 0 to a constant.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from onnx_snn.graph import activations, is_constant, is_float, is_present, rank
from onnx_snn.operators.base import UNKNOWN_SHAPE, Kind, Operator, Refusal, broadcast_refusal
from onnx_snn.scale import FloatArray

_CONSTANT_INPUT = Refusal("its input is constant", "export with constant folding on")


def single(values: FloatArray) -> FloatArray:
    """One number, shape ``()``, for an array of equal ones."""
    return values.ravel()[0] * np.ones(()) if np.unique(values).size == 1 else values


@dataclass(frozen=True, eq=False)
class Interval:
    """Where an activation min(max(x, low), high) passes its input on.

    Attributes:
        low: float64, −inf for none; shape ``()``, or one that broadcasts against the activation.
        high: likewise; +inf for none.
    """

    low: FloatArray
    high: FloatArray

    @property
    def is_constant(self) -> bool:
        """Whether the activation is the same for every input, at some place at least."""
        return bool(np.any(self.low >= self.high))

    @property
    def is_neuron(self) -> bool:
        """Whether it is Relu, or Clip from 0 to one number."""
        return not np.any(self.low) and self.high.ndim == 0

    def then(self, other: Interval) -> Interval:
        """The two activations one after the other, as one."""
        low, high = (np.clip(bound, other.low, other.high) for bound in (self.low, self.high))
        return Interval(single(low), single(high))


class Activation(Operator):
    """Its λ comes from calibration, so normalise sets it; see ``onnx_snn.passes.normalise``."""

    kind = Kind.SPIKING

    def refusal(self, node: gs.Node) -> Refusal | None:
        if not rank(node.outputs[0]):  # without a batch axis there is nothing to repeat over time
            return UNKNOWN_SHAPE
        if not is_float(node.outputs[0]):
            return Refusal("its values are no floating-point numbers", "cast them to float32 first")
        if not activations(node):
            return _CONSTANT_INPUT
        return self._own_refusal(node)

    def _own_refusal(self, node: gs.Node) -> Refusal | None:
        """Of an activation of known shape and type."""
        return None


class Bounded(Activation):
    """min(max(x, low), high)."""

    @abstractmethod
    def interval(self, node: gs.Node) -> Interval:
        """The bounds of a node that is not refused."""

    def reason_of(self, node: gs.Node) -> str:
        interval = self.interval(node)
        if not interval.is_neuron:
            crosses = np.all(interval.low < 0) and np.all(interval.high > 0)
            if crosses and np.all(np.isfinite(interval.low) & np.isfinite(interval.high)):
                return f"{TwoSided.reason}, capped at {_listed(interval)}"
            return f"becomes neurons for its distance from a bound ({_listed(interval)})"
        if np.isinf(interval.high):
            return Relu.reason
        return f"becomes neurons whose rate is capped at {float(interval.high):g}"


class Relu(Bounded):
    """max(x, 0): the firing rate of an integrate-and-fire neuron with soft reset."""

    reason = "becomes integrate-and-fire neurons"

    def interval(self, node: gs.Node) -> Interval:
        return Interval(np.zeros(()), np.full((), np.inf))


class _ConstantBounds(Bounded):
    """Bounds that are inputs of the node, and so may be anything."""

    reason = "becomes neurons whose rate is capped"
    not_constant = Refusal(
        "its bounds are computed at run time", "export the model with constant bounds"
    )

    def _own_refusal(self, node: gs.Node) -> Refusal | None:
        if len(activations(node)) > 1:
            return self.not_constant
        if any(np.any(np.isnan(t.values)) for t in node.inputs if is_constant(t)):
            return Refusal("one of its bounds is NaN", "train or export the model again")
        refusal = broadcast_refusal(node) or _widening_refusal(node)
        return refusal or _interval_refusal(self.interval(node))


class Clip(_ConstantBounds):
    """min(max(x, low), high) with one number for each bound."""

    def _own_refusal(self, node: gs.Node) -> Refusal | None:
        return _CONSTANT_INPUT if is_constant(node.inputs[0]) else super()._own_refusal(node)

    def interval(self, node: gs.Node) -> Interval:
        bounds = [*node.inputs[1:], *[gs.Variable.empty()] * 2]
        low, high = (
            _numbers(tensor) if is_present(tensor) else np.full((), absent)
            for tensor, absent in zip(bounds[:2], (-np.inf, np.inf), strict=True)
        )
        return Interval(low, high)


class ConstantExtremum(_ConstantBounds):
    """Max and Min of one activation and constants: one bound, for all or for each channel."""

    not_constant = Refusal(
        "it compares activations with each other, which no neuron does",
        "compare with a constant, or take the maximum by pooling",
    )

    def interval(self, node: gs.Node) -> Interval:
        constants = [_numbers(tensor) for tensor in node.inputs if is_constant(tensor)]
        if node.op == "Max":
            return Interval(_reduced(np.maximum, constants, -np.inf), np.full((), np.inf))
        return Interval(np.full((), -np.inf), _reduced(np.minimum, constants, np.inf))


class TwoSided(Activation):
    """max(x, 0) − slope·max(−x, 0): x above 0 and slope·x below."""

    reason = "becomes two populations of neurons, for positive and for negative values"

    def _own_refusal(self, node: gs.Node) -> Refusal | None:
        if not np.all(np.isfinite(self.slope(node))):
            return Refusal("its slope is not finite", "train or export the model again")
        return None

    @abstractmethod
    def slope(self, node: gs.Node) -> FloatArray:
        """Below 0, float64; shape ``()``, or one that broadcasts against the activation."""

    def reason_of(self, node: gs.Node) -> str:
        return self.reason if np.any(self.slope(node)) else Relu.reason


class LeakyRelu(TwoSided):
    """x above 0 and α·x below."""

    def slope(self, node: gs.Node) -> FloatArray:
        return np.asarray(node.attrs.get("alpha", 0.01), dtype=np.float64)


class PRelu(TwoSided):
    """x above 0 and a trained multiple of x below, one number or one for each channel."""

    def _own_refusal(self, node: gs.Node) -> Refusal | None:
        if is_constant(node.inputs[0]):
            return _CONSTANT_INPUT
        if not is_constant(node.inputs[1]):
            return Refusal(
                "its slope is computed at run time", "export the model with constant slopes"
            )
        refusal = broadcast_refusal(node) or _widening_refusal(node)
        return refusal or super()._own_refusal(node)

    def slope(self, node: gs.Node) -> FloatArray:
        return single(np.asarray(node.inputs[1].values, dtype=np.float64))


class Abs(TwoSided):
    """|x|: what is below 0 counts as much as what is above."""

    def slope(self, node: gs.Node) -> FloatArray:
        return np.asarray(-1.0)


class HardSigmoid(Activation):
    """min(max(α·x + β, 0), 1)."""

    reason = "becomes a factor, a shift, and neurons whose rate is capped at 1"

    def _own_refusal(self, node: gs.Node) -> Refusal | None:
        if not np.all(np.isfinite(self.affine(node))):
            return Refusal("its alpha or beta is not finite", "train or export the model again")
        return None

    @staticmethod
    def affine(node: gs.Node) -> tuple[float, float]:
        """α and β."""
        return float(node.attrs.get("alpha", 0.2)), float(node.attrs.get("beta", 0.5))


def _widening_refusal(node: gs.Node) -> Refusal | None:
    """Refuse constants that repeat the activation along an axis."""
    before, after = activations(node)[0].shape, node.outputs[0].shape
    if list(before) == list(after):
        return None
    return Refusal(
        "its constant has more entries than the activation along an axis",
        "repeat the activation explicitly (Expand)",
    )


def _interval_refusal(interval: Interval) -> Refusal | None:
    infinite = [np.isinf(bound) for bound in (interval.low, interval.high)]
    if interval.is_constant:
        return Refusal(
            f"its bounds {_listed(interval)} leave nothing between them, so that it is constant",
            "give a lower bound less than the upper",
        )
    if all(np.all(bound) for bound in infinite):
        return Refusal("it has no bounds, so that it does nothing", "remove it from the model")
    if any(np.any(bound) and not np.all(bound) for bound in infinite):
        return Refusal(
            "it has bounds for some channels and none for others",
            "give every channel a bound, or none",
        )
    return None


def _listed(interval: Interval) -> str:
    """``"-1 … 6"``; of several numbers the least and the greatest."""
    return f"{float(np.min(interval.low)):g} … {float(np.max(interval.high)):g}"


def _numbers(tensor: gs.Constant) -> FloatArray:
    """Bounds, where the greatest number of the type stands for none at all."""
    given = np.asarray(tensor.values)
    values = given.astype(np.float64)
    greatest = float(np.finfo(given.dtype).max)
    values = np.where(np.abs(values) >= greatest, np.copysign(np.inf, values), values)
    return single(values)


def _reduced(maximum: np.ufunc, constants: Sequence[FloatArray], start: float) -> FloatArray:
    values: FloatArray = np.full((), start)
    for constant in constants:
        values = maximum(values, constant)
    return single(values)


def is_cap(node: gs.Node) -> bool:
    """Whether a node only caps a Relu that nobody else reads, as normalise writes it."""
    if node.op != "Min" or len(activations(node)) != 1:
        return False
    inner = activations(node)[0]
    before = inner.inputs[0] if len(inner.inputs) == 1 else None
    return before is not None and before.op == "Relu" and len(inner.outputs) == 1
