"""Choose the cheapest preset and number of time steps that keep the loss within a bound.

What a spiking network costs is its spikes: each is one weighted sum less or more to be done on
event-driven hardware, and by event-driven kernels. Latency is shown beside it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from onnx_snn.coding import Coding
from onnx_snn.errors import OptionError
from onnx_snn.presets import PRESETS

_PRESETS = ("default", "binary", "radix")
_STEPS: Mapping[Coding, Sequence[int]] = {
    Coding.RATE: (4, 8, 16, 32, 64),
    Coding.DRAIN: (4, 8, 16, 32),
    Coding.TWO_PHASE: (4, 8, 16, 32),
    Coding.RADIX: (3, 4, 5, 6, 8),
}


@dataclass(frozen=True)
class Choice:
    """One line of the trade-off, measured on the samples held out.

    Attributes:
        preset: its name.
        timesteps: T.
        latency: steps until the result is there.
        spikes_per_neuron: mean spikes of a neuron for one sample.
        loss: points in percent lost against the ANN; of accuracy where there are labels, else of
            agreement.
        is_chosen: whether it was taken.
    """

    preset: str
    timesteps: int
    latency: int
    spikes_per_neuron: float
    loss: float
    is_chosen: bool = False

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def candidates(
    preset: str | None, timesteps: int | None, coding: str | None, *, searches: bool
) -> list[tuple[str, int]]:
    """Presets and numbers of steps to try.

    Args:
        preset: the only preset, if one is given.
        timesteps: the only T, if one is given.
        coding: that takes the place of the presets' codings, if one is given.
        searches: whether there is a bound to search for; if not, there is one candidate.
    """
    if not searches:
        return [(preset or "default", 32 if timesteps is None else timesteps)]
    found = []
    for name in [preset] if preset else _PRESETS:
        known = PRESETS[name].coding if name in PRESETS else Coding.RATE
        steps = _STEPS.get(Coding(coding or known), _STEPS[Coding.RATE])
        found += [(name, count) for count in ([timesteps] if timesteps else steps)]
    return found


def cheapest(choices: Sequence[Choice], max_loss: float) -> int:
    """Index of the choice with the fewest spikes within the bound.

    Raises:
        OptionError: there is none.
    """
    within = [index for index, choice in enumerate(choices) if choice.loss <= max_loss]
    if not within:
        best = min(choices, key=lambda choice: choice.loss)
        raise OptionError(
            f"no preset and T keep the loss within {max_loss:g} points; the least is "
            f"{best.loss:.2f}, of preset '{best.preset}' with T = {best.timesteps}: raise "
            "max_loss, give more calibration data, or a greater T"
        )
    return min(within, key=lambda index: choices[index].spikes_per_neuron)
