"""Threshold rules: which λ a neuron gets, from the statistics of the activation it replaces."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import numpy as np

from onnx_snn.calibrate import ActivationStats, TensorStats, percentile_key
from onnx_snn.errors import CalibrationError, OptionError
from onnx_snn.scale import Scale

_T = TypeVar("_T")
_PERCENTILE = re.compile(r"(\d+(?:\.\d+)?)%", re.ASCII)
_FLOAT = re.compile(r"\d*\.?\d+(?:e-?\d+)?|\d+/\d+", re.ASCII)


class Granularity(StrEnum):
    """One λ for a layer, or one for each of its channels."""

    LAYER = "layer"
    CHANNEL = "channel"


@dataclass(frozen=True)
class Mode:
    """A threshold rule of the classic recipe.

    ``"max"``: λ = the greatest activation (Diehl et al. 2015). ``"99.9%"``: that quantile
    (Rueckauer et al. 2017). A number f in (0, 1]: λ = f · the greatest activation.

    Attributes:
        percentile: of the quantile rule, in percent; None for the others.
        factor: of the maximum, where ``percentile`` is None.
    """

    percentile: float | None = None
    factor: float = 1.0

    @staticmethod
    def parse(value: str | float) -> Mode:
        """Read a mode as users write it: ``"max"``, ``"99.9%"``, 0.5, ``"0.5"`` or ``"1/2"``.

        Raises:
            OptionError: none of these.
        """
        wrong = OptionError(
            f"mode must be 'max', a percentile such as '99.9%' in (0%, 100%], or a factor of the "
            f"maximum in (0, 1], not {value!r}"
        )
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise wrong
        if isinstance(value, str):
            text = value.strip().lower()
            if text == "max":
                return Mode()
            if match := _PERCENTILE.fullmatch(text):
                percentile = float(match[1])
                if not 0 < percentile <= 100:
                    raise wrong
                return Mode(percentile=percentile)
            if not _FLOAT.fullmatch(text):
                raise wrong
            numerator, _, denominator = text.partition("/")
            if denominator and not float(denominator):
                raise wrong
            value = float(numerator) / float(denominator or 1)
        if not 0 < value <= 1:
            raise wrong
        return Mode(factor=float(value))

    def __str__(self) -> str:
        if self.percentile is not None:
            return f"{percentile_key(self.percentile)}%"
        return "max" if self.factor == 1 else repr(self.factor)

    @property
    def percentiles(self) -> list[float]:
        """What calibration must find besides the maximum."""
        return [] if self.percentile is None else [self.percentile]

    def layer(self, stats: TensorStats) -> float:
        """λ of a whole layer."""
        if self.percentile is None:
            return self.factor * stats.max
        return _quantile(stats.quantiles, self.percentile, stats.node)

    def channels(self, stats: TensorStats) -> list[float]:
        """λ of each channel; empty where the tensor has none."""
        if self.percentile is None:
            return [self.factor * value for value in stats.channel_max]
        if not stats.channel_max:
            return []
        return _quantile(stats.channel_quantiles, self.percentile, stats.node)


def _quantile(known: Mapping[str, _T], percentile: float, node: str) -> _T:
    try:
        return known[percentile_key(percentile)]
    except KeyError:
        found = ", ".join(f"{key}%" for key in known) or "only the maximum"
        raise CalibrationError(
            f"the statistics of '{node}' lack the {percentile_key(percentile)}% quantile "
            f"(they have: {found}); calibrate again with this mode"
        ) from None


@dataclass(frozen=True)
class Threshold:
    """λ of one neuron: the scale asked for, and the number to fall back to.

    Attributes:
        scale: one number or one per channel.
        layer: one number for the whole layer, for a layer whose channels cannot be carried on.
        is_dead: whether no activation above 0 was seen, so that λ = 1 stands in.
    """

    scale: Scale
    layer: Scale
    is_dead: bool = False


def thresholds(
    stats: ActivationStats, mode: Mode, granularity: Granularity = Granularity.LAYER
) -> dict[str, Threshold]:
    """λ of every neuron, by the name of its output tensor.

    A channel on which no activation was seen takes the layer's λ; a layer on which none was
    seen takes 1.
    """
    return {name: _threshold(entry, mode, granularity) for name, entry in stats.tensors.items()}


def _threshold(stats: TensorStats, mode: Mode, granularity: Granularity) -> Threshold:
    value = mode.layer(stats)
    if value <= 0:
        value = stats.max  # a quantile of 0: fewer values above 0 than it leaves out
    is_dead = value <= 0
    layer = Scale.of(1.0 if is_dead else value)
    channels = np.asarray(mode.channels(stats), dtype=np.float64)
    if granularity is Granularity.LAYER or not channels.size:
        return Threshold(layer, layer, is_dead)
    return Threshold(Scale(np.where(channels > 0, channels, layer.values)), layer, is_dead)
