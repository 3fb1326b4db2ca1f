"""Round to grid: weights as multiples of a power of two, so coarse that every sum is exact.

A sum of float32 numbers depends on the order of its terms, unless all of them are multiples of one
2^−k and no sum exceeds 2^(24−k). Then a spiking network whose counts are the quantised ANN's
(drain, two_phase, radix) has the very same ones, bit for bit, on any machine. With N ≤ L the count
of a neuron in all time steps, a layer's sums over synapses and steps stay below

    B = max_o Σ_i |w[o, i]|·L + |b[o]|·W          W: what all steps weigh together

and rounding, by 2^−k/2 at most, adds no more than M·2^−k/2 for the M = fan-in·L + W terms. So
k = ⌊log2((2^p − M/2)/B)⌋ fits the p bits of the type. Layers that are added share one k. A
constant current, computed from the image in the ordinary way, is rounded where it meets the time
axis.

This is all or nothing. A network is left as it is where not all its neurons' sums can be exact:
averages over other numbers than powers of two, linear layers in a row, graded functions; or where
weights would be rounded so much that counts feel it (many levels, little precision). If it is only
the readouts' own sums that cannot, they stay what they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import floor, log2, prod

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from onnx_snn.emit import Emitter
from onnx_snn.graph import (
    activations,
    insert_before,
    is_constant,
    is_float,
    is_present,
    new_name,
    set_constant,
)
from onnx_snn.operators import operator_of
from onnx_snn.operators.weighted import Weighted
from onnx_snn.ops import DOMAIN, NEURONS
from onnx_snn.spiking_graph import ACCUMULATE, DIFFERENCE, GATE, SpikingGraph

_LARGEST_CURRENT = 16.0
"""A constant current counts as no larger; in units of the threshold. A neuron that gets more fires
at every step, or never, whether or not its sums are exact."""
_MOST_ROUNDED = 1 / 4
"""Rounding may change weights, root mean square, by this part of what a level is to the highest
one, and a constant current in all steps by this part of a level."""

_MOVING = frozenset(
    ["Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "Identity", "Neg", "Pad"]
).union(["Reshape", "Slice", "SpaceToDepth", "Split", "Squeeze", "Transpose", "Unsqueeze"])
_CHOOSING = frozenset(["GlobalMaxPool", "Max", "MaxPool", "Min", "ReduceMax", "ReduceMin"])
_ADDING = frozenset(["Add", "Sub", "Sum"])
_AVERAGING = frozenset(["AveragePool", "GlobalAveragePool", "ReduceMean"])
_WEIGHING = frozenset(["Conv", "ConvTranspose", "Einsum", "Gemm", "MatMul", "Mul"])


def round_to_grid(network: SpikingGraph, levels: int, weight: int) -> bool:
    """Let all sums of a network be exact, if that is possible.

    Args:
        network: of a coding whose counts are exact; edited in place.
        levels: L, the most that spikes of a neuron count for together.
        weight: W, what the steps of a constant current count for together.

    Returns:
        Whether the sums of all neurons are exact now; the network is as it was if not.
    """
    nodes = _nodes_over_time(network)
    for chosen in (nodes, _ahead_of_neurons(nodes)):
        try:
            roundings = list(_Plan(chosen, float(levels), float(weight)).roundings())
        except _InexactError:
            continue
        for rounding in roundings:
            rounding.apply(network.graph)
        return True
    return False


def _nodes_over_time(network: SpikingGraph) -> list[gs.Node]:
    """Nodes whose numbers differ from step to step, in order of evaluation."""
    temporal = {id(node) for node in network.temporal_nodes()}
    nodes = [node for node in network.graph.nodes if id(node) in temporal]
    return [node for node in nodes if any(map(_is_number, node.outputs))]


def _is_number(tensor: gs.Tensor) -> bool:
    """Whether a tensor is known to hold floating-point numbers; shapes often have no type here."""
    return tensor.dtype is not None and is_float(tensor)


def _ahead_of_neurons(nodes: Sequence[gs.Node]) -> list[gs.Node]:
    """Those that a neuron needs: without the readouts' own."""
    needed: set[str] = set()
    for node in reversed(nodes):
        if node.op in NEURONS or any(tensor.name in needed for tensor in node.outputs):
            needed.update(tensor.name for tensor in activations(node))
    return [n for n in nodes if n.op in NEURONS or any(t.name in needed for t in n.outputs)]


class _InexactError(Exception):
    """Sums of this network cannot be exact; internal."""


@dataclass(frozen=True)
class _Sum:
    """What is known of a tensor's sums over time.

    Attributes:
        bound: B, which none exceeds.
        terms: M, how many roundings they hold.
        exponent: e, where all that is not rounded is a multiple of 2^−e.
        is_rounded: whether weights on the way from the last neurons will be rounded.
    """

    bound: float
    terms: float = 0.0
    exponent: int = 0
    is_rounded: bool = False


@dataclass(frozen=True)
class _Rounding:
    """An input of a node, to become a multiple of 2^−exponent."""

    node: gs.Node
    index: int
    exponent: int

    def apply(self, graph: gs.Graph) -> None:
        tensor = self.node.inputs[self.index]
        if is_constant(tensor):
            values = _rounded(tensor.values, self.exponent)
            set_constant(self.node, self.index, values, "rounded")
            return
        nodes: list[gs.Node] = []
        name = new_name(set(graph.tensors()), f"{tensor.name}/rounded")
        into = gs.Variable(name, tensor.dtype, tensor.shape and list(tensor.shape))
        emit, dtype = Emitter(nodes, name), np.dtype(tensor.dtype or np.float32)
        up, down = (emit.const(2.0**e, dtype) for e in (self.exponent, -self.exponent))
        integers = emit.node("Round", [emit.node("Mul", [tensor, up], dtype=dtype)], dtype=dtype)
        emit.node("Mul", [integers, down], into=into)
        insert_before(graph, self.node, nodes)
        self.node.inputs[self.index] = into


class _Plan:
    """Finds bounds forward, and the grids they leave room for backward."""

    def __init__(self, nodes: Sequence[gs.Node], levels: float, weight: float) -> None:
        self._nodes, self._levels, self._weight = nodes, levels, weight
        self._sums: dict[str, _Sum] = {}
        self._exponents: dict[str, int] = {}
        self._membranes = {node.inputs[0].name for node in nodes if node.op in NEURONS}
        for node in self._nodes:
            total = self._sum_of(node)
            for tensor in node.outputs:
                if is_present(tensor):
                    self._sums[tensor.name] = total
        for node in reversed(self._nodes):
            self._ask(node)

    def roundings(self) -> Iterator[_Rounding]:
        """What is to be rounded.

        Raises:
            _InexactError: too much, or there is a membrane that starts between two multiples.
        """
        for node in self._nodes:
            if node.op in NEURONS:
                start = np.ldexp(node.attrs["v_init"], self._exponents[node.inputs[0].name])
                if start % 1:
                    raise _InexactError
            for index in _roundable(node):
                yield self._rounding(node, index)

    def _sum_of(self, node: gs.Node) -> _Sum:
        """The sums that a node's outputs have."""
        if node.op in NEURONS:
            if int(node.attrs["constant_input"]):
                self._sums[node.inputs[0].name] = self._constant(node.inputs[0])
            return _Sum(self._levels)
        given = [self._sums[t.name] for t in activations(node) if t.name in self._sums]
        if node.op in _WEIGHING and given:
            return self._weighted(node, given[0])
        if node.op in _AVERAGING and given:
            return replace(given[0], exponent=given[0].exponent + _halvings(node))
        if _is_entry(node) or (node.op in _ADDING and given):
            return _added([*given, *(self._constant(node.inputs[i]) for i in _roundable(node))])
        is_sum = node.op in (ACCUMULATE, DIFFERENCE) and not node.attrs["averages"]
        if not given or not (is_sum or (node.op in _MOVING | _CHOOSING and not _has_numbers(node))):
            raise _InexactError
        return _Sum(
            max(total.bound for total in given),
            max(total.terms for total in given),
            max(total.exponent for total in given),
            any(total.is_rounded for total in given),
        )

    def _constant(self, tensor: gs.Tensor) -> _Sum:
        """Sums of what is the same at every step."""
        largest = _LARGEST_CURRENT
        if is_constant(tensor):
            largest = float(np.abs(tensor.values).max(initial=0))
        return _Sum(largest * self._weight, self._weight, is_rounded=True)

    def _weighted(self, node: gs.Node, given: _Sum) -> _Sum:
        index = _weights_of(node)
        factors = (float(node.attrs.get(name, 1.0)) for name in ("alpha", "beta"))
        is_plain = is_constant(node.inputs[index]) and all(factor == 1.0 for factor in factors)
        if given.is_rounded or not is_plain:  # multiples of 2^−j times those of 2^−k: j + k bits
            raise _InexactError
        weight = np.abs(np.asarray(node.inputs[index].values, np.float64))
        bound, fan_in = (_fan_in(node, w).max(initial=0.0) for w in (weight, np.ones_like(weight)))
        total = _Sum(bound * given.bound, fan_in * given.bound, given.exponent, True)
        return _added([total, *(self._constant(tensor) for tensor in node.inputs[2:])])

    def _ask(self, node: gs.Node) -> None:
        """Hand the grid that a node's outputs need on to its inputs."""
        if node.op in NEURONS:
            self._limit(node.inputs[0], self._finest(node.inputs[0]))
            return
        exponent = min(self._finest(tensor) for tensor in node.outputs if is_float(tensor))
        for tensor in node.outputs:
            self._exponents[tensor.name] = exponent
        if node.op not in _WEIGHING:
            halvings = _halvings(node) if node.op in _AVERAGING else 0
            for tensor in activations(node):
                self._limit(tensor, exponent - halvings)

    def _limit(self, tensor: gs.Variable, exponent: int) -> None:
        self._exponents[tensor.name] = min(exponent, self._exponents.get(tensor.name, exponent))

    def _finest(self, tensor: gs.Variable) -> int:
        """The finest grid on which a tensor's sums are exact."""
        total = self._sums[tensor.name]
        # Besides its currents, a membrane holds V_0 and the spikes that it has fired.
        bound = total.bound + (self._levels + 1 if tensor.name in self._membranes else 0)
        bits = np.finfo(np.dtype(tensor.dtype or np.float32)).nmant + 1
        most = 2.0**bits - total.terms / 2
        room = floor(log2(most / max(bound, 1.0))) if most > 0 else -1
        finest = min(room, self._exponents.get(tensor.name, bits))
        if finest < total.exponent:
            raise _InexactError
        return finest

    def _rounding(self, node: gs.Node, index: int) -> _Rounding:
        of = node.inputs[0] if node.op in NEURONS else node.outputs[0]
        exponent = self._exponents[of.name]
        tensor = node.inputs[index]
        if node.op in _WEIGHING and index == _weights_of(node):
            exponent -= max(self._sums[t.name].exponent for t in activations(node))
            change = _rms(_rounded(tensor.values, exponent) - tensor.values)
            is_small = change <= _MOST_ROUNDED * _rms(tensor.values) / self._levels
        else:
            is_small = is_constant(tensor) or self._weight * 2.0**-exponent <= _MOST_ROUNDED
        if not is_small:
            raise _InexactError
        return _Rounding(node, index, exponent)


def _rounded(values: npt.NDArray[np.floating], exponent: int) -> npt.NDArray[np.float64]:
    """The nearest multiples of 2^−exponent."""
    integers = np.rint(np.ldexp(np.asarray(values, np.float64), exponent))
    return np.asarray(np.ldexp(integers, -exponent))


def _rms(values: npt.NDArray[np.floating]) -> float:
    return float(np.sqrt(np.mean(np.square(values, dtype=np.float64)))) if values.size else 0.0


def _added(summands: Sequence[_Sum]) -> _Sum:
    return _Sum(
        sum(total.bound for total in summands),
        sum(total.terms for total in summands),
        max(total.exponent for total in summands),
        any(total.is_rounded for total in summands),
    )


def _roundable(node: gs.Node) -> list[int]:
    """Which inputs of a node are weights, or the same at every step."""
    if node.op in NEURONS:
        return [0] if int(node.attrs["constant_input"]) else []
    if _is_entry(node):
        return [1 if node.op == GATE else 0]
    if node.op in _WEIGHING:
        return [_weights_of(node), *range(2, len(node.inputs))]
    if node.op in _ADDING:
        return [i for i, tensor in enumerate(node.inputs) if is_constant(tensor)]
    return []


def _is_entry(node: gs.Node) -> bool:
    """Whether what is the same at every step gets its time axis here."""
    return bool(node.op == "Tile" or (node.op == GATE and node.domain == DOMAIN))


def _has_numbers(node: gs.Node) -> bool:
    """Whether a node reads constants that are no shapes or indices."""
    return any(is_constant(t) and is_float(t) and np.any(t.values) for t in node.inputs)


def _weights_of(node: gs.Node) -> int:
    return 0 if is_constant(node.inputs[0]) else 1


def _fan_in(node: gs.Node, weight: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Σ_i |w[o, i]| of absolute weights, or a bound of it, for every output."""
    operator = operator_of(node)
    axes = operator.input_axes(node) if isinstance(operator, Weighted) else ()
    total: npt.NDArray[np.float64] = weight.sum(axis=axes)
    return total


def _halvings(node: gs.Node) -> int:
    """log2 of how many numbers an average is of."""
    if node.op == "AveragePool":
        is_padded = node.attrs.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID")
        is_padded = is_padded or any(node.attrs.get("pads", []))
        counts_padding = not is_padded or node.attrs.get("count_include_pad", 0)
        if node.attrs.get("ceil_mode", 0) or not counts_padding:  # fewer at the borders
            raise _InexactError
        count = prod(map(int, node.attrs["kernel_shape"]))
    else:
        before, after = (tensor.shape[1:] for tensor in (node.inputs[0], node.outputs[0]))
        if not all(isinstance(size, int) for size in (*before, *after)):
            raise _InexactError
        count = prod(map(int, before)) // max(prod(map(int, after)), 1)
    if count & (count - 1):
        raise _InexactError
    return max(count.bit_length() - 1, 0)
