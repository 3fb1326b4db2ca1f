"""Functions that no neuron computes: evaluated on the mean over time, and handed on by difference.

With X_t the sum of the first t inputs, step t gives

    y_t = t·f(X_t/t) − (t − 1)·f(X_{t−1}/(t − 1)),    y_1 = f(X_1)

so that the mean of y over T steps is f of the mean of x, exactly. But y_t is a graded value, not a
spike. Such nodes see the ANN's own units (λ = 1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
import onnx_graphsurgeon as gs

from onnx_snn.graph import activations, int_list, is_constant, is_float, is_present, rank, variables
from onnx_snn.operators.base import MIXES_BATCH, UNKNOWN_SHAPE, Analog, Domain, Kind, Refusal
from onnx_snn.operators.metadata import is_metadata

_RANKS = Refusal(
    "its inputs differ in rank, so that the batch axis of one meets a feature axis of the other",
    "give all inputs the same number of axes",
)


class Graded(Analog):
    """A function of each sample by itself; ``refuse`` says which nodes are not."""

    kind = Kind.DIFFERENTIAL
    domain = Domain.MEAN
    reason = "graded, not spiking: a function of the mean so far, by difference"

    def __init__(self, refuse: Callable[[gs.Node], Refusal | None]) -> None:
        self._refuse = refuse

    def refusal(self, node: gs.Node) -> Refusal | None:
        inputs = activations(node)
        if not inputs or rank(inputs[0]) is None or rank(node.outputs[0]) is None:
            return UNKNOWN_SHAPE
        if any(not is_float(t) and not is_metadata(t) for t in variables(node)):
            return Refusal(
                "one of its inputs is a condition or an index computed at run time",
                "replace it by arithmetic, or by an activation function",
            )
        if any(is_present(tensor) for tensor in node.outputs[1:]):
            return Refusal("more than its first output is read", "export it for inference")
        return self._refuse(node)


def _never(node: gs.Node) -> Refusal | None:
    return None


def _broadcast(node: gs.Node) -> Refusal | None:
    """Element by element, with broadcasting."""
    axes = rank(node.outputs[0])
    if any(rank(tensor) not in (0, axes) for tensor in activations(node)):
        return _RANKS
    for tensor in node.inputs:
        if is_constant(tensor) and np.ndim(tensor.values) == axes and len(tensor.values) != 1:
            return MIXES_BATCH
    return None


def _one_activation(node: gs.Node) -> Refusal | None:
    """Parameters behind the first input are constant."""
    if len(activations(node)) > 1:
        return Refusal("its bounds are computed at run time", "export it with constant bounds")
    return None


def _along_axis(default: int) -> Callable[[gs.Node], Refusal | None]:
    """Along one axis."""

    def refuse(node: gs.Node) -> Refusal | None:
        axes = rank(activations(node)[0]) or 1
        return MIXES_BATCH if int(node.attrs.get("axis", default)) % axes == 0 else None

    return refuse


def _axes_list(node: gs.Node) -> Refusal | None:
    """Over the axes of an attribute or an input."""
    count = rank(node.inputs[0]) or 1
    axes: list[int] = [int(axis) for axis in node.attrs.get("axes", [])]
    if len(node.inputs) > 1 and is_present(node.inputs[1]):
        if not is_constant(node.inputs[1]):
            return Refusal("its axes are computed at run time", "export with fixed axes")
        axes = int_list(node.inputs[1])
    if not axes:
        axes = [] if node.attrs.get("noop_with_empty_axes", 0) else list(range(count))
    return MIXES_BATCH if any(axis % count == 0 for axis in axes) else None


def _mean_variance(node: gs.Node) -> Refusal | None:
    count = rank(node.inputs[0]) or 1
    axes = node.attrs.get("axes", [0, 2, 3])
    return MIXES_BATCH if any(int(axis) % count == 0 for axis in axes) else None


def _matrix_product(node: gs.Node) -> Refusal | None:
    """Axis 0 must be one of a batch of matrices."""
    axes = rank(node.outputs[0]) or 0
    if axes < 3:
        return MIXES_BATCH
    if any(rank(tensor) != axes for tensor in activations(node)):
        return _RANKS
    return None


def _einsum(node: gs.Node) -> Refusal | None:
    """The first letter of the output, or its ellipsis, is that of every activation alone."""
    operands, arrow, output = str(node.attrs["equation"]).replace(" ", "").partition("->")
    batch = "..." if output.startswith("...") else output[:1]
    if not arrow or not batch:
        return MIXES_BATCH
    for tensor, term in zip(node.inputs, operands.split(","), strict=True):
        if is_constant(tensor):
            mixes = batch in term and batch != "..."
        else:
            mixes = not term.startswith(batch) or term.count(batch) > 1
        if mixes:
            return MIXES_BATCH
    return None


_ELEMENTWISE = (
    "Abs Acos Acosh Asin Asinh Atan Atanh Ceil Celu Cos Cosh Elu Erf Exp Floor Gelu GlobalLpPool "
    "HardSigmoid HardSwish InstanceNormalization LRN LeakyRelu Log LpPool Mish Reciprocal Round "
    "Selu Shrink Sigmoid Sign Sin Sinh Softplus Softsign Sqrt Swish Tan Tanh ThresholdedRelu"
)
_BROADCAST = "Div Max Min Mod Mul PRelu Pow Where"
_REDUCTIONS = (
    "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMin ReduceProd ReduceSumSquare"
)

GRADED: Mapping[str, Graded] = MappingProxyType(
    {
        **{op: Graded(_never) for op in _ELEMENTWISE.split()},
        **{op: Graded(_broadcast) for op in _BROADCAST.split()},
        **{op: Graded(_axes_list) for op in _REDUCTIONS.split()},
        "Einsum": Graded(_einsum),
        "Clip": Graded(_one_activation),
        "Hardmax": Graded(_along_axis(-1)),
        "LayerNormalization": Graded(_along_axis(-1)),
        "LogSoftmax": Graded(_along_axis(-1)),
        "LpNormalization": Graded(_along_axis(-1)),
        "MatMul": Graded(_matrix_product),
        "MeanVarianceNormalization": Graded(_mean_variance),
        "RMSNormalization": Graded(_along_axis(-1)),
        "Softmax": Graded(_along_axis(-1)),
    }
)
"""For each operator that has no spiking form the graded one."""
