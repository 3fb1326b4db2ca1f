"""The quantised ANN that a spiking network counts towards, as a plain ONNX model.

In a spiking network a number is the weighted sum of a layer's spikes over time. Here the sums
themselves flow, as integers, through the same layers:

    neuron      N = clip(⌊X + v_init⌋, 0, levels)        X: sum of its currents over time
    image, bias times W, the weight of all T steps: T, or 2^T − 1 with radix coding
    readout     Y/W

Networks of coding drain, two_phase and radix have just these counts at their end (up to rounding
of their sums); with rate coding they tend to them. Sources: see ``onnx_snn.coding``.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from onnx_snn.constant_part import take_constant_part
from onnx_snn.emit import Emitter
from onnx_snn.graph import data_variables, insert_behind, is_float, new_name
from onnx_snn.model_io import ModelSource, read_model
from onnx_snn.ops import DOMAIN, NEURONS, PHASE_NEURON, SPIKE_MAX_POOL
from onnx_snn.options import check_positive
from onnx_snn.passes.fuse_shortcuts import separate_shortcuts
from onnx_snn.passes.spike import FOLDED
from onnx_snn.reschedule import unschedule
from onnx_snn.schedule import ScheduleRecord
from onnx_snn.spiking_graph import ACCUMULATE, DIFFERENCE, GATE, INTEGRATE, READOUT, SILENT

_DOC = "Quantised network that a spiking network of onnx_snn counts towards."


def reference(source: ModelSource, timesteps: int | None = None) -> onnx.ModelProto:
    """The quantised ANN of a converted network.

    Its tensors behind activations hold the integers that the spikes add up to, under the names
    that the spikes have in the spiking network.

    Args:
        source: a converted model, of any schedule and coding.
        timesteps: number of steps T; None: the file's own (of drain, those of the input).

    Returns:
        A model of standard operators with the ANN's inputs and outputs.

    Raises:
        ModelError: not a model made by onnx_snn.
        OptionError: T is not a positive whole number.
    """
    model = read_model(source)
    record = ScheduleRecord.of(model)
    if timesteps is None:
        timesteps = record.timesteps if record.window is None else record.window
    check_positive(timesteps, "timesteps")
    network = unschedule(model, record)
    separate_shortcuts(network)
    rewrite = _Rewrite(network.graph, record.coding.levels(timesteps), timesteps)
    varying = [tensor.name for tensor in network.graph.inputs] if record.sequences else []
    rewrite.run(network.timesteps, varying)
    quantised: onnx.ModelProto = gs.export_onnx(
        network.graph.cleanup().toposort(), do_type_check=False
    )
    del quantised.functions[:]
    for index in reversed(range(len(quantised.opset_import))):
        if quantised.opset_import[index].domain == DOMAIN:
            del quantised.opset_import[index]
    quantised.ir_version = max(quantised.ir_version, 8)
    quantised.producer_name, quantised.doc_string = "onnx_snn", _DOC
    return quantised


class _Rewrite:
    """Lets sums over time flow in the place of steps."""

    def __init__(self, graph: gs.Graph, weight: int, timesteps: int) -> None:
        self._graph = graph
        self._weight = weight
        self._timesteps = timesteps
        self._names = set(graph.tensors())
        self._sums: set[str] = set()  # tensors that hold sums over time
        self._counts: set[str] = set()  # integers computed from T

    def run(self, timesteps: gs.Variable, varying: Sequence[str]) -> None:
        self._counts.add(timesteps.name)
        self._sums.update(varying)
        for tensor in data_variables(self._graph):
            if tensor.shape and tensor.shape[0] == FOLDED:  # no row for each step any more
                tensor.shape = ["N", *tensor.shape[1:]]
        for tensor in self._graph.inputs:
            if tensor.name in self._sums:  # a sample of a sequence: its mean over time
                self._scale(tensor)
        for node in list(self._graph.nodes):
            self._visit(node)

    def _visit(self, node: gs.Node) -> None:
        if node.domain == DOMAIN:
            self._replace(node)
        elif any(tensor.name in self._counts for tensor in node.inputs):
            if node.op == "Tile":
                self._sums.add(node.outputs[0].name)
                self._put(node, node.inputs[:1], [("Mul", self._weight)])
            else:
                self._counts.update(tensor.name for tensor in node.outputs)
        elif any(tensor.name in self._sums and is_float(tensor) for tensor in node.inputs):
            self._sums.update(tensor.name for tensor in node.outputs)
            if all(is_float(tensor) for tensor in node.outputs):
                self._scale_constants(node)

    def _scale_constants(self, node: gs.Node) -> None:
        part = take_constant_part(node)
        if part is None:
            return
        result = node.outputs[0]
        inner = gs.Variable(self._new_name(f"{result.name}/linear"), result.dtype, result.shape)
        node.outputs[0] = inner
        total = gs.Constant(part.name, part.values * part.values.dtype.type(self._weight))
        add = gs.Node("Add", self._new_name(part.name), inputs=[inner, total], outputs=[result])
        insert_behind(self._graph, inner, [add])

    def _replace(self, node: gs.Node) -> None:
        averages = bool(node.attrs.get("averages", 0))
        if node.op in NEURONS:
            self._quantise(node)
        elif node.op == SILENT:
            self._graph.outputs.remove(node.outputs[0])
            self._take_out(node)
        elif node.op == GATE:
            self._open_gate(node)
        elif node.op == SPIKE_MAX_POOL:
            self._sums.add(node.outputs[0].name)
            node.op, node.domain = "MaxPool", None
            node.inputs, node.outputs = node.inputs[:1], node.outputs[:1]
        elif node.op in (READOUT, INTEGRATE) or (node.op == ACCUMULATE and averages):
            self._put(node, node.inputs[:1], [("Div", self._weight)])
        elif node.op == DIFFERENCE and averages:
            self._sums.add(node.outputs[0].name)
            self._put(node, node.inputs[:1], [("Mul", self._weight)])
        else:
            self._sums.add(node.outputs[0].name)
            self._put(node, node.inputs[:1], [("Identity", None)])

    def _quantise(self, node: gs.Node) -> None:
        attributes = node.attrs
        most = self._weight
        if node.op != PHASE_NEURON:
            most = self._timesteps * int(attributes["spike_max"])
            if attributes["count_max"] >= 0:
                most = min(most, int(attributes["count_max"]))
        steps: list[tuple[str, float | None]] = [("Add", float(attributes["v_init"]))]
        if attributes["constant_input"]:
            steps.insert(0, ("Mul", self._weight))
        self._sums.add(node.outputs[0].name)
        self._put(node, node.inputs[:1], [*steps, ("Floor", None)], clip=most)

    def _open_gate(self, node: gs.Node) -> None:
        _, value, *rows = node.inputs
        result = node.outputs[0]
        self._sums.add(result.name)
        if not rows:
            self._put(node, [value], [("Mul", self._weight)])
            return
        total = gs.Constant(value.name, value.values * value.values.dtype.type(self._weight))
        at = self._take_out(node)
        add = gs.Node("Add", node.name, inputs=[rows[0], total], outputs=[result])
        self._graph.nodes.insert(at, add)

    def _scale(self, tensor: gs.Variable) -> None:
        """Let readers of an input see its sum over time."""
        nodes: list[gs.Node] = []
        total = gs.Variable(self._new_name(f"{tensor.name}/sum"), tensor.dtype, tensor.shape)
        emit = Emitter(nodes, total.name)
        for reader in list(tensor.outputs):
            reader.inputs = [total if t is tensor else t for t in reader.inputs]
        emit.node("Mul", [tensor, emit.const(self._weight, tensor.dtype)], into=total)
        self._sums.add(total.name)
        self._sums.discard(tensor.name)
        self._graph.nodes[:0] = nodes

    def _put(
        self,
        node: gs.Node,
        sources: Sequence[gs.Tensor],
        steps: Sequence[tuple[str, float | None]],
        clip: int | None = None,
    ) -> None:
        """Elementwise operators in the place of a node, each with a number as second input."""
        current, result = sources[0], node.outputs[0]
        dtype = np.dtype(result.dtype or np.float32)
        at = self._take_out(node)
        nodes: list[gs.Node] = []
        emit = Emitter(nodes, f"{result.name}/quantised")
        for index, (op, number) in enumerate(steps):
            is_last = index == len(steps) - 1 and clip is None
            inputs = [current] if number is None else [current, emit.const(number, dtype)]
            current = emit.node(op, inputs, dtype=dtype, into=result if is_last else None)
        if clip is not None:
            bounds = [emit.const(0, dtype), emit.const(clip, dtype)]
            emit.node("Clip", [current, *bounds], into=result)
        self._graph.nodes[at:at] = nodes

    def _take_out(self, node: gs.Node) -> int:
        """Remove a node; returns where it was."""
        at: int = self._graph.nodes.index(node)
        node.inputs.clear()
        node.outputs.clear()
        self._graph.nodes.remove(node)
        return at

    def _new_name(self, base: str) -> str:
        return new_name(self._names, base)
