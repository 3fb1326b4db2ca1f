"""A spiking network before it is put on a schedule: the common form of all schedules.

Activations are folded, rows ``t·N + n``; every neuron reads the number of steps ``T`` and starts
from a constant membrane; a ``Readout`` placeholder stands where the mean over time is taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import onnx_graphsurgeon as gs

from onnx_snn.graph import activations
from onnx_snn.ops import DOMAIN, IF_NEURON

READOUT = "Readout"
"""Placeholder (rows [T·N, …] → their mean over time [N, …]); a schedule puts nodes in its place."""


class InputCoding(StrEnum):
    """How a sample is shown: the same image at every step, or a sequence [T, N, …]."""

    CONSTANT = "constant"
    SEQUENCE = "sequence"


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
        return [n for n in self.graph.nodes if n.domain == DOMAIN and n.op == READOUT]

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
            if any(tensor.name in known for tensor in activations(node)):
                known |= {tensor.name for tensor in node.outputs}
                yield node
