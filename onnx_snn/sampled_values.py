"""A sample of the values of an activation, and the thresholds of least error that it suggests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from onnx_snn.activation_histogram import ActivationHistogram
from onnx_snn.activation_stats import TensorStats
from onnx_snn.probe import Places, channels_of
from onnx_snn.quantisation_error import QuantisationError


class SampledValues:
    """A sample of the values of one activation.

    Attributes:
        features: how many values each channel of a sample has.
    """

    def __init__(self, node: gs.Node) -> None:
        self._histogram = ActivationHistogram(channels_of(node.outputs[0]) or 1)
        self.features = 1

    def places(self, random: np.random.Generator) -> Places:
        """Where to look in the next batch: anywhere in each of P parts of the same size."""
        count = self._histogram.places(self.features)
        places = (np.arange(count) + random.random(count)) / count
        return np.minimum(places, np.nextafter(1.0, 0.0))

    def add(self, parts: Sequence[npt.NDArray[Any]], features: int) -> None:
        """Count what was found there; see ``ActivationHistogram.add``."""
        self.features = features
        self._histogram.add(parts, features)

    def fit(self, entry: TensorStats, tables: Sequence[QuantisationError]) -> TensorStats:
        """The statistics with the thresholds of least error."""
        layer: dict[str, float] = {}
        channels: dict[str, list[float]] = {}
        held_out: dict[str, list[list[float]]] = {}
        for table in tables:
            best, key = table.fit(self._histogram), str(table.levels)
            layer[key] = best.layer
            if entry.channel_max:
                channels[key] = [float(value) for value in best.channels]
                held_out[key] = [list(pair) for pair in best.held_out]
        return replace(entry, mse=layer, channel_mse=channels, held_out_error=held_out)
