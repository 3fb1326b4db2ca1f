"""Analyse: what will become of every node, and why; before any data is touched.

Four regions of a graph, by position:

- static: computed from the constant input alone, before any neuron; evaluated once, so any
  function of a sample may stand there;
- temporal: from the first neurons on; evaluated at every time step: spiking or linear, or else,
  on what has come so far, a maximum or graded;
- tail: behind the last neuron, from the first non-linear node on (Softmax, ArgMax, …); evaluated
  on the mean over time, so any function may stand there;
- metadata: nodes that compute shapes or constants.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import onnx_graphsurgeon as gs

from onnx_snn.errors import UnsupportedModelError
from onnx_snn.graph import activations, is_standard, variables
from onnx_snn.load.ml_operators import BY_SAMPLE, ML_DOMAIN
from onnx_snn.operators import Domain, Kind, Operator, Refusal, operator_of

CONTROL_FLOW = frozenset({"If", "Loop", "Scan", "SequenceMap", "RNN", "LSTM", "GRU"})


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
    def graded(self) -> tuple[Verdict, ...]:
        """Nodes between neurons whose values are not spikes and not currents of spikes."""
        return tuple(v for v in self.verdicts if v.kind is Kind.DIFFERENTIAL)

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
                "can stand in for (Relu, Clip, LeakyRelu, …); train it with Relu"
            )
        return None

    def raise_if_refused(self, strict: bool = False) -> None:
        """Stop here if a node cannot be converted, or if there is nothing to convert.

        Args:
            strict: also if a node would stay graded.

        Raises:
            UnsupportedModelError: see ``problem``.
        """
        if strict and self.graded:
            first, *others = self.graded
            more = f" (and {len(others)} more)" if others else ""
            raise UnsupportedModelError(
                f"{first.op} node '{first.node}' would stay graded, not spiking{more}; replace it "
                "by Relu, a pooling or a linear layer, or convert without strict"
            )
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
    operator = operator_of(node)
    refusal = _refusal(node, operator, node.name in static, node.name in tail)
    if refusal is not None:
        return Verdict(node.name, node.op, Kind.REFUSED, refusal.reason, refusal.remedy)
    kind, reason = operator.kind, operator.reason
    if kind is not Kind.METADATA and node.name in tail:
        kind, reason = Kind.ANALOG, "behind the last neuron: applied to the mean over time"
    elif node.name in static and _is_analog(node, operator):
        kind, reason = Kind.ANALOG, "before the first neuron: computed once from the input"
    elif kind is not Kind.METADATA:
        reason = operator.reason_of(node) or REASONS[kind]
    return Verdict(node.name, node.op, kind, reason)


def _refusal(node: gs.Node, operator: Operator, static: bool, tail: bool) -> Refusal | None:
    """Why a node cannot be converted where it stands."""
    if not is_standard(node) and not ((static or tail) and _keeps_samples_apart(node)):
        return Refusal(
            f"operators of the domain '{node.domain}' are unknown",
            "export the model with standard ONNX operators",
        )
    if node.op in CONTROL_FLOW:
        return Refusal(
            "control flow and recurrent operators have no spiking form",
            "export the model with a fixed, feed-forward graph",
        )
    if static:
        return None
    refusal = operator.refusal(node)
    if tail:  # on means, everything may stand but what lets samples meet
        return refusal if refusal is not None and refusal.mixes_batch else None
    return _temporal_refusal(node, operator) or refusal


def _temporal_refusal(node: gs.Node, operator: Operator) -> Refusal | None:
    """Why a node cannot be evaluated at every time step, whatever its own operator says."""
    if any(_is_of_no_sample(tensor) for tensor in activations(node)):
        return Refusal(
            "what it reads is computed once for all samples: axis 0 of that is not the batch",
            "compute it for each sample by itself, or export it as a constant",
            mixes_batch=True,
        )
    if operator.kind is Kind.ANALOG:
        return Refusal(
            "it is not known as a function of each sample by itself, and stands between neurons",
            "replace it by an activation function, a pooling or a linear layer",
        )
    return None


def _is_of_no_sample(tensor: gs.Variable) -> bool:
    """Whether a tensor has a first axis of a known size, so that time cannot be folded into it."""
    return bool(tensor.shape) and isinstance(tensor.shape[0], int)


def _is_analog(node: gs.Node, operator: Operator) -> bool:
    return operator.kind in (Kind.ANALOG, Kind.DIFFERENTIAL) or operator.refusal(node) is not None


REASONS: Mapping[Kind, str] = MappingProxyType(
    {
        Kind.SPIKING: "becomes integrate-and-fire neurons",
        Kind.LINEAR: "linear: acts on spikes as on activations",
        Kind.POOLING: "average: linear, acts on spikes as on activations",
    }
)
"""Of a verdict whose operator has none of its own."""


def _tail(graph: gs.Graph, before: set[str]) -> set[str]:
    """Nodes that feed no neuron, from the first non-linear one on."""
    tail: set[str] = set()
    for node in graph.nodes:
        if node.name in before or operator_of(node).kind is Kind.SPIKING:
            continue
        follows = any(p.name in tail for tensor in activations(node) for p in tensor.inputs)
        operator = operator_of(node)
        if follows or _needs_mean(node, operator):
            tail.add(node.name)
    for node in reversed(graph.nodes):  # shapes of what the tail reads, and of nothing else
        readers = [reader for tensor in node.outputs for reader in tensor.outputs]
        if operator_of(node).kind is Kind.METADATA and readers:
            tail |= {node.name} if all(reader.name in tail for reader in readers) else set()
    return tail


def _needs_mean(node: gs.Node, operator: Operator) -> bool:
    """Whether a node is not linear."""
    if operator.kind is Kind.METADATA:
        return False
    return operator.domain is not Domain.STEP or _is_analog(node, operator)


def _keeps_samples_apart(node: gs.Node) -> bool:
    return node.domain == ML_DOMAIN and node.op in BY_SAMPLE


def _descendants(graph: gs.Graph, roots: Iterable[gs.Node]) -> set[str]:
    """The roots and every node that depends on them."""
    names = {node.name for node in roots}
    for node in graph.nodes:
        if any(p.name in names for tensor in variables(node) for p in tensor.inputs):
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
