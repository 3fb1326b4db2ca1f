"""The specification of the operator set ``onnx_snn``: its operators in plain NumPy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from onnx_snn.ops.reference_events import (
    event_conv,
    event_conv_add_if_neuron,
    event_conv_if_neuron,
    event_if_neuron,
)
from onnx_snn.ops.reference_neurons import (
    Tensor,
    add_if_neuron,
    if_neuron,
    phase_neuron,
)
from onnx_snn.ops.reference_pools import event_max_pool, event_sum_pool, spike_max_pool

__all__ = [
    "add_if_neuron",
    "event_conv",
    "event_conv_add_if_neuron",
    "event_conv_if_neuron",
    "event_if_neuron",
    "event_max_pool",
    "event_sum_pool",
    "if_neuron",
    "large_values",
    "phase_neuron",
    "spike_max_pool",
]


def large_values(
    x: Tensor, floor: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Finds the values that a high quantile is among.

    Calibration adds it to a network behind each activation; it is never part of a converted model.

    Args:
        x: Activations ``[N, C, ...]``.
        floor: Of each channel the number to find the values above of, ``[C]``.

    Returns:
        The values that are not at or below their channel's floor, NaN included, as
        ``channel << 32 | bits of the value as float32``, ``[K]``; and the number of values of a
        channel, ``[]``.
    """
    channels, features = len(floor), int(np.prod(x.shape[2:]))
    with np.errstate(over="ignore"):
        rows = x.reshape(len(x), channels * features).astype(np.float32, copy=False)
    found = np.flatnonzero(~(rows <= np.repeat(floor, features)))
    channel = found // max(features, 1) % channels
    above = channel << 32 | rows.reshape(-1)[found].view(np.uint32)
    return above, np.array(len(x) * features, np.int64)
