"""The moving average over batches with which SpikingJelly puts statistics together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from onnx_snn.activation_stats import TensorStats, percentile_key
from onnx_snn.probe import channels_of
from onnx_snn.spiking_activations import not_finite

EMA_MOMENTUM = 0.9

_SAMPLE = 1 << 20  # SpikingJelly strides a batch down to this many values
_MAX = "max"


class MovingAverage:
    """Each statistic of the first batch, then 0.9·old + 0.1·new (SpikingJelly 2.0.0, ann2snn)."""

    def __init__(self, node: gs.Node, percentiles: Sequence[float]) -> None:
        self._node = node
        self._percentiles = percentiles
        self._rows = 0
        self._layer: dict[str, np.float32] = {}
        self._channel: dict[str, npt.NDArray[np.float64]] = {}

    def add(self, values: npt.NDArray[Any]) -> None:
        """Average over one more batch, of values [N, C, F]."""
        channels = values.max(axis=(0, 2), initial=0)
        if not np.all(np.isfinite(channels)):
            raise not_finite(self._node, "NaN" if np.any(np.isnan(channels)) else "infinite")
        self._rows += values.shape[0] * values.shape[2]
        layer = {_MAX: channels.max()}
        channel = {_MAX: channels.astype(np.float64)}
        values = values.astype(np.float32, copy=False)
        by_channel = np.moveaxis(values, 1, 0).reshape(values.shape[1], -1)
        flat = values.reshape(-1)
        flat = flat[:: -(-flat.size // _SAMPLE)]
        for percentile in self._percentiles:
            key = percentile_key(percentile)
            layer[key] = _quantile(flat, percentile / 100.0)
            channel[key] = _quantile(by_channel, percentile / 100.0).astype(np.float64)
        for key, new in layer.items():
            self._layer[key] = _averaged(self._layer.get(key), np.float32(new))
        for key, after in channel.items():
            before = self._channel.get(key)
            self._channel[key] = (
                after if before is None else EMA_MOMENTUM * before + (1 - EMA_MOMENTUM) * after
            )

    def stats(self) -> TensorStats:
        both = {key: (float(layer), self._channel[key]) for key, layer in self._layer.items()}
        has_channels = channels_of(self._node.outputs[0]) is not None
        greatest = both.pop(_MAX)
        return TensorStats.of(
            self._node.name, greatest, both, self._rows, has_channels=has_channels
        )


def _quantile(values: npt.NDArray[np.float32], q: float) -> Any:
    """The quantile along the last axis, its rank rounded to float32 as torch.quantile does."""
    last = values.shape[-1] - 1
    rank = np.float32(q) * np.float32(last)
    low = int(rank)
    high = min(low + 1, last)
    ordered = np.partition(values, (low, high), axis=-1)
    below, above = ordered[..., low], ordered[..., high]
    weight = rank - np.float32(low)
    if weight < 0.5:
        return below + weight * (above - below)
    return above - (above - below) * (1 - weight)


def _averaged(old: np.float32 | None, new: np.float32) -> np.float32:
    """In float32, as the peer keeps it."""
    if old is None:
        return new
    momentum = np.float32(EMA_MOMENTUM)
    return np.float32(momentum * old + np.float32(1 - EMA_MOMENTUM) * new)
