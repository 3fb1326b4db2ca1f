"""What one spike stands for: the scale λ of a tensor, one number or one per channel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Scale:
    """ANN value = λ · value in the normalised graph.

    Attributes:
        values: λ > 0, float64; shape ``()`` for the whole tensor or ``(C,)`` along ``axis``.
        axis: the channel axis, counted from 0; without meaning for a scalar λ.
    """

    values: FloatArray
    axis: int = 1

    @staticmethod
    def of(values: npt.ArrayLike, axis: int = 1) -> Scale:
        """Build a scale from a number or a vector."""
        return Scale(np.asarray(values, dtype=np.float64), axis)

    @property
    def is_scalar(self) -> bool:
        return self.values.ndim == 0

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Scale):
            return NotImplemented
        same_axis = self.is_scalar or self.axis == other.axis
        return same_axis and np.array_equal(self.values, other.values)

    __hash__ = None  # type: ignore[assignment]

    def shaped(self, rank: int) -> FloatArray:
        """λ in a shape that broadcasts against a tensor of the given rank."""
        if self.is_scalar:
            return self.values
        shape = [1] * rank
        shape[self.axis] = self.values.size
        return self.values.reshape(shape)

    def along(self, channels: int) -> FloatArray:
        """λ as one number for each of ``channels`` channels, shape ``(channels,)``."""
        return np.broadcast_to(self.values, (channels,))


ONE = Scale(np.ones(()))


def concatenate(scales: Sequence[Scale], channels: Sequence[int], axis: int) -> Scale:
    """The scale of tensors joined along ``axis``, of which each has ``channels[i]`` entries."""
    if all(scale.is_scalar and scale == scales[0] for scale in scales):
        return scales[0]
    parts = [scale.along(count) for scale, count in zip(scales, channels, strict=True)]
    return Scale(np.concatenate(parts), axis)
