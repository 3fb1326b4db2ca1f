"""The table of operators: one line for each ONNX operator that is more than analog.

To add one: write or choose a subclass of ``Operator`` in this folder and name it here.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import onnx_graphsurgeon as gs

from onnx_snn.graph import is_standard
from onnx_snn.operators.base import Analog, CannotCarryError, Kind, Operator, Refusal
from onnx_snn.operators.batch_normalization import BatchNormalization
from onnx_snn.operators.carriers import Pad, Pooling, ReduceMean, Reshaping, Transpose
from onnx_snn.operators.concat import Concat
from onnx_snn.operators.elementwise import Addition, Multiplication
from onnx_snn.operators.neurons import Relu
from onnx_snn.operators.weighted import Conv, ConvTranspose, Gemm, MatMul

__all__ = [
    "OPERATORS",
    "Analog",
    "CannotCarryError",
    "Kind",
    "Operator",
    "Refusal",
    "operator_of",
]

OPERATORS: Mapping[str, Operator] = MappingProxyType(
    {
        "Add": Addition(),
        "AveragePool": Pooling(),
        "BatchNormalization": BatchNormalization(),
        "Concat": Concat(),
        "Conv": Conv(),
        "ConvTranspose": ConvTranspose(),
        "Div": Multiplication(),
        "Flatten": Reshaping(),
        "Gemm": Gemm(),
        "GlobalAveragePool": Pooling(),
        "MatMul": MatMul(),
        "Mul": Multiplication(),
        "Pad": Pad(),
        "ReduceMean": ReduceMean(),
        "Relu": Relu(),
        "Reshape": Reshaping(),
        "Squeeze": Reshaping(),
        "Sub": Addition(),
        "Sum": Addition(),
        "Transpose": Transpose(),
        "Unsqueeze": Reshaping(),
    }
)

_ANALOG = Analog()


def operator_of(node: gs.Node) -> Operator:
    """The operator of a node; ``Analog`` for every one that the table does not name."""
    return OPERATORS.get(node.op, _ANALOG) if is_standard(node) else _ANALOG
