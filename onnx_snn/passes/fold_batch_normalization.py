"""Fold BatchNormalization into the linear layer before it; the function stays the same.

    y = BN(W·x + b)                 factor = γ/√(σ² + ε)
    y = W'·x + b'                   W' = factor·W,  b' = factor·(b − μ) + β

Before → after:

    Conv | ConvTranspose | Gemm | MatMul | MatMul → Add  → BN    becomes that layer alone
    anything else → BN                                           becomes Mul → Add

Source: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", section 3.2.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from onnx_snn.graph import (
    constant,
    insert_before,
    is_constant,
    is_present,
    is_standard,
    own_name,
    rank,
    set_constant,
)
from onnx_snn.operators import operator_of
from onnx_snn.operators.batch_normalization import BatchNormalization
from onnx_snn.scale import FloatArray


def fold_batch_normalization(graph: gs.Graph) -> bool:
    """Remove every BatchNormalization of a clean graph.

    Conditions for a fold, all checked before the first edit: inference mode, constant
    parameters, a layer with constant weights whose output nobody else reads (node or graph
    output). Where one fails, the node becomes a Mul and an Add, which is exact too.

    Args:
        graph: in clean form, with no refused node; edited in place.

    Returns:
        Whether anything changed.
    """
    found = [n for n in graph.nodes if n.op == "BatchNormalization" and is_standard(n)]
    found = [node for node in found if operator_of(node).refusal(node) is None]
    for node in found:
        factor, shift = BatchNormalization.affine(node)
        layer = _foldable_layer(graph, node)
        if layer is not None:
            _fold(graph, node, layer, factor, shift)
        else:
            _decompose(graph, node, factor, shift)
    if found:
        graph.cleanup().toposort()
    return bool(found)


def _foldable_layer(graph: gs.Graph, node: gs.Node) -> gs.Node | None:
    """The layer that can take the node in: Conv, …, or the Add behind a MatMul."""
    layer = _sole_producer(graph, node.inputs[0])
    if layer is None or not is_standard(layer):
        return None
    if layer.op == "Add":
        inner = [t for t in layer.inputs if not is_constant(t)]
        matmul = _sole_producer(graph, inner[0]) if len(inner) == 1 else None
        if matmul is None or not _is_dense(matmul) or matmul.op != "MatMul":
            return None
        bias = next(t for t in layer.inputs if is_constant(t))
        channels = matmul.inputs[1].values.shape[1]
        return layer if bias.values.size in (1, channels) and bias.values.ndim <= 2 else None
    return layer if _is_dense(layer) else None


def _is_dense(layer: gs.Node) -> bool:
    if not is_standard(layer) or layer.op not in ("Conv", "ConvTranspose", "Gemm", "MatMul"):
        return False
    # BN's channels are axis 1; those of MatMul are the last axis.
    matches = layer.op != "MatMul" or rank(layer.outputs[0]) == 2
    return matches and operator_of(layer).refusal(layer) is None


def _sole_producer(graph: gs.Graph, tensor: gs.Variable) -> gs.Node | None:
    if len(tensor.inputs) != 1 or len(tensor.outputs) != 1:
        return None
    if any(output is tensor for output in graph.outputs):
        return None
    return tensor.inputs[0]


def _fold(
    graph: gs.Graph, node: gs.Node, layer: gs.Node, factor: FloatArray, shift: FloatArray
) -> None:
    if layer.op == "Add":
        matmul = next(t for t in layer.inputs if not is_constant(t)).inputs[0]
        index = next(i for i, t in enumerate(layer.inputs) if is_constant(t))
        _scale_weight(matmul, factor)
        bias = np.asarray(layer.inputs[index].values, dtype=np.float64).ravel()
        set_constant(layer, index, bias * factor + shift, "bias")
    elif layer.op == "MatMul":
        _scale_weight(layer, factor)
        _become_add(graph, node, layer, shift)
        return
    else:
        _scale_weight(layer, factor)
        _scale_bias(layer, factor, shift)
    result = node.outputs[0]
    node.outputs.clear()
    node.inputs.clear()
    layer.outputs[0] = result


def _scale_weight(layer: gs.Node, factor: FloatArray) -> None:
    """W' = factor·W along the output channels."""
    weight = np.asarray(layer.inputs[1].values, dtype=np.float64)
    if layer.op == "Conv":
        shaped = factor.reshape(-1, *[1] * (weight.ndim - 1))
    elif layer.op == "ConvTranspose":
        groups = int(layer.attrs.get("group", 1))
        # W is [I, O/groups, *kernel]: rows of group g produce the channels of group g.
        rows = np.repeat(factor.reshape(groups, -1), weight.shape[0] // groups, axis=0)
        shaped = rows.reshape(*weight.shape[:2], *[1] * (weight.ndim - 2))
    elif layer.op == "Gemm" and layer.attrs.get("transB", 0):
        shaped = factor[:, None]
    else:
        shaped = factor
    set_constant(layer, 1, weight * shaped, "weight")


def _scale_bias(layer: gs.Node, factor: FloatArray, shift: FloatArray) -> None:
    """b' = factor·b + shift; Gemm's beta moves into b', so that a missing one costs nothing."""
    beta = float(layer.attrs.get("beta", 1.0)) if layer.op == "Gemm" else 1.0
    if len(layer.inputs) > 2 and is_present(layer.inputs[2]):
        old = np.asarray(layer.inputs[2].values, dtype=np.float64)
        bias = beta * (old.ravel() if old.size > 1 else old.item()) * factor + shift
        set_constant(layer, 2, bias, "bias")
    else:
        bias_tensor = constant(own_name(layer, "bias"), shift, layer.inputs[1].dtype)
        layer.inputs = [*layer.inputs[:2], bias_tensor]
    if layer.op == "Gemm":
        layer.attrs["beta"] = 1.0


def _become_add(graph: gs.Graph, node: gs.Node, layer: gs.Node, shift: FloatArray) -> None:
    node.op, node.attrs = "Add", {}
    shift_tensor = constant(own_name(node, "shift"), shift, layer.inputs[1].dtype)
    node.inputs = [node.inputs[0], shift_tensor]


def _decompose(graph: gs.Graph, node: gs.Node, factor: FloatArray, shift: FloatArray) -> None:
    """BN(x) = x·factor + shift as Mul → Add, for a BN with no layer to fold into."""
    axes = len(node.inputs[0].shape)
    dtype = node.inputs[0].dtype or node.inputs[1].dtype
    shape = [1, -1, *[1] * (axes - 2)]
    source, result = node.inputs[0], node.outputs[0]
    scaled = gs.Variable(f"{node.name}/scaled", dtype, list(source.shape))
    multiply = gs.Node(
        "Mul",
        f"{node.name}/scale",
        inputs=[source, constant(own_name(node, "factor"), factor.reshape(shape), dtype)],
        outputs=[scaled],
    )
    insert_before(graph, node, [multiply])
    node.op, node.attrs = "Add", {}
    node.inputs = [scaled, constant(own_name(node, "shift"), shift.reshape(shape), dtype)]
    node.outputs = [result]
