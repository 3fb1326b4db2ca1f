"""Rewrite activation functions until neurons can stand in for them; the function stays the same.

Every activation becomes Relu, or Clip from 0 to a constant, and linear operators around it:

    Clip(x, 0, ∞)               becomes  Relu(x)
    Clip(x, a, b), a < 0 < b    becomes  Clip(x, 0, b) − Clip(−x, 0, −a)
    Clip(x, a, b), b <= 0       becomes  b − Clip(b − x, 0, b − a)
    Clip(x, −∞, b)              becomes  b − Relu(b − x)
    Clip(x, a, b), else         becomes  a + Clip(x − a, 0, b − a)
    Clip(x, 0, b_c)             becomes  b_c·Clip(x/b_c, 0, 1)      one bound for each channel c
    LeakyRelu, PRelu, Abs       become   Relu(x) − slope·Relu(−x)
    HardSigmoid(x)              becomes  Clip(α·x + β, 0, 1)

Max and Min with a constant are Clips with one bound. Of Clips in a row, one is left.

Two populations for one activation are like the ON and OFF cells of the retina.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from onnx_snn.graph import activations, constant, insert_before, new_name, own_name
from onnx_snn.operators import operator_of
from onnx_snn.operators.neurons import Bounded, HardSigmoid, Interval, TwoSided, single
from onnx_snn.scale import FloatArray


def rewrite_activations(graph: gs.Graph) -> bool:
    """Bring all activations of a clean graph to Relu and Clip from 0 to a constant.

    Neurons keep the name of the node they come from; where it takes two populations, they are
    called ``name/positive`` and ``name/negative``. The tensors behind them keep their names.

    Args:
        graph: in clean form; edited in place. Activations that are refused stay as they are.

    Returns:
        Whether anything changed.
    """
    taken = {node.name for node in graph.nodes} | set(graph.tensors())
    changed = False
    for node in list(graph.nodes):
        changed |= _expand(graph, node, taken)
    for node, source, interval in list(_intervals(graph)):
        write = _Writer(node, source, taken)
        write.finish(graph, _bounded(write, interval))
        changed = True
    if changed:
        graph.cleanup().toposort()
    return changed


def _expand(graph: gs.Graph, node: gs.Node, taken: set[str]) -> bool:
    """Rewrite an activation that is not just an interval."""
    operator = operator_of(node)
    if not isinstance(operator, HardSigmoid | TwoSided) or operator.refusal(node) is not None:
        return False
    write = _Writer(node, activations(node)[0], taken)
    if isinstance(operator, HardSigmoid):
        alpha, beta = operator.affine(node)
        scaled = write("Mul", write.source, write.constant(alpha, "alpha"), role="scaled")
        shifted = write("Add", scaled, write.constant(beta, "beta"), role="shifted")
        result = _neurons(write, shifted, np.ones(()))
    else:
        result = _two_sided(write, operator.slope(node))
    write.finish(graph, result)
    return True


def _two_sided(write: _Writer, slope: FloatArray) -> gs.Variable:
    """Relu(x) − slope·Relu(−x)."""
    if not np.any(slope):
        return write("Relu", write.source)
    positive = write("Relu", write.source, role="positive")
    negative = write("Relu", _negated(write), role="negative")
    if np.all(slope == -1):
        return write("Add", positive, negative, role="sum")
    leak = write("Mul", negative, write.constant(slope, "slope"), role="leak")
    return write("Sub", positive, leak, role="sum")


def _intervals(graph: gs.Graph) -> Iterator[tuple[gs.Node, gs.Variable, Interval]]:
    """The nodes to rewrite, with the input and the bounds they get; of those in a row, the last."""
    found: dict[str, tuple[gs.Node, gs.Variable, Interval]] = {}
    outputs = {tensor.name for tensor in graph.outputs}
    for node in graph.nodes:
        operator = operator_of(node)
        if not isinstance(operator, Bounded) or operator.refusal(node) is not None:
            continue
        source, interval = activations(node)[0], operator.interval(node)
        before = source.inputs[0].name if source.inputs else ""
        if before in found and len(source.outputs) == 1 and source.name not in outputs:
            _, first, inner = found[before]
            if not inner.then(interval).is_constant:  # else the two stay: neither is in vain
                source, interval = first, inner.then(interval)
                del found[before]
        found[node.name] = (node, source, interval)
    for node, source, interval in found.values():
        if source is not activations(node)[0] or not _is_plain(node, interval):
            yield node, source, interval


def _is_plain(node: gs.Node, interval: Interval) -> bool:
    """Whether the node is one of the two forms already."""
    capped = node.op == "Clip" and bool(np.isfinite(interval.high))
    return interval.is_neuron and (node.op == "Relu" or capped)


def _bounded(write: _Writer, interval: Interval) -> gs.Variable:
    """min(max(x, low), high); see the module's text for the formulas."""
    x, low, high = write.source, interval.low, interval.high
    if not np.any(low):
        return _neurons(write, x, high)
    if np.all(np.isfinite(low) & np.isfinite(high) & (low < 0) & (high > 0)):
        positive = _neurons(write, x, high, "positive")
        negative = _neurons(write, _negated(write), -low, "negative")
        return write("Sub", positive, negative, role="sum")
    if np.all(np.isinf(low)) or np.all(high <= 0):
        bound = write.constant(high, "high")
        below = write("Sub", bound, x, role="below")
        return write("Sub", bound, _neurons(write, below, high - low), role="restored")
    bound = write.constant(low, "low")
    above = write("Sub", x, bound, role="above")
    return write("Add", bound, _neurons(write, above, high - low), role="restored")


def _neurons(
    write: _Writer, x: gs.Variable, high: FloatArray, role: str | None = None
) -> gs.Variable:
    """Clip(x, 0, high), with bounds that may be infinite or one for each channel."""
    high = single(high)
    if high.ndim:
        inner = "" if role is None else f"{role}/"
        scaled = write("Mul", x, write.constant(1 / high, f"{inner}unit"), role=f"{inner}scaled")
        capped = _neurons(write, scaled, np.ones(()), role)
        return write("Mul", capped, write.constant(high, f"{inner}high"), role=f"{inner}unscaled")
    if np.isinf(high):
        return write("Relu", x, role=role)
    bounds = [write.constant(value, role or "neurons") for value in (np.zeros(()), high)]
    return write("Clip", x, *bounds, role=role)


def _negated(write: _Writer) -> gs.Variable:
    return write("Mul", write.source, write.constant(-1.0, "minus"), role="negated")


class _Writer:
    """Writes the nodes that replace one.

    Attributes:
        source: what they read.
    """

    def __init__(self, node: gs.Node, source: gs.Variable, taken: set[str]) -> None:
        self.source = source
        self._node = node
        self._taken = taken
        self._nodes: list[gs.Node] = []
        self._dtype = node.outputs[0].dtype or source.dtype

    def __call__(self, op: str, *inputs: gs.Tensor, role: str | None = None) -> gs.Variable:
        """Append a node; without a role, it takes the place of the old one by its name."""
        name = self._node.name
        tensor_name = self._new_name(f"{name}/{role or 'neurons'}")
        result = gs.Variable(tensor_name, self._dtype, list(self._node.outputs[0].shape))
        node = gs.Node(op, tensor_name if role else name, inputs=list(inputs), outputs=[result])
        self._nodes.append(node)
        return result

    def constant(self, values: npt.ArrayLike, role: str) -> gs.Constant:
        """A constant of the type of the activation."""
        return constant(self._new_name(own_name(self._node, role)), values, self._dtype)

    def finish(self, graph: gs.Graph, result: gs.Variable) -> None:
        """Let the new nodes take the place of the old one, and ``result`` that of its output."""
        (last,) = result.inputs
        last.outputs = list(self._node.outputs)
        insert_before(graph, self._node, self._nodes)
        self._node.inputs.clear()
        self._node.outputs.clear()
        graph.nodes.remove(self._node)

    def _new_name(self, base: str) -> str:
        return new_name(self._taken, base)
