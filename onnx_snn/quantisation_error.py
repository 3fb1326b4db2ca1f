"""Thresholds that lose least: those with the least mean squared error of a spike count.

After T = L steps a neuron with initial membrane θ/2 has sent the activation a as a multiple of
q = θ/L:

    â = q·clip(⌊a/q + ½⌋, 0, L)

A large θ makes the steps coarse, a small one clips. The rule ``mse`` takes the θ with the least
mean of (a − â)² over the activations seen, so it depends on L (as in Li et al. 2021, "A free
lunch from ANN: towards efficient, accurate spiking neural networks calibration").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnx_snn.activation_histogram import BINS, HALVES, ActivationHistogram, bin_edges
from onnx_snn.scale import FloatArray

_LEAST = 0.05  # of the greatest value; a candidate for θ is the upper edge of any bin above
_POINTS = 8  # of a bin; values are taken to be spread evenly over it

_Counts = npt.NDArray[np.float32]


@dataclass(frozen=True)
class LeastError:
    """The thresholds of least error of one activation.

    Attributes:
        layer: θ of the whole layer; 0 where no value above 0 was seen.
        channels: θ of each channel, [C]; 0 likewise.
        held_out: for each half of the samples, the mean squared error on it of the thresholds
            fitted to the other half: of one θ for the layer, and of one for each channel.
    """

    layer: float
    channels: FloatArray
    held_out: list[tuple[float, float]]


class QuantisationError:
    """The squared errors of all candidate thresholds, for one number of levels L.

    They depend on the ratio of an activation to θ alone, which is why one table serves all
    layers: the errors of all candidates are a product of the counts with it.
    """

    def __init__(self, levels: int) -> None:
        self.levels = levels
        edges = bin_edges()
        self._theta = edges[1:]
        q = self._theta / levels
        table = np.zeros((1 + BINS, BINS))
        for point in (np.arange(_POINTS) + 0.5) / _POINTS:
            a = (edges[:-1] + point * np.diff(edges))[:, None]
            table[1:] += (a - q * np.clip(np.floor(a / q + 0.5), 0, levels)) ** 2 / _POINTS
        self._table = table.astype(np.float32)

    def fit(self, histogram: ActivationHistogram) -> LeastError:
        """The thresholds of one activation."""
        counts = histogram.counts
        errors = np.stack([half @ self._table for half in counts])
        layer, channels = self._best(counts.sum(0), errors.sum(0))
        total = counts.sum((1, 2), dtype=np.float64)
        held_out = []
        for half in range(HALVES):
            other = 1 - half
            one, each = self._best(counts[other], errors[other])
            if one < 0 or not total[half]:
                continue
            chosen = np.where(each < 0, one, each)  # as a channel without activations gets it
            sums = errors[half][:, one], np.take_along_axis(errors[half], chosen[:, None], 1)
            scale = histogram.top**2 / total[half]
            held_out.append((scale * float(sums[0].sum()), scale * float(sums[1].sum())))
        theta = np.append(self._theta, 0.0) * histogram.top  # the last for -1
        greatest = histogram.greatest.astype(np.float64)  # a bin's upper edge may be above it
        whole = min(float(theta[layer]), float(greatest.max()))
        return LeastError(whole, np.minimum(theta[channels], greatest), held_out)

    def _best(self, counts: _Counts, errors: _Counts) -> tuple[int, npt.NDArray[np.int64]]:
        """The best candidate for the layer and for each channel; −1 where all values are 0."""
        layer = self._least(counts.sum(0, keepdims=True), errors.sum(0, keepdims=True))
        return int(layer[0]), self._least(counts, errors)

    def _least(self, counts: _Counts, errors: _Counts) -> npt.NDArray[np.int64]:
        """Of each row the candidate of least error among those that its greatest value allows."""
        used = counts[:, 1:] > 0
        greatest = self._theta[BINS - 1 - np.argmax(used[:, ::-1], axis=1)][:, None]
        is_allowed = (self._theta <= greatest) & (self._theta >= _LEAST * greatest)
        least = np.argmin(np.where(is_allowed, errors, np.inf), axis=1)
        return np.where(used.any(1), least, -1)
