"""Draws small networks of any shape: branches, shared weights, odd sizes, normalisation anywhere.

Every drawn network keeps axis 0 as the batch and has at least one activation that neurons stand in
for; what lies between is linear, a pooling or, where asked for, graded. ``strategies.py`` draws
what its tests need by name: blocks of common networks, one after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import onnx
from hypothesis import strategies as st

from nets import Array, Dyadic, Gaussian, Net

IMAGE = (2, 7, 6)
"""Channels, height and width of an input."""
SIGNAL = (2, 9)
"""Channels and length of an input."""


def samples(model: onnx.ModelProto, count: int, *, dyadic: bool = False) -> dict[str, Array]:
    """Inputs for a drawn network: Gaussian, or small multiples of 1/8."""
    random, feeds = np.random.default_rng(count), {}
    for value in model.graph.input:
        shape = [count, *(d.dim_value for d in value.type.tensor_type.shape.dim[1:])]
        values = random.integers(-16, 17, shape) / 8 if dyadic else random.normal(0, 1, shape)
        feeds[value.name] = values.astype(np.float32)
    return feeds


@dataclass
class _Growing:
    """A network while it grows: tensors by name with their shapes behind the batch.

    With ``dyadic`` nothing is divided by anything but powers of two, and a layer follows on
    neurons alone, so that every sum is exact.
    """

    draw: st.DrawFn
    net: Net
    weights: Gaussian | Dyadic
    dyadic: bool
    shapes: dict[str, tuple[int, ...]]
    kernels: dict[tuple[int, ...], str] = field(default_factory=dict)

    def add(self, name: str, *shape: int) -> str:
        self.shapes[name] = shape
        return name

    def yes(self) -> bool:
        return self.draw(st.booleans())

    def one_of(self, *choices):
        return self.draw(st.sampled_from(choices))

    def ints(self, *values: int) -> str:
        return self.net.constant(values, np.int64)

    def kernel(self, *shape: int) -> str:
        """New weights, or those of an earlier layer of the same shape."""
        if shape not in self.kernels or not self.yes():
            self.kernels[shape] = self.net.constant(self.weights(*shape))
        return self.kernels[shape]

    def bias(self, size: int) -> list[str]:
        return [self.net.constant(self.weights(size))] if self.yes() else []

    def ahead(self, source: str) -> str:
        """What a layer reads: neurons, where a chain of layers would run out of mantissa bits."""
        return self.add(self.net.relu(source), *self.shapes[source]) if self.dyadic else source

    def positive(self, *shape: int) -> Array:
        """Factors above 0, all alike or not."""
        if self.dyadic:
            return np.float32(2.0) ** np.sign(self.weights(*shape))
        return np.float32(0.5) + np.abs(self.weights(*shape)).astype(np.float32)


@st.composite
def networks(draw: st.DrawFn, *, graded: bool = False, dyadic: bool = False) -> onnx.ModelProto:
    """A model of images [N, 2, 7, 6] or of signals [N, 2, 9], with one or two inputs and outputs.

    Args:
        graded: whether functions that no neuron computes may stand in it.
        dyadic: whether all its sums are exact, for inputs and thresholds that are dyadic too.
    """
    shape = draw(st.sampled_from([IMAGE, IMAGE, SIGNAL]))
    inputs = ["x", "u"] if draw(st.integers(0, 3)) == 3 else ["x"]
    seed = draw(st.integers(0, 99))
    net = Net({name: ["N", *shape] for name in inputs})
    weights = Dyadic(seed) if dyadic else Gaussian(seed)
    grown = _Growing(draw, net, weights, dyadic, dict.fromkeys(inputs, shape))
    _activate(grown, _convolve(grown, "x"))
    steps: list[Callable[[_Growing, str], object]] = [*_STEPS]
    if not dyadic:
        steps.append(_normalise)
    if len(shape) == 3:
        steps += [_shuffle, _shuffle]
    if graded:
        steps += [_grade, _grade]
    for _ in range(draw(st.integers(1, 7))):
        source = draw(st.sampled_from(sorted(grown.shapes)))
        draw(st.sampled_from(steps))(grown, source)
    last = _activate(grown, draw(st.sampled_from(sorted(grown.shapes))))
    outputs = {"y": _classify(grown, last)}
    if draw(st.booleans()):
        outputs["z"] = draw(st.sampled_from([n for n in sorted(grown.shapes) if n not in inputs]))
    return net.model(outputs)


def _convolve(grown: _Growing, source: str) -> str:
    source = grown.ahead(source) if grown.shapes[source] not in (IMAGE, SIGNAL) else source
    channels, *sizes = grown.shapes[source]
    group = grown.one_of(*(g for g in (1, 2, channels) if channels % g == 0))
    outputs = group * grown.draw(st.integers(1, 3))
    kernel = grown.one_of(*(k for k in (1, 2, 3) if k <= min(sizes)))
    axes = len(sizes)
    pads = [grown.draw(st.integers(0, kernel - 1)) if grown.yes() else 0 for _ in range(2 * axes)]
    stride = grown.draw(st.integers(1, 2))
    weight = grown.kernel(outputs, channels // group, *[kernel] * axes)
    name = grown.net.op(
        "Conv",
        *(source, weight, *grown.bias(outputs)),
        group=group,
        pads=pads,
        strides=[stride] * axes,
    )
    both = zip(sizes, pads[:axes], pads[axes:], strict=True)
    return grown.add(name, outputs, *((n + a + b - kernel) // stride + 1 for n, a, b in both))


def _transpose_convolve(grown: _Growing, source: str) -> str:
    source = grown.ahead(source)
    channels, *sizes = grown.shapes[source]
    outputs, stride = grown.draw(st.integers(1, 3)), grown.draw(st.integers(1, 2))
    if max(sizes) > 9:
        return source
    pad = int(stride == 1 and min(sizes) > 1 and grown.yes())
    weight = grown.kernel(channels, outputs, *[2] * len(sizes))
    name = grown.net.op(
        "ConvTranspose",
        *(source, weight, *grown.bias(outputs)),
        strides=[stride] * len(sizes),
        pads=[pad] * 2 * len(sizes),
    )
    return grown.add(name, outputs, *((n - 1) * stride + 2 - 2 * pad for n in sizes))


def _mix_channels(grown: _Growing, source: str) -> str:
    """A matrix product on channels last."""
    source, net = grown.ahead(source), grown.net
    channels, *sizes = grown.shapes[source]
    outputs = grown.draw(st.integers(1, 4))
    y = net.op("MatMul", _channels_last(grown, source), grown.kernel(channels, outputs))
    for bias in grown.bias(outputs):
        y = net.op("Add", y, bias)
    if grown.yes():
        y = net.relu(y)
    return grown.add(_channels_first(grown, y, 1 + len(sizes)), outputs, *sizes)


def _share(grown: _Growing, source: str) -> str:
    """Two layers of the same weights, one behind the other's neurons."""
    source = grown.ahead(source)
    channels, *sizes = grown.shapes[source]
    weight = grown.net.constant(grown.weights(channels, channels, *[1] * len(sizes)))
    first = grown.net.relu(grown.net.op("Conv", source, weight))
    grown.add(first, channels, *sizes)
    return grown.add(grown.net.op("Conv", first, weight), channels, *sizes)


def _activate(grown: _Growing, source: str) -> str:
    net = grown.net
    kinds = ["Relu", "Relu", "Clip", "LeakyRelu", "PRelu", "Abs", "Min", "Max"]
    kind = grown.one_of(*kinds, *([] if grown.dyadic else ["HardSigmoid"]))
    if kind == "Clip":
        low, high = grown.one_of((0.0, 0.75), (-0.5, 1.0), (0.25, 2.0))
        bounds = [net.constant(low, np.float32), net.constant(high, np.float32)]
        name = net.op("Clip", source, *bounds)
    elif kind == "LeakyRelu":
        name = net.op("LeakyRelu", source, alpha=0.125)
    elif kind == "PRelu":
        channels, *sizes = grown.shapes[source]
        slope = np.abs(grown.weights(channels, *[1] * len(sizes)))
        name = net.op("PRelu", source, net.constant(slope))
    elif kind == "Min":
        name = net.op("Min", net.relu(source), net.constant(0.5, np.float32))
    elif kind == "Max":
        name = net.op("Max", net.constant(-0.25, np.float32), source)
    else:
        name = net.op(kind, source)
    return grown.add(name, *grown.shapes[source])


def _normalise(grown: _Growing, source: str) -> str:
    channels = grown.shapes[source][0]
    name = grown.net.batch_normalization(source, channels, grown.draw(st.integers(0, 99)))
    if grown.yes():  # ahead of a layer as well as behind one
        return _convolve(grown, grown.add(name, *grown.shapes[source]))
    return grown.add(name, *grown.shapes[source])


def _pool(grown: _Growing, source: str) -> str:
    channels, *sizes = grown.shapes[source]
    if min(sizes) < 2:
        return source
    kind = grown.one_of("MaxPool", "AveragePool")
    stride, ceil, axes = grown.draw(st.integers(1, 2)), grown.yes(), len(sizes)
    name = grown.net.op(
        kind, source, kernel_shape=[2] * axes, strides=[stride] * axes, ceil_mode=int(ceil)
    )
    pooled = [-(-(n - 2) // stride) + 1 if ceil else (n - 2) // stride + 1 for n in sizes]
    return grown.add(name, channels, *pooled)


def _pool_all(grown: _Growing, source: str) -> str:
    """Over all places, alone or beside what was pooled."""
    channels, *sizes = grown.shapes[source]
    net, kinds = grown.net, ["GlobalMaxPool", "ReduceMax", "ReduceMin"]
    if not grown.dyadic:
        kinds += ["GlobalAveragePool", "ReduceMean"]
    kind = grown.one_of(*kinds)
    axes = [grown.ints(*range(2, 2 + len(sizes)))] if kind.startswith("Reduce") else []
    pooled = grown.add(net.op(kind, source, *axes), channels, *[1] * len(sizes))
    if grown.yes():
        return pooled
    return grown.add(net.op(grown.one_of("Add", "Sub"), source, pooled), channels, *sizes)


def _join(grown: _Growing, source: str) -> str:
    """With another tensor of the same size, or itself: by a sum, a maximum or side by side."""
    channels, *sizes = grown.shapes[source]
    others = [n for n in sorted(grown.shapes) if grown.shapes[n][1:] == tuple(sizes)]
    other = grown.one_of(*others)
    together = grown.shapes[other][0] + channels
    alike = grown.shapes[other][0] == channels
    kinds = ["Add", "Sub", "Sum", "Max", "Min", "Concat"] if alike else ["Concat"]
    if alike and not grown.dyadic:
        kinds.append("Mean")
    kind = grown.one_of(*kinds)
    if kind == "Concat":
        return grown.add(grown.net.op("Concat", source, other, axis=1), together, *sizes)
    return grown.add(grown.net.op(kind, source, other), channels, *sizes)


def _scale(grown: _Growing, source: str) -> str:
    channels, *sizes = grown.shapes[source]
    shape = grown.one_of((), (channels, *[1] * len(sizes)))
    values = grown.net.constant(grown.positive(*shape))
    kind = grown.one_of("Mul", "Div", "Add", "Sub", "from", "Neg")
    inputs = [source, values] if kind != "Add" or grown.yes() else [values, source]
    if kind == "Neg":
        inputs = [source]
    if kind == "from":
        kind, inputs = "Sub", [values, source]
    return grown.add(grown.net.op(kind, *inputs), channels, *sizes)


def _move(grown: _Growing, source: str) -> str:
    """Channels last and back with something in between, or a part of the channels."""
    channels, *sizes = grown.shapes[source]
    net = grown.net
    kind = grown.one_of("Transpose", "Slice", "Split", "Gather")
    if kind == "Transpose":
        y = _channels_last(grown, source)
        y = net.op("Mul", y, net.constant(grown.positive(channels)))
        return grown.add(_channels_first(grown, y, 1 + len(sizes)), channels, *sizes)
    if kind == "Gather":
        axis = grown.draw(st.integers(1, 1 + len(sizes)))
        size = grown.shapes[source][axis - 1]
        places = grown.draw(st.lists(st.integers(-size, size - 1), min_size=1, max_size=4))
        shape = [*grown.shapes[source]]
        shape[axis - 1] = len(places)
        return grown.add(net.op("Gather", source, grown.ints(*places), axis=axis), *shape)
    if channels < 2:
        return source
    start = grown.draw(st.integers(1, channels - 1))
    if kind == "Slice":
        name = net.op("Slice", source, grown.ints(start), grown.ints(channels), grown.ints(1))
        return grown.add(name, channels - start, *sizes)
    name = net.op("Split", source, grown.ints(start, channels - start), outputs=2, axis=1)
    grown.add(f"{name}_1", channels - start, *sizes)
    return grown.add(name, start, *sizes)


def _reshape(grown: _Growing, source: str) -> str:
    """Other axes and back, with something in between."""
    channels, *sizes = grown.shapes[source]
    net = grown.net
    kind = grown.one_of("flat", "axis", "view", "idle")
    if kind == "flat":
        y = net.op("Reshape", source, grown.ints(0, channels, -1))
        y = net.op("Mul", y, net.constant(grown.positive(channels, 1)))
        y = net.op("Reshape", y, grown.ints(-1, channels, *sizes))
    elif kind == "axis":
        y = net.op("Unsqueeze", source, grown.ints(2))
        y = net.op("Squeeze", net.relu(y) if grown.yes() else y, grown.ints(2))
    elif kind == "view":
        y = net.op("Mul", net.op("Flatten", source), net.constant(grown.positive()))
        y = net.op("Reshape", y, grown.ints(0, channels, *sizes))
    else:
        y = net.op(grown.one_of("Identity", "Dropout"), source)
    return grown.add(y, channels, *sizes)


def _resize(grown: _Growing, source: str) -> str:
    channels, *sizes = grown.shapes[source]
    if max(sizes) > 8:
        return source
    mode = grown.one_of("nearest", "linear")
    scales = grown.net.constant([1, 1, *[2] * len(sizes)], np.float32)
    name = grown.net.op("Resize", source, "", scales, mode=mode)
    return grown.add(name, channels, *(2 * n for n in sizes))


def _pad(grown: _Growing, source: str) -> str:
    channels, *sizes = grown.shapes[source]
    mode = grown.one_of("constant", "edge", "reflect")
    most = 2 if mode != "reflect" else min(2, *(n - 1 for n in sizes))
    least = -1 if mode == "constant" and min(sizes) > 2 else 0  # a negative amount crops
    pads = [grown.draw(st.integers(least, most)) for _ in range(2 * len(sizes))]
    first, second = pads[: len(sizes)], pads[len(sizes) :]
    name = grown.net.op("Pad", source, grown.ints(0, 0, *first, 0, 0, *second), mode=mode)
    both = zip(sizes, first, second, strict=True)
    return grown.add(name, channels, *(n + a + b for n, a, b in both))


def _shuffle(grown: _Growing, source: str) -> str:
    """Channels to places or back, of an image."""
    channels, height, width = grown.shapes[source]
    if channels % 4 == 0 and height < 9:
        mode = grown.one_of("DCR", "CRD")
        name = grown.net.op("DepthToSpace", source, blocksize=2, mode=mode)
        return grown.add(name, channels // 4, 2 * height, 2 * width)
    if height % 2 or width % 2:
        return source
    name = grown.net.op("SpaceToDepth", source, blocksize=2)
    return grown.add(name, 4 * channels, height // 2, width // 2)


def _grade(grown: _Growing, source: str) -> str:
    net = grown.net
    kind = grown.one_of("Sigmoid", "Tanh", "Softmax", "gate", "Mul", "HardSwish")
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


_STEPS = (
    *(_convolve, _convolve, _activate, _activate, _pool, _join, _join),
    *(_transpose_convolve, _mix_channels, _share, _pool_all, _scale, _move, _move),
    *(_reshape, _resize, _pad),
)


def _classify(grown: _Growing, source: str) -> str:
    channels, *sizes = grown.shapes[source]
    net = grown.net
    pooled = grown.yes() and not grown.dyadic
    flat = net.op("Flatten", net.op("GlobalAveragePool", source) if pooled else source)
    size = channels if pooled else channels * int(np.prod(sizes))
    name = net.gemm(flat, grown.weights(size, 3), grown.weights(3))
    return net.op("Softmax", name) if grown.yes() and not grown.dyadic else name


def _channels_last(grown: _Growing, source: str) -> str:
    axes = 1 + len(grown.shapes[source])
    return grown.net.op("Transpose", source, perm=[0, *range(2, axes), 1])


def _channels_first(grown: _Growing, source: str, axes: int) -> str:
    return grown.net.op("Transpose", source, perm=[0, axes, *range(1, axes)])
