"""The events that stand for a float tensor."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from onnx_snn.emit import Emitter

CHANNELS_LAST = [0, 2, 3, 1]
CHANNELS_FIRST = [0, 3, 1, 2]

Size = tuple[int, int, int]
"""Height, width and channels."""


@dataclass(frozen=True)
class EventTensor:
    """Events [T·N, H, W, C] in the place of a float tensor [T·N, C, H, W], [T·N, C, W] or [T·N, C].

    Attributes:
        events: int8.
        size: H, W and C; H is 1 where the float tensor has no such axis, and so is W.
        rank: of the float tensor; with rank 2 and H·W > 1 it is [T·N, C·H·W].
        most: the greatest |event|.
        factor: what the float tensor has for an event of 1.
    """

    events: gs.Variable
    size: Size
    rank: int
    most: int
    factor: float = 1.0

    def flattened(self) -> EventTensor:
        """The same events, of the float tensor flattened to two axes."""
        return replace(self, rank=2)

    def as_float(self, emit: Emitter, into: gs.Variable) -> None:
        """Write the nodes that compute the float tensor from the events."""
        values = emit.node("Cast", [self.events], dtype=np.float32, to=onnx.TensorProto.FLOAT)
        if self.factor != 1.0:
            factor = emit.const(self.factor, np.float32)
            values = emit.node("Mul", [values, factor], dtype=np.float32)
        channels_first(emit, values, self.size, self.rank, into)


def event_size(tensor: gs.Variable) -> Size | None:
    """H, W and C of the events for a tensor [T·N, C, …], or None if it cannot have any."""
    shape = tensor.shape
    if shape is None or not 2 <= len(shape) <= 4:
        return None
    channels, *sizes = shape[1:]
    height, width = [1, 1, *sizes][-2:]
    if not all(isinstance(size, int) and size > 0 for size in (height, width, channels)):
        return None
    return height, width, channels


def rows_shape(size: Size, rows: object) -> list[object]:
    """The shape of events, or of currents with channels last."""
    return [rows, *size]


def channels_first(
    emit: Emitter, values: gs.Variable, size: Size, rank: int, into: gs.Variable
) -> None:
    """[rows, H, W, C] to a tensor of the given rank, [rows, C, H, W] or with fewer axes."""
    height, width, channels = size
    if rank == 4:
        emit.node("Transpose", [values], into=into, perm=CHANNELS_FIRST)
        return
    if height * width > 1:
        values = emit.node("Transpose", [values], dtype=values.dtype, perm=CHANNELS_FIRST)
    sizes = [channels, width] if rank == 3 else [math.prod(size)]
    emit.node("Reshape", [values, emit.const([0, *sizes])], into=into)


def channels_last(
    emit: Emitter, values: gs.Variable, size: Size, into: gs.Variable | None = None
) -> gs.Variable:
    """A tensor [rows, C, H, W], or with fewer axes, to [rows, H, W, C]."""
    height, width, channels = size
    dtype = values.dtype
    if height * width == 1:
        return emit.node(
            "Reshape", [values, emit.const([0, 1, 1, channels])], dtype=dtype, into=into
        )
    if len(values.shape) == 3:
        shape = emit.const([0, channels, 1, width])
        values = emit.node("Reshape", [values, shape], dtype=dtype)
    return emit.node("Transpose", [values], dtype=dtype, into=into, perm=CHANNELS_LAST)
