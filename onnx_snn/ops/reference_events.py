"""The specification of the operators that read or emit events, in plain NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_snn.ops.reference_neurons import Tensor, if_neuron


def event_if_neuron(
    x: NDArray[np.float32],
    timesteps: int,
    v: NDArray[np.float32] | None = None,
    n: NDArray[np.float32] | None = None,
    **neuron: Any,
) -> tuple[NDArray[np.int8], Tensor, Tensor]:
    """Runs neurons whose spikes are events: ``if_neuron``, with spikes of 8 bits.

    Args:
        x: Input currents, as for ``if_neuron``.
        timesteps: T, at least 1.
        v: As for ``if_neuron``.
        n: As for ``if_neuron``.
        neuron: Attributes of ``if_neuron``; spikes from -128 to 127.

    Returns:
        The spikes ``[T * N, ...]``, and the potential and the sum of spikes after the last step,
        both ``[N, ...]``.

    Raises:
        ValueError: If a shape or an attribute is not as described.
    """
    if neuron.get("spike_min", 0) < -128 or neuron.get("spike_max", 1) > 127:
        raise ValueError("spikes of 8 bits reach from -128 to 127")
    spikes, potential, count = if_neuron(x, timesteps, v, n, **neuron)
    return spikes.astype(np.int8), potential, count


def event_conv(
    x: NDArray[np.int8],
    w: NDArray[np.float32],
    b: NDArray[np.float32],
    *,
    strides: Sequence[int] = (1, 1),
    pads: Sequence[int] = (0, 0, 0, 0),
    dilations: Sequence[int] = (1, 1),
    group: int = 1,
) -> NDArray[np.float32]:
    """Convolves events: small integers, channels last, most of them 0.

    It is ONNX's ``Conv`` in another layout, so that a kernel can find the active inputs and add
    whole rows of weights. Output ``m`` of group ``g`` sees the input channels of its group alone.

    Args:
        x: Events ``[N, H, W, C]``.
        w: Weights ``[kH, kW, C / group, M]``, finite.
        b: Biases ``[M]``.
        strides: Along H and W.
        pads: Zeros added at the top, on the left, at the bottom and on the right.
        dilations: Along H and W.
        group: Parts that the channels are divided into.

    Returns:
        The currents ``[N, Ho, Wo, M]``.

    Raises:
        ValueError: If a shape or an attribute is not as described.
    """
    if x.ndim != 4 or w.ndim != 4 or w.size == 0 or b.shape != w.shape[3:]:
        raise ValueError(
            f"EventConv: need x [N, H, W, C], W [kH, kW, C/group, M] and B [M], not "
            f"{x.shape}, {w.shape}, {b.shape}"
        )
    kernel, (channels, outputs) = w.shape[:2], w.shape[2:]
    if group < 1 or outputs % group or channels * group != x.shape[3]:
        raise ValueError(f"EventConv: {x.shape[3]} channels in {group} groups do not fit {w.shape}")
    if min(*strides, *dilations) < 1 or min(pads) < 0:
        raise ValueError("EventConv: need strides and dilations >= 1, and pads >= 0")
    padded = np.pad(x, ((0, 0), (pads[0], pads[2]), (pads[1], pads[3]), (0, 0)))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    if min(x.shape[1:3]) < 1 or any(r > s for r, s in zip(reach, padded.shape[1:3], strict=True)):
        raise ValueError(f"EventConv: the kernel of {w.shape} is larger than the padded x")
    size = [
        (s - r) // stride + 1
        for s, r, stride in zip(padded.shape[1:3], reach, strides, strict=True)
    ]
    currents = np.empty((len(x), *size, outputs), np.float32)
    currents[:] = b
    grouped = padded.reshape(*padded.shape[:3], group, channels).astype(np.float32)
    for i, j in np.ndindex(*kernel):
        rows, columns = (
            slice(first, first + (count - 1) * stride + 1, stride)
            for first, count, stride in zip(
                (i * dilations[0], j * dilations[1]), size, strides, strict=True
            )
        )
        taps = w[i, j].reshape(channels, group, -1)
        currents += np.einsum("nhwgc,cgm->nhwgm", grouped[:, rows, columns], taps).reshape(
            currents.shape
        )
    return currents


def event_conv_if_neuron(
    x: NDArray[np.int8],
    w: NDArray[np.float32],
    b: NDArray[np.float32],
    timesteps: int,
    v: NDArray[np.float32] | None = None,
    n: NDArray[np.float32] | None = None,
    *,
    strides: Sequence[int] = (1, 1),
    pads: Sequence[int] = (0, 0, 0, 0),
    dilations: Sequence[int] = (1, 1),
    group: int = 1,
    **neuron: Any,
) -> tuple[NDArray[np.int8], Tensor, Tensor]:
    """Convolves events and runs neurons on the currents: ``event_conv``, then ``if_neuron``.

    Args:
        x: Events ``[T * N, H, W, C]``; row ``t * N + i`` is sample ``i`` at step ``t``.
        w: As for ``event_conv``.
        b: As for ``event_conv``.
        timesteps: T, at least 1.
        v: As for ``if_neuron``, ``[N, Ho, Wo, M]`` or a scalar.
        n: As for ``if_neuron``, ``[N, Ho, Wo, M]`` or a scalar.
        strides: As for ``event_conv``.
        pads: As for ``event_conv``.
        dilations: As for ``event_conv``.
        group: As for ``event_conv``.
        neuron: Attributes of ``if_neuron`` but ``constant_input``; spikes from -128 to 127.

    Returns:
        The spikes ``[T * N, Ho, Wo, M]``, and the potential and the sum of spikes after the last
        step, both ``[N, Ho, Wo, M]``.

    Raises:
        ValueError: If a shape or an attribute is not as described.
    """
    currents = event_conv(x, w, b, strides=strides, pads=pads, dilations=dilations, group=group)
    return event_if_neuron(currents, timesteps, v, n, **neuron)


def event_conv_add_if_neuron(
    x: NDArray[np.int8],
    w: NDArray[np.float32],
    b: NDArray[np.float32],
    r: NDArray[np.int8],
    shortcut_w: NDArray[np.float32],
    timesteps: int,
    v: NDArray[np.float32] | None = None,
    n: NDArray[np.float32] | None = None,
    *,
    strides: Sequence[int] = (1, 1),
    pads: Sequence[int] = (0, 0, 0, 0),
    dilations: Sequence[int] = (1, 1),
    group: int = 1,
    shortcut_strides: Sequence[int] = (1, 1),
    shortcut_group: int = 1,
    **neuron: Any,
) -> tuple[NDArray[np.int8], Tensor, Tensor]:
    """Ends a residual block: neurons on the sum of a convolution of events and of a shortcut's.

    The shortcut is a convolution of 1x1 without bias and padding; with ``shortcut_group`` as large
    as its channels are many, it passes them on, each with a weight.

    Args:
        x: Events ``[T * N, H, W, C]``, as for ``event_conv_if_neuron``.
        w: As for ``event_conv``.
        b: As for ``event_conv``.
        r: Events of the shortcut ``[T * N, H', W', C']``.
        shortcut_w: R, the weights of the shortcut ``[1, 1, C' / shortcut_group, M]``, finite.
        timesteps: T, at least 1.
        v: As for ``if_neuron``, ``[N, Ho, Wo, M]`` or a scalar.
        n: As for ``if_neuron``, ``[N, Ho, Wo, M]`` or a scalar.
        strides: As for ``event_conv``.
        pads: As for ``event_conv``.
        dilations: As for ``event_conv``.
        group: As for ``event_conv``.
        shortcut_strides: Of the shortcut, along H' and W'.
        shortcut_group: Parts that the channels of the shortcut are divided into.
        neuron: As for ``event_conv_if_neuron``.

    Returns:
        As ``event_conv_if_neuron``.

    Raises:
        ValueError: If a shape or an attribute is not as described.
    """
    currents = event_conv(x, w, b, strides=strides, pads=pads, dilations=dilations, group=group)
    if shortcut_w.shape[:2] != (1, 1) or shortcut_w.shape[3:] != b.shape:
        raise ValueError(
            f"EventConvAddIFNeuron: R must be [1, 1, C'/shortcut_group, {len(b)}], "
            f"not {shortcut_w.shape}"
        )
    shortcut = event_conv(
        r, shortcut_w, np.zeros_like(b), strides=shortcut_strides, group=shortcut_group
    )
    if shortcut.shape != currents.shape:
        raise ValueError(
            f"EventConvAddIFNeuron: the shortcut's currents {shortcut.shape} are not of the shape "
            f"of the convolution's, {currents.shape}"
        )
    return event_if_neuron(currents + shortcut, timesteps, v, n, **neuron)
