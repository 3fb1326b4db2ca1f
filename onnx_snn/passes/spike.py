"""Spike: activation functions become IFNeuron, and the graph gets its time axis.

    Relu                                becomes  IFNeuron(x, T, V_0)
    an image that meets spikes          becomes  the image repeated for T steps (Tile)
    what the tail or an output reads    becomes  its mean over time (Readout)

No weight is touched: thresholds are 1 since normalise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real

import numpy as np
import onnx_graphsurgeon as gs

from onnx_snn.analyse import Analysis
from onnx_snn.emit import Emitter
from onnx_snn.errors import OptionError
from onnx_snn.graph import activations, insert_before, unique_name
from onnx_snn.operators import Kind, operator_of
from onnx_snn.ops import DOMAIN, IF_NEURON
from onnx_snn.spiking_graph import READOUT, InputCoding, SpikingGraph

FOLDED = "T*N"
"""Name of the leading axis of a folded activation."""


RESETS = ("subtract", "zero")


@dataclass(frozen=True)
class NeuronOptions:
    """What all neurons of a network have in common.

    Attributes:
        v_init: membrane before the first step, in units of the threshold.
        reset: ``"subtract"`` (soft reset) or ``"zero"`` (hard reset).
    """

    v_init: float = 0.5
    reset: str = "subtract"

    def __post_init__(self) -> None:
        if not isinstance(self.v_init, Real) or not math.isfinite(self.v_init):
            raise OptionError(f"v_init must be a finite number, not {self.v_init!r}")
        if self.reset not in RESETS:
            raise OptionError(f"reset must be one of {', '.join(RESETS)}, not {self.reset!r}")


def spike(
    graph: gs.Graph, analysis: Analysis, options: NeuronOptions, coding: InputCoding
) -> SpikingGraph:
    """Put neurons into a normalised graph.

    Args:
        graph: clean, folded and normalised; edited in place.
        analysis: of this graph as it is now.
        options: of the neurons.
        coding: how samples will be shown.

    Returns:
        The spiking network, not yet on a schedule.
    """
    timesteps = gs.Variable(unique_name(graph, "T"), np.dtype(np.int64), [])
    membranes: dict[np.dtype[np.generic], gs.Constant] = {}
    rows: set[str] = set()
    if coding is InputCoding.SEQUENCE:
        for tensor in graph.inputs:
            _mark(tensor, rows)
    for node in list(graph.nodes):
        if node.name in analysis.tail:
            continue
        inputs = activations(node)
        if operator_of(node).kind is Kind.SPIKING:
            _become_neuron(graph, node, timesteps, options, membranes, inputs[0].name in rows)
        elif not any(tensor.name in rows for tensor in inputs):
            continue
        else:
            _repeat_static_inputs(graph, node, timesteps, rows)
        for tensor in node.outputs:
            _mark(tensor, rows)
    _insert_readouts(graph, analysis, rows)
    return SpikingGraph(graph, timesteps, coding)


def _mark(tensor: gs.Variable, rows: set[str]) -> None:
    rows.add(tensor.name)
    if tensor.shape:
        tensor.shape = [FOLDED, *tensor.shape[1:]]


def _become_neuron(
    graph: gs.Graph,
    node: gs.Node,
    timesteps: gs.Variable,
    options: NeuronOptions,
    membranes: dict[np.dtype[np.generic], gs.Constant],
    has_rows: bool,
) -> None:
    dtype = np.dtype(node.outputs[0].dtype or np.float32)
    if dtype not in membranes:
        name = unique_name(graph, f"onnx_snn/v_init/{dtype}")
        membranes[dtype] = gs.Constant(name, np.asarray(options.v_init, dtype))
    node.op, node.domain = IF_NEURON, DOMAIN
    node.inputs = [node.inputs[0], timesteps, membranes[dtype]]
    node.outputs = [node.outputs[0], gs.Variable.empty()]
    # All attributes are written out: not every runtime reads the defaults of a function.
    node.attrs = {
        "constant_input": 0 if has_rows else 1,
        "v_threshold": 1.0,
        "v_init": float(options.v_init),
        "reset": options.reset,
        "spike_min": 0,
        "spike_max": 1,
        "count_min": 0,
        "count_max": -1,
    }


def _repeat_static_inputs(
    graph: gs.Graph, node: gs.Node, timesteps: gs.Variable, rows: set[str]
) -> None:
    """Tile what does not vary with time, where it meets what does."""
    for tensor in activations(node):
        if tensor.name in rows:
            continue
        name = f"{tensor.name}/repeated"
        known = next(
            (t for reader in tensor.outputs for t in reader.outputs if t.name == name), None
        )
        if known is None:
            nodes: list[gs.Node] = []
            emit = Emitter(nodes, name)
            ones = emit.const([1] * (len(tensor.shape) - 1))
            repeats = emit.node("Concat", [emit.vector(timesteps), ones], axis=0)
            known = gs.Variable(name, tensor.dtype, list(tensor.shape))
            emit.node("Tile", [tensor, repeats], into=known)
            _mark(known, rows)
            insert_before(graph, node, nodes)
        node.inputs = [known if t is tensor else t for t in node.inputs]


def _insert_readouts(graph: gs.Graph, analysis: Analysis, rows: set[str]) -> None:
    outputs = {tensor.name for tensor in graph.outputs}
    for node in list(graph.nodes):
        if node.name in analysis.tail:
            continue
        for tensor in node.outputs:
            if tensor.name not in rows:
                continue
            readers = [reader for reader in tensor.outputs if reader.name in analysis.tail]
            if tensor.name in outputs:
                _read_out_output(graph, tensor, readers)
            elif readers:
                _read_out_tail(graph, tensor, readers)


def _mean_of(tensor: gs.Variable, name: str) -> gs.Variable:
    shape = None if tensor.shape is None else ["N", *tensor.shape[1:]]
    return gs.Variable(name, tensor.dtype, shape)


def _read_out_output(graph: gs.Graph, output: gs.Variable, tail: list[gs.Node]) -> None:
    """The graph output keeps its name and becomes the mean; the rows get another name."""
    rows = gs.Variable(f"{output.name}/current", output.dtype, output.shape)
    for reader in list(output.outputs):
        if not any(reader is node for node in tail):
            reader.inputs = [rows if t is output else t for t in reader.inputs]
    producer = output.inputs[0]
    producer.outputs = [rows if t is output else t for t in producer.outputs]
    output.shape = None if output.shape is None else ["N", *output.shape[1:]]
    _append_readout(graph, rows, output)


def _read_out_tail(graph: gs.Graph, tensor: gs.Variable, readers: list[gs.Node]) -> None:
    mean = _mean_of(tensor, f"{tensor.name}/mean")
    for reader in readers:
        reader.inputs = [mean if t is tensor else t for t in reader.inputs]
    _append_readout(graph, tensor, mean)


def _append_readout(graph: gs.Graph, rows: gs.Variable, mean: gs.Variable) -> None:
    node = gs.Node(READOUT, f"{rows.name}/readout", inputs=[rows], outputs=[mean], domain=DOMAIN)
    producer = rows.inputs[0]
    graph.nodes.insert(graph.nodes.index(producer) + 1, node)
