"""Normalise: every activation in units of its threshold; the function stays the same.

A neuron's output carries λ (its threshold in the ANN's units), so a spike is worth 1. λ runs
forward from neurons and inputs; the λ that a neuron, an addition or an output needs runs
backward as a wish, and the first operator with weights on the way absorbs it:

    W'[o, i] = W[o, i]·λ_in[i]/λ_out[o]        b'[o] = b[o]/λ_out[o]

Where no operator with weights stands between (an identity shortcut), one Mul by λ_in/λ_out, a
synapse, is put in. Graph inputs and outputs stay in the ANN's units (λ = 1).

Source: Rueckauer et al. 2017, "Conversion of continuous-valued deep networks to efficient
event-driven networks for image classification", section 2.2.1 (weight normalisation), extended
to graphs and to one λ per channel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from onnx_snn.analyse import Analysis
from onnx_snn.graph import (
    activations,
    insert_before,
    insert_behind,
    own_name,
    replace_uses,
    set_constant,
)
from onnx_snn.operators import Analog, CannotCarryError, Kind, Operator, operator_of
from onnx_snn.operators.weighted import Weighted
from onnx_snn.scale import ONE, Scale
from onnx_snn.thresholds import Threshold


def normalise(
    graph: gs.Graph, analysis: Analysis, thresholds: Mapping[str, Threshold]
) -> dict[str, Scale]:
    """Rescale the weights of a folded graph so that each neuron's threshold is 1.

    Args:
        graph: clean and folded; edited in place.
        analysis: of this graph.
        thresholds: for each spiking node's output tensor (by name), λ.

    Returns:
        The λ that each of these tensors got. ANN value = λ · value in the new graph.
    """
    chosen = {name: threshold.scale for name, threshold in thresholds.items()}
    plan = _Plan(graph, analysis)
    while True:
        try:
            scales = plan.scales(chosen)
            break
        except CannotCarryError as error:
            # Coarsen every neuron whose channels arrive at the node that cannot carry them, or,
            # where they come from a wish of later neurons, all that are still per channel.
            names = {n for n in plan.sources(error.tensor) if not chosen[n].is_scalar}
            names = names or {n for n in chosen if not chosen[n].is_scalar}
            if not names and not plan.unite(error.tensor):
                raise
            for name in names:
                chosen[name] = thresholds[name].layer
    _apply(graph, plan, scales, chosen)
    return chosen


class _Plan:
    """Which λ every tensor gets; decided before the first edit."""

    def __init__(self, graph: gs.Graph, analysis: Analysis) -> None:
        self.graph = graph
        self.tail = analysis.tail
        self.analog = {v.node for v in analysis.verdicts if v.kind is Kind.ANALOG}
        self.united: set[str] = set()

    def operator(self, node: gs.Node) -> Operator:
        return Analog() if node.name in self.analog else operator_of(node)

    def scales(self, chosen: Mapping[str, Scale]) -> dict[str, Scale]:
        """λ of every tensor by name, before synapses are put in."""
        wishes = self._wishes(chosen)
        scales = {tensor.name: ONE for tensor in self.graph.inputs}
        for node in self.graph.nodes:
            given = self.given(node, scales, wishes, chosen)
            for tensor in node.outputs:
                out = chosen.get(tensor.name)
                if out is None:
                    out = self.operator(node).output(node, given, wishes.get(tensor.name))
                _check_length(node, tensor, out)
                scales[tensor.name] = out
        self.wishes = wishes
        return scales

    def given(
        self,
        node: gs.Node,
        scales: Mapping[str, Scale],
        wishes: Mapping[str, Scale],
        chosen: Mapping[str, Scale],
    ) -> list[Scale]:
        """λ of the node's inputs as it will see them, behind any synapse."""
        inputs = activations(node)
        actual = [scales[tensor.name] for tensor in inputs]
        demands = self.demands(node, actual, wishes, chosen)
        return [a if d is None else d for a, d in zip(actual, demands, strict=True)]

    def demands(
        self,
        node: gs.Node,
        actual: Sequence[Scale],
        wishes: Mapping[str, Scale],
        chosen: Mapping[str, Scale],
    ) -> Sequence[Scale | None]:
        output = node.outputs[0].name
        if output in chosen:
            return [chosen[output]] * len(actual)
        if node.name in self.united:
            return [ONE] * len(actual)
        return self.operator(node).demand(node, actual, wishes.get(output))

    def _wishes(self, chosen: Mapping[str, Scale]) -> dict[str, Scale]:
        """For each tensor the λ that its first reader to have a wish would like."""
        wishes = {tensor.name: ONE for tensor in self.graph.outputs}
        for node in reversed(self.graph.nodes):
            output = node.outputs[0].name
            if output in chosen:
                wanted: Sequence[Scale | None] = [chosen[output]] * len(activations(node))
            elif output in wishes or node.name in self.analog:
                wanted = self.operator(node).wish(node, wishes.get(output, ONE))
            else:
                continue
            for tensor, wish in zip(activations(node), wanted, strict=True):
                if wish is not None:
                    wishes.setdefault(tensor.name, wish)
        return wishes

    def unite(self, tensor: gs.Variable) -> bool:
        """Let all that are joined on the way to a tensor have one λ; whether any did not yet.

        Layers of different λ, joined along an axis, are a λ per entry even with one per layer.
        """
        found = {node.name for node in self._carriers(tensor) if node.op == "Concat"} - self.united
        self.united |= found
        return bool(found)

    def _carriers(self, tensor: gs.Variable) -> list[gs.Node]:
        """The nodes through which a λ reaches a tensor."""
        nodes, pending = [], [tensor]
        while pending:
            for node in pending.pop().inputs:
                if self.operator(node).kind is not Kind.SPIKING and not isinstance(
                    self.operator(node), Weighted | Analog
                ):
                    nodes.append(node)
                    pending += activations(node)
        return nodes

    def sources(self, tensor: gs.Variable) -> set[str]:
        """Neurons whose λ reaches a tensor without passing another neuron or any weights."""
        names: set[str] = set()
        pending = [tensor]
        while pending:
            current = pending.pop()
            for node in current.inputs:
                operator = self.operator(node)
                if operator.kind is Kind.SPIKING:
                    names.add(current.name)
                elif not isinstance(operator, Weighted | Analog):
                    pending += activations(node)
        return names


def _check_length(node: gs.Node, tensor: gs.Variable, scale: Scale) -> None:
    """A vector λ must have one entry per channel: broadcasting may have widened the tensor."""
    if scale.is_scalar or tensor.shape is None:
        return
    size = tensor.shape[scale.axis]
    if isinstance(size, int) and size != scale.values.size:
        raise CannotCarryError(node, activations(node)[0])


_Synapse = tuple[str, tuple[int, ...], bytes]
"""The tensor that a synapse reads, and the shape and values of its weight."""


def _apply(
    graph: gs.Graph, plan: _Plan, scales: Mapping[str, Scale], chosen: Mapping[str, Scale]
) -> None:
    synapses: dict[_Synapse, gs.Variable] = {}
    for node in list(graph.nodes):
        inputs = activations(node)
        given = plan.given(node, scales, plan.wishes, chosen)
        for tensor, target in zip(inputs, given, strict=True):
            source = scales[tensor.name]
            if source == target:
                continue
            factor = _factor(tensor, source, target)
            if np.any(factor != 1):  # not so for a vector of equal λ, or after rounding
                scaled = _synapse(graph, node, tensor, factor, synapses)
                node.inputs = [scaled if t is tensor else t for t in node.inputs]
        if node.outputs[0].name not in chosen:
            plan.operator(node).apply(node, given, scales[node.outputs[0].name])
        elif node.op == "Clip":
            _rescale_cap(graph, node, chosen[node.outputs[0].name])
    for index, tensor in enumerate(list(graph.outputs)):
        scale = scales[tensor.name]
        if scale != ONE and np.any(_factor(tensor, scale, ONE) != 1):
            _restore_output(graph, index, scale)


def _factor(tensor: gs.Variable, source: Scale, target: Scale) -> npt.NDArray[np.floating]:
    """λ_source/λ_target for each value of a tensor, of its type."""
    axes = len(tensor.shape)
    return np.asarray(source.shaped(axes) / target.shaped(axes), dtype=tensor.dtype)


def _synapse(
    graph: gs.Graph,
    node: gs.Node,
    tensor: gs.Variable,
    factor: npt.NDArray[np.floating],
    known: dict[_Synapse, gs.Variable],
) -> gs.Variable:
    """tensor·factor ahead of a node, one Mul for all readers that need the same."""
    key = (tensor.name, factor.shape, factor.tobytes())
    if key not in known:
        name = f"{tensor.name}/synapse" + (f"_{len(known)}" if known else "")
        known[key] = gs.Variable(name, tensor.dtype, list(tensor.shape))
        weight = gs.Constant(f"{name}/weight", factor)
        multiply = gs.Node("Mul", name, inputs=[tensor, weight], outputs=[known[key]])
        insert_before(graph, node, [multiply])
    return known[key]


def _rescale_cap(graph: gs.Graph, node: gs.Node, scale: Scale) -> None:
    """Clip(x, 0, b) to Clip(x, 0, b/λ), or, where λ is a vector, to Min(Relu(x), b/λ)."""
    bound = np.asarray(node.inputs[2].values, np.float64)
    if scale.is_scalar:
        set_constant(node, 2, bound / scale.values, "cap")
        return
    result = node.outputs[0]
    inner = gs.Variable(f"{result.name}/uncapped", result.dtype, list(result.shape))
    caps = np.asarray(bound / scale.shaped(len(result.shape)), dtype=result.dtype)
    cap = gs.Constant(own_name(node, "cap"), caps)
    node.op, node.inputs, node.outputs = "Relu", [node.inputs[0]], [inner]
    insert_behind(
        graph, inner, [gs.Node("Min", f"{node.name}/cap", inputs=[inner, cap], outputs=[result])]
    )


def _restore_output(graph: gs.Graph, index: int, scale: Scale) -> None:
    """Bring a graph output that spikes back to the ANN's units, under its own name."""
    output = graph.outputs[index]
    inner = gs.Variable(f"{output.name}/normalised", output.dtype, output.shape)
    producer = output.inputs[0]
    producer.outputs = [inner if t is output else t for t in producer.outputs]
    replace_uses(graph, output, inner)
    graph.outputs[index] = output
    weight = gs.Constant(
        f"{output.name}/restore/weight",
        np.asarray(scale.shaped(len(output.shape)), dtype=output.dtype),
    )
    name = f"{output.name}/restore"
    graph.nodes.append(gs.Node("Mul", name, inputs=[inner, weight], outputs=[output]))
