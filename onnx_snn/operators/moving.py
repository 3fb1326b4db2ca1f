"""Linear operators that move, drop, repeat or pad values: λ of the channels moves along."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from onnx_snn.graph import int_list, is_constant, is_present
from onnx_snn.operators.base import Refusal
from onnx_snn.operators.carriers import Carrier, Places, gathered, scattered
from onnx_snn.scale import Scale

_UNBOUNDED = 2**31 - 1
"""Exporters write this, or more, for "to the end"."""


class Moving(Carrier):
    """Moves the entries of each axis on its own, and keeps the axes."""

    @abstractmethod
    def moved_axes(self, node: gs.Node) -> set[int]:
        """The axes whose entries do not all stay where they are."""

    @abstractmethod
    def places(self, node: gs.Node, axis: int) -> Places | None:
        """Where the entries along a moved axis come from, or None if that is not known."""

    def mixes_batch(self, node: gs.Node) -> bool:
        return 0 in self.moved_axes(node)

    def forward(self, node: gs.Node, scale: Scale) -> Scale | None:
        if scale.axis not in self.moved_axes(node):
            return scale
        places = self.places(node, scale.axis)
        return None if places is None else Scale(gathered(scale.values, places), scale.axis)

    def backward(self, node: gs.Node, scale: Scale) -> Scale | None:
        if scale.axis not in self.moved_axes(node):
            return scale
        places, size = self.places(node, scale.axis), node.inputs[0].shape[scale.axis]
        if places is None or not isinstance(size, int) or places.size != scale.values.size:
            return None
        values = scattered(scale.values, places, size)
        return None if values is None else Scale(values, scale.axis)


class Slice(Moving):
    """Every step-th entry from start to end, along some of the axes."""

    parameters = "its bounds are"
    accepts_metadata = True

    def refusal(self, node: gs.Node) -> Refusal | None:
        if not all(is_constant(t) or not is_present(t) for t in node.inputs[3:]):
            return Refusal("its axes are computed at run time", "export with fixed axes")
        return super().refusal(node)

    def _bounds(self, node: gs.Node) -> dict[int, slice | None]:
        """For each axis named, start, end and step; None where they are not known."""
        axes_count = len(node.inputs[0].shape)
        starts, ends, axes, steps = (_optional(node, index) for index in (1, 2, 3, 4))
        names = range(axes_count) if axes is None else [axis % axes_count for axis in axes]
        if starts is None or ends is None:
            return dict.fromkeys(names)
        bounds = zip(names, starts, ends, steps or [1] * len(starts), strict=False)
        return {axis: slice(start, end, step) for axis, start, end, step in bounds}

    def moved_axes(self, node: gs.Node) -> set[int]:
        everything = {axis for axis, bounds in self._bounds(node).items() if _is_whole(bounds)}
        return set(self._bounds(node)) - everything

    def places(self, node: gs.Node, axis: int) -> Places | None:
        bounds, size = self._bounds(node)[axis], node.inputs[0].shape[axis]
        if bounds is None or not isinstance(size, int):
            return None
        return np.arange(size)[bounds]


def _is_whole(bounds: slice | None) -> bool:
    return (
        bounds is not None and (bounds.start, bounds.step) == (0, 1) and bounds.stop >= _UNBOUNDED
    )


def _optional(node: gs.Node, index: int) -> list[int] | None:
    """The values of an optional constant input; None if it is left out or not constant."""
    if len(node.inputs) <= index or not is_constant(node.inputs[index]):
        return None
    return int_list(node.inputs[index])


class Pad(Moving):
    """Padding with zeros, or with values of the tensor itself (reflect, edge, wrap)."""

    parameters = "its amount is"

    def refusal(self, node: gs.Node) -> Refusal | None:
        refusal = super().refusal(node)
        if refusal is None and self._mode(node) == "constant" and len(node.inputs) > 2:
            value = node.inputs[2]
            if is_present(value) and np.any(value.values):
                return Refusal("it pads with a value other than 0", "pad with 0")
        return refusal

    @staticmethod
    def _mode(node: gs.Node) -> str:
        return str(node.attrs.get("mode", "constant"))

    def _amounts(self, node: gs.Node) -> dict[int, tuple[int, int]]:
        """For each axis named, how many entries are put before and behind."""
        axes_count = len(node.inputs[0].shape)
        pads, axes = int_list(node.inputs[1]), _optional(node, 3)
        names = range(axes_count) if axes is None else [axis % axes_count for axis in axes]
        half = len(pads) // 2
        return dict(zip(names, zip(pads[:half], pads[half:], strict=True), strict=True))

    def moved_axes(self, node: gs.Node) -> set[int]:
        return {axis for axis, amounts in self._amounts(node).items() if any(amounts)}

    def places(self, node: gs.Node, axis: int) -> Places | None:
        size = node.inputs[0].shape[axis]
        if not isinstance(size, int):
            return None
        before, behind = self._amounts(node)[axis]
        places = np.arange(size)[max(0, -before) : size - max(0, -behind)]  # negative: cropped
        amounts = (max(0, before), max(0, behind))
        if self._mode(node) == "constant":
            return np.pad(places, amounts, constant_values=-1)
        return np.pad(places, amounts, mode=self._mode(node))  # type: ignore[call-overload, no-any-return]

    def output(self, node: gs.Node, scales: Sequence[Scale], wish: Scale | None) -> Scale:
        out = super().output(node, scales, wish)
        if wish is None or out.is_scalar or wish.is_scalar or wish.axis != out.axis:
            return out
        places = self.places(node, out.axis) if out.axis in self.moved_axes(node) else None
        if places is None or places.size != wish.values.size:
            return out
        return Scale(np.where(places < 0, wish.values, out.values), out.axis)  # 0 is 0 in any unit


class Tile(Moving):
    """The tensor repeated along feature axes."""

    parameters = "its number of repeats is"

    def moved_axes(self, node: gs.Node) -> set[int]:
        return {axis for axis, count in enumerate(int_list(node.inputs[1])) if count != 1}

    def places(self, node: gs.Node, axis: int) -> Places | None:
        size = node.inputs[0].shape[axis]
        count = int_list(node.inputs[1])[axis]
        return np.tile(np.arange(size), count) if isinstance(size, int) else None


class Expand(Moving):
    """Axes of one entry repeated by broadcasting."""

    parameters = "its target shape is"
    accepts_metadata = True

    def moved_axes(self, node: gs.Node) -> set[int]:
        before, after = node.inputs[0].shape, node.outputs[0].shape
        if len(after) > len(before):
            return set(range(len(after)))
        if is_constant(node.inputs[1]):  # shape inference need not know what 1 does to "N"
            added = len(before) - len(int_list(node.inputs[1]))
            after = [1] * added + int_list(node.inputs[1])
            return {axis for axis, size in enumerate(after) if size not in (1, before[axis])}
        return {axis for axis, size in enumerate(after) if size != before[axis]}

    def places(self, node: gs.Node, axis: int) -> Places | None:
        size = node.outputs[0].shape[axis]
        return np.zeros(size, np.int64) if isinstance(size, int) else None


class Gather(Carrier):
    """Entries along a feature axis by constant indices; a single index drops the axis."""

    parameters = "its indices are"

    def _axis(self, node: gs.Node) -> int:
        return int(node.attrs.get("axis", 0)) % len(node.inputs[0].shape)

    def _indices(self, node: gs.Node) -> Places:
        return np.asarray(node.inputs[1].values, np.int64)

    def mixes_batch(self, node: gs.Node) -> bool:
        return self._axis(node) == 0

    def forward(self, node: gs.Node, scale: Scale) -> Scale | None:
        axis, indices = self._axis(node), self._indices(node)
        if scale.axis == axis:
            return None if indices.ndim > 1 else Scale(scale.values[indices], axis)
        return Scale(scale.values, scale.axis + (indices.ndim - 1) * (scale.axis > axis))

    def backward(self, node: gs.Node, scale: Scale) -> Scale | None:
        axis, indices = self._axis(node), self._indices(node)
        if axis <= scale.axis < axis + indices.ndim:
            size = node.inputs[0].shape[axis]
            if indices.ndim > 1 or not isinstance(size, int):
                return None
            values = scattered(scale.values, indices % size, size)
            return None if values is None else Scale(values, axis)
        return Scale(scale.values, scale.axis - (indices.ndim - 1) * (scale.axis > axis))


class DepthToSpace(Carrier):
    """Channels become pixels: b² channels of the input make one of the output."""

    def _places(self, node: gs.Node) -> Places | None:
        """For each channel of the input, the channel of the output it goes to."""
        count = node.inputs[0].shape[1]
        if not isinstance(count, int):
            return None
        block = int(node.attrs["blocksize"]) ** 2
        if node.attrs.get("mode", "DCR") == "CRD":
            return np.arange(count) // block
        return np.arange(count) % (count // block)

    def forward(self, node: gs.Node, scale: Scale) -> Scale | None:
        places = self._places(node)
        if scale.axis != 1 or places is None:
            return None
        values = scattered(scale.values, places, int(places.max()) + 1)
        return None if values is None else Scale(values)

    def backward(self, node: gs.Node, scale: Scale) -> Scale | None:
        places = self._places(node)
        return None if scale.axis != 1 or places is None else Scale(scale.values[places])


class SpaceToDepth(Carrier):
    """Pixels become channels: each channel of the input makes b² of the output."""

    def _places(self, node: gs.Node) -> Places | None:
        """For each channel of the output, the channel of the input it comes from."""
        count = node.inputs[0].shape[1]
        if not isinstance(count, int):
            return None
        block = int(node.attrs["blocksize"]) ** 2
        if node.attrs.get("mode", "DCR") == "CRD":
            return np.repeat(np.arange(count), block)
        return np.tile(np.arange(count), block)

    def forward(self, node: gs.Node, scale: Scale) -> Scale | None:
        places = self._places(node)
        return None if scale.axis != 1 or places is None else Scale(scale.values[places])

    def backward(self, node: gs.Node, scale: Scale) -> Scale | None:
        places = self._places(node)
        if scale.axis != 1 or places is None:
            return None
        values = scattered(scale.values, places, node.inputs[0].shape[1])
        return None if values is None else Scale(values)
