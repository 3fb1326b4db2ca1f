"""The distribution of activations, in bounded memory, for threshold rules that need all of it.

Values are counted in bins, 32 to an octave, from the greatest value down to 2⁻¹³ of it or less.
What is smaller counts as 0: no threshold that is worth considering tells it from 0. Samples are
dealt out in turn to two halves, so that one half can judge what was fitted to the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

BINS_PER_OCTAVE = 32
OCTAVES = 14
BINS = OCTAVES * BINS_PER_OCTAVE
HALVES = 2

_MANTISSA = 23  # bits of a float32
_DROPPED = 18  # of them; the other 5 number the bins of an octave
_BIAS = 127  # of the exponent of a float32
_INFINITE = 0x7F800000  # the bits of a float32; those of NaN are more
_ALL = _INFINITE >> _DROPPED  # above all bins
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

    def add(self, parts: Sequence[npt.NDArray[Any]], features: int) -> None:
        """Count the values taken of some samples.

        Args:
            parts: of any floating-point type, each [N, C / b, P, b], in blocks of b channels, the
                last of which may end in values that are of no channel. N alone may differ.
            features: the number F of values that each channel of a sample has.
        """
        bits = [_bits(part) for part in parts if part.size]
        if not bits:
            return
        channels = self.counts.shape[1]
        _, blocks, places, block = bits[0].shape
        # As integers, non-negative floats have the same order, and equal parts of an octave.
        greatest = np.stack([part.max(axis=0).max(axis=1) for part in bits]).max(axis=0)
        greatest = np.maximum(greatest.reshape(-1)[:channels], 0)
        self.greatest = np.maximum(self.greatest, greatest.view(np.float32))
        self._raise_top(int(greatest.max()) >> _MANTISSA)
        first = (self._octave + 1) * BINS_PER_OCTAVE - BINS - 1 if self._octave else _ALL
        row = np.arange(blocks * block, dtype=np.int32) * (1 + BINS)
        row = row.reshape(blocks, 1, block) - np.int32(first)
        weight = np.float32(min(features, _PLACES) / places)
        starts = self.samples + np.cumsum([0, *map(len, bits)])
        for half in range(HALVES):
            own = [
                part[(half - start) % HALVES :: HALVES]
                for part, start in zip(bits, starts, strict=False)
            ]
            bins = np.concatenate(own)
            bins >>= _DROPPED
            np.clip(bins, first, first + BINS, out=bins)
            bins += row
            found = np.bincount(bins.reshape(-1), minlength=row.size * (1 + BINS))
            found = found.reshape(row.size, -1)[:channels].astype(np.float32)
            self.counts[half] += weight * found
        self.samples = int(starts[-1])

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


def _bits(values: npt.NDArray[Any]) -> npt.NDArray[np.int32]:
    """Those of float32; 0 for NaN and infinity."""
    with np.errstate(over="ignore"):
        bits = values.astype(np.float32, copy=False).view(np.int32)
    return bits if bits.max() < _INFINITE else np.where(bits < _INFINITE, bits, 0)
