"""Round weights: to integers of 8 or 16 bits, times a power of two for each output.

The weights stay floating-point numbers of the file's type, so that every runtime takes them as they
are. A kernel that multiplies integers may find that they are some: it then needs one or two digits
of 8 bits for each weight (see ``target="cpu"``), and less time.

Only layers between spikes are rounded, as only there a product is taken at every step.
"""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from onnx_snn.errors import OptionError
from onnx_snn.graph import is_constant, set_constant
from onnx_snn.operators import operator_of
from onnx_snn.operators.weighted import Weighted
from onnx_snn.spiking_graph import SpikingGraph

_GREATEST = {8: 127, 16: 127 * 257}
"""For the bits of a weight its greatest integer: each digit of 8 bits has a sign."""


def check_weight_bits(bits: int | None) -> None:
    """Refuse numbers of bits that weights cannot have.

    Raises:
        OptionError: neither 8 nor 16, and not None.
    """
    if bits is not None and (isinstance(bits, bool) or bits not in _GREATEST):
        raise OptionError(
            f"weight_bits must be 8 or 16, not {bits!r}; leave it out to keep weights as they are"
        )


def round_weights(network: SpikingGraph, bits: int) -> None:
    """Round the weights of all layers that are evaluated at every step.

    Args:
        network: edited in place.
        bits: 8 or 16, a sign among them.
    """
    for node in network.temporal_nodes():
        operator = operator_of(node)
        if isinstance(operator, Weighted):
            _round(node, operator, _GREATEST[bits])


def _round(node: gs.Node, operator: Weighted, greatest: int) -> None:
    index = operator.weight_index(node)
    if not is_constant(node.inputs[index]):
        return
    weight = np.asarray(node.inputs[index].values, np.float64)
    size = np.abs(weight).max(axis=operator.input_axes(node), keepdims=True, initial=0)
    exponent = np.floor(np.log2(greatest / np.where(size > 0, size, 1))).astype(int)
    rounded = np.ldexp(np.rint(np.ldexp(weight, exponent)), -exponent)
    set_constant(node, index, rounded, "rounded")
