"""Resize: interpolation is linear in the values, whatever its mode."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from onnx_snn.graph import is_constant, is_present
from onnx_snn.operators.base import Refusal
from onnx_snn.operators.carriers import Carrier
from onnx_snn.scale import FloatArray, Scale


class Resize(Carrier):
    """Nearest, linear and cubic interpolation, in any coordinate system."""

    parameters = "its sizes are"
    accepts_metadata = True

    def refusal(self, node: gs.Node) -> Refusal | None:
        if self._crops(node):
            if float(node.attrs.get("extrapolation_value", 0.0)) != 0.0:
                return Refusal(
                    "it fills what lies outside the image with a value other than 0",
                    "set extrapolation_value to 0",
                )
            if not is_constant(node.inputs[1]):
                return Refusal("its region is computed at run time", "export with a fixed region")
        return super().refusal(node)

    @staticmethod
    def _crops(node: gs.Node) -> bool:
        return bool(node.attrs.get("coordinate_transformation_mode") == "tf_crop_and_resize")

    def resized_axes(self, node: gs.Node) -> set[int]:
        """The axes whose values are mixed; those of equal size before and after are not."""
        before, after = node.inputs[0].shape, node.outputs[0].shape
        axes = [int(axis) % len(before) for axis in node.attrs.get("axes", range(len(before)))]
        scales = _values(node, 2)
        if scales is not None:
            resized = {a for a, factor in zip(axes, scales, strict=True) if factor != 1.0}
        else:
            resized = {a for a in axes if before[a] != after[a]}
        if self._crops(node):
            start, end = np.split(np.asarray(node.inputs[1].values, np.float64), 2)
            whole = (start == 0.0) & (end == 1.0)
            resized |= {a for a, kept in zip(axes, whole, strict=True) if not kept}
        return resized

    def mixes_batch(self, node: gs.Node) -> bool:
        return 0 in self.resized_axes(node)

    def forward(self, node: gs.Node, scale: Scale) -> Scale | None:
        return None if scale.axis in self.resized_axes(node) else scale

    backward = forward


def _values(node: gs.Node, index: int) -> FloatArray | None:
    """The values of an optional input; None if left out, empty, or not constant."""
    if len(node.inputs) <= index or not is_present(node.inputs[index]):
        return None
    tensor = node.inputs[index]
    if not is_constant(tensor) or tensor.values.size == 0:
        return None
    return np.asarray(tensor.values, np.float64)
