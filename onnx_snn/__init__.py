"""Rewrite trained ONNX networks into spiking neural networks that run in onnxruntime."""

from onnx_snn.activation_stats import ActivationStats
from onnx_snn.bound_session import BoundSession
from onnx_snn.convert import Conversion, convert
from onnx_snn.errors import OnnxSnnError
from onnx_snn.evaluate import Evaluation, evaluate
from onnx_snn.explain import LayerError, explain
from onnx_snn.reference import reference
from onnx_snn.reschedule import reschedule
from onnx_snn.session import create_session, get_library_path
from onnx_snn.stream import Stream

__all__ = [
    "ActivationStats",
    "BoundSession",
    "Conversion",
    "Evaluation",
    "LayerError",
    "OnnxSnnError",
    "Stream",
    "convert",
    "create_session",
    "evaluate",
    "explain",
    "get_library_path",
    "reference",
    "reschedule",
]
