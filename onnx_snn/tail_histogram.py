"""High quantiles of a stream of values, in bounded memory, independent of order and batching.

Only values above a floor are kept, for the quantiles asked for lie far above the bulk of the
values; the floor rises while values come in. They are counted in bins: a value is rounded to 12
significant bits, which changes it by at most 2⁻¹² of itself (0.025 %), and a value of few digits,
such as 0, 6 or 0.75, not at all. Whatever was dropped below the floor, a quantile above it is the
same.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

_DROPPED = 12  # of the 23 bits of a float32 mantissa
_HALF = 1 << (_DROPPED - 1)
_BIN_BITS = 32 - _DROPPED
_BIN = (1 << _BIN_BITS) - 1
_PENDING = 1 << 18  # values held before they are counted


class FloorTooHighError(Exception):
    """A quantile lies below the floor: the first samples were not like the rest. Start at 0."""


class NotFiniteError(Exception):
    """A value is NaN or infinite."""


class TailHistogram:
    """Counts of the large values among non-negative float32 values, per channel.

    Args:
        channels: number of channels C.
        least: the least quantile that will be asked for, in [0, 1].
        margin: at least so many times more values are kept than are above the least quantile;
            infinite: all above 0 are kept, and there is never a ``FloorTooHighError``.

    Attributes:
        floor: the number of each channel that ``add`` needs the values above of, [C].
    """

    def __init__(self, channels: int, least: float, margin: float = 1.5) -> None:
        self._channels = channels
        self._least = least
        self._margin = margin
        self._rows = 0  # values per channel so far
        self._samples = 0
        self._rise_at = 0  # number of samples at which the floor is looked at again
        self._pending: list[Ints] = []
        self._pending_size = 0
        self._keys: Ints = np.zeros(0, np.int64)  # ascending: channel << _BIN_BITS | bin
        self._counts: Ints = np.zeros(0, np.int64)
        self._set_floor(np.zeros(channels, np.int64))
        self._greatest: Ints = np.zeros(channels, np.int64)  # bits of the float32

    def place_floor(self, above: Sequence[Ints], rows: int, samples: int) -> None:
        """Place the floor by a few samples without counting them; see ``add``."""
        trial = TailHistogram(self._channels, self._least, self._margin)
        trial.add(above, rows, samples)
        self._set_floor(trial._floor)

    def add(self, above: Sequence[Ints], rows: int, samples: int) -> None:
        """Count values.

        Args:
            above: all values above the floor: channel << 32 | bits of the float32; in any parts.
            rows: number of values of each channel, those below the floor included.
            samples: number of samples they come from.

        Raises:
            NotFiniteError: one of them is NaN or infinite; they are not looked at every time.
        """
        self._rows += rows
        self._samples += samples
        self._pending += above
        self._pending_size += sum(map(len, above))
        if self._samples >= self._rise_at:
            self._raise_floor()
            self._rise_at = 4 * self._samples
        elif self._pending_size > _PENDING:
            self._count()

    @property
    def greatest(self) -> npt.NDArray[np.float32]:
        """The greatest value of each channel, exactly, or 0, [C]."""
        self._count()
        return _to_float(self._greatest)

    def quantile(self, q: float) -> float:
        """The quantile of all values, by NumPy's default definition (linear interpolation).

        Raises:
            FloorTooHighError: it lies below the floor.
        """
        self._count()
        # Above the highest of the channels' floors, all of them are complete.
        floor = self._floor.max(initial=0, keepdims=True)
        return float(self._layer().quantile(q, self._rows * self._channels, floor)[0])

    def channel_quantiles(self, q: float) -> npt.NDArray[np.float64]:
        """The quantile of each channel's values, shape [C].

        Raises:
            FloorTooHighError: one lies below the floor.
        """
        self._count()
        return self._by_channel().quantile(q, self._rows, self._floor)

    def _layer(self) -> _Bins:
        bins = self._keys & _BIN
        least = int(bins.min(initial=_BIN))
        table = np.bincount(bins - least, weights=self._counts)
        used = np.flatnonzero(table)
        return _Bins(used + least, table[used].astype(np.int64), np.array([0, used.size]))

    def _by_channel(self) -> _Bins:
        bounds = np.searchsorted(self._keys, np.arange(self._channels + 1) << _BIN_BITS)
        return _Bins(self._keys & _BIN, self._counts, bounds)

    def _raise_floor(self) -> None:
        """Keep what the least quantile needs, and a margin for what is to come."""
        self._count()
        layer = self._layer().top(self._wanted(self._rows * self._channels))
        channel = self._by_channel().top(self._wanted(self._rows))
        self._set_floor(np.maximum(self._floor, np.minimum(channel, layer)))
        kept = (self._keys & _BIN) >= self._floor[self._keys >> _BIN_BITS]
        self._keys, self._counts = self._keys[kept], self._counts[kept]

    def _set_floor(self, bins: Ints) -> None:
        """Drop what is below these bins, of each channel the least that is complete."""
        self._floor = bins
        self.floor = _to_float(np.maximum((bins << _DROPPED) - _HALF - 1, 0))

    def _wanted(self, total: int) -> float:
        """How many of ``total`` values to keep: the fewer there are, the less they tell."""
        needed = (1.0 - self._least) * total
        margin = self._margin + 20 / max(self._samples, 1) ** 0.5
        return float(margin * needed + 8 * needed**0.5 + 16)

    def _count(self) -> None:
        """Move the pending values into the bins."""
        if not self._pending_size:
            return
        # As NumPy's int64: C's other 64-bit integer, which onnxruntime gives, is slow in it.
        new = np.concatenate(self._pending).view(np.int64)
        self._pending, self._pending_size = [], 0
        # As integers, non-negative floats have the same order; infinity and NaN come last.
        np.maximum.at(self._greatest, new >> 32, new & 0xFFFFFFFF)
        if np.any(self._greatest >= 0x7F800000):
            raise NotFiniteError("NaN" if np.any(self._greatest > 0x7F800000) else "infinite")
        new = (new + _HALF) >> _DROPPED
        self._keys, self._counts = _add(self._keys, self._counts, new, self._channels)


class _Bins:
    """Bins of several groups, ascending in each: group g has those in [bounds[g], bounds[g+1])."""

    def __init__(self, bins: Ints, counts: Ints, bounds: Ints) -> None:
        self._bins = np.append(bins, 0)  # an end, so that every position can be looked up
        self._before = np.concatenate([[0], np.cumsum(counts)])
        self._first, self._last = self._before[bounds[:-1]], self._before[bounds[1:]]

    def top(self, wanted: float) -> Ints:
        """Of each group the greatest bin with ``wanted`` values at or above it, or 0."""
        start = self._last - wanted
        at = np.searchsorted(self._before, start, side="right") - 1
        return np.where(start < self._first, 0, self._bins[at])

    def quantile(self, q: float, total: int, floor: Ints) -> npt.NDArray[np.float64]:
        """Of each group the quantile among ``total`` values, of which the binned are the top."""
        position = q * max(total - 1, 0)
        low = int(position)
        below = self._at(low, total, floor)
        above = self._at(min(low + 1, total - 1), total, floor)
        return below + (above - below) * (position - low)

    def _at(self, index: int, total: int, floor: Ints) -> npt.NDArray[np.float64]:
        """Of each group the order statistic of the given index (0: least)."""
        rank = index - total + self._last
        at = np.searchsorted(self._before, rank, side="right") - 1
        found = np.where(rank < self._first, 0, self._bins[at])
        if np.any(found < floor):
            raise FloorTooHighError
        return _to_float(found << _DROPPED).astype(np.float64)


def _add(bins: Ints, counts: Ints, new: Ints, channels: int) -> tuple[Ints, Ints]:
    """Count new keys into bins; both are ``channel << _BIN_BITS | bin``."""
    # The bins of a channel lie close together: a table of all between its least and its greatest
    # is small, and counting into it is far quicker than sorting.
    least, most = np.full(channels, 1 << 62, np.int64), np.full(channels, -1, np.int64)
    ends = np.unique(np.searchsorted(bins, np.arange(channels + 1) << _BIN_BITS))
    for keys in (bins[ends[:-1]], bins[ends[1:] - 1], new):
        np.minimum.at(least, keys >> _BIN_BITS, keys)
        np.maximum.at(most, keys >> _BIN_BITS, keys)
    width = np.maximum(most - least + 1, 0)
    start = np.cumsum(width) - width
    size = int(width.sum())
    if size > 8 * (bins.size + new.size):
        found, where = np.unique(np.concatenate([bins, new]), return_inverse=True)
        table = np.zeros(found.size, np.int64)
        np.add.at(table, where, np.concatenate([counts, np.ones_like(new)]))
        return found, table
    offset = least - start
    table = np.bincount(new - offset[new >> _BIN_BITS], minlength=size)
    table[bins - offset[bins >> _BIN_BITS]] += counts
    used = np.flatnonzero(table)
    channel = np.searchsorted(start, used, side="right") - 1
    return used + offset[channel], table[used]


def _to_float(bits: Ints) -> npt.NDArray[np.float32]:
    return bits.astype(np.uint32).view(np.float32)
