"""Spike: activation functions become IFNeuron, and the graph gets its time axis.

    Relu, Clip                          becomes  IFNeuron(x, T, V_0)
    an image that meets spikes          becomes  the image repeated for T steps (Tile)
    a maximum                           is taken of the sums so far, and handed on by difference
    any other function                  is taken of the means so far, and handed on by difference
    what the tail or an output reads    becomes  its mean over time (Readout)

No weight is touched: thresholds are 1 since normalise.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_graphsurgeon as gs

from onnx_snn.analyse import Analysis
from onnx_snn.coding import Coding, InputCoding
from onnx_snn.constant_part import take_constant_part
from onnx_snn.emit import Emitter
from onnx_snn.graph import (
    activations,
    bypass,
    insert_behind,
    is_constant,
    is_float,
    new_name,
    unique_name,
    variables,
)
from onnx_snn.neuron import Neuron
from onnx_snn.operators import Domain, Kind, Operator, operator_of
from onnx_snn.operators.neurons import is_cap
from onnx_snn.ops import DOMAIN, IF_NEURON, PHASE_NEURON
from onnx_snn.spiking_graph import (
    ACCUMULATE,
    DIFFERENCE,
    GATE,
    INTEGRATE,
    READOUT,
    SILENT,
    SpikingGraph,
    placeholder,
)

FOLDED = "T*N"
"""Name of the leading axis of a folded activation."""


def spike(
    graph: gs.Graph,
    analysis: Analysis,
    neuron: Neuron,
    input_coding: InputCoding = InputCoding.CONSTANT,
    coding: Coding = Coding.RATE,
    window: int | None = None,
) -> SpikingGraph:
    """Put neurons into a normalised graph.

    Args:
        graph: clean, folded and normalised; edited in place.
        analysis: of this graph as it is now.
        neuron: what all neurons are.
        input_coding: how samples will be shown.
        coding: how T steps carry a number.
        window: for drain, the steps during which input and biases are on.

    Returns:
        The spiking network, not yet on a schedule.
    """
    timesteps = gs.Variable(unique_name(graph, "T"), np.dtype(np.int64), [])
    time = _TimeAxis(graph, timesteps, coding, window)
    neurons = _Neurons(graph, timesteps, neuron, coding, window)
    if input_coding is InputCoding.SEQUENCE:
        for tensor in graph.inputs:
            time.mark(tensor, Domain.STEP)
    caps = {node.name: _least(node.inputs[2:]) for node in graph.nodes if node.op == "Clip"}
    for node in list(graph.nodes):
        if is_cap(node):  # one spike per step is less than any cap: no λ is above it
            caps[activations(node)[0].inputs[0].name] = _least(node.inputs)
            bypass(graph, node)
    # All before the first edit: with a time axis, tensors look different.
    operators = [(node, operator_of(node)) for node in graph.nodes]
    for node, operator in operators:
        if node.name in analysis.tail:
            continue
        if operator.kind is Kind.SPIKING:
            constant = time.domain(node.inputs[0]) is None and window is None
            if not constant:
                time.bring_inputs(node, Domain.STEP)
            neurons.put(node, caps.get(node.name, np.inf), not constant)
            time.mark(node.outputs[0], Domain.STEP)
        else:
            time.extend_over(node, operator)
    _insert_readouts(graph, analysis, time)
    network = SpikingGraph(graph, timesteps, input_coding, coding, window)
    if window is not None:
        _tell_silence(network)
    return network


class _TimeAxis:
    """Which tensors vary with time, in which domain, and the nodes that bring them to another."""

    def __init__(
        self, graph: gs.Graph, timesteps: gs.Variable, coding: Coding, window: int | None
    ) -> None:
        self._graph = graph
        self._timesteps = timesteps
        self._integrates = coding.is_phased
        self._is_gated = window is not None
        self._domains: dict[str, Domain] = {}
        self._copies: dict[tuple[str, Domain], gs.Variable] = {}
        self._names = set(graph.tensors())

    def domain(self, tensor: gs.Variable) -> Domain | None:
        """None for what is the same at every step."""
        return self._domains.get(tensor.name)

    def mark(self, tensor: gs.Variable, domain: Domain) -> None:
        """Let the leading axis of a tensor be time and batch."""
        self._domains[tensor.name] = domain
        if tensor.shape:
            tensor.shape = [FOLDED, *tensor.shape[1:]]

    def extend_over(self, node: gs.Node, operator: Operator) -> None:
        """Bring all inputs of a node to one domain, which is that of its outputs."""
        found = {self.domain(tensor) for tensor in variables(node)}
        if found == {None} or not found:
            return
        domain = Domain.MEAN if found <= {Domain.MEAN, None} else operator.domain
        if operator.kind is not Kind.METADATA:
            self.bring_inputs(node, domain)
            self._bring_shapes(node, domain)
            if domain is Domain.MEAN and self._integrates:
                return  # it reads means over the whole window
        for tensor in node.outputs:
            self.mark(tensor, domain)
        if domain is Domain.STEP and self._is_gated and operator.kind is not Kind.METADATA:
            self._gate_constants(node)

    def _gate_constants(self, node: gs.Node) -> None:
        """Let what a node adds by itself end with the input."""
        part = take_constant_part(node)
        if part is None:
            return
        result = node.outputs[0]
        rows = gs.Variable(
            self.new_name(f"{result.name}/without_constant"), result.dtype, list(result.shape)
        )
        node.outputs[0] = rows
        self.mark(rows, Domain.STEP)
        gate = placeholder(GATE, [self._timesteps, part, rows], result)
        insert_behind(self._graph, rows, [gate])

    def bring_inputs(self, node: gs.Node, domain: Domain) -> None:
        for tensor in activations(node):
            copy = self.bring(tensor, domain)
            if copy is not tensor:
                node.inputs = [copy if t is tensor else t for t in node.inputs]

    def _bring_shapes(self, node: gs.Node, domain: Domain) -> None:
        """Let shapes that a node with a time axis reads be those of tensors with a time axis."""
        pending = [tensor for tensor in variables(node) if not is_float(tensor)]
        while pending:
            for producer in pending.pop().inputs:
                if producer.op in ("Shape", "Size"):
                    is_mean = domain is Domain.MEAN and self._integrates
                    of = None if is_mean else self.domain(producer.inputs[0])
                    self.bring_inputs(producer, of or (domain if is_mean else Domain.STEP))
                else:
                    pending += variables(producer)

    def bring(self, tensor: gs.Variable, domain: Domain) -> gs.Variable:
        """The tensor in another domain; one copy for all readers."""
        given = self.domain(tensor)
        if given is domain or (given is None and domain is Domain.MEAN and self._integrates):
            return tensor
        key = (tensor.name, domain)
        if key not in self._copies:
            source = tensor
            direct = Domain.STEP in (given, domain) or (given, domain) == (None, Domain.MEAN)
            if not direct:
                source = self.bring(tensor, Domain.STEP)
                given = Domain.STEP
            copy = gs.Variable(
                self.new_name(f"{tensor.name}/{_NAMES[given, domain]}"),
                tensor.dtype,
                None if tensor.shape is None else list(tensor.shape),
            )
            insert_behind(self._graph, source, self._between(source, given, domain, copy))
            if domain is Domain.MEAN and self._integrates:
                copy.shape = _sample_shape(copy)
            else:
                self.mark(copy, domain)
            self._copies[key] = copy
        return self._copies[key]

    def _between(
        self, source: gs.Variable, given: Domain | None, domain: Domain, copy: gs.Variable
    ) -> list[gs.Node]:
        if given is None and self._is_gated and domain is Domain.STEP:
            return [placeholder(GATE, [self._timesteps, source], copy)]
        if given is None:  # the same at every step, and so their mean
            return self._repeat(source, copy)
        if given is Domain.STEP and domain is Domain.MEAN and self._integrates:
            return [placeholder(INTEGRATE, [source], copy)]
        if given is Domain.STEP:
            return [placeholder(ACCUMULATE, [source], copy, domain is Domain.MEAN)]
        return [placeholder(DIFFERENCE, [source], copy, given is Domain.MEAN)]

    def _repeat(self, source: gs.Variable, copy: gs.Variable) -> list[gs.Node]:
        nodes: list[gs.Node] = []
        Emitter(nodes, copy.name).repeat(source, self._timesteps, into=copy)
        return nodes

    def rename(self, tensor: gs.Variable, suffix: str) -> gs.Variable:
        """A new variable that takes the tensor's place, in its domain."""
        name = self.new_name(f"{tensor.name}/{suffix}")
        self._domains[name] = self._domains[tensor.name]
        for domain in Domain:
            if (tensor.name, domain) in self._copies:
                self._copies[name, domain] = self._copies[tensor.name, domain]
        return gs.Variable(name, tensor.dtype, tensor.shape)

    def new_name(self, base: str) -> str:
        """A name that no other tensor has."""
        return new_name(self._names, base)


_NAMES = {
    (None, Domain.STEP): "repeated",
    (None, Domain.MEAN): "repeated",
    (Domain.STEP, Domain.SUM): "sum",
    (Domain.STEP, Domain.MEAN): "mean",
    (Domain.SUM, Domain.STEP): "step",
    (Domain.MEAN, Domain.STEP): "step",
}


class _Neurons:
    """Turns activation functions into neurons, all of one kind."""

    def __init__(
        self,
        graph: gs.Graph,
        timesteps: gs.Variable,
        neuron: Neuron,
        coding: Coding,
        window: int | None,
    ) -> None:
        self._graph = graph
        self._timesteps = timesteps
        self._neuron = neuron
        self._coding = coding
        self._window = window
        self._starts: dict[str, gs.Constant] = {}

    def put(self, node: gs.Node, cap: float, has_rows: bool) -> None:
        """In the place of an activation.

        Args:
            node: the activation, which keeps its name and its output.
            cap: its greatest value, in units of λ.
            has_rows: whether its currents [T·N, …] vary with time, or are [N, …].
        """
        neuron = self._neuron
        node.domain = DOMAIN
        if self._coding.is_phased:
            node.op, node.inputs = PHASE_NEURON, [node.inputs[0], self._timesteps]
            node.attrs = {
                "constant_input": 0 if has_rows else 1,
                "base": self._coding.base,
                "v_threshold": 1.0,
                "v_init": float(neuron.v_init),
            }
            return
        dtype = np.dtype(node.outputs[0].dtype or np.float32)
        states = [self._start("v_init", neuron.v_init, dtype)]
        if neuron.is_signed:
            states.append(self._start("n_init", 0, dtype))
        node.op = IF_NEURON
        node.inputs = [node.inputs[0], self._timesteps, *states]
        node.outputs = [node.outputs[0], *(gs.Variable.empty() for _ in states)]
        # All attributes are written out: not every runtime reads the defaults of a function.
        node.attrs = {
            "constant_input": 0 if has_rows else 1,
            "v_threshold": 1.0,
            "v_init": float(neuron.v_init),
            "reset": neuron.reset,
            "spike_min": neuron.spike_min,
            "spike_max": int(max(1, min(neuron.spike_max, cap))),
            "count_min": 0,
            "count_max": -1 if self._window is None else self._window,
        }

    def _start(self, name: str, value: float, dtype: np.dtype[np.generic]) -> gs.Constant:
        """The state before the first step, one constant for all neurons."""
        key = f"onnx_snn/{name}/{dtype}"
        if key not in self._starts:
            start = gs.Constant(unique_name(self._graph, key), np.asarray(value, dtype))
            self._starts[key] = start
        return self._starts[key]


def _least(tensors: Sequence[gs.Tensor]) -> float:
    """The least number in the constants among some tensors."""
    numbers = [float(np.min(tensor.values)) for tensor in tensors if is_constant(tensor)]
    return min(numbers, default=np.inf)


def _insert_readouts(graph: gs.Graph, analysis: Analysis, time: _TimeAxis) -> None:
    outputs = {tensor.name for tensor in graph.outputs}
    for node in list(graph.nodes):
        if node.name in analysis.tail:
            continue
        for tensor in node.outputs:
            if time.domain(tensor) is None:
                continue
            readers = [reader for reader in tensor.outputs if reader.name in analysis.tail]
            if tensor.name in outputs:
                _read_out_output(graph, time, tensor, readers)
            elif readers:
                _read_out_tail(graph, time, tensor, readers)


def _read_out_output(
    graph: gs.Graph, time: _TimeAxis, output: gs.Variable, tail: list[gs.Node]
) -> None:
    """The graph output keeps its name and becomes the mean; the rows get another name."""
    rows = time.rename(output, "current")
    for reader in list(output.outputs):
        if not any(reader is node for node in tail):
            reader.inputs = [rows if t is output else t for t in reader.inputs]
    producer = output.inputs[0]
    producer.outputs = [rows if t is output else t for t in producer.outputs]
    output.shape = _sample_shape(output)
    _append_readout(graph, time, rows, output)


def _read_out_tail(
    graph: gs.Graph, time: _TimeAxis, tensor: gs.Variable, readers: list[gs.Node]
) -> None:
    mean = gs.Variable(time.new_name(f"{tensor.name}/mean"), tensor.dtype, _sample_shape(tensor))
    for reader in readers:
        reader.inputs = [mean if t is tensor else t for t in reader.inputs]
    _append_readout(graph, time, tensor, mean)


def _sample_shape(tensor: gs.Variable) -> list[int | str] | None:
    return None if tensor.shape is None else ["N", *tensor.shape[1:]]


def _append_readout(graph: gs.Graph, time: _TimeAxis, rows: gs.Variable, mean: gs.Variable) -> None:
    steps = time.bring(rows, Domain.STEP)
    insert_behind(graph, steps, [placeholder(READOUT, [steps], mean)])


def _tell_silence(network: SpikingGraph) -> None:
    """Add an output that is true once all neurons have fallen silent."""
    graph = network.graph
    silent = gs.Variable(unique_name(graph, "silent"), np.dtype(np.bool_), [])
    spikes = [node.outputs[0] for node in network.neurons()]
    graph.nodes.append(placeholder(SILENT, spikes, silent))
    graph.outputs.append(silent)
