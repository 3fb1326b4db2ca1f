"""The weights of a layer as an event-driven convolution wants them: rows for each input channel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from onnx_snn.events.event_tensor import EventTensor, Size
from onnx_snn.graph import is_constant
from onnx_snn.linear_layer import LinearLayer
from onnx_snn.scale import FloatArray

Weights = npt.NDArray[np.float32]


@dataclass(frozen=True)
class EventLayer:
    """What an ``EventConv`` computes; see docs/operators.md.

    Attributes:
        weight: [kH, kW, C / group, M].
        bias: [M].
        strides, pads, dilations, group: its attributes.
    """

    weight: Weights
    bias: Weights
    strides: tuple[int, int] = (1, 1)
    pads: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilations: tuple[int, int] = (1, 1)
    group: int = 1

    @property
    def attributes(self) -> dict[str, Any]:
        """As ``EventConv`` has them; all are written out, see ``onnx_snn.passes.spike``."""
        return {
            "strides": list(self.strides),
            "pads": list(self.pads),
            "dilations": list(self.dilations),
            "group": self.group,
        }

    @property
    def is_pointwise(self) -> bool:
        """Whether the kernel is 1 x 1 and nothing is padded."""
        return self.weight.shape[:2] == (1, 1) and not any(self.pads)

    def out_size(self, size: Size) -> Size:
        """H, W and C of the output, for those of the input."""
        sizes = []
        for axis in range(2):
            padded = size[axis] + self.pads[axis] + self.pads[axis + 2]
            reach = (self.weight.shape[axis] - 1) * self.dilations[axis] + 1
            sizes.append((padded - reach) // self.strides[axis] + 1)
        return sizes[0], sizes[1], self.weight.shape[3]


def event_layer(layer: LinearLayer, x: EventTensor) -> EventLayer | None:
    """The layer that reads events instead of floats, or None if there is none.

    Args:
        layer: Conv, Gemm or MatMul with constant weights, of float32.
        x: the events in the place of its input; their factor goes into the weights.
    """
    node = layer.node
    if node.inputs[1].dtype != np.float32 or not all(is_constant(t) for t in node.inputs[1:]):
        return None
    if node.op == "Conv":
        return _of_conv(layer, x)
    if node.op in ("Gemm", "MatMul") and x.rank == 2 and len(node.inputs[1].shape) == 2:
        return _of_gemm(layer, x)
    return None


def scaling(factors: FloatArray, channels: int) -> EventLayer:
    """One factor for each channel: a depthwise convolution with a 1 x 1 kernel."""
    weight = np.broadcast_to(factors, (channels,)).astype(np.float32).reshape(1, 1, 1, channels)
    return EventLayer(weight, np.zeros(channels, np.float32), group=channels)


def _of_conv(layer: LinearLayer, x: EventTensor) -> EventLayer | None:
    node, weight = layer.node, layer.weight
    axes = weight.ndim - 2
    if axes not in (1, 2) or x.rank != weight.ndim:
        return None
    strides, dilations = (node.attrs.get(name, [1] * axes) for name in ("strides", "dilations"))
    pads = _pads(node, x.size[2 - axes : 2], weight.shape[2:], strides, dilations)
    if min(pads) < 0:
        return None
    if axes == 1:  # one row of pixels
        weight, strides, dilations = weight[:, :, None], [1, *strides], [1, *dilations]
        pads = [0, pads[0], 0, pads[1]]
    return EventLayer(
        _in_order(x.factor * weight.transpose(2, 3, 1, 0)),
        _bias(layer, len(weight)),
        (strides[0], strides[1]),
        (pads[0], pads[1], pads[2], pads[3]),
        (dilations[0], dilations[1]),
        int(node.attrs.get("group", 1)),
    )


def _of_gemm(layer: LinearLayer, x: EventTensor) -> EventLayer | None:
    """A kernel as large as the image."""
    node, weight, (height, width, channels) = layer.node, layer.weight, x.size
    if node.attrs.get("transA", 0):
        return None
    if node.attrs.get("transB", 0):
        weight = weight.T
    alpha = float(node.attrs.get("alpha", 1.0)) if node.op == "Gemm" else 1.0
    outputs = weight.shape[1]
    kernel = weight.reshape(channels, height, width, outputs).transpose(1, 2, 0, 3)
    bias = layer.bias
    if bias.size not in (1, outputs):
        return None
    return EventLayer(_in_order(alpha * x.factor * kernel), _bias(layer, outputs))


def _in_order(weight: FloatArray) -> Weights:
    return np.ascontiguousarray(weight, dtype=np.float32)


def _bias(layer: LinearLayer, outputs: int) -> Weights:
    return np.array(np.broadcast_to(layer.bias, (outputs,)), np.float32)


def _pads(
    node: gs.Node,
    sizes: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
) -> list[int]:
    """Zeros ahead of each axis, and then behind each."""
    mode = node.attrs.get("auto_pad", "NOTSET")
    if mode in ("NOTSET", ""):
        return list(node.attrs.get("pads", [0] * 2 * len(sizes)))
    if mode == "VALID":
        return [0] * 2 * len(sizes)
    ahead, behind = [], []
    for size, taps, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        missing = max((-(-size // stride) - 1) * stride + (taps - 1) * dilation + 1 - size, 0)
        less, more = missing // 2, missing - missing // 2
        ahead.append(less if mode == "SAME_UPPER" else more)
        behind.append(more if mode == "SAME_UPPER" else less)
    return ahead + behind


def pool_window(node: gs.Node, size: Size) -> dict[str, Any] | None:
    """The attributes of an event-driven pooling operator, or None if there is none.

    Args:
        node: MaxPool or AveragePool.
        size: of the events it reads.
    """
    kernel = list(node.attrs["kernel_shape"])
    axes = len(kernel)
    strides = list(node.attrs.get("strides") or [1] * axes)
    dilated = any(d != 1 for d in node.attrs.get("dilations", []))
    if axes not in (1, 2) or dilated or node.attrs.get("ceil_mode", 0):
        return None
    pads = _pads(node, size[2 - axes : 2], kernel, strides, [1] * axes)
    if axes == 1:
        kernel, strides, pads = [1, *kernel], [1, *strides], [0, pads[0], 0, pads[1]]
    if min(pads) < 0 or any(pad >= taps for pad, taps in zip(pads, kernel + kernel, strict=True)):
        return None
    return {"kernel_shape": kernel, "strides": strides, "pads": pads}
