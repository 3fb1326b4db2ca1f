"""The table of operators: one line for each ONNX operator that is more than analog.

To add one: write or choose a subclass of ``Operator`` in this folder and name it here.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import onnx_graphsurgeon as gs

from onnx_snn.graph import is_standard
from onnx_snn.operators.base import (
    Analog,
    CannotCarryError,
    Domain,
    Kind,
    Operator,
    Refusal,
)
from onnx_snn.operators.batch_normalization import BatchNormalization
from onnx_snn.operators.carriers import (
    Cast,
    Passing,
    Pooling,
    Reduction,
    Reshaping,
    Transpose,
)
from onnx_snn.operators.concat import Concat
from onnx_snn.operators.einsum import Einsum
from onnx_snn.operators.elementwise import Addition, Multiplication
from onnx_snn.operators.graded import GRADED
from onnx_snn.operators.maximum import Extremum, MaxPooling, ReduceExtremum
from onnx_snn.operators.metadata import Metadata, is_metadata
from onnx_snn.operators.moving import (
    DepthToSpace,
    Expand,
    Gather,
    Pad,
    Slice,
    SpaceToDepth,
    Tile,
)
from onnx_snn.operators.neurons import (
    Abs,
    Clip,
    ConstantExtremum,
    HardSigmoid,
    LeakyRelu,
    PRelu,
    Relu,
)
from onnx_snn.operators.resizing import Resize
from onnx_snn.operators.weighted import Conv, ConvTranspose, Gemm, MatMul

__all__ = [
    "EXTREMA",
    "GRADED",
    "OPERATORS",
    "Analog",
    "CannotCarryError",
    "Domain",
    "Kind",
    "Operator",
    "Refusal",
    "operator_of",
]

OPERATORS: Mapping[str, Operator] = MappingProxyType(
    {
        "Abs": Abs(),
        "Add": Addition(),
        "AveragePool": Pooling(),
        "BatchNormalization": BatchNormalization(),
        "Cast": Cast(),
        "Clip": Clip(),
        "Concat": Concat(),
        "Conv": Conv(),
        "ConvTranspose": ConvTranspose(),
        "DepthToSpace": DepthToSpace(),
        "Div": Multiplication(),
        "Einsum": Einsum(),
        "Expand": Expand(),
        "Flatten": Reshaping(),
        "Gather": Gather(),
        "Gemm": Gemm(),
        "GlobalAveragePool": Pooling(),
        "GlobalMaxPool": MaxPooling(),
        "HardSigmoid": HardSigmoid(),
        "LeakyRelu": LeakyRelu(),
        "MatMul": MatMul(),
        "Max": ConstantExtremum(),
        "MaxPool": MaxPooling(),
        "Mean": Addition(),
        "Min": ConstantExtremum(),
        "Mul": Multiplication(),
        "Neg": Passing(),
        "PRelu": PRelu(),
        "Pad": Pad(),
        "ReduceMean": Reduction(Kind.POOLING),
        "ReduceSum": Reduction(Kind.LINEAR),
        "Relu": Relu(),
        "Reshape": Reshaping(accepts_metadata=True),
        "Resize": Resize(),
        "Shape": Metadata(),
        "Size": Metadata(),
        "Slice": Slice(),
        "SpaceToDepth": SpaceToDepth(),
        "Squeeze": Reshaping(),
        "Sub": Addition(),
        "Sum": Addition(),
        "Tile": Tile(),
        "Transpose": Transpose(),
        "Unsqueeze": Reshaping(),
    }
)

EXTREMA: Mapping[str, Operator] = MappingProxyType(
    {
        "Max": Extremum(),
        "Min": Extremum(),
        "ReduceMax": ReduceExtremum(Kind.POOLING),
        "ReduceMin": ReduceExtremum(Kind.POOLING),
    }
)
"""Where the first table has another operator, or none, for some nodes of that name."""

_ANALOG = Analog()
_METADATA = Metadata()


def operator_of(node: gs.Node) -> Operator:
    """The operator of a node; ``Analog`` for every one that the tables do not name.

    A node that the first table's operator refuses may still be a maximum, or graded. Whatever is
    computed from shapes alone is metadata, by any operator.
    """
    if not is_standard(node):
        return _ANALOG
    if node.outputs and is_metadata(node.outputs[0]):
        return _METADATA
    candidates = [table[node.op] for table in (OPERATORS, EXTREMA, GRADED) if node.op in table]
    able = (operator for operator in candidates if operator.refusal(node) is None)
    return next(able, candidates[-1] if candidates else _ANALOG)
