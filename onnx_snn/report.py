"""What a conversion did: the layers with their λ, and how they fire on data held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from onnx_snn.analyse import Verdict
from onnx_snn.choose import Choice
from onnx_snn.explain import LayerError
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
        size: number of neurons; None where it depends on the size of the input.
    """

    name: str
    op: str
    scale: Scale
    is_dead: bool
    firing_rate: float | None = None
    size: int | None = None


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
        accuracy: share of validation samples classified as labelled; None without labels.
        ann_accuracy: the same of the ANN.
        output_error: root mean square of the difference of the first floating-point outputs,
            divided by that of the ANN's output; None where there is none.
        preset: what the settings were taken from.
        mode: the threshold rule.
        bias_samples: samples that biases were calibrated on; 0: they were not.
        timesteps: steps of a run, at which all this was measured; with coding drain, with those
            after the input.
        latency: steps until the result is there, where layers pass their spikes on at once.
        silent: with coding drain, whether all neurons had fallen silent.
        exact: whether all sums are exact, so that the counts are the quantised ANN's bit for bit;
            None: this was not asked for. See ``passes.round_to_grid``.
        weight_bits: of the weights between spikes; None: as many as they had.
        choices: what was tried to keep within a loss; empty where T was given.
        errors: of every layer's rates, by cause; see ``onnx_snn.explain``. Empty where they were
            not measured.
    """

    verdicts: Sequence[Verdict]
    layers: Sequence[LayerReport]
    calibration_samples: int
    timesteps: int
    preset: str = "default"
    mode: str = ""
    bias_samples: int = 0
    latency: int = 0
    graded_share: float = 0.0
    validation_samples: int = 0
    held_out: bool = False
    agreement: float | None = None
    accuracy: float | None = None
    ann_accuracy: float | None = None
    output_error: float | None = None
    silent: bool | None = None
    exact: bool | None = None
    weight_bits: int | None = None
    choices: Sequence[Choice] = ()
    errors: Sequence[LayerError] = ()

    @property
    def loss(self) -> float | None:
        """Points in percent lost against the ANN: of accuracy, or without labels of agreement."""
        if self.accuracy is not None and self.ann_accuracy is not None:
            return 100 * (self.ann_accuracy - self.accuracy)
        return None if self.agreement is None else 100 * (1 - self.agreement)

    @property
    def spikes_per_neuron(self) -> float | None:
        """Mean spikes of a neuron for one sample."""
        found = [(layer.firing_rate, layer.size or 1) for layer in self.layers]
        if not self.validation_samples or any(rate is None for rate, _ in found):
            return None
        spikes = sum((rate or 0.0) * size for rate, size in found)
        return self.timesteps * spikes / sum(size for _, size in found)

    def to_dict(self) -> dict[str, Any]:
        """All of it but the verdicts, for JSON."""
        content = {field.name: getattr(self, field.name) for field in fields(self)}
        del content["verdicts"]
        content["layers"] = [
            {**asdict(layer), "scale": layer.scale.values.tolist()} for layer in self.layers
        ]
        content["loss"], content["spikes_per_neuron"] = self.loss, self.spikes_per_neuron
        content["choices"] = [choice.to_dict() for choice in self.choices]
        content["errors"] = [error.to_dict() for error in self.errors]
        return content
