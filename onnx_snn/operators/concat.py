"""Concatenation: each input keeps its own λ where the channels are joined."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from onnx_snn.graph import activations, is_constant, rank
from onnx_snn.operators.base import NO_ACTIVATION, UNKNOWN_SHAPE, Operator, Refusal
from onnx_snn.scale import ONE, Scale, concatenate


class Concat(Operator):
    """Along the channel axis λ is joined too; along any other all inputs must share one λ."""

    def refusal(self, node: gs.Node) -> Refusal | None:
        if any(is_constant(tensor) for tensor in node.inputs):
            return Refusal(
                "one of its inputs is a constant, which has a batch of its own",
                "pad with 0 and add the constant instead",
            )
        if not activations(node):
            return NO_ACTIVATION
        if rank(node.outputs[0]) is None:
            return UNKNOWN_SHAPE
        if self._axis(node) == 0:
            return Refusal("it joins samples along the batch axis", "join along another axis", True)
        return None

    def wish(self, node: gs.Node, out: Scale) -> Sequence[Scale | None]:
        counts = self._counts(node)
        if out.is_scalar or out.axis != self._axis(node) or counts is None:
            return [out] * len(activations(node))
        ends = np.cumsum(counts)
        parts = np.split(out.values, ends[:-1])
        return [Scale(part, out.axis) for part in parts]

    def demand(
        self, node: gs.Node, scales: Sequence[Scale], wish: Scale | None
    ) -> Sequence[Scale | None]:
        if self._joins(node, scales):
            return [None] * len(scales)
        return self.wish(node, self._shared(scales, wish))

    def output(self, node: gs.Node, scales: Sequence[Scale], wish: Scale | None) -> Scale:
        if self._joins(node, scales):
            return concatenate(scales, self._counts(node) or [], self._axis(node))
        return self._shared(scales, wish)

    def _joins(self, node: gs.Node, scales: Sequence[Scale]) -> bool:
        axis = self._axis(node)
        if self._counts(node) is None:
            return False
        return all(scale.is_scalar or scale.axis == axis for scale in scales)

    @staticmethod
    def _shared(scales: Sequence[Scale], wish: Scale | None) -> Scale:
        if all(scale == scales[0] for scale in scales):
            return scales[0]
        return wish if wish is not None else ONE

    @staticmethod
    def _axis(node: gs.Node) -> int:
        axis = int(node.attrs["axis"])
        return axis if axis >= 0 else axis + len(node.outputs[0].shape)

    def _counts(self, node: gs.Node) -> list[int] | None:
        """Entries of each input along the axis, or None where one is not fixed."""
        axis = self._axis(node)
        counts = [tensor.shape[axis] for tensor in node.inputs if tensor.shape]
        fixed = [count for count in counts if isinstance(count, int)]
        return fixed if len(fixed) == len(node.inputs) else None
