"""What calibration finds out about the activations of a network, and the JSON file of it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from math import isfinite
from pathlib import Path
from typing import Any

import numpy.typing as npt

from onnx_snn.errors import CalibrationError
from onnx_snn.model_io import atomic_path

FORMAT = 1
"""Version of the JSON written by ``ActivationStats.save``."""

Statistic = tuple[float, npt.NDArray[Any]]
"""A number for the layer, and one for each channel, [C]."""


class BatchReduction(StrEnum):
    """How batches are put together: all their values, or SpikingJelly's moving average."""

    EXACT = "exact"
    EMA = "ema"


@dataclass(frozen=True)
class TensorStats:
    """Statistics of one activation tensor over all samples.

    Attributes:
        node: the node that computes it.
        max: greatest value.
        channel_max: greatest value per channel, [C]; empty for a tensor without channels.
        quantiles: for each percentile (as text, ``"99.9"``) the quantile of all values.
        channel_quantiles: the same per channel, [C].
        mse: for each number of levels (as text, ``"32"``) the threshold of least mean squared
            error; 0 where no activation was seen. See ``quantisation_error``.
        channel_mse: the same per channel, [C].
        held_out_error: for each number of levels, and for each half of the samples, the mean
            squared error on that half of thresholds fitted to the other: [of one threshold for
            the layer, of one for each channel].
        ltb: the threshold of local threshold balancing; None where it was not asked for.
        channel_ltb: the same per channel, [C].
        values: number of values of each channel; 0 where it was not counted.
    """

    node: str
    max: float
    channel_max: list[float]
    quantiles: dict[str, float] = field(default_factory=dict)
    channel_quantiles: dict[str, list[float]] = field(default_factory=dict)
    mse: dict[str, float] = field(default_factory=dict)
    channel_mse: dict[str, list[float]] = field(default_factory=dict)
    held_out_error: dict[str, list[list[float]]] = field(default_factory=dict)
    ltb: float | None = None
    channel_ltb: list[float] = field(default_factory=list)
    values: int = 0

    @staticmethod
    def of(
        node: str,
        greatest: Statistic,
        quantiles: Mapping[str, Statistic],
        values: int,
        *,
        has_channels: bool,
    ) -> TensorStats:
        """From statistics of the layer and of its channels, where it has any."""

        def listed(channels: npt.NDArray[Any]) -> list[float]:
            return [float(value) for value in channels] if has_channels else []

        each = quantiles.items() if has_channels else ()
        return TensorStats(
            node,
            float(greatest[0]),
            listed(greatest[1]),
            {key: float(layer) for key, (layer, _) in quantiles.items()},
            {key: listed(channels) for key, (_, channels) in each},
            values=values,
        )


@dataclass(frozen=True)
class ActivationStats:
    """What calibration found out: statistics by tensor name, and what they were made from.

    Attributes:
        tensors: statistics of each spiking activation, by the name of its tensor.
        samples: number of samples seen.
        batch_reduction: ``"exact"``, or ``"ema"`` for SpikingJelly's moving average.
    """

    tensors: dict[str, TensorStats]
    samples: int
    batch_reduction: str = BatchReduction.EXACT

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write as JSON.

        Raises:
            OutputError: ``path`` cannot be written.
        """
        content = {"format": FORMAT, **asdict(self)}
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")

    @staticmethod
    def load(path: str | os.PathLike[str]) -> ActivationStats:
        """Read what ``save`` wrote.

        Raises:
            CalibrationError: no such file, or not such a file.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
            if content["format"] != FORMAT:
                raise ValueError("unknown format")
            return ActivationStats(
                {name: _tensor_stats(entry) for name, entry in content["tensors"].items()},
                int(content["samples"]),
                BatchReduction(content["batch_reduction"]).value,
            )
        except OSError as error:
            raise CalibrationError(f"{path}: cannot be read ({error.strerror})") from error
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise CalibrationError(
                f"{path}: is not a file of calibration statistics; "
                "write one with ActivationStats.save or --save-stats"
            ) from error


def _tensor_stats(entry: Mapping[str, Any]) -> TensorStats:
    """An entry of the JSON file; any damage raises one of Python's own errors."""
    stats = TensorStats(**entry)
    channels = [
        stats.channel_max,
        *stats.channel_quantiles.values(),
        *stats.channel_mse.values(),
        *([] if stats.ltb is None else [stats.channel_ltb]),
    ]
    layer = [stats.max, *stats.quantiles.values(), *stats.mse.values()]
    errors = [pair for pairs in stats.held_out_error.values() for pair in pairs]
    numbers = [layer, [0.0 if stats.ltb is None else stats.ltb], *channels, *errors]
    if not all(isinstance(value, float) and isfinite(value) for few in numbers for value in few):
        raise ValueError("not a number")
    if any(len(pair) != 2 for pair in errors) or type(stats.values) is not int:
        raise ValueError("not all errors are there")
    if len({len(values) for values in channels}) > 1:
        raise ValueError("not all channels are there")
    return stats


def percentile_key(percentile: float) -> str:
    """``"99.9"`` for 99.9: short, and no two percentiles alike."""
    return repr(float(percentile)).removesuffix(".0")
