"""The distribution of activations, in bounded memory, for threshold rules that need all of it.

Values are counted in bins, 32 to an octave, from the greatest value down to 2⁻¹³ of it or less.
What is smaller counts as 0: no threshold that is worth considering tells it from 0. Samples are
dealt out in turn to two halves, so that one half can judge what was fitted to the other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

BINS_PER_OCTAVE = 32
OCTAVES = 14
BINS = OCTAVES * BINS_PER_OCTAVE
HALVES = 2

_DROPPED = 18  # of the 23 bits of a float32 mantissa; the other 5 number the bins of an octave
_BIAS = 127  # of the exponent of a float32
_NOT_FINITE = 0xFF * BINS_PER_OCTAVE
_PLACES = 1 << 14  # values of a channel that are looked at before fewer are taken per sample
_VALUES = 1 << 22  # likewise of a layer
_FULL_LOOK = 64  # samples of which so many are taken


def bin_edges() -> npt.NDArray[np.float64]:
    """The edges of the bins, in units of ``ActivationHistogram.top``, [BINS + 1]."""
    octave, part = np.divmod(np.arange(BINS + 1), BINS_PER_OCTAVE)
    edges: npt.NDArray[np.float64] = 2.0 ** (octave - OCTAVES) * (1 + part / BINS_PER_OCTAVE)
    return edges


class ActivationHistogram:
    """Counts values of each channel; negative values, NaN and infinity count as 0.

    Args:
        channels: number of channels C.

    Attributes:
        counts: float32 [2, C, 1 + BINS]: of each half and channel how many values are in each
            bin, those that count as 0 in bin 0. Bin b > 0 holds the values between edges b − 1
            and b.
        greatest: float32 [C], the greatest value of each channel, or 0.
        samples: number of samples counted.
    """

    def __init__(self, channels: int) -> None:
        self.counts = np.zeros((HALVES, channels, 1 + BINS), np.float32)
        self.greatest = np.zeros(channels, np.float32)
        self.samples = 0
        self._octave = 0  # of the last bins, biased; 0: none above 0 so far

    @property
    def top(self) -> float:
        """The upper edge of the last bin, a power of two; 0 where no value above 0 was seen."""
        return 2.0 ** (self._octave + 1 - _BIAS) if self._octave else 0.0

    def places(self, features: int) -> int:
        """How many of the F values of a channel are to be taken of each sample to come.

        All samples weigh the same; the more there are, the fewer values of each are looked at.
        """
        channels = self.counts.shape[1]
        most = min(_PLACES, _VALUES // channels) // max(self.samples, _FULL_LOOK)
        return max(min(most, features), 1)

    def add(self, values: npt.NDArray[Any], features: int) -> None:
        """Count the values taken of some samples.

        Args:
            values: of any floating-point type, [N, C, P].
            features: the number F of values that each channel of a sample has.
        """
        samples, channels, places = values.shape
        if not values.size:
            return
        with np.errstate(over="ignore"):
            single = values.astype(np.float32, copy=False)
        greatest = np.fmax.reduce(np.fmax.reduce(single, axis=2), axis=0)  # NaN is passed over
        self.greatest = np.fmax(self.greatest, np.where(np.isfinite(greatest), greatest, 0))
        # As integers, non-negative floats have the same order, and equal parts of an octave.
        bins = single.view(np.int32) >> _DROPPED
        if bins.max() >= _NOT_FINITE:
            bins[bins >= _NOT_FINITE] = 0
        self._raise_top(max(int(bins.max()) // BINS_PER_OCTAVE, 0))
        bins -= (self._octave + 1) * BINS_PER_OCTAVE - BINS - 1
        np.maximum(bins, 0, out=bins)
        if not self._octave:
            bins[:] = 0
        bins += np.arange(channels, dtype=np.int32)[:, None] * (1 + BINS)
        weight = np.float32(min(features, _PLACES) / places)
        for half in range(HALVES):
            own = bins[(half - self.samples) % HALVES :: HALVES]
            found = np.bincount(own.reshape(-1), minlength=channels * (1 + BINS))
            self.counts[half] += weight * found.reshape(channels, -1).astype(np.float32)
        self.samples += samples

    def _raise_top(self, octave: int) -> None:
        """Move the bins down, and what falls off them into bin 0."""
        rise = octave - self._octave
        if rise <= 0:
            return
        down = min(rise * BINS_PER_OCTAVE, BINS)
        self.counts[..., 0] += self.counts[..., 1 : 1 + down].sum(-1)
        self.counts[..., 1 : 1 + BINS - down] = self.counts[..., 1 + down :]
        self.counts[..., 1 + BINS - down :] = 0
        self._octave = octave
