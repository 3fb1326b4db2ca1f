"""Activation functions that spiking neurons stand in for."""

from __future__ import annotations

from collections.abc import Sequence

import onnx_graphsurgeon as gs

from onnx_snn.graph import activations, rank
from onnx_snn.operators.base import Kind, Operator, Refusal
from onnx_snn.scale import Scale


class Relu(Operator):
    """max(x, 0): the firing rate of an integrate-and-fire neuron with soft reset.

    Its λ comes from calibration, so normalise sets it; see ``onnx_snn.passes.normalise``.
    """

    kind = Kind.SPIKING

    def refusal(self, node: gs.Node) -> Refusal | None:
        if not rank(node.outputs[0]):
            return Refusal(
                "the shape of its input is unknown", "run shape inference, or export with shapes"
            )
        return None

    def wish(self, node: gs.Node, out: Scale) -> Sequence[Scale | None]:
        return [None] * len(activations(node))
