"""What the passes ask of an operator. One subclass says how one family of nodes treats scales.

With λ (``Scale``) the factor between the original and the normalised value of a tensor:

- ``wish``: backward; which λ on the inputs would give ``out`` on the output for free.
- ``demand``: forward; the λ that an input must have, None where any will do.
- ``output``: forward; the λ of the output, given those of the inputs and the wish of the readers.
- ``apply``: rescale the node's own constants so that both hold.

All lists have one entry for each activation input of the node, in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import onnx_graphsurgeon as gs

from onnx_snn.graph import activations, is_constant, rank
from onnx_snn.scale import ONE, Scale


class Kind(StrEnum):
    """What becomes of a node."""

    SPIKING = "spiking"
    LINEAR = "linear"
    POOLING = "pooling"
    DIFFERENTIAL = "differential"
    ANALOG = "analog"
    METADATA = "metadata"
    REFUSED = "refused"


class Domain(StrEnum):
    """What the rows of a tensor are over time.

    ``STEP``: the value of each time step: spikes, currents. ``SUM``: the sum of all steps so far.
    ``MEAN``: their mean so far. A function f of a mean over time is what the ANN computes, so any f
    can be evaluated on means; one with f(c·x) = c·f(x) for c > 0, such as max, on sums as well.
    """

    STEP = "step"
    SUM = "sum"
    MEAN = "mean"


@dataclass(frozen=True)
class Refusal:
    """Why a node cannot be converted, and what the user can do about it.

    Attributes:
        reason: in one clause.
        remedy: in the imperative.
        mixes_batch: whether samples of a batch meet in the node, so that it can stand nowhere.
    """

    reason: str
    remedy: str
    mixes_batch: bool = False


UNKNOWN_SHAPE = Refusal(
    "the shape of its input is unknown", "run shape inference, or export with shapes"
)
NO_ACTIVATION = Refusal(
    "its data are constant or integers, not an activation",
    "let it stand before the first neuron, or replace it by a layer with constant weights",
)
MIXES_BATCH = Refusal(
    "it mixes the batch axis with others", "keep axis 0 as the batch in every layer", True
)


class CannotCarryError(Exception):
    """A per-channel λ reached a node that can only carry one number; internal to normalise."""

    def __init__(self, node: gs.Node, tensor: gs.Variable) -> None:
        super().__init__(f"{node.op} '{node.name}' cannot carry the channels of '{tensor.name}'")
        self.tensor = tensor


class Operator:
    """Base of all operators: one input, one output, λ passed through if it is a scalar."""

    kind: Kind = Kind.LINEAR
    reason: str = ""  # of its verdict, where the kind alone does not say it
    domain: Domain = Domain.STEP  # where it may be evaluated; a linear one on means as well

    def refusal(self, node: gs.Node) -> Refusal | None:
        """Why this node cannot be converted, or None if it can. Looks, never edits."""
        return None

    def reason_of(self, node: gs.Node) -> str:
        """What becomes of this very node, for its verdict; only where nothing refuses it."""
        return self.reason

    def wish(self, node: gs.Node, out: Scale) -> Sequence[Scale | None]:
        return [None] * len(activations(node))

    def demand(
        self, node: gs.Node, scales: Sequence[Scale], wish: Scale | None
    ) -> Sequence[Scale | None]:
        return [None] * len(scales)

    def output(self, node: gs.Node, scales: Sequence[Scale], wish: Scale | None) -> Scale:
        raise NotImplementedError

    def apply(self, node: gs.Node, scales: Sequence[Scale], out: Scale) -> None:
        return None


class Analog(Operator):
    """A function evaluated in the ANN's own units: inputs and outputs at λ = 1."""

    kind = Kind.ANALOG

    def wish(self, node: gs.Node, out: Scale) -> Sequence[Scale | None]:
        return [ONE] * len(activations(node))

    def demand(
        self, node: gs.Node, scales: Sequence[Scale], wish: Scale | None
    ) -> Sequence[Scale | None]:
        return [ONE] * len(scales)

    def output(self, node: gs.Node, scales: Sequence[Scale], wish: Scale | None) -> Scale:
        return ONE


def broadcast_refusal(node: gs.Node) -> Refusal | None:
    """Refuse constants that would give the activations more axes, or a batch of their own."""
    axes = rank(activations(node)[0])
    if axes is None or rank(node.outputs[0]) is None:
        return UNKNOWN_SHAPE
    for tensor in node.inputs:
        if not is_constant(tensor):
            continue
        shape = np.shape(tensor.values)
        if len(shape) > axes or (len(shape) == axes and axes > 0 and shape[0] != 1):
            return Refusal(
                "its constant has a batch axis of its own",
                "export the model with a batch of any size",
            )
    return None
