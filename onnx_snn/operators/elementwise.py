"""Sums of activations and constants, and products with a constant."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from onnx_snn.graph import activations, is_constant, rank, set_constant
from onnx_snn.operators.base import NO_ACTIVATION, Operator, Refusal, broadcast_refusal
from onnx_snn.scale import ONE, Scale


class Addition(Operator):
    """Add, Sub, Sum and Mean, of activations (which must share one λ) and constants (b' = b/λ)."""

    def refusal(self, node: gs.Node) -> Refusal | None:
        if not activations(node):
            return NO_ACTIVATION
        if len({rank(tensor) for tensor in activations(node)}) > 1:
            return Refusal(
                "its inputs differ in rank, so that the batch axis of one meets a feature axis "
                "of the other",
                "give both inputs the same number of axes",
            )
        return broadcast_refusal(node)

    def wish(self, node: gs.Node, out: Scale) -> Sequence[Scale | None]:
        return [out] * len(activations(node))

    def demand(
        self, node: gs.Node, scales: Sequence[Scale], wish: Scale | None
    ) -> Sequence[Scale | None]:
        return [self.output(node, scales, wish)] * len(scales)

    def output(self, node: gs.Node, scales: Sequence[Scale], wish: Scale | None) -> Scale:
        if all(scale == scales[0] for scale in scales):
            return scales[0]
        if wish is not None:
            return wish
        # Nobody minds: take a λ that one of the inputs has already.
        return next((scale for scale in scales if scale != ONE), ONE)

    def apply(self, node: gs.Node, scales: Sequence[Scale], out: Scale) -> None:
        if out == ONE:
            return
        for index, tensor in enumerate(node.inputs):
            if is_constant(tensor):
                values = np.asarray(tensor.values, dtype=np.float64)
                set_constant(node, index, values / out.shaped(len(node.outputs[0].shape)), "bias")


class Multiplication(Operator):
    """x·c, c·x or x/c with a constant c: c' = c·λ_in/λ_out, weights on the diagonal."""

    def refusal(self, node: gs.Node) -> Refusal | None:
        if len(activations(node)) != 1:
            return Refusal(
                "a product of two activations is not linear",
                "replace the gate or the attention by a layer with constant weights",
            )
        if node.op == "Div" and is_constant(node.inputs[0]):
            return Refusal("1/x is not linear", "replace it by a layer with constant weights")
        return broadcast_refusal(node)

    def output(self, node: gs.Node, scales: Sequence[Scale], wish: Scale | None) -> Scale:
        # A diagonal absorbs a λ along any axis, but along one axis only.
        scale = scales[0]
        if wish is None or not (scale.is_scalar or wish.is_scalar or scale.axis == wish.axis):
            return scale
        return wish

    def apply(self, node: gs.Node, scales: Sequence[Scale], out: Scale) -> None:
        if scales[0] == out:
            return
        index = 0 if is_constant(node.inputs[0]) else 1
        axes = len(node.outputs[0].shape)
        factor = scales[0].shaped(axes) / out.shaped(axes)
        values = np.asarray(node.inputs[index].values, dtype=np.float64)
        values = values / factor if node.op == "Div" else values * factor
        set_constant(node, index, values, "weight")
