"""Set samples aside while calibration data streams by, to check the result on them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from onnx_snn.data import Batch, Dataset
from onnx_snn.errors import OptionError

MAX_SAMPLES = 256
"""So many samples are set aside at most, however much data there is."""


class HoldOut:
    """Iterates over a data set without every k-th sample, and remembers those.

    Which samples are set aside depends on their position alone, not on the batch size.

    Args:
        data: the data set.
        fraction: of the samples to set aside, in [0, 0.5]; 0: none.
    """

    def __init__(self, data: Dataset, fraction: float) -> None:
        if not 0 <= fraction <= 0.5:
            raise OptionError(f"holdout must be in [0, 0.5], not {fraction}")
        self._data = data
        self._every = round(1 / fraction) if fraction else 0
        self._aside: list[Batch] = []
        self._first: list[Batch] = []

    def __iter__(self) -> Iterator[Batch]:
        set_aside: list[Batch] = []
        first: list[Batch] = []
        position = taken = 0
        for batch in self._data:
            index = position + np.arange(len(batch))
            position += len(batch)
            aside = np.zeros(len(batch), bool)
            if self._every:
                aside = index % self._every == self._every - 1
                aside &= np.cumsum(aside) + taken <= MAX_SAMPLES
            if aside.any():
                taken += int(aside.sum())
                set_aside.append(batch.take(aside))
            elif position - len(batch) < MAX_SAMPLES:
                first.append(batch.take(index < MAX_SAMPLES))
            kept = batch.take(~aside) if aside.any() else batch
            if len(kept):
                yield kept
        # Only now: who looks at the first samples again must not make it forget the others.
        self._aside, self._first = set_aside, first

    @property
    def size(self) -> int | None:
        """Number of samples, those set aside as well; None where it is not known."""
        return self._data.size

    @property
    def is_repeatable(self) -> bool:
        """Whether it can be iterated more than once."""
        return self._data.is_repeatable

    @property
    def held_out(self) -> bool:
        """Whether the samples to validate on took no part in what was iterated."""
        return bool(self._aside)

    @property
    def validation(self) -> list[Batch]:
        """The samples set aside; where there are none, the first samples of all."""
        return self._aside or self._first
