"""Analyse: what will become of every node, and why; before any data is touched.

Four regions of a graph, by position:

- static: computed from the constant input alone, before any neuron; evaluated once, so any
  function of a sample may stand there;
- temporal: from the first neurons on; evaluated at every time step, so it must be linear or
  spiking;
- tail: behind the last neuron, from the first non-linear node on (Softmax, ArgMax, …); evaluated
  on the mean over time, so any function may stand there;
- metadata: nodes that compute shapes or constants.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import onnx_graphsurgeon as gs

from onnx_snn.errors import UnsupportedModelError
from onnx_snn.graph import activations, is_standard
from onnx_snn.operators import Kind, Refusal, operator_of

_CONTROL_FLOW = frozenset({"If", "Loop", "Scan", "SequenceMap", "RNN", "LSTM", "GRU"})


@dataclass(frozen=True)
class Verdict:
    """What becomes of one node.

    Attributes:
        node: its name.
        op: its operator.
        kind: its category.
        reason: why, in one clause.
        remedy: what the user can do, for a refused node; else empty.
    """

    node: str
    op: str
    kind: Kind
    reason: str
    remedy: str = ""


@dataclass(frozen=True)
class Analysis:
    """Verdicts in the order of evaluation, and the regions they rest on (sets of node names)."""

    verdicts: tuple[Verdict, ...]
    static: frozenset[str]
    tail: frozenset[str]

    @property
    def refused(self) -> tuple[Verdict, ...]:
        return tuple(verdict for verdict in self.verdicts if verdict.kind is Kind.REFUSED)

    @property
    def problem(self) -> str | None:
        """Why the network cannot be converted and what to do about it, or None if it can."""
        if self.refused:
            first, *others = self.refused
            more = f" (and {len(others)} more refused, see onnx-snn inspect)" if others else ""
            return (
                f"{first.op} node '{first.node}' cannot be converted: {first.reason}; "
                f"{first.remedy}{more}"
            )
        if not any(verdict.kind is Kind.SPIKING for verdict in self.verdicts):
            return (
                "nothing to convert: the model has no activation function that a spiking neuron "
                "can stand in for (Relu); train it with Relu"
            )
        return None

    def raise_if_refused(self) -> None:
        """Stop here if a node cannot be converted, or if there is nothing to convert.

        Raises:
            UnsupportedModelError: see ``problem``.
        """
        if self.problem is not None:
            raise UnsupportedModelError(self.problem)


def analyse(graph: gs.Graph) -> Analysis:
    """Decide what becomes of every node of a clean graph. Looks, never edits.

    Args:
        graph: as ``load_graph`` gives it.
    """
    neurons = [node for node in graph.nodes if operator_of(node).kind is Kind.SPIKING]
    behind = _descendants(graph, neurons)
    before = _ancestors(neurons)
    tail = _tail(graph, before)
    static = {node.name for node in graph.nodes if node.name not in behind} - tail
    verdicts = tuple(_verdict(node, static, tail) for node in graph.nodes)
    neuron_names = {node.name for node in neurons}
    return Analysis(verdicts, frozenset(static - neuron_names), frozenset(tail))


def _verdict(node: gs.Node, static: set[str], tail: set[str]) -> Verdict:
    def verdict(kind: Kind, reason: str, remedy: str = "") -> Verdict:
        return Verdict(node.name, node.op, kind, reason, remedy)

    operator = operator_of(node)
    if not is_standard(node):
        return verdict(
            Kind.REFUSED,
            f"operators of the domain '{node.domain}' are unknown",
            "export the model with standard ONNX operators",
        )
    if node.op in _CONTROL_FLOW:
        return verdict(
            Kind.REFUSED,
            "control flow and recurrent operators have no spiking form",
            "export the model with a fixed, feed-forward graph",
        )
    if node.name in tail:
        return verdict(Kind.ANALOG, "behind the last neuron: applied to the mean over time")
    refusal = operator.refusal(node)
    analog = operator.kind is Kind.ANALOG or refusal is not None
    if analog and node.name in static:
        return verdict(Kind.ANALOG, "before the first neuron: computed once from the input")
    if operator.kind is Kind.ANALOG:
        refusal = Refusal(
            "it is not linear and stands between neurons",
            "replace it by Relu, average pooling or a linear layer",
        )
    if refusal is not None:
        return verdict(Kind.REFUSED, refusal.reason, refusal.remedy)
    return verdict(operator.kind, operator.reason or _REASONS[operator.kind])


_REASONS = {
    Kind.SPIKING: "becomes integrate-and-fire neurons",
    Kind.LINEAR: "linear: acts on spikes as on activations",
    Kind.POOLING: "average: linear, acts on spikes as on activations",
}


def _tail(graph: gs.Graph, before: set[str]) -> set[str]:
    """Nodes that feed no neuron, from the first non-linear one on."""
    tail: set[str] = set()
    for node in graph.nodes:
        if node.name in before or operator_of(node).kind is Kind.SPIKING:
            continue
        follows = any(p.name in tail for tensor in activations(node) for p in tensor.inputs)
        operator = operator_of(node)
        refused = operator.kind is Kind.ANALOG or operator.refusal(node) is not None
        if follows or refused:
            tail.add(node.name)
    return tail


def _descendants(graph: gs.Graph, roots: Iterable[gs.Node]) -> set[str]:
    """The roots and every node that depends on them."""
    names = {node.name for node in roots}
    for node in graph.nodes:
        if any(p.name in names for tensor in activations(node) for p in tensor.inputs):
            names.add(node.name)
    return names


def _ancestors(roots: Iterable[gs.Node]) -> set[str]:
    """Every node that one of the roots depends on."""
    names: set[str] = set()
    pending = [producer for node in roots for t in node.inputs for producer in t.inputs]
    while pending:
        node = pending.pop()
        if node.name not in names:
            names.add(node.name)
            pending += [producer for tensor in node.inputs for producer in tensor.inputs]
    return names
