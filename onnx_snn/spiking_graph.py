"""A spiking network before it is put on a schedule: the common form of all schedules.

Activations are folded, rows ``t·N + n``; every neuron reads the number of steps ``T`` and starts
from a constant membrane. Placeholders stand where values of different steps meet; a schedule puts
nodes in their place:

    Readout     rows [T·N, …] → their mean over time [N, …]
    Accumulate  rows of single steps → rows of the sums so far, or of the means so far
    Difference  rows of sums, or of means so far → rows of single steps
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import onnx_graphsurgeon as gs

from onnx_snn.graph import variables
from onnx_snn.ops import DOMAIN, IF_NEURON

READOUT = "Readout"
ACCUMULATE = "Accumulate"
DIFFERENCE = "Difference"


class InputCoding(StrEnum):
    """How a sample is shown: the same image at every step, or a sequence [T, N, …]."""

    CONSTANT = "constant"
    SEQUENCE = "sequence"


def placeholder(
    op: str, source: gs.Variable, result: gs.Variable, averages: bool = False
) -> gs.Node:
    """A placeholder between two tensors.

    Args:
        op: one of the three.
        source: what it reads.
        result: what it gives.
        averages: whether an Accumulate gives, or a Difference reads, means instead of sums.
    """
    attributes = {} if op == READOUT else {"averages": int(averages)}
    name = f"{source.name}/{op.lower()}" + ("/mean" if averages else "")
    return gs.Node(op, name, attrs=attributes, inputs=[source], outputs=[result], domain=DOMAIN)


@dataclass
class SpikingGraph:
    """See the module's text.

    Attributes:
        graph: nodes in order of evaluation; its inputs are [N, …] images, or folded rows
            [T·N, …] where the coding is a sequence.
        timesteps: the tensor T, int64, []; nobody computes it yet.
        coding: how samples are shown.
    """

    graph: gs.Graph
    timesteps: gs.Variable
    coding: InputCoding

    def neurons(self) -> list[gs.Node]:
        return [n for n in self.graph.nodes if n.domain == DOMAIN and n.op == IF_NEURON]

    def readouts(self) -> list[gs.Node]:
        return self._placeholders(READOUT)

    def crossings(self) -> list[gs.Node]:
        """Accumulate and Difference."""
        return self._placeholders(ACCUMULATE, DIFFERENCE)

    def _placeholders(self, *ops: str) -> list[gs.Node]:
        return [n for n in self.graph.nodes if n.domain == DOMAIN and n.op in ops]

    def temporal_nodes(self) -> list[gs.Node]:
        """Nodes evaluated at every time step: they depend on T, and come before the readouts."""
        known = {self.timesteps.name}
        if self.coding is InputCoding.SEQUENCE:
            known |= {tensor.name for tensor in self.graph.inputs}
        return list(self._dependants(known))

    def _dependants(self, known: set[str]) -> Iterator[gs.Node]:
        for node in self.graph.nodes:
            if node.op == READOUT and node.domain == DOMAIN:
                continue
            if any(tensor.name in known for tensor in variables(node)):
                known |= {tensor.name for tensor in node.outputs}
                yield node
