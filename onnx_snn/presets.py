"""Presets: settings of neurons, coding and thresholds that belong together, under one name.

classic    SpikingJelly's recipe (Rueckauer et al. 2017): 99.9 % thresholds, V_0 = 0
binary     spikes 0 and 1, with the thresholds of least squared error and V_0 = ½
default    the same with signed neurons
lossless   signed neurons run on until they are silent: the quantised ANN's integers
radix      layer after layer, T steps for 2^T levels: the finely quantised ANN's integers
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from onnx_snn.coding import Coding, InputCoding
from onnx_snn.errors import OptionError
from onnx_snn.neuron import Neuron
from onnx_snn.options import parse_choice
from onnx_snn.schedule import ReadoutWeights
from onnx_snn.thresholds import Granularity, Mode, Rule

_MOST_LEVELS = 2**16 - 1
"""Finer levels than these tell nothing from a sample of activations."""


@dataclass(frozen=True)
class Preset:
    """Settings as users write them; see ``onnx_snn.convert``.

    Attributes:
        mode: threshold rule.
        neuron: kind of neurons.
        coding: how T steps carry a number.
        granularity: one threshold per layer or per channel.
        v_init: membrane before the first step, in units of the threshold.
        reset: soft or hard reset.
        batch_reduction: how the statistics of batches are put together.
        bias_calibration: whether biases are corrected on the calibration data; None: where
            that takes no longer than a minute or so.
        exact_sums: whether weights are rounded so that counts are the quantised ANN's bit for
            bit; see ``passes.round_to_grid``. Not for coding rate.
        readout_weights: what the steps count in a readout; see ``onnx_snn.time_weights``.
    """

    mode: str | float = "mse"
    neuron: str = "signed"
    coding: str = "rate"
    granularity: str = "auto"
    v_init: float = 0.5
    reset: str = "subtract"
    batch_reduction: str = "exact"
    bias_calibration: bool | None = None
    exact_sums: bool = False
    readout_weights: str = "even"


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "classic": Preset(
            "99.9%",
            "if",
            granularity="layer",
            v_init=0.0,
            batch_reduction="ema",
            bias_calibration=False,
        ),
        # A spike that came too early cannot be taken back: let the first steps count less.
        "binary": Preset(neuron="if", readout_weights="ramp"),
        "default": Preset(),
        "lossless": Preset(coding="drain", bias_calibration=False, exact_sums=True),
        "radix": Preset(neuron="if", coding="radix", bias_calibration=False),
    }
)


@dataclass(frozen=True)
class Settings:
    """A preset as the passes take it."""

    mode: Mode
    neuron: Neuron
    coding: Coding
    granularity: Granularity
    batch_reduction: str
    bias_calibration: bool | None
    exact_sums: bool
    readout_weights: ReadoutWeights

    def levels(self, timesteps: int) -> int:
        """Levels that thresholds of least squared error are fitted to."""
        return min(self.coding.levels(timesteps, self.neuron.spike_max), _MOST_LEVELS)

    def fitted_levels(self, timesteps: int) -> list[int]:
        """The same, if calibration must fit any."""
        needed = self.mode.rule is Rule.MSE or self.granularity is Granularity.AUTO
        return [self.levels(timesteps)] if needed else []


def settings(preset: str, input_coding: InputCoding, **given: Any) -> Settings:
    """A preset with some of its settings given.

    Args:
        preset: name of a preset.
        input_coding: how samples will be shown.
        given: settings in the place of the preset's; None: the preset's. Where only the coding is
            given, the neurons follow it.

    Raises:
        OptionError: no such preset, or settings that are unknown or contradict each other.
    """
    if preset not in PRESETS:
        raise OptionError(f"preset must be one of {', '.join(PRESETS)}, not {preset!r}")
    chosen = {name: value for name, value in given.items() if value is not None}
    coding: Coding = parse_choice(Coding, chosen.get("coding", PRESETS[preset].coding), "coding")
    if "coding" in chosen and "neuron" not in chosen and coding is not Coding.RATE:
        chosen["neuron"] = "signed" if coding is Coding.DRAIN else "if"
    if coding is not Coding.RATE:  # nothing comes too early there, and counts are to be exact
        chosen.setdefault("bias_calibration", False)
    if coding is not Coding.RATE or input_coding is InputCoding.SEQUENCE:
        chosen.setdefault("readout_weights", "even")
        if chosen["readout_weights"] == "ramp":
            raise OptionError(
                "readout_weights='ramp' counts the first steps of a constant image less; with "
                f"coding '{coding.value}' and input_coding '{input_coding.value}' every step is "
                "part of the number, so leave it out"
            )
    if coding is Coding.RATE and chosen.setdefault("exact_sums", False):
        raise OptionError(
            "exact_sums lets counts be the quantised ANN's, to which those of coding 'rate' only "
            "tend; leave it out, or use coding 'drain', 'two_phase' or 'radix'"
        )
    found = replace(PRESETS[preset], **chosen)
    neuron = Neuron.parse(found.neuron, found.v_init, found.reset)
    coding.check(neuron, input_coding)
    return Settings(
        mode=Mode.parse(found.mode),
        neuron=neuron,
        coding=coding,
        granularity=parse_choice(Granularity, found.granularity, "granularity"),
        batch_reduction=found.batch_reduction,
        bias_calibration=found.bias_calibration,
        exact_sums=found.exact_sums,
        readout_weights=parse_choice(ReadoutWeights, found.readout_weights, "readout_weights"),
    )
