"""What a conversion did: the layers with their λ, and how they fire on data held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from onnx_snn.analyse import Verdict
from onnx_snn.scale import Scale


@dataclass(frozen=True)
class LayerReport:
    """One spiking layer.

    Attributes:
        name: of its node.
        op: the activation function it stands in for, as rewritten: Relu or Clip.
        scale: λ, one number or one per channel.
        is_dead: no activation above 0 was seen in calibration.
        firing_rate: mean spikes per neuron and time step, on the validation samples.
    """

    name: str
    op: str
    scale: Scale
    is_dead: bool
    firing_rate: float | None = None


@dataclass(frozen=True)
class ConversionReport:
    """What a conversion did.

    Attributes:
        verdicts: what became of every node of the original network.
        layers: the spiking layers, in order of evaluation.
        graded_share: part of the network's operations whose values stay graded, in [0, 1].
        calibration_samples: samples the thresholds come from.
        validation_samples: samples that ``firing_rate`` and the figures below come from.
        held_out: whether these took no part in calibration.
        agreement: share of validation samples on which the class (of the first output with
            scores or integer labels) is the ANN's, in [0, 1]; None where there is none.
        output_error: root mean square of the difference of the first floating-point outputs,
            divided by that of the ANN's output; None where there is none.
        timesteps: T, at which all this was measured.
    """

    verdicts: Sequence[Verdict]
    layers: Sequence[LayerReport]
    calibration_samples: int
    timesteps: int
    graded_share: float = 0.0
    validation_samples: int = 0
    held_out: bool = False
    agreement: float | None = None
    output_error: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """All of it but the verdicts, for JSON."""
        content = {field.name: getattr(self, field.name) for field in fields(self)}
        del content["verdicts"]
        content["layers"] = [
            {**asdict(layer), "scale": layer.scale.values.tolist()} for layer in self.layers
        ]
        return content
