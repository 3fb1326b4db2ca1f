"""Linear operators without weights, whose values mix along an axis as a whole or not at all."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from onnx_snn.graph import activations, int_list, is_constant, is_float, is_present, rank
from onnx_snn.operators.base import (
    MIXES_BATCH,
    NO_ACTIVATION,
    UNKNOWN_SHAPE,
    CannotCarryError,
    Kind,
    Operator,
    Refusal,
)
from onnx_snn.operators.metadata import is_metadata
from onnx_snn.scale import FloatArray, Scale


class Carrier(Operator):
    """A scalar λ passes; a vector passes where ``forward`` finds its new place."""

    parameters: str = "its parameters are"
    """What the inputs behind the first are called in a refusal."""
    accepts_metadata: bool = False
    """Whether they may be computed from shapes, since the inferred shapes say what they do."""

    def refusal(self, node: gs.Node) -> Refusal | None:
        if is_constant(node.inputs[0]) or not is_float(node.inputs[0]):
            return NO_ACTIVATION
        if not all(self._is_known(tensor) for tensor in node.inputs[1:]):
            return Refusal(
                f"{self.parameters} computed at run time", "export the model with fixed shapes"
            )
        if rank(node.inputs[0]) is None or rank(node.outputs[0]) is None:
            return UNKNOWN_SHAPE
        return MIXES_BATCH if self.mixes_batch(node) else None

    def _is_known(self, tensor: gs.Tensor) -> bool:
        return (
            not is_present(tensor)
            or is_constant(tensor)
            or (self.accepts_metadata and is_metadata(tensor))
        )

    def mixes_batch(self, node: gs.Node) -> bool:
        """Whether rows of the output depend on more than the same row of the input."""
        return False

    def wish(self, node: gs.Node, out: Scale) -> Sequence[Scale | None]:
        others = len(activations(node)) - 1
        return [out if out.is_scalar else self.backward(node, out), *[None] * others]

    def output(self, node: gs.Node, scales: Sequence[Scale], wish: Scale | None) -> Scale:
        out = scales[0] if scales[0].is_scalar else self.forward(node, scales[0])
        if out is None:
            raise CannotCarryError(node, activations(node)[0])
        return out

    @abstractmethod
    def forward(self, node: gs.Node, scale: Scale) -> Scale | None:
        """The λ of the output for a vector λ, or None if it is not one per channel any more."""

    @abstractmethod
    def backward(self, node: gs.Node, scale: Scale) -> Scale | None:
        """The λ on the input that gives the vector ``scale`` on the output, or None."""


class Passing(Carrier):
    """Neg: every value stays in its place."""

    def forward(self, node: gs.Node, scale: Scale) -> Scale | None:
        return scale

    backward = forward


class Cast(Passing):
    """Cast from one floating-point type to another."""

    def refusal(self, node: gs.Node) -> Refusal | None:
        types = [node.inputs[0].dtype, node.outputs[0].dtype]
        if not all(t is not None and np.issubdtype(np.dtype(t), np.floating) for t in types):
            return Refusal(
                "a cast from or to another type than floating point is not linear",
                "keep activations in floating point between the layers",
            )
        return super().refusal(node)


class Pooling(Carrier):
    """Average pooling: channels are axis 1 and stay there."""

    kind = Kind.POOLING

    def forward(self, node: gs.Node, scale: Scale) -> Scale | None:
        return scale if scale.axis == 1 else None

    backward = forward


class Reduction(Carrier):
    """Sums and means over feature axes."""

    parameters = "its axes are"

    def __init__(self, kind: Kind) -> None:
        self.kind = kind

    def _axes(self, node: gs.Node) -> list[int]:
        axes_count = len(node.inputs[0].shape)
        given = len(node.inputs) > 1 and is_present(node.inputs[1])
        axes = int_list(node.inputs[1]) if given else []
        if not axes and not node.attrs.get("noop_with_empty_axes", 0):
            axes = list(range(axes_count))
        return sorted(axis % axes_count for axis in axes)

    def _kept(self, node: gs.Node) -> list[int]:
        """For each axis of the output, the axis of the input it is."""
        axes_count = len(node.inputs[0].shape)
        if node.attrs.get("keepdims", 1):
            return list(range(axes_count))
        reduced = self._axes(node)
        return [axis for axis in range(axes_count) if axis not in reduced]

    def mixes_batch(self, node: gs.Node) -> bool:
        return 0 in self._axes(node)

    def forward(self, node: gs.Node, scale: Scale) -> Scale | None:
        if scale.axis in self._axes(node):
            return None
        return Scale(scale.values, self._kept(node).index(scale.axis))

    def backward(self, node: gs.Node, scale: Scale) -> Scale | None:
        axis = self._kept(node)[scale.axis]
        return None if axis in self._axes(node) else Scale(scale.values, axis)


class Transpose(Carrier):
    """A permutation of the axes; the channel axis goes along."""

    def _permutation(self, node: gs.Node) -> list[int]:
        axes_count = len(node.inputs[0].shape)
        return [int(axis) for axis in node.attrs.get("perm", range(axes_count)[::-1])]

    def mixes_batch(self, node: gs.Node) -> bool:
        return self._permutation(node)[0] != 0

    def forward(self, node: gs.Node, scale: Scale) -> Scale | None:
        return Scale(scale.values, self._permutation(node).index(scale.axis))

    def backward(self, node: gs.Node, scale: Scale) -> Scale | None:
        return Scale(scale.values, self._permutation(node)[scale.axis])


class Reshaping(Carrier):
    """Flatten, Reshape, Squeeze and Unsqueeze: the same values in the same order."""

    parameters = "its target shape is"

    def __init__(self, accepts_metadata: bool = False) -> None:
        self.accepts_metadata = accepts_metadata

    def mixes_batch(self, node: gs.Node) -> bool:
        before, after = node.inputs[0].shape, node.outputs[0].shape
        if node.op == "Flatten":
            return int(node.attrs.get("axis", 1)) not in (1, 1 - len(before))
        return not after or not before or after[0] != before[0] or isinstance(after[0], int)

    def forward(self, node: gs.Node, scale: Scale) -> Scale | None:
        return _reshape(scale, node.inputs[0].shape, node.outputs[0].shape)

    def backward(self, node: gs.Node, scale: Scale) -> Scale | None:
        return _reshape(scale, node.outputs[0].shape, node.inputs[0].shape)


def _reshape(scale: Scale, before: list[int | str], after: list[int | str]) -> Scale | None:
    """λ of each single value, reshaped; a vector again if it varies along one axis only."""
    source = [1, *(size for size in before[1:] if isinstance(size, int))]
    target = [1, *(size for size in after[1:] if isinstance(size, int))]
    if len(source) != len(before) or len(target) != len(after) or scale.axis == 0:
        return None
    full = np.broadcast_to(scale.shaped(len(before)), source).reshape(target)
    for axis in range(1, full.ndim):
        at = tuple(slice(None) if i == axis else slice(0, 1) for i in range(full.ndim))
        vector = full[at]
        if np.array_equal(np.broadcast_to(vector, full.shape), full):
            return Scale(np.array(vector).ravel(), axis)
    return None


Places = npt.NDArray[np.int64]
"""For each entry of an axis of the output, the entry of the input it is; -1 where it is 0."""


def gathered(values: FloatArray, places: Places) -> FloatArray:
    """λ of moved entries; that of a 0 is free, so 1."""
    return np.where(places < 0, 1.0, values[places])


def scattered(values: FloatArray, places: Places, size: int) -> FloatArray | None:
    """The λ of ``size`` entries that, moved, give ``values``; None if two differ for one entry.

    The λ of an entry that is moved nowhere is free, so 1.
    """
    before = np.ones(size)
    before[places[places >= 0]] = values[places >= 0]
    moved = places < 0
    return before if np.array_equal(before[places[~moved]], values[~moved]) else None
