"""Maxima and quantiles of all values of an activation, whatever the batches and their order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from onnx_snn.activation_stats import Statistic, TensorStats, percentile_key
from onnx_snn.probe import Observed, channels_of
from onnx_snn.spiking_activations import not_finite
from onnx_snn.tail_histogram import FloorTooHighError, NotFiniteError, TailHistogram

_P = ParamSpec("_P")
_R = TypeVar("_R")

_INFINITE = 0x7F800000  # the bits of a float32; those of NaN are more


class ExactStatistics(Protocol):
    """Takes what a probe observes of one activation in each batch.

    Attributes:
        floor: of each channel the number that greater values are needed of, float32 [C].
        rises_at_once: whether it is high after a few samples; else it rises from batch to batch.

    Raises:
        CalibrationError: by any method, where a value is NaN or infinite.
    """

    rises_at_once: bool

    @property
    def floor(self) -> npt.NDArray[np.float32]: ...

    def place_floor(self, observed: Observed, samples: int) -> None:
        """Place the floor by a few samples, which are not counted."""

    def add(self, observed: Observed, samples: int) -> None:
        """Take the values of one more batch into account."""

    def find_quantiles(self) -> bool:
        """Whether the values kept are enough to tell all quantiles."""

    def start_again(self) -> None:
        """Forget all but the maximum, and keep all values from now on."""

    def stats(self) -> TensorStats:
        """After ``find_quantiles``."""


def exact_statistics(node: gs.Node, percentiles: Sequence[float], margin: float) -> ExactStatistics:
    """For the activations of one node; see ``calibrate``, and ``TailHistogram`` for the margin."""
    return _Quantiles(node, percentiles, margin) if percentiles else _Maximum(node)


class _Maximum:
    """The maximum alone, for which nothing is needed but what exceeds it so far."""

    rises_at_once = True

    def __init__(self, node: gs.Node) -> None:
        self._node = node
        self._rows = 0
        self._greatest: npt.NDArray[Any] | None = None
        self.floor = np.zeros(channels_of(node.outputs[0]) or 1, np.float32)

    def place_floor(self, observed: Observed, samples: int) -> None:
        self.floor = self._raised(observed)

    def add(self, observed: Observed, samples: int) -> None:
        self.floor = self._raised(observed)
        self._rows += observed.rows
        if observed.greatest is not None:
            before = 0 if self._greatest is None else self._greatest
            self._greatest = np.maximum(before, observed.greatest)

    def _raised(self, observed: Observed) -> npt.NDArray[np.float32]:
        bits = self.floor.view(np.uint32).astype(np.int64)
        for above in observed.above:
            keys = above.view(np.int64)  # see TailHistogram
            # As integers, non-negative floats have the same order; infinity and NaN come last.
            np.maximum.at(bits, keys >> 32, keys & 0xFFFFFFFF)
        if np.any(bits >= _INFINITE):
            raise not_finite(self._node, "NaN" if np.any(bits > _INFINITE) else "infinite")
        return bits.astype(np.uint32).view(np.float32)

    def find_quantiles(self) -> bool:
        return True

    def start_again(self) -> None:
        raise AssertionError("one pass is enough")

    def stats(self) -> TensorStats:
        greatest = self.floor if self._greatest is None else self._greatest
        return _stats(self._node, greatest, {}, self._rows)


def _naming_node(
    method: Callable[Concatenate[_Quantiles, _P], _R],
) -> Callable[Concatenate[_Quantiles, _P], _R]:
    """Let a method say whose activations they are that are not finite."""

    def call(self: _Quantiles, /, *args: _P.args, **options: _P.kwargs) -> _R:
        try:
            return method(self, *args, **options)
        except NotFiniteError as error:
            raise not_finite(self._node, str(error)) from error

    return call


class _Quantiles:
    """Quantiles, found among the values above a floor that rises."""

    rises_at_once = False

    def __init__(self, node: gs.Node, percentiles: Sequence[float], margin: float) -> None:
        self._node = node
        self._percentiles = percentiles
        self._histogram = self._new_histogram(margin)
        self._rows = 0
        self._greatest: npt.NDArray[Any] | None = None
        self._quantiles: dict[str, Statistic] | None = None

    def _new_histogram(self, margin: float) -> TailHistogram:
        channels = channels_of(self._node.outputs[0]) or 1
        return TailHistogram(channels, min(self._percentiles) / 100, margin)

    @property
    def floor(self) -> npt.NDArray[np.float32]:
        return self._histogram.floor if self._quantiles is None else self._histogram.greatest

    @_naming_node
    def place_floor(self, observed: Observed, samples: int) -> None:
        if self._quantiles is None:
            self._histogram.place_floor(observed.above, observed.rows, samples)

    @_naming_node
    def add(self, observed: Observed, samples: int) -> None:
        if self._quantiles is not None:
            return
        if observed.greatest is not None:
            before = 0 if self._greatest is None else self._greatest
            self._greatest = np.maximum(before, observed.greatest)
        self._rows += observed.rows
        self._histogram.add(observed.above, observed.rows, samples)

    @_naming_node
    def find_quantiles(self) -> bool:
        greatest = self.greatest
        found: dict[str, Statistic] = {}
        for percentile in self._percentiles:
            q = percentile / 100
            try:
                layer, channel = self._histogram.quantile(q), self._histogram.channel_quantiles(q)
            except FloorTooHighError:
                return False
            # The histogram rounds; the maximum is known exactly.
            if percentile == 100:
                layer, channel = greatest.max(), greatest
            found[percentile_key(percentile)] = (
                min(layer, greatest.max()),
                np.minimum(channel, greatest),
            )
        self._quantiles = found
        return True

    def start_again(self) -> None:
        self._histogram = self._new_histogram(np.inf)
        self._rows = 0

    @property
    def greatest(self) -> npt.NDArray[Any]:
        return self._histogram.greatest if self._greatest is None else self._greatest

    def stats(self) -> TensorStats:
        assert self._quantiles is not None, "the quantiles are found"
        return _stats(self._node, self.greatest, self._quantiles, self._rows)


def _stats(
    node: gs.Node, greatest: npt.NDArray[Any], quantiles: Mapping[str, Statistic], rows: int
) -> TensorStats:
    has_channels = channels_of(node.outputs[0]) is not None
    return TensorStats.of(
        node.name, (greatest.max(), greatest), quantiles, rows, has_channels=has_channels
    )
