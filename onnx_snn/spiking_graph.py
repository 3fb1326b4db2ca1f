"""A spiking network before it is put on a schedule: the common form of all schedules.

Activations are folded, rows ``t·N + n``; every neuron reads the number of steps ``T`` and starts
from a constant membrane. Placeholders stand where values of different steps meet; a schedule puts
nodes in their place:

    Readout     rows [T·N, …] → their mean over time [N, …]
    Accumulate  rows of single steps → rows of the sums so far, or of the means so far
    Difference  rows of sums, or of means so far → rows of single steps
    Integrate   rows of a whole window → their mean over time [N, …], inside the network
    Gate        what does not vary with time → rows of it while input comes in, 0 afterwards; added
                to other rows if it is given some
    Silent      the spikes of all neurons → whether none fired in the last step, []
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import onnx_graphsurgeon as gs

from onnx_snn.coding import Coding, InputCoding
from onnx_snn.graph import variables
from onnx_snn.ops import DOMAIN, STATEFUL, STATEFUL_POOLS
from onnx_snn.time_weights import TimeWeights

READOUT = "Readout"
ACCUMULATE = "Accumulate"
DIFFERENCE = "Difference"
INTEGRATE = "Integrate"
GATE = "Gate"
SILENT = "Silent"


def placeholder(
    op: str, sources: Sequence[gs.Tensor], result: gs.Variable, averages: bool = False
) -> gs.Node:
    """A placeholder between tensors.

    Args:
        op: one of those above.
        sources: what it reads: one tensor; for Silent, all spikes; for Gate, T, what does not
            vary with time, and the rows to add to if there are any.
        result: what it gives.
        averages: whether an Accumulate gives, or a Difference reads, means instead of sums.
    """
    name = f"{result.name}/{op.lower()}"
    attributes = {"averages": int(averages)}
    return gs.Node(
        op, name, attrs=attributes, inputs=list(sources), outputs=[result], domain=DOMAIN
    )


@dataclass
class SpikingGraph:
    """See the module's text.

    Attributes:
        graph: nodes in order of evaluation; its inputs are [N, …] images, or folded rows
            [T·N, …] where the coding is a sequence.
        timesteps: the tensor T, int64, []; nobody computes it yet.
        input_coding: how samples are shown.
        coding: how T steps carry a number.
        window: for drain, the steps during which input and biases are on; else None.
        ramp: until which step the weights of the steps grow in a readout; 1: all count alike.
    """

    graph: gs.Graph
    timesteps: gs.Variable
    input_coding: InputCoding
    coding: Coding = Coding.RATE
    window: int | None = None
    ramp: int = 1

    @property
    def weights(self) -> TimeWeights:
        """Of the steps inside the network."""
        return TimeWeights(self.coding, self.window)

    @property
    def readout_weights(self) -> TimeWeights:
        return TimeWeights(self.coding, self.window, self.ramp)

    def neurons(self) -> list[gs.Node]:
        """Neurons that keep a state from step to step."""
        return [node for node in self.stateful() if node.op not in STATEFUL_POOLS]

    def stateful(self) -> list[gs.Node]:
        """All operators that keep a state from step to step, but for placeholders."""
        return [n for n in self.graph.nodes if n.domain == DOMAIN and n.op in STATEFUL]

    def readouts(self) -> list[gs.Node]:
        return self._placeholders(READOUT)

    def crossings(self) -> list[gs.Node]:
        """What steps take over from others, or know of their own number."""
        return self._placeholders(ACCUMULATE, DIFFERENCE, INTEGRATE, GATE)

    @property
    def silent(self) -> gs.Node | None:
        return next(iter(self._placeholders(SILENT)), None)

    def _placeholders(self, *ops: str) -> list[gs.Node]:
        return [n for n in self.graph.nodes if n.domain == DOMAIN and n.op in ops]

    def temporal_nodes(self) -> list[gs.Node]:
        """Nodes evaluated at every time step: they depend on T, and come before the readouts."""
        known = {self.timesteps.name}
        if self.input_coding is InputCoding.SEQUENCE:
            known |= {tensor.name for tensor in self.graph.inputs}
        return list(self._dependants(known))

    def _dependants(self, known: set[str]) -> Iterator[gs.Node]:
        for node in self.graph.nodes:
            if node.op == READOUT and node.domain == DOMAIN:
                continue
            if any(tensor.name in known for tensor in variables(node)):
                known |= {tensor.name for tensor in node.outputs}
                yield node
