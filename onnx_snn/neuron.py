"""Kinds of neurons: what all neurons of a network have in common.

    if         binary: s = [V >= θ]
    signed     ternary (ST-BIF): s = +1 where V >= θ, −1 where V < 0 and the neuron has fired more
               than it took back; so a spike that came too early is taken back
    burst(m)   up to m spikes in a step: s = clip(⌊V/θ⌋, 0, m)

Sources: Rueckauer et al. 2017 (if, soft reset); You et al. 2024, "SpikeZIP-TF: Conversion is All
You Need for Transformer-based SNN" (ST-BIF); Li and Zeng 2022, "Efficient and Accurate Conversion
of Spiking Neural Network with Burst Spikes".
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from numbers import Real

from onnx_snn.errors import OptionError

RESETS = ("subtract", "zero")
_BURST = re.compile(r"burst\((\d{1,3})\)", re.ASCII)


@dataclass(frozen=True)
class Neuron:
    """What all neurons of a network have in common; attributes of ``IFNeuron``.

    Attributes:
        v_init: membrane before the first step, in units of the threshold.
        reset: ``"subtract"`` (soft reset) or ``"zero"`` (hard reset).
        spike_min: least spike; −1 for signed neurons.
        spike_max: greatest spike.
    """

    v_init: float = 0.5
    reset: str = "subtract"
    spike_min: int = 0
    spike_max: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.v_init, Real) or not math.isfinite(self.v_init):
            raise OptionError(f"v_init must be a finite number, not {self.v_init!r}")
        if self.reset not in RESETS:
            raise OptionError(f"reset must be one of {', '.join(RESETS)}, not {self.reset!r}")
        if self.is_signed and self.reset == "zero":
            raise OptionError(
                "signed neurons need reset='subtract': a hard reset forgets the charge that they "
                "would take spikes back for"
            )

    @staticmethod
    def parse(kind: str, v_init: float = 0.5, reset: str = "subtract") -> Neuron:
        """A kind as users write it: ``"if"``, ``"signed"`` or ``"burst(m)"``.

        Raises:
            OptionError: none of these, or a contradiction.
        """
        if kind == "if":
            return Neuron(v_init, reset)
        if kind == "signed":
            return Neuron(v_init, reset, spike_min=-1)
        if isinstance(kind, str) and (match := _BURST.fullmatch(kind)) and int(match[1]) > 0:
            return Neuron(v_init, reset, spike_max=int(match[1]))
        raise OptionError(
            "neuron must be 'if', 'signed', or 'burst(m)' with at most m spikes in a step, "
            f"m >= 1, not {kind!r}"
        )

    @property
    def is_signed(self) -> bool:
        """Whether it takes spikes back, and so must count them."""
        return self.spike_min < 0
