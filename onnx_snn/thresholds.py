"""Threshold rules: which λ a neuron gets, from the statistics of the activation it replaces."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from onnx_snn.activation_stats import ActivationStats, TensorStats, percentile_key
from onnx_snn.errors import CalibrationError, OptionError
from onnx_snn.scale import Scale

_T = TypeVar("_T")
_PERCENTILE = re.compile(r"(\d+(?:\.\d+)?)%", re.ASCII)
_FLOAT = re.compile(r"\d*\.?\d+(?:e-?\d+)?|\d+/\d+", re.ASCII)


class Granularity(StrEnum):
    """One λ for a layer, or one for each of its channels.

    ``auto`` takes, layer by layer, one for each channel only where that was clearly better on
    calibration samples that took no part in fitting; see ``gains_by_channels``.
    """

    LAYER = "layer"
    CHANNEL = "channel"
    AUTO = "auto"


class Rule(StrEnum):
    """What λ is taken from."""

    MAX = "max"
    PERCENTILE = "percentile"
    MSE = "mse"
    LTB = "ltb"


@dataclass(frozen=True)
class Mode:
    """A threshold rule.

    ``"max"``: λ = the greatest activation (Diehl et al. 2015). ``"99.9%"``: that quantile
    (Rueckauer et al. 2017). A number f in (0, 1]: λ = f · the greatest activation. ``"mse"``: the
    λ of least mean squared error after T steps (``onnx_snn.quantisation_error``). ``"ltb"``:
    local threshold balancing (``onnx_snn.local_threshold_balancing``).

    Attributes:
        rule: what λ is taken from.
        percentile: of the quantile rule, in percent.
        factor: of the maximum, for the rule ``max``.
    """

    rule: Rule = Rule.MAX
    percentile: float = 100.0
    factor: float = 1.0

    @staticmethod
    def parse(value: str | float) -> Mode:
        """Read a mode as users write it.

        That is ``"max"``, ``"99.9%"``, 0.5, ``"0.5"``, ``"1/2"``, ``"mse"`` or ``"ltb"``.

        Raises:
            OptionError: none of these.
        """
        wrong = OptionError(
            f"mode must be 'max', a percentile such as '99.9%' in (0%, 100%], a factor of the "
            f"maximum in (0, 1], 'mse' or 'ltb', not {value!r}"
        )
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise wrong
        if isinstance(value, str):
            text = value.strip().lower()
            if text in (Rule.MAX, Rule.MSE, Rule.LTB):
                return Mode(Rule(text))
            if match := _PERCENTILE.fullmatch(text):
                percentile = float(match[1])
                if not 0 < percentile <= 100:
                    raise wrong
                return Mode(Rule.PERCENTILE, percentile)
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
        if self.rule is Rule.PERCENTILE:
            return f"{percentile_key(self.percentile)}%"
        return self.rule.value if self.factor == 1 else repr(self.factor)

    @property
    def percentiles(self) -> list[float]:
        """What calibration must find besides the maximum."""
        return [self.percentile] if self.rule is Rule.PERCENTILE else []

    def layer(self, stats: TensorStats, levels: int | None = None) -> float:
        """λ of a whole layer; ``levels`` is the number of time steps that ``mse`` is for."""
        match self.rule:
            case Rule.PERCENTILE:
                return _quantile(stats.quantiles, self.percentile, stats.node)
            case Rule.MSE:
                return _least_error(stats.mse, levels, stats.node)
            case Rule.LTB:
                return _balanced(stats)
        return self.factor * stats.max

    def channels(self, stats: TensorStats, levels: int | None = None) -> list[float]:
        """λ of each channel; empty where the tensor has none."""
        if not stats.channel_max:
            return []
        match self.rule:
            case Rule.PERCENTILE:
                return _quantile(stats.channel_quantiles, self.percentile, stats.node)
            case Rule.MSE:
                return _least_error(stats.channel_mse, levels, stats.node)
            case Rule.LTB:
                _balanced(stats)
                return stats.channel_ltb
        return [self.factor * value for value in stats.channel_max]


def _quantile(known: Mapping[str, _T], percentile: float, node: str) -> _T:
    try:
        return known[percentile_key(percentile)]
    except KeyError:
        found = ", ".join(f"{key}%" for key in known) or "only the maximum"
        raise CalibrationError(
            f"the statistics of '{node}' lack the {percentile_key(percentile)}% quantile "
            f"(they have: {found}); calibrate again with this mode"
        ) from None


def _least_error(known: Mapping[str, _T], levels: int | None, node: str) -> _T:
    if levels is None:
        raise OptionError("mode 'mse' needs the number of time steps; give levels")
    try:
        return known[str(levels)]
    except KeyError:
        found = ", ".join(known) or "none"
        raise CalibrationError(
            f"the statistics of '{node}' lack the 'mse' threshold for {levels} time steps "
            f"(they have: {found}); calibrate again with this mode and number"
        ) from None


def _balanced(stats: TensorStats) -> float:
    if stats.ltb is None:
        raise CalibrationError(
            f"the statistics of '{stats.node}' lack the 'ltb' threshold; calibrate again with "
            "this mode"
        )
    return stats.ltb


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


MARGIN = 0.02
"""Of the error on held-out samples, so much must be gained by a λ for each channel."""

ENOUGH_SAMPLES = 100
ENOUGH_VALUES = 1000
"""Fewer samples, or fewer values of a channel, are too few to fit a λ for each channel to."""


def gains_by_channels(stats: TensorStats, levels: int | None = None) -> bool:
    """Whether one λ for each channel does better than one for the layer on held-out samples.

    Each half of the calibration samples judges the ``mse`` thresholds fitted to the other half,
    by the sum of squared errors over all channels, which is what the next layer sees. Scarce data
    give channels too small a λ, which clips what they have not seen; so the gain must be clear
    (``MARGIN``) in both halves. It is taken to hold for the other threshold rules, too.

    Args:
        stats: of the activation.
        levels: number of time steps; None, or one that was not calibrated for: False.
    """
    errors = stats.held_out_error.get(str(levels), [])
    return len(errors) > 1 and all(each < (1 - MARGIN) * one for one, each in errors)


def scarce(stats: ActivationStats) -> list[str]:
    """The activations with too few calibration data for one λ for each channel, by tensor name."""
    return [
        name
        for name, entry in stats.tensors.items()
        if entry.channel_max
        and entry.values
        and (stats.samples < ENOUGH_SAMPLES or entry.values < ENOUGH_VALUES)
    ]


def thresholds(
    stats: ActivationStats,
    mode: Mode,
    granularity: Granularity = Granularity.LAYER,
    levels: int | None = None,
    bounds: Mapping[str, npt.NDArray[np.floating] | float] | None = None,
) -> dict[str, Threshold]:
    """λ of every neuron, by the name of its output tensor.

    A channel on which no activation was seen takes the layer's λ; a layer on which none was
    seen takes 1.

    Args:
        stats: what calibration found.
        mode: the threshold rule.
        granularity: one λ for a layer or for each channel.
        levels: the number of time steps T, for the mode ``mse`` and the granularity ``auto``.
        bounds: what the activations of a tensor never exceed, one number or one per channel
            [C]; λ does not exceed it either.

    Raises:
        CalibrationError: the statistics lack what the mode needs.
        OptionError: the mode needs ``levels``.
    """
    bounds = {} if bounds is None else bounds
    return {
        name: _threshold(entry, mode, granularity, levels, bounds.get(name, np.inf))
        for name, entry in stats.tensors.items()
    }


def _threshold(
    stats: TensorStats,
    mode: Mode,
    granularity: Granularity,
    levels: int | None,
    bound: npt.NDArray[np.floating] | float,
) -> Threshold:
    value = mode.layer(stats, levels)
    if value <= 0:
        value = stats.max  # a quantile of 0: fewer values above 0 than it leaves out
    is_dead = value <= 0
    # A λ for all channels must not exceed the greatest of their bounds.
    layer = Scale.of(min(1.0 if is_dead else value, float(np.max(bound))))
    if granularity is Granularity.AUTO:
        gains = gains_by_channels(stats, levels)
        granularity = Granularity.CHANNEL if gains else Granularity.LAYER
    channels = np.asarray(mode.channels(stats, levels), dtype=np.float64)
    if granularity is Granularity.LAYER or not channels.size:
        return Threshold(layer, layer, is_dead)
    each = np.where(channels > 0, channels, layer.values)
    return Threshold(Scale(np.minimum(each, bound)), layer, is_dead)
