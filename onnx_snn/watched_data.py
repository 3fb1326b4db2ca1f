"""Local threshold balancing as a part of calibration: the data it sees, and its statistics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from math import isfinite

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from onnx_snn.activation_stats import TensorStats
from onnx_snn.data import Batch, Dataset
from onnx_snn.holdout import HoldOut
from onnx_snn.local_threshold_balancing import STEPS, LocalThresholdBalancing
from onnx_snn.spiking_activations import activation_bound, not_finite


class WatchedData:
    """Calibration data, which local threshold balancing sees on their first way through.

    Args:
        data: the data.
        balancing: what to show them; None: nothing.

    Attributes:
        is_repeatable: whether they can be iterated more than once.
    """

    def __init__(
        self,
        data: Dataset | HoldOut | Iterable[Batch],
        balancing: LocalThresholdBalancing | None,
    ) -> None:
        self._data = data
        self._balancing = balancing
        self._is_new = True
        if isinstance(data, Dataset | HoldOut):
            self.is_repeatable = data.is_repeatable
        else:
            self.is_repeatable = not isinstance(data, Iterator)

    def __iter__(self) -> Iterator[Batch]:
        balancing = self._balancing if self._is_new else None
        self._is_new = False
        for batch in self._data:
            if balancing is not None:
                balancing.run(batch)
            yield batch

    def balance(self) -> None:
        """Go through few data again, after the first time, until enough steps are made."""
        balancing = self._balancing
        if balancing is None or not self.is_repeatable:
            return
        while balancing.steps < STEPS:
            before = balancing.steps
            for batch in self._data:
                if balancing.steps >= STEPS:
                    return
                balancing.run(batch)
            if balancing.steps == before:
                return  # data that do not come again after all


def with_balanced(
    entry: TensorStats, node: gs.Node, layer: float, channels: npt.NDArray[np.float64]
) -> TensorStats:
    """With thresholds that may have grown past the greatest value, but not past a bound."""
    if not (isfinite(layer) and np.all(np.isfinite(channels))):
        is_nan = np.isnan(layer) or np.any(np.isnan(channels))
        raise not_finite(node, "NaN" if is_nan else "infinite")
    bound = activation_bound(node)
    listed = [float(value) for value in np.minimum(channels, bound)]
    return replace(entry, ltb=min(layer, bound), channel_ltb=listed if entry.channel_max else [])
