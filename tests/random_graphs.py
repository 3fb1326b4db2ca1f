"""Draws small networks of any shape: branches, shared weights, odd sizes, normalisation anywhere.

Every drawn network keeps axis 0 as the batch and has at least one activation that neurons stand in
for; what lies between is linear, a pooling or, where asked for, graded.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
from hypothesis import strategies as st

from nets import Array, Gaussian, Net

INPUT = (2, 7, 6)
"""Channels, height and width of the input."""


@dataclass
class _Growing:
    """A network while it grows: tensors by name with their shapes behind the batch."""

    net: Net
    weights: Gaussian
    shapes: dict[str, tuple[int, ...]]
    kernels: dict[tuple[int, ...], Array] = field(default_factory=dict)

    def add(self, name: str, *shape: int) -> str:
        self.shapes[name] = shape
        return name

    def images(self) -> list[str]:
        return [name for name, shape in self.shapes.items() if len(shape) == 3]

    def kernel(self, *shape: int, shared: bool) -> Array:
        """New weights, or those of an earlier layer of the same shape."""
        if not shared or shape not in self.kernels:
            self.kernels[shape] = self.weights(*shape)
        return self.kernels[shape]


@st.composite
def networks(draw: st.DrawFn, graded: bool = False) -> onnx.ModelProto:
    """A model with the input ``x`` [N, 2, 7, 6] and one or two outputs.

    Args:
        graded: whether functions that no neuron computes may stand in it.
    """
    grown = _Growing(Net({"x": ["N", *INPUT]}), Gaussian(draw(st.integers(0, 99))), {"x": INPUT})
    _activate(draw, grown, _convolve(draw, grown, "x"))
    steps = [_convolve, _activate, _normalise, _pool, _join, _scale, _move]
    if graded:
        steps.append(_grade)
    for _ in range(draw(st.integers(1, 7))):
        source = draw(st.sampled_from(grown.images()))
        draw(st.sampled_from(steps))(draw, grown, source)
    last = _activate(draw, grown, draw(st.sampled_from(grown.images())))
    outputs = {"y": _classify(draw, grown, last)}
    if draw(st.booleans()):
        outputs["z"] = draw(st.sampled_from([n for n in grown.images() if n != "x"]))
    return grown.net.model(outputs)


def _convolve(draw: st.DrawFn, grown: _Growing, source: str) -> str:
    channels, height, width = grown.shapes[source]
    group = draw(st.sampled_from([g for g in (1, 2, channels) if channels % g == 0]))
    outputs = group * draw(st.integers(1, 3))
    size = draw(st.sampled_from([k for k in (1, 2, 3) if k <= min(height, width)]))
    pads = [draw(st.integers(0, size - 1)) for _ in range(4)] if draw(st.booleans()) else [0] * 4
    stride = draw(st.integers(1, 2))
    weight = grown.kernel(outputs, channels // group, size, size, shared=draw(st.booleans()))
    bias = grown.weights(outputs) if draw(st.booleans()) else None
    attributes = {"group": group, "pads": pads, "strides": [stride, stride]}
    name = grown.net.conv(source, weight, bias, **attributes)
    return grown.add(
        name,
        outputs,
        (height + pads[0] + pads[2] - size) // stride + 1,
        (width + pads[1] + pads[3] - size) // stride + 1,
    )


def _activate(draw: st.DrawFn, grown: _Growing, source: str) -> str:
    net = grown.net
    kind = draw(st.sampled_from(["Relu", "Relu", "Clip", "LeakyRelu", "PRelu", "Abs", "Min"]))
    if kind == "Clip":
        low, high = draw(st.sampled_from([(0.0, 0.75), (-0.5, 1.0), (0.25, 2.0)]))
        bounds = [net.constant(low, np.float32), net.constant(high, np.float32)]
        name = net.op("Clip", source, *bounds)
    elif kind == "LeakyRelu":
        name = net.op("LeakyRelu", source, alpha=0.125)
    elif kind == "PRelu":
        slope = np.abs(grown.weights(grown.shapes[source][0], 1, 1))
        name = net.op("PRelu", source, net.constant(slope))
    elif kind == "Min":
        name = net.op("Min", net.relu(source), net.constant(0.5, np.float32))
    else:
        name = net.op(kind, source)
    return grown.add(name, *grown.shapes[source])


def _normalise(draw: st.DrawFn, grown: _Growing, source: str) -> str:
    channels = grown.shapes[source][0]
    name = grown.net.batch_normalization(source, channels, draw(st.integers(0, 99)))
    return grown.add(name, *grown.shapes[source])


def _pool(draw: st.DrawFn, grown: _Growing, source: str) -> str:
    channels, height, width = grown.shapes[source]
    if min(height, width) < 2:
        return source
    kind = draw(st.sampled_from(["MaxPool", "AveragePool"]))
    stride, ceil = draw(st.integers(1, 2)), draw(st.booleans())
    name = grown.net.op(
        kind, source, kernel_shape=[2, 2], strides=[stride, stride], ceil_mode=int(ceil)
    )
    sizes = [-(-(n - 2) // stride) + 1 if ceil else (n - 2) // stride + 1 for n in (height, width)]
    return grown.add(name, channels, *sizes)


def _join(draw: st.DrawFn, grown: _Growing, source: str) -> str:
    """With another tensor of the same size: by a sum, a maximum or side by side."""
    channels, *size = grown.shapes[source]
    others = [n for n in grown.images() if grown.shapes[n][1:] == tuple(size) and n != source]
    if not others:
        return source
    other = draw(st.sampled_from(others))
    kinds = ["Concat"] if grown.shapes[other][0] != channels else ["Add", "Sub", "Sum", "Max"]
    kind = draw(st.sampled_from(kinds))
    if kind == "Concat":
        name = grown.net.op("Concat", source, other, axis=1)
        return grown.add(name, channels + grown.shapes[other][0], *size)
    return grown.add(grown.net.op(kind, source, other), channels, *size)


def _scale(draw: st.DrawFn, grown: _Growing, source: str) -> str:
    shape = draw(st.sampled_from([(), (grown.shapes[source][0], 1, 1)]))
    values = grown.net.constant(np.float32(0.5) + np.abs(grown.weights(*shape)).astype(np.float32))
    kind = draw(st.sampled_from(["Mul", "Div", "Add", "Sub"]))
    inputs = [source, values] if kind != "Add" or draw(st.booleans()) else [values, source]
    return grown.add(grown.net.op(kind, *inputs), *grown.shapes[source])


def _move(draw: st.DrawFn, grown: _Growing, source: str) -> str:
    """Channels last and back with something in between, or a part of the channels."""
    channels, height, width = grown.shapes[source]
    net = grown.net
    if draw(st.booleans()) or channels < 2:
        y = net.op("Transpose", source, perm=[0, 2, 3, 1])
        y = net.op("Mul", y, net.constant(np.abs(grown.weights(channels)) + np.float32(0.5)))
        name = net.op("Transpose", y, perm=[0, 3, 1, 2])
        return grown.add(name, channels, height, width)
    start = draw(st.integers(0, channels - 1))
    ends = net.constant([start], np.int64), net.constant([channels], np.int64)
    name = net.op("Slice", source, *ends, net.constant([1], np.int64))
    return grown.add(name, channels - start, height, width)


def _grade(draw: st.DrawFn, grown: _Growing, source: str) -> str:
    net = grown.net
    kind = draw(st.sampled_from(["Sigmoid", "Tanh", "Softmax", "gate", "Mul"]))
    if kind == "gate":
        gate = net.op("Sigmoid", net.op("GlobalAveragePool", source))
        name = net.op("Mul", source, gate)
    elif kind == "Mul":
        name = net.op("Mul", source, source)
    elif kind == "Softmax":
        name = net.op("Softmax", source, axis=1)
    else:
        name = net.op(kind, source)
    return grown.add(name, *grown.shapes[source])


def _classify(draw: st.DrawFn, grown: _Growing, source: str) -> str:
    channels, height, width = grown.shapes[source]
    net = grown.net
    pooled = draw(st.booleans())
    flat = net.op("Flatten", net.op("GlobalAveragePool", source) if pooled else source)
    size = channels if pooled else channels * height * width
    name = net.gemm(flat, grown.weights(size, 3), grown.weights(3))
    return net.op("Softmax", name) if draw(st.booleans()) else name
