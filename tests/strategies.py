"""Hypothesis strategies: small random networks and the data to run them on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import onnx
from hypothesis import strategies as st

from nets import Array, Dyadic, Gaussian, Net

BATCH = 5
SEEDS = st.integers(0, 2**16)


@dataclass(frozen=True)
class Example:
    """A network ``x`` → ``y`` and inputs for it, [5, C, H, W]."""

    model: onnx.ModelProto
    x: Array


@dataclass(frozen=True)
class _Image:
    """A tensor under construction and its shape without the batch."""

    name: str
    channels: int
    height: int
    width: int

    def renamed(self, name: str) -> _Image:
        return _Image(name, self.channels, self.height, self.width)


@st.composite
def networks(draw: st.DrawFn, *, dyadic: bool = False) -> Example:
    """Convolutional nets: chains and branches of every layer there is, then a dense head.

    With ``dyadic`` all weights and inputs are dyadic and no layer divides by anything but powers
    of two, so that the order of summation does not matter.
    """
    seed = draw(SEEDS)
    channels, height, width = (draw(st.integers(least, 6)) for least in (1, 3, 3))
    net = Net({"x": ["N", channels, height, width]})
    build = _Builder(net, draw, Dyadic(seed) if dyadic else Gaussian(seed), dyadic)
    image = _Image("x", channels, height, width)
    for _ in range(draw(st.integers(1, 4))):
        block = draw(st.sampled_from(build.blocks))
        image = block(image)
    image = build.layer(image)  # there is at least one neuron
    model = net.model(build.head(image))
    return Example(model, Dyadic(seed + 1)(BATCH, channels, height, width, step=1 / 8))


class _Builder:
    """Adds blocks to a net; every choice comes from hypothesis, so that failures shrink."""

    def __init__(self, net: Net, draw: st.DrawFn, weights: Dyadic | Gaussian, dyadic: bool) -> None:
        self._net = net
        self._draw = draw
        self._weights = weights
        self._dyadic = dyadic
        self.blocks: list[Callable[[_Image], _Image]] = [
            self.layer,
            self.depthwise,
            self.transposed,
            self.residual,
            self.concat,
            self.shared,
            self.pool,
            self.pad,
        ]

    def conv(self, image: _Image, channels: int, *, same: bool = False) -> _Image:
        """A convolution, with or without bias and BatchNormalization."""
        largest = min(3, image.height, image.width)
        kernel = 2 * self._draw(st.integers(0, (largest - 1) // 2)) + 1
        pad = kernel // 2 if same or self._draw(st.booleans()) else 0
        name = self._net.conv(
            image.name,
            self._weights(channels, image.channels, kernel, kernel),
            self._bias(channels),
            pads=[pad] * 4,
        )
        grow = 2 * pad - kernel + 1
        return self.normalised(_Image(name, channels, image.height + grow, image.width + grow))

    def normalised(self, image: _Image) -> _Image:
        if self._dyadic or not self._draw(st.booleans()):
            return image
        seed = self._draw(SEEDS)
        return image.renamed(self._net.batch_normalization(image.name, image.channels, seed=seed))

    def relu(self, image: _Image) -> _Image:
        return image.renamed(self._net.relu(image.name))

    def perhaps_relu(self, image: _Image) -> _Image:
        # A chain of linear layers would run out of mantissa bits.
        return self.relu(image) if self._dyadic or self._draw(st.booleans()) else image

    def layer(self, image: _Image) -> _Image:
        """A convolution and neurons behind it."""
        return self.relu(self.conv(image, self._draw(st.integers(1, 5))))

    def depthwise(self, image: _Image) -> _Image:
        weight = self._weights(image.channels, 1, 3, 3)
        name = self._net.conv(
            image.name, weight, self._bias(image.channels), pads=[1] * 4, group=image.channels
        )
        return self.relu(self.normalised(image.renamed(name)))

    def transposed(self, image: _Image) -> _Image:
        channels = self._draw(st.integers(1, 3))
        weight = self._weights(image.channels, channels, 2, 2)
        name = self._net.conv_transpose(image.name, weight, self._bias(channels))
        image = _Image(name, channels, image.height + 1, image.width + 1)
        return self.relu(self.normalised(image))

    def residual(self, image: _Image) -> _Image:
        """An identity or a 1x1 shortcut, with or without neurons behind the sum."""
        inner = self.conv(
            self.relu(self.conv(image, image.channels, same=True)), image.channels, same=True
        )
        shortcut = image
        if self._draw(st.booleans()):
            weight = self._weights(image.channels, image.channels, 1, 1)
            shortcut = image.renamed(self._net.conv(image.name, weight))
        total = image.renamed(self._net.op("Add", inner.name, shortcut.name))
        return self.perhaps_relu(total)

    def concat(self, image: _Image) -> _Image:
        other = self.perhaps_relu(self.conv(image, self._draw(st.integers(1, 3)), same=True))
        name = self._net.op("Concat", image.name, other.name, axis=1)
        return _Image(name, image.channels + other.channels, image.height, image.width)

    def shared(self, image: _Image) -> _Image:
        """Two layers with the same weights, one after the other."""
        weight = self._net.constant(self._weights(image.channels, image.channels, 1, 1))
        for _ in range(2):
            image = image.renamed(self._net.op("Conv", image.name, weight))
            image = self.relu(self.normalised(image))
        return image

    def pool(self, image: _Image) -> _Image:
        if min(image.height, image.width) < 4:
            return image
        name = self._net.op("AveragePool", image.name, kernel_shape=[2, 2], strides=[2, 2])
        return _Image(name, image.channels, image.height // 2, image.width // 2)

    def pad(self, image: _Image) -> _Image:
        # The Relu keeps onnxruntime 1.20 from fusing it with average pooling, which it gets wrong.
        pads = self._net.constant([0, 0, 1, 0, 0, 0, 0, 2], "int64")
        name = self._net.relu(self._net.op("Pad", image.name, pads))
        return _Image(name, image.channels, image.height + 1, image.width + 2)

    def head(self, image: _Image) -> str:
        """Flatten or average, then one or two dense layers."""
        averages = not self._dyadic and self._draw(st.booleans())
        if averages:
            name = self._net.op("Flatten", self._net.op("GlobalAveragePool", image.name))
            features = image.channels
        else:
            name, features = self._net.op("Flatten", image.name), self._size(image)
        if self._draw(st.booleans()):
            name, features = self._net.relu(self._dense(name, features, 4)), 4
        return self._dense(name, features, 3)

    @staticmethod
    def _size(image: _Image) -> int:
        return image.channels * image.height * image.width

    def _dense(self, name: str, inputs: int, outputs: int) -> str:
        if self._draw(st.booleans()):
            return self._net.matmul(name, self._weights(inputs, outputs))
        weight = self._weights(outputs, inputs)
        return self._net.gemm(name, weight, self._bias(outputs), transB=1, alpha=0.5, beta=2.0)

    def _bias(self, channels: int) -> Array | None:
        return self._weights(channels) if self._draw(st.booleans()) else None
