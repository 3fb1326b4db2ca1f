"""BatchNormalization at inference: one factor and one shift per channel, gone after fold."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from onnx_snn.graph import is_constant, is_present, rank
from onnx_snn.operators.base import Operator, Refusal
from onnx_snn.scale import FloatArray


class BatchNormalization(Operator):
    """y = x·factor + shift along axis 1 (Ioffe and Szegedy 2015, arXiv 1502.03167)."""

    reason = "linear: folded into the layer before it, or else one factor and shift per channel"

    def refusal(self, node: gs.Node) -> Refusal | None:
        used = [tensor for tensor in node.outputs if is_present(tensor)]
        if node.attrs.get("training_mode", 0) or len(used) > 1:
            return Refusal(
                "it is in training mode, so that its output depends on the batch",
                "export the model in evaluation mode (model.eval())",
            )
        if not all(is_constant(tensor) for tensor in node.inputs[1:5]):
            return Refusal(
                "its statistics are computed at run time",
                "export the model with its parameters as initializers",
            )
        if rank(node.inputs[0]) is None:
            return Refusal(
                "the shape of its input is unknown", "run shape inference, or export with shapes"
            )
        return None

    @staticmethod
    def affine(node: gs.Node) -> tuple[FloatArray, FloatArray]:
        """factor = γ/√(σ² + ε) and shift = β − μ·factor, float64, each [C]."""
        gamma, beta, mean, variance = (
            np.asarray(tensor.values, dtype=np.float64) for tensor in node.inputs[1:5]
        )
        factor = gamma / np.sqrt(variance + float(node.attrs.get("epsilon", 1e-5)))
        return factor, beta - mean * factor
