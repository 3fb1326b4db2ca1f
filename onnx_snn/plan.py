"""A plan: with which settings, for how many steps and on which schedule to convert."""

from __future__ import annotations

from dataclasses import dataclass

from onnx_snn.coding import Coding, InputCoding
from onnx_snn.errors import OptionError
from onnx_snn.options import check_positive
from onnx_snn.passes.round_weights import check_weight_bits
from onnx_snn.precision import Precision
from onnx_snn.presets import Settings
from onnx_snn.schedule import ReadoutWeights, ScheduleOptions

_DRAIN = 4
"""Steps that a network may run on after its input, in units of those of the input."""


@dataclass(frozen=True)
class Plan:
    """One way to convert a network.

    Attributes:
        preset: its name.
        settings: of neurons, coding and thresholds.
        timesteps: T, the steps of the input.
        input_coding: how samples are shown.
        schedule: its steps are all those of a run.
        weight_bits: of the weights between spikes; None: as many as they have.
        precision: of all numbers.
    """

    preset: str
    settings: Settings
    timesteps: int
    input_coding: InputCoding
    schedule: ScheduleOptions
    weight_bits: int | None = None
    precision: Precision = Precision.MODEL

    def __post_init__(self) -> None:
        self.schedule.check(self.settings.coding)
        check_weight_bits(self.weight_bits)

    @property
    def window(self) -> int | None:
        """With coding drain, the steps during which input and biases are on."""
        return self.timesteps if self.settings.coding is Coding.DRAIN else None

    def ramp(self, layers: int) -> int:
        """Until which step the weights of the steps grow in a readout; 1: all count alike."""
        is_late = self.settings.readout_weights is ReadoutWeights.RAMP
        return 1 << (layers.bit_length() - 1) if is_late and layers else 1

    def latency(self, layers: int) -> int:
        """Steps until the last of so many layers has spoken."""
        if self.window is not None:
            return self.schedule.timesteps
        return self.settings.coding.latency(self.timesteps, layers)


def all_steps(coding: Coding, timesteps: int, drain_steps: int | None) -> int:
    """The steps of a run: those of the input, and those that the network may run on.

    Raises:
        OptionError: not whole numbers of at least 1, or steps to drain without that coding.
    """
    check_positive(timesteps, "timesteps")
    if drain_steps is None:
        return timesteps * (1 + _DRAIN) if coding is Coding.DRAIN else timesteps
    if coding is not Coding.DRAIN:
        raise OptionError("drain_steps belongs to coding 'drain'; leave it out, or set the coding")
    check_positive(drain_steps, "drain_steps")
    return timesteps + drain_steps
