"""The constant part of an affine node: f(x) = f(x) with zero constants + what f adds to it.

The drain coding switches it off when the input ends, as the biases of a quantised network count
once for each step of its input and no more.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from onnx_snn.graph import is_constant, is_present, own_name, set_constant
from onnx_snn.operators.batch_normalization import BatchNormalization


def take_constant_part(node: gs.Node) -> gs.Constant | None:
    """Remove the constant part of a node.

    Args:
        node: linear; edited in place.

    Returns:
        What it added to its output, in a shape that broadcasts against it; None: nothing.
    """
    rank = len(node.outputs[0].shape)
    part: npt.NDArray[np.floating] | None = None
    if node.op in ("Conv", "ConvTranspose", "Gemm"):
        part = _bias(node, rank)
    elif node.op in ("Add", "Sub", "Sum", "Mean"):
        part = _constants(node)
    elif node.op == "BatchNormalization":
        _, shift = BatchNormalization.affine(node)
        part = shift.reshape(-1, *[1] * (rank - 2))
        variance = np.asarray(node.inputs[4].values)
        set_constant(node, 2, np.zeros_like(variance), "no_shift")
        set_constant(node, 3, np.zeros_like(variance), "no_mean")
    if part is None or not np.any(part):
        return None
    values = np.asarray(part, dtype=node.outputs[0].dtype)
    return gs.Constant(own_name(node, "constant_part"), values)


def _bias(node: gs.Node, rank: int) -> npt.NDArray[np.floating] | None:
    if len(node.inputs) < 3 or not is_present(node.inputs[2]):
        return None
    values = np.asarray(node.inputs[2].values)
    del node.inputs[2]
    if node.op == "Gemm":
        return float(node.attrs.get("beta", 1.0)) * values
    return values.reshape(-1, *[1] * (rank - 2))


def _constants(node: gs.Node) -> npt.NDArray[np.floating] | None:
    given = [np.asarray(tensor.values) for tensor in node.inputs if is_constant(tensor)]
    if not given:
        return None
    if node.op == "Sub":
        part = -given[0] if is_constant(node.inputs[1]) else given[0]
    else:
        part = np.asarray(sum(given)) / (len(node.inputs) if node.op == "Mean" else 1)
    for index, tensor in enumerate(node.inputs):
        if is_constant(tensor):
            set_constant(node, index, np.zeros_like(tensor.values), f"no_constant_{index}")
    return np.asarray(part)
