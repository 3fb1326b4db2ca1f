"""Codings: how T time steps carry a number, and when a layer speaks.

    rate        every layer integrates and fires at every step; a number is the mean of its spikes
    drain       like rate, but input and biases are off after the first T steps; the network runs
                on until no neuron fires. Then every signed neuron has fired clip(⌊Σ I + ½⌋, 0, T)
                times, whatever came when: the integers of the quantised ANN with T levels
    two_phase   a layer integrates all T steps of the layer ahead, then fires for T steps: the same
                integers with spikes 0 and 1, after T·(layers + 1) steps
    radix       the same with the spike of step t worth 2^(T−1−t): T steps carry 2^T levels

Sources: You et al. 2024, "SpikeZIP-TF" (drain: equivalence of ST-BIF neurons and quantisation);
Wang et al. 2022, "Efficient Spiking Neural Networks with Radix Encoding" (radix).
"""

from __future__ import annotations

from enum import StrEnum

from onnx_snn.errors import OptionError
from onnx_snn.neuron import Neuron


class InputCoding(StrEnum):
    """How a sample is shown: the same image at every step, or a sequence [T, N, …]."""

    CONSTANT = "constant"
    SEQUENCE = "sequence"


class Coding(StrEnum):
    """See the module's text."""

    RATE = "rate"
    DRAIN = "drain"
    TWO_PHASE = "two_phase"
    RADIX = "radix"

    @property
    def is_phased(self) -> bool:
        """Whether a layer integrates a whole window of T steps before it fires."""
        return self in (Coding.TWO_PHASE, Coding.RADIX)

    @property
    def base(self) -> int:
        """The spike of step t is worth base^(T−1−t)."""
        return 2 if self is Coding.RADIX else 1

    def levels(self, timesteps: int, spike_max: int = 1) -> int:
        """Numbers above 0 that T steps can tell apart."""
        return 2**timesteps - 1 if self is Coding.RADIX else timesteps * spike_max

    def latency(self, timesteps: int, layers: int) -> int:
        """Steps until the last layer has fired, where layers pass their spikes on at once."""
        return timesteps * (layers + 1) if self.is_phased else timesteps

    def check(self, neuron: Neuron, input_coding: InputCoding) -> None:
        """Refuse neurons and inputs that this coding cannot have.

        Raises:
            OptionError: they contradict each other.
        """
        if self.is_phased and (neuron.is_signed or neuron.spike_max != 1):
            raise OptionError(
                f"coding '{self.value}' has spikes 0 and 1 only; leave neuron='if' with it"
            )
        if self.is_phased and neuron.reset != "subtract":
            raise OptionError(f"coding '{self.value}' needs reset='subtract'")
        if self in (Coding.DRAIN, Coding.RADIX) and input_coding is InputCoding.SEQUENCE:
            raise OptionError(
                f"coding '{self.value}' shows a constant image, as the steps of a sequence would "
                "not count alike; use input_coding='constant', or coding 'rate' or 'two_phase'"
            )
        if self is Coding.DRAIN and not neuron.is_signed:
            raise OptionError(
                "coding 'drain' needs neuron='signed': only neurons that take spikes back end at "
                "the same count whatever came when"
            )
