"""Load: any valid ONNX model to one clean form; see ``onnx_snn.load.load_graph``."""

from onnx_snn.load.load_graph import load_graph
from onnx_snn.load.opset import MIN_OPSET

__all__ = ["MIN_OPSET", "load_graph"]
