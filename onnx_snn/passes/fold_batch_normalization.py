"""Fold BatchNormalization, and what exporters write for it, into the linear layer next to it.

    y = BN(W·x + b)                 factor = γ/√(σ² + ε),  shift = β − μ·factor
    y = W'·x + b'                   W' = factor·W,  b' = factor·b + shift
    y = W·BN(x) + b
    y = W'·x + b'                   W' = W·factor,  b' = b + W·shift

A chain is BatchNormalization, Mul, Div, Add and Sub by constants with one number per channel, one
behind the other. Before → after, with ``layer`` a Conv, ConvTranspose, Gemm, or MatMul (→ Add):

    layer (→ Transpose | Reshape …) → chain      becomes the layer alone
    chain (→ Transpose | Reshape …) → layer      becomes the layer alone
    any other chain                              becomes Mul → Add

Source: Jacob et al. 2018, "Quantization and Training of Neural Networks for Efficient
Integer-Arithmetic-Only Inference", section 3.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy.typing as npt
import onnx_graphsurgeon as gs

from onnx_snn.affine import Affine, affine_of
from onnx_snn.graph import constant, insert_before, is_constant, own_name, unique_name
from onnx_snn.linear_layer import LinearLayer, sole_producer, sole_reader
from onnx_snn.scale import FloatArray, Scale


def fold_batch_normalization(graph: gs.Graph) -> bool:
    """Remove every BatchNormalization of a clean graph, and every chain next to a layer.

    Conditions for a fold, all checked before the first edit: inference mode, constant
    parameters, a layer with constant weights, and nobody else reads what lies between (node or
    graph output). Before a layer with zero padding the padding must stay zero, so that only a
    factor can be folded. Where a condition fails, the chain becomes a Mul and an Add, which is
    exact too.

    Args:
        graph: in clean form; edited in place. A BatchNormalization that is refused is left.

    Returns:
        Whether anything changed; a second call changes nothing.
    """
    changed = False
    while _sweep(graph):
        changed = True
    if changed:
        graph.cleanup().toposort()
    return changed


@dataclass(frozen=True, eq=False)
class _Chain:
    """Nodes of which each alone reads the one before, and what they compute together."""

    nodes: list[gs.Node]
    affine: Affine

    @property
    def source(self) -> gs.Variable:
        return _data(self.nodes[0])

    @property
    def result(self) -> gs.Variable:
        return self.nodes[-1].outputs[0]


def _data(node: gs.Node) -> gs.Variable:
    """The input of an affine node that is not constant."""
    return next(tensor for tensor in node.inputs if not is_constant(tensor))


def _sweep(graph: gs.Graph) -> bool:
    changed = False
    seen: set[int] = set()
    for node in list(graph.nodes):
        # Nodes that went with an earlier chain have no outputs.
        if id(node) in seen or not node.outputs:
            continue
        chain = _chain_from(graph, node)
        if chain is None:
            continue
        seen |= {id(member) for member in chain.nodes}
        if not _is_bias(graph, chain):
            changed |= (
                _fold_behind(graph, chain) or _fold_ahead(graph, chain) or _rewrite(graph, chain)
            )
    return changed


def _chain_from(graph: gs.Graph, node: gs.Node) -> _Chain | None:
    """The longest chain that begins with a node; the graph is sorted, so heads come first."""
    affine = affine_of(node)
    if affine is None:
        return None
    nodes = [node]
    while (reader := sole_reader(graph, nodes[-1].outputs[0])) is not None:
        following = affine_of(reader)
        both = None if following is None else affine.then(following)
        if both is None or not both.fits(_dtype(node)):
            break
        nodes.append(reader)
        affine = both
    return _Chain(nodes, affine)


def _dtype(node: gs.Node) -> npt.DTypeLike:
    """The type of an affine node's numbers."""
    dtype: npt.DTypeLike = _data(node).dtype
    return next(t.dtype for t in node.inputs if is_constant(t)) if dtype is None else dtype


def _is_bias(graph: gs.Graph, chain: _Chain) -> bool:
    """Whether the chain is but the bias of a MatMul, where it belongs."""
    layer = LinearLayer.of(graph, chain.nodes[0]) if len(chain.nodes) == 1 else None
    return layer is not None


def _fold_behind(graph: gs.Graph, chain: _Chain) -> bool:
    """layer → chain becomes the layer."""
    tensor, affine = chain.source, chain.affine
    producer = sole_producer(graph, tensor)
    while producer is not None:
        layer = LinearLayer.of(graph, producer)
        if layer is not None:
            return _absorb_behind(graph, chain, layer, affine)
        moved = affine.before(producer)
        if moved is None:
            return False
        affine = moved
        producer = sole_producer(graph, producer.inputs[0])
    return False


def _absorb_behind(graph: gs.Graph, chain: _Chain, layer: LinearLayer, affine: Affine) -> bool:
    if layer.add is chain.nodes[0]:
        layer = LinearLayer(layer.node)  # its bias is part of the chain
    absorbed = layer.absorbed_behind(affine)
    if absorbed is None:
        return False
    producer = chain.source.inputs[0]
    producer.outputs = [chain.result if t is chain.source else t for t in producer.outputs]
    _detach(chain)
    layer.replace(graph, *absorbed)
    return True


def _fold_ahead(graph: gs.Graph, chain: _Chain) -> bool:
    """chain → layer becomes the layer."""
    affine = chain.affine
    reader = first = sole_reader(graph, chain.result)
    while reader is not None and first is not None:
        layer = LinearLayer.of(graph, reader)
        if layer is not None:
            absorbed = layer.absorbed_ahead(affine)
            if absorbed is None:
                return False
            source, result = chain.source, chain.result
            first.inputs = [source if t is result else t for t in first.inputs]
            _detach(chain)
            layer.replace(graph, *absorbed)
            return True
        moved = affine.behind(reader)
        if moved is None:
            return False
        affine = moved
        reader = sole_reader(graph, reader.outputs[0])
    return False


def _rewrite(graph: gs.Graph, chain: _Chain) -> bool:
    """The chain as Mul → Add, of which one is enough where it only scales or only shifts."""
    affine, last = chain.affine, chain.nodes[-1]
    fewest = max(affine.scales + affine.shifts, 1)
    if len(chain.nodes) <= fewest and all(n.op != "BatchNormalization" for n in chain.nodes):
        return False
    source, result = chain.source, chain.result
    dtype, axes = _dtype(chain.nodes[0]), len(source.shape)

    def operand(role: str, values: FloatArray) -> gs.Constant:
        return constant(own_name(last, role), Scale(values, affine.axis).shaped(axes), dtype)

    nodes = []
    if affine.scales or not affine.shifts:
        name = own_name(last, "scale") if affine.shifts else last.name
        scale = gs.Node("Mul", name, inputs=[source, operand("factor", affine.factor)])
        nodes.append(scale)
        if affine.shifts:
            name = unique_name(graph, own_name(last, "scaled"))
            scale.outputs = [gs.Variable(name, dtype, list(source.shape))]
            source = scale.outputs[0]
    if affine.shifts:
        nodes.append(gs.Node("Add", last.name, inputs=[source, operand("shift", affine.shift)]))
    insert_before(graph, chain.nodes[0], nodes)
    _detach(chain)
    nodes[-1].outputs = [result]
    return True


def _detach(chain: _Chain) -> None:
    """Take the chain out of the graph; what it computed must have other readers or producers."""
    for node in chain.nodes:
        node.inputs.clear()
        node.outputs.clear()
