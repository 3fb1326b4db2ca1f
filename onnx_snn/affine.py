"""y = factor·x + shift with one factor and one shift per channel, read from nodes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from onnx_snn.graph import is_constant, is_float, is_standard
from onnx_snn.operators import operator_of
from onnx_snn.operators.batch_normalization import BatchNormalization
from onnx_snn.operators.carriers import Reshaping, Transpose
from onnx_snn.scale import FloatArray, Scale


@dataclass(frozen=True, eq=False)
class Affine:
    """y = factor·x + shift.

    Attributes:
        factor: float64; shape ``()`` for the whole tensor or ``(C,)`` along ``axis``.
        shift: float64; shape ``()`` or ``(C,)``.
        axis: the channel axis, counted from 0; without meaning where both are scalars.
    """

    factor: FloatArray
    shift: FloatArray
    axis: int = 0

    @property
    def is_scalar(self) -> bool:
        return self.factor.ndim == self.shift.ndim == 0

    @property
    def scales(self) -> bool:
        """Whether it is more than a shift."""
        return bool(np.any(self.factor != 1))

    @property
    def shifts(self) -> bool:
        return bool(np.any(self.shift != 0))

    def then(self, other: Affine) -> Affine | None:
        """The two one after the other; None if they have different channel axes."""
        if not (self.is_scalar or other.is_scalar or self.axis == other.axis):
            return None
        return Affine(
            other.factor * self.factor,
            other.factor * self.shift + other.shift,
            other.axis if self.is_scalar else self.axis,
        )

    def along(self, channels: int) -> tuple[FloatArray, FloatArray]:
        """Factor and shift as one number for each of ``channels`` channels."""
        return np.broadcast_to(self.factor, channels), np.broadcast_to(self.shift, channels)

    def before(self, node: gs.Node) -> Affine | None:
        """What to do before a node that only moves values, to have done this behind it."""
        return self._carried(node, backward=True)

    def behind(self, node: gs.Node) -> Affine | None:
        """What to do behind a node that only moves values, to have done this before it."""
        return self._carried(node, backward=False)

    def _carried(self, node: gs.Node, *, backward: bool) -> Affine | None:
        operator = operator_of(node)
        if not isinstance(operator, Transpose | Reshaping) or operator.refusal(node) is not None:
            return None
        if self.is_scalar:
            return self
        # Channels are carried as their numbers, since factor and shift must stay together.
        numbers = Scale(np.arange(max(self.factor.size, self.shift.size), dtype=float), self.axis)
        carry = operator.backward if backward else operator.forward
        carried = carry(node, numbers)
        if carried is None:
            return None
        factor, shift = self.along(numbers.values.size)
        at = carried.values.astype(int)
        return Affine(factor[at], shift[at], carried.axis)

    def fits(self, dtype: npt.DTypeLike) -> bool:
        """Whether both are finite in a type."""
        return all_finite(self.factor, dtype) and all_finite(self.shift, dtype)


def all_finite(values: FloatArray, dtype: npt.DTypeLike) -> bool:
    """Whether values are finite and stay so when cast to ``dtype``."""
    with np.errstate(over="ignore"):
        return bool(np.all(np.isfinite(values.astype(dtype))))


def affine_of(node: gs.Node) -> Affine | None:
    """The affine function that a node is, or None if it is none with one number per channel.

    BatchNormalization at inference, and x·c, x/c, x + c, x - c and c - x with a constant c that
    varies along one axis at most and does not widen x by broadcasting.
    """
    if not is_standard(node):
        return None
    if node.op == "BatchNormalization":
        refused = operator_of(node).refusal(node) is not None
        return None if refused else Affine(*BatchNormalization.affine(node), axis=1)
    if node.op not in ("Add", "Sub", "Mul", "Div") or len(node.inputs) != 2:
        return None
    first, second = node.inputs
    if is_constant(first) == is_constant(second):
        return None
    data, other = (second, first) if is_constant(first) else (first, second)
    constant = _per_channel(other.values, data.shape) if is_float(data) else None
    affine = None if constant is None else _with_constant(node.op, other is first, *constant)
    return affine if affine is not None and affine.fits(data.dtype or other.dtype) else None


def _with_constant(op: str, comes_first: bool, values: FloatArray, axis: int) -> Affine | None:
    """x op values, or values op x."""
    one, zero = np.ones(()), np.zeros(())
    if op == "Add":
        return Affine(one, values, axis)
    if op == "Sub":
        return Affine(-one, values, axis) if comes_first else Affine(one, -values, axis)
    if op == "Mul":
        return Affine(values, zero, axis)
    divides = not comes_first and np.all(values != 0)
    return Affine(1 / values, zero, axis) if divides else None


def _per_channel(
    values: npt.NDArray[np.generic], shape: list[int | str] | None
) -> tuple[FloatArray, int] | None:
    """A constant met by a tensor of this shape, as one number or as one per entry of an axis."""
    if shape is None or values.ndim > len(shape):
        return None
    values = values.reshape([1] * (len(shape) - values.ndim) + list(values.shape))
    widens = any(size not in (1, own) for size, own in zip(values.shape, shape, strict=True))
    if values.size == 0 or widens:
        return None
    varies = [
        axis
        for axis in range(values.ndim)
        if not np.array_equal(values, np.broadcast_to(values.take([0], axis), values.shape))
    ]
    if len(varies) > 1:
        return None
    axis = varies[0] if varies else 0
    at = tuple(slice(None) if i in varies else slice(0, 1) for i in range(values.ndim))
    numbers = values[at].astype(np.float64)
    return (numbers.ravel() if varies else numbers.reshape(())), axis
