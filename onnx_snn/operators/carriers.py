"""Linear operators without weights: they move or average values and carry λ along."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from onnx_snn.graph import activations, int_list, is_constant, is_present, rank
from onnx_snn.operators.base import CannotCarryError, Kind, Operator, Refusal
from onnx_snn.scale import Scale


class Carrier(Operator):
    """A scalar λ passes; a vector passes where ``forward`` finds its new place."""

    def refusal(self, node: gs.Node) -> Refusal | None:
        if rank(node.inputs[0]) is None or rank(node.outputs[0]) is None:
            return Refusal(
                "the shape of its input is unknown", "run shape inference, or export with shapes"
            )
        if self.mixes_batch(node):
            return Refusal(
                "it mixes the batch axis with others", "keep axis 0 as the batch in every layer"
            )
        return None

    def mixes_batch(self, node: gs.Node) -> bool:
        """Whether rows of the output depend on more than the same row of the input."""
        return False

    def wish(self, node: gs.Node, out: Scale) -> Sequence[Scale | None]:
        return [out if out.is_scalar else self.backward(node, out)]

    def output(self, node: gs.Node, scales: Sequence[Scale], wish: Scale | None) -> Scale:
        out = scales[0] if scales[0].is_scalar else self.forward(node, scales[0])
        if out is None:
            raise CannotCarryError(node, activations(node)[0])
        return out

    @abstractmethod
    def forward(self, node: gs.Node, scale: Scale) -> Scale | None:
        """The vector λ of the output, or None if it is not one number per channel any more."""

    @abstractmethod
    def backward(self, node: gs.Node, scale: Scale) -> Scale | None:
        """The vector λ on the input that gives ``scale`` on the output, or None."""


class Pooling(Carrier):
    """Average pooling: channels are axis 1 and stay there."""

    kind = Kind.POOLING

    def forward(self, node: gs.Node, scale: Scale) -> Scale | None:
        return scale if scale.axis == 1 else None

    backward = forward


class Pad(Carrier):
    """Padding with zeros, or with values of the tensor itself (reflect, edge, wrap)."""

    def refusal(self, node: gs.Node) -> Refusal | None:
        if not all(is_constant(t) for t in node.inputs[1:] if is_present(t)):
            return Refusal("its amount is computed at run time", "export with a fixed padding")
        if len(node.inputs) > 2 and is_present(node.inputs[2]):
            zero = not np.any(node.inputs[2].values)
            if not zero and node.attrs.get("mode", "constant") == "constant":
                return Refusal("it pads with a value other than 0", "pad with 0")
        return super().refusal(node)

    def _padded_axes(self, node: gs.Node) -> list[int]:
        axes_count = len(node.inputs[0].shape)
        pads = int_list(node.inputs[1])
        has_axes = len(node.inputs) > 3 and is_present(node.inputs[3])
        axes = int_list(node.inputs[3]) if has_axes else list(range(axes_count))
        pairs = zip(axes, pads[: len(axes)], pads[len(axes) :], strict=True)
        return [axis % axes_count for axis, begin, end in pairs if begin or end]

    def mixes_batch(self, node: gs.Node) -> bool:
        return 0 in self._padded_axes(node)

    def forward(self, node: gs.Node, scale: Scale) -> Scale | None:
        return None if scale.axis in self._padded_axes(node) else scale

    backward = forward


class ReduceMean(Carrier):
    """Mean over feature axes."""

    kind = Kind.POOLING

    def refusal(self, node: gs.Node) -> Refusal | None:
        if len(node.inputs) > 1 and is_present(node.inputs[1]) and not is_constant(node.inputs[1]):
            return Refusal("its axes are computed at run time", "export with fixed axes")
        return super().refusal(node)

    def _axes(self, node: gs.Node) -> list[int]:
        axes_count = len(node.inputs[0].shape)
        if len(node.inputs) > 1 and is_present(node.inputs[1]):
            axes = int_list(node.inputs[1])
        elif node.attrs.get("noop_with_empty_axes", 0):
            axes = []
        else:
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

    def refusal(self, node: gs.Node) -> Refusal | None:
        if len(node.inputs) > 1 and is_present(node.inputs[1]) and not is_constant(node.inputs[1]):
            return Refusal(
                "its target shape is computed at run time",
                "export with a fixed target shape, or use Flatten",
            )
        return super().refusal(node)

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
