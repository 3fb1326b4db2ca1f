"""BatchNormalization at inference: one factor and one shift per channel, gone after fold."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from onnx_snn.graph import is_constant, is_present, rank
from onnx_snn.operators.base import Operator, Refusal
from onnx_snn.scale import FloatArray


class BatchNormalization(Operator):
    """y = x·factor + shift along axis 1 (Ioffe and Szegedy 2015, arXiv 1502.03167)."""

    reason = "linear: folded into the layer next to it, or else one factor and shift per channel"

    def refusal(self, node: gs.Node) -> Refusal | None:
        used = [tensor for tensor in node.outputs if is_present(tensor)]
        if node.attrs.get("training_mode", 0) or len(used) > 1:
            return Refusal(
                "it is in training mode, so that its output depends on the batch",
                "export the model in evaluation mode (model.eval())",
                mixes_batch=True,
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
        return self._refused_parameters(node)

    def _refused_parameters(self, node: gs.Node) -> Refusal | None:
        gamma, beta, mean, variance = _parameters(node)
        if not all(np.all(np.isfinite(p)) for p in (gamma, beta, mean, variance)):
            return Refusal(
                "its parameters are not all finite", "train the model again, or repair the file"
            )
        if np.any(variance + _epsilon(node) <= 0):
            return Refusal(
                "its variance + epsilon is not positive in every channel",
                "export the running variance of the trained model, and epsilon > 0",
            )
        # What is not finite in the type of the network would come out as infinity or NaN.
        dtype = node.inputs[0].dtype or node.inputs[1].dtype
        with np.errstate(over="ignore"):
            folded = [values.astype(dtype) for values in self.affine(node)]
        if not np.all(np.isfinite(folded)):
            return Refusal(
                f"its factor or its shift is too large for {np.dtype(dtype)}",
                "export the model in a wider type, or with a larger epsilon",
            )
        return None

    @staticmethod
    def affine(node: gs.Node) -> tuple[FloatArray, FloatArray]:
        """factor = γ/√(σ² + ε) and shift = β − μ·factor, float64, each [C]."""
        gamma, beta, mean, variance = _parameters(node)
        factor = gamma / np.sqrt(variance + _epsilon(node))
        return factor, beta - mean * factor


def _parameters(node: gs.Node) -> list[FloatArray]:
    """γ, β, μ and σ², float64, each [C]."""
    return [np.asarray(tensor.values, dtype=np.float64) for tensor in node.inputs[1:5]]


def _epsilon(node: gs.Node) -> float:
    """ε as the file holds it: attributes of ONNX are float32, the default as well."""
    return float(np.float32(node.attrs.get("epsilon", 1e-5)))
