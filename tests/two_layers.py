"""Two layers of neurons with something between them, simulated on either side of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from onnx.utils import Extractor

from nets import Array, Dyadic, Gaussian, Net, run
from onnx_snn import convert
from simulator import dyadic_thresholds, relus, simulate, stats_of

Between = Callable[[Net, str], str]
"""Adds what stands between the layers: the spikes' name → the name of what the next layer reads."""


@dataclass
class TwoLayers:
    """x → layer of neurons s → something z → Flatten, layer of neurons h → Gemm y; all outputs.

    Attributes:
        between: see ``Between``.
        shape: of a sample of x and s.
        weights: of all layers; dyadic by default, so that sums of spikes are exact.
        per_channel: whether the thresholds are.
    """

    between: Between
    shape: tuple[int, ...] = (4, 6, 6)
    weights: Dyadic | Gaussian | None = None
    opset: int = 18
    samples: int = 3
    per_channel: bool = False

    def __post_init__(self) -> None:
        weights = self.weights or Dyadic(11)
        channels = self.shape[0]
        net = Net({"x": ["N", *self.shape]})
        if len(self.shape) == 1:
            s = net.relu(net.gemm("x", weights(channels, channels), weights(channels)))
        else:
            ones = [1] * (len(self.shape) - 1)
            s = net.relu(net.conv("x", weights(channels, channels, *ones), weights(channels)))
        z = self.between(net, s)
        flat = net.op("Flatten", z)
        width = net.model(flat, self.opset).graph.output[0].type.tensor_type.shape.dim[1].dim_value
        h = net.relu(net.gemm(flat, weights(width, 5), weights(5)))
        y = net.gemm(h, weights(5, 3), weights(3))
        self.names = dict(zip("szhy", (s, z, h, y), strict=True))
        self.model = net.model(self.names, self.opset)
        self.x = Dyadic(12)(self.samples, *self.shape, step=1 / 8)

    @cached_property
    def thresholds(self) -> dict[str, Array]:
        return dyadic_thresholds(self.model, {"x": self.x}, per_channel=self.per_channel)

    def convert(self, **options: Any) -> onnx.ModelProto:
        """Converted with the thresholds above, which are powers of two."""
        stats = stats_of(self.model, self.thresholds)
        options = {"neuron": "if", "mode": "max", "timesteps": 20, "readout": "running"} | options
        return convert(self.model, stats=stats, **options).model

    def part(self, start: str, end: str) -> onnx.ModelProto:
        """The original network from one tensor to another."""
        names = {"x": "x", **self.names}
        inferred = onnx.shape_inference.infer_shapes(self.model)
        return Extractor(inferred).extract_model([names[start]], [names[end]])

    def apply(self, values: Array) -> Array:
        """What stands between the layers, of any values for s."""
        return run(self.part("s", "z"), {self.names["s"]: values})[0]

    def spikes(self, timesteps: int) -> Array:
        """s at each step, in the ANN's units: [T, N, …]."""
        part = self.part("x", "s")
        simulation = simulate(part, self._thresholds_of(part), [{"x": self.x}] * timesteps)
        return simulation.outputs[self.names["s"]]

    def behind(self, steps: Array, tensor: str) -> Array:
        """h or y at each step, given z at each step."""
        part = self.part("z", tensor)
        frames = [{self.names["z"]: step} for step in steps]
        return simulate(part, self._thresholds_of(part), frames).outputs[self.names[tensor]]

    def _thresholds_of(self, part: onnx.ModelProto) -> Mapping[str, Array]:
        return {name: self.thresholds[name] for name in relus(part)}


def running_mean(steps: Array) -> Array:
    """Of [T, N, …], at every step, in the precision of the values."""
    counts = np.arange(1, len(steps) + 1, dtype=steps.dtype)
    return np.cumsum(steps, axis=0) / counts.reshape(-1, *[1] * (steps.ndim - 1))
