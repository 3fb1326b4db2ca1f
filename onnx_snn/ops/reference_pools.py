"""The specification of the operator set ``onnx_snn``, continued: its pools in plain NumPy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from onnx_snn.ops import MOST_POOL_PLACES

Integers = NDArray[np.signedinteger]
Floats = NDArray[np.floating]
Number = TypeVar("Number", bound=np.number)


def event_max_pool(
    x: NDArray[np.int8],
    timesteps: int,
    c: NDArray[np.float32] | None = None,
    *,
    kernel_shape: Sequence[int],
    strides: Sequence[int] = (1, 1),
    pads: Sequence[int] = (0, 0, 0, 0),
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Max pooling of spike counts, handed on by difference.

    The largest of the counts that a window holds is what the counts of the output add up to:

        c_t = c_{t-1} + x_t;  m_t = max of c_t over the window;  s_t = m_t - m_{t-1}

    (Rueckauer et al. 2017, "Conversion of continuous-valued deep networks to efficient event-driven
    networks for image classification", with estimates of the rates; here the output says by itself
    how much the largest changed.) So s_t lies between the least and the largest x_t of the window.
    Padding never wins, as in ONNX's ``MaxPool``.

    Args:
        x: Events ``[T * N, H, W, C]``; row ``t * N + i`` is sample ``i`` at step ``t``.
        timesteps: T, at least 1.
        c: Counts (sums of events) before the first step, ``[N, H, W, C]`` or a scalar: whole
            numbers of at most 2^24; 0 if absent.
        kernel_shape: Of the window, along H and W.
        strides: Along H and W.
        pads: Places added at the top, on the left, at the bottom and on the right, fewer than the
            window has.

    Returns:
        The events ``[T * N, Ho, Wo, C]``, and the counts after the last step, ``[N, H, W, C]``.

    Raises:
        ValueError: If a shape or an attribute is not as described.
    """
    _check_pool("EventMaxPool", x, kernel_shape, strides, pads)
    if timesteps < 1 or len(x) % timesteps:
        raise ValueError(f"EventMaxPool: {len(x)} rows of x are not T >= 1 times N (T={timesteps})")
    shape = (len(x) // timesteps, *x.shape[1:])
    if c is not None and c.shape not in ((), shape):
        raise ValueError(f"EventMaxPool: c has shape {c.shape}, but {shape} is needed")
    steps = [np.broadcast_to(0 if c is None else c, shape), *x.reshape(timesteps, *shape)]
    counts = np.cumsum(np.array(steps, np.int64), axis=0)
    rows = counts.reshape(len(x) + shape[0], *x.shape[1:])
    nothing = np.iinfo(np.int64).min
    largest = np.max([*_taps(rows, kernel_shape, strides, pads, nothing)], axis=0)
    changes = np.diff(largest.reshape(timesteps + 1, shape[0], *largest.shape[1:]), axis=0)
    s = changes.reshape(len(x), *largest.shape[1:]).astype(np.int8)
    return s, counts[-1].astype(np.float32)


def spike_max_pool(
    x: Floats,
    timesteps: int,
    c: Floats | None = None,
    *,
    kernel_shape: Sequence[int],
    strides: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
) -> tuple[Floats, Floats]:
    """Max pooling of spikes of any value: ``event_max_pool`` with the channels first, in floats.

    Sums are rounded to their type after each step, so that nothing but the order of the steps shows
    in them. A window of which nothing lies inside of x, as dilated ones may, emits 0.

    Args:
        x: Spikes ``[T * N, C, H, W]`` or ``[T * N, C, W]``, float16, float32 or float64, finite.
        timesteps: T, at least 1.
        c: Counts (sums of x) before the first step, ``[N, C, ...]`` or a scalar, of the type that
            is summed in: float32 for float16, else that of x; 0 if absent.
        kernel_shape: Of the window, along H and W, or along W; at most ``MOST_POOL_PLACES`` places.
        strides: Along the same axes; 1 if absent.
        pads: Places added ahead of each axis and then behind each, fewer than the window has; none
            if absent.
        dilations: Distances of the places of the window, along the same axes; 1 if absent.

    Returns:
        The spikes, of x's type, and the counts after the last step, ``[N, C, ...]``.

    Raises:
        ValueError: If a shape or an attribute is not as described.
    """
    axes = len(kernel_shape)
    if axes not in (1, 2) or x.ndim != 2 + axes:
        raise ValueError(f"SpikeMaxPool: need x [T*N, C, H, W] or [T*N, C, W], not {x.shape}")
    if np.prod(kernel_shape) > MOST_POOL_PLACES:
        raise ValueError(f"SpikeMaxPool: {kernel_shape} has more than {MOST_POOL_PLACES} places")
    if timesteps < 1 or len(x) % timesteps:
        raise ValueError(f"SpikeMaxPool: {len(x)} rows of x are not T >= 1 times N (T={timesteps})")
    shape = (len(x) // timesteps, *x.shape[1:])
    if c is not None and c.shape not in ((), shape):
        raise ValueError(f"SpikeMaxPool: c has shape {c.shape}, but {shape} is needed")

    row, no_row = (1,) * (2 - axes), (0,) * (2 - axes)  # ahead of the only axis
    kernel, strides, dilations = (
        (*row, *(values or (1,) * axes)) for values in (kernel_shape, strides, dilations)
    )
    pads = pads or (0,) * 2 * axes
    pads = (*no_row, *pads[:axes], *no_row, *pads[axes:])
    dtype = np.float64 if x.dtype == np.float64 else np.float32
    start = np.broadcast_to(np.zeros((), dtype) if c is None else c, (1, *shape))
    steps = np.concatenate([start, x.reshape(timesteps, *shape)], dtype=dtype)
    counts = np.cumsum(steps, axis=0)  # one after the other

    images = counts.reshape(len(x) + shape[0], shape[1], *row, *shape[2:]).transpose(0, 2, 3, 1)
    _check_pool("SpikeMaxPool", images, kernel, strides, pads, dilations)
    taps = _taps(images, kernel, strides, pads, float(np.finfo(dtype).min), dilations)
    largest = np.max([*taps], axis=0).transpose(0, 3, 1, 2)
    changes = np.diff(largest.reshape(timesteps + 1, shape[0], *largest.shape[1:]), axis=0)
    s = changes.reshape(len(x), shape[1], *largest.shape[4 - axes :])
    return s.astype(x.dtype), counts[-1]


def event_sum_pool(
    x: NDArray[np.int8],
    *,
    kernel_shape: Sequence[int],
    strides: Sequence[int] = (1, 1),
    pads: Sequence[int] = (0, 0, 0, 0),
) -> NDArray[np.int8]:
    """Sums of events over windows: average pooling without its divisor.

    Args:
        x: Events ``[N, H, W, C]``.
        kernel_shape: Of the window, along H and W.
        strides: Along H and W.
        pads: Zeros added at the top, on the left, at the bottom and on the right, fewer than the
            window has.

    Returns:
        The sums ``[N, Ho, Wo, C]``, limited to -128 and 127.

    Raises:
        ValueError: If a shape or an attribute is not as described.
    """
    _check_pool("EventSumPool", x, kernel_shape, strides, pads)
    taps = _taps(x.astype(np.int64), kernel_shape, strides, pads, 0)
    return np.clip(sum(taps), -128, 127).astype(np.int8)


def _check_pool(
    name: str,
    x: NDArray[Number],
    kernel: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int] = (1, 1),
) -> None:
    if x.ndim != 4 or min(x.shape[1:3]) < 1:
        raise ValueError(f"{name}: need x [N, H, W, C] with H, W >= 1, not {x.shape}")
    if min(*kernel, *strides, *dilations) < 1 or min(pads) < 0:
        raise ValueError(f"{name}: need kernel_shape and strides >= 1, and pads >= 0")
    if any(pad >= size for pad, size in zip(pads, (*kernel, *kernel), strict=True)):
        raise ValueError(f"{name}: pads {pads} must be smaller than the kernel {kernel}")
    padded = (x.shape[1] + pads[0] + pads[2], x.shape[2] + pads[1] + pads[3])
    if any(size > whole for size, whole in zip(_reach(kernel, dilations), padded, strict=True)):
        raise ValueError(f"{name}: the kernel {kernel} is larger than the padded x {padded}")


def _reach(kernel: Sequence[int], dilations: Sequence[int]) -> list[int]:
    """Places from the first to the last of a window, along each axis."""
    return [(size - 1) * step + 1 for size, step in zip(kernel, dilations, strict=True)]


def _taps(
    x: NDArray[Number],
    kernel: Sequence[int],
    strides: Sequence[int],
    pads: Sequence[int],
    outside: float,
    dilations: Sequence[int] = (1, 1),
) -> Iterator[NDArray[Number]]:
    """What each place of the kernel sees in all windows, ``[N, Ho, Wo, C]``."""
    around = ((0, 0), (pads[0], pads[2]), (pads[1], pads[3]), (0, 0))
    padded = np.pad(x, around, constant_values=outside)
    for place in np.ndindex(*kernel):
        rows, columns = (
            slice(step * first, size - reach + step * first + 1, stride)
            for first, step, size, reach, stride in zip(
                place,
                dilations,
                padded.shape[1:3],
                _reach(kernel, dilations),
                strides,
                strict=True,
            )
        )
        yield padded[:, rows, columns]
