"""The specification of the operator set ``onnx_snn``: its operators in plain NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_snn.ops import MOST_RADIX_STEPS

Tensor = NDArray[np.floating[Any]]


@np.errstate(over="ignore", invalid="ignore")
def if_neuron(
    x: Tensor,
    timesteps: int,
    v: Tensor | None = None,
    n: Tensor | None = None,
    *,
    constant_input: bool = False,
    v_threshold: float = 1.0,
    v_init: float = 0.5,
    reset: str = "subtract",
    spike_min: int = 0,
    spike_max: int = 1,
    count_min: int = 0,
    count_max: int = -1,
) -> tuple[Tensor, Tensor, Tensor]:
    """Runs integrate-and-fire neurons over a number of time steps.

    At each step a neuron adds its input current to its membrane potential V, emits
    ``s = floor(V / v_threshold)`` limited to its alphabet, and takes ``s * v_threshold`` off V
    (soft reset; Rueckauer et al. 2017, "Conversion of continuous-valued deep networks to efficient
    event-driven networks for image classification"). With the alphabet {0, 1} it fires where
    V >= v_threshold; {-1, 0, 1} and ``count_min=0`` make the signed neuron that takes back spikes
    it should not have sent, and never more than it did (ST-BIF); {0, ..., m} a burst neuron.

    A count limit forbids spikes and never forces one. A NaN potential emits the lowest spike
    allowed and, with soft reset, stays NaN; infinity follows IEEE arithmetic. The arithmetic is
    that of x's type; for float16 the state is float32 within the call and rounded once, at its
    end. ``v_threshold`` and ``v_init`` are rounded to float32, which is how an ONNX attribute
    stores them.

    Args:
        x: Input currents in units of the potential, ``[T * N, ...]``; row ``t * N + i`` is sample
            ``i`` at step ``t``. With ``constant_input``, ``[N, ...]``.
        timesteps: T, at least 1.
        v: Potential before the first step, ``[N, ...]`` or a scalar; ``v_init * v_threshold`` if
            absent.
        n: Sum of the spikes before the first step, finite, ``[N, ...]`` or a scalar; 0 if absent.
        constant_input: Whether every step gets the same current.
        v_threshold: Firing threshold, positive.
        v_init: Initial potential in units of the threshold.
        reset: ``"subtract"``, or ``"zero"``: V becomes 0 where a spike was emitted.
        spike_min: Lowest spike, at most 0.
        spike_max: Highest spike, at least 1.
        count_min: Lowest value the sum of spikes may fall to, at most 0; binding only where
            ``spike_min`` is negative.
        count_max: Highest value the sum of spikes may rise to; -1: no limit.

    Returns:
        The spikes ``[T * N, ...]``, and the potential and the sum of spikes after the last step,
        both ``[N, ...]``; all of x's type.

    Raises:
        ValueError: If a shape or an attribute is not as described.
    """
    _check_call("IFNeuron", x, timesteps, constant_input, v_threshold, v_init)
    if reset not in ("subtract", "zero"):
        raise ValueError(f'IFNeuron: reset must be "subtract" or "zero", not "{reset}"')
    if not (spike_min <= 0 < spike_max and count_min <= 0 and count_max >= -1):
        raise ValueError(
            "IFNeuron: need spike_min <= 0 < spike_max, count_min <= 0, count_max >= -1"
        )

    state = np.dtype(np.float32) if x.dtype == np.float16 else x.dtype
    rows = len(x) if constant_input else len(x) // timesteps
    shape = (rows, *x.shape[1:])
    for name, tensor in (("v", v), ("n", n)):
        if tensor is not None and tensor.shape not in ((), shape):
            raise ValueError(f"IFNeuron: {name} has shape {tensor.shape}, but {shape} is needed")

    threshold = state.type(np.float32(v_threshold))
    start = state.type(np.float32(v_init)) * threshold if v is None else v
    potential = np.broadcast_to(start, shape).astype(state)
    count = np.broadcast_to(0 if n is None else n, shape).astype(state)
    # Of the state's type, for NumPy 1 widens float32 arrays where it meets a large integer.
    least, most, fewest = (state.type(value) for value in (spike_min, spike_max, count_min))
    limit = state.type(np.inf if count_max < 0 else count_max)

    spikes = np.empty((timesteps, *shape), x.dtype)
    for t in range(timesteps):
        potential += x if constant_input else x[t * rows : (t + 1) * rows]
        lowest = np.minimum(np.maximum(least, fewest - count), 0)
        highest = np.maximum(np.minimum(most, limit - count), 0)
        s = np.fmin(np.fmax(np.floor(potential / threshold), lowest), highest)
        if reset == "subtract":
            potential -= s * threshold
        else:
            potential = np.where(s != 0, state.type(0), potential)
        count += s
        spikes[t] = s
    spikes = spikes.reshape(timesteps * rows, *shape[1:])
    return spikes, potential.astype(x.dtype), count.astype(x.dtype)


@np.errstate(over="ignore", invalid="ignore")
def phase_neuron(
    x: Tensor,
    timesteps: int,
    *,
    constant_input: bool = False,
    base: int = 2,
    v_threshold: float = 1.0,
    v_init: float = 0.5,
) -> Tensor:
    """Runs neurons that integrate all their input first, and emit their spikes then.

    A current and a spike of step t count ``base ** (T - 1 - t)`` times: radix coding with base 2
    (Wang et al. 2022, "Efficient Spiking Neural Networks with Radix Encoding"), whose T steps tell
    2^T levels apart, and two-phase coding with base 1, whose T steps tell T + 1 apart:

        A = 0;  A = base * A + x_t              for t = 0 .. T-1
        V = A + v_init * v_threshold
        w = v_threshold * base ** (T - 1 - t)   for t = 0 .. T-1
        s_t = 1 and V = V - w where V >= w, else s_t = 0

    So the spikes so weighted sum up to floor(V / v_threshold), limited to 0 and to 2^T - 1 (base 1:
    to T). With base 2 this is exact for any V: a difference is rounded only where V >= 2 * w, and
    then this and all later steps fire. With base 1 it is exact where the differences are.

    A NaN potential emits nothing; infinity follows IEEE arithmetic. The arithmetic is that of x's
    type, for float16 it is that of float32. ``v_threshold`` and ``v_init`` are rounded to float32,
    which is how an ONNX attribute stores them.

    Args:
        x: Input currents in units of the potential, ``[T * N, ...]``; row ``t * N + i`` is sample
            ``i`` at step ``t``. With ``constant_input``, ``[N, ...]``.
        timesteps: T, at least 1; with base 2 at most 64.
        constant_input: Whether every step gets the same current.
        base: 2, or 1.
        v_threshold: What the spike of the last step takes off the potential, positive.
        v_init: What is added to the potential between the phases, in units of the threshold.

    Returns:
        The spikes ``[T * N, ...]``, of x's type.

    Raises:
        ValueError: If a shape or an attribute is not as described.
    """
    _check_call("PhaseNeuron", x, timesteps, constant_input, v_threshold, v_init)
    if base not in (1, 2):
        raise ValueError(f"PhaseNeuron: base must be 1 or 2, not {base}")
    if base == 2 and timesteps > MOST_RADIX_STEPS:
        raise ValueError(
            f"PhaseNeuron: T must be {MOST_RADIX_STEPS} or less with base 2, not {timesteps}"
        )

    state = np.dtype(np.float32) if x.dtype == np.float16 else x.dtype
    rows = len(x) if constant_input else len(x) // timesteps
    threshold = state.type(np.float32(v_threshold))
    potential = np.zeros((rows, *x.shape[1:]), state)
    for t in range(timesteps):
        potential *= state.type(base)
        potential += x if constant_input else x[t * rows : (t + 1) * rows]
    potential += state.type(np.float32(v_init)) * threshold

    spikes = np.empty((timesteps, *potential.shape), x.dtype)
    for t in range(timesteps):
        weight = threshold * state.type(base ** (timesteps - 1 - t))
        fires = potential >= weight
        np.subtract(potential, weight, out=potential, where=fires)
        spikes[t] = fires
    return spikes.reshape(timesteps * rows, *x.shape[1:])


def _check_call(
    name: str, x: Tensor, timesteps: int, constant_input: bool, v_threshold: float, v_init: float
) -> None:
    if timesteps < 1:
        raise ValueError(f"{name}: T must be 1 or more, not {timesteps}")
    if x.ndim == 0:
        raise ValueError(f"{name}: x must have a leading axis of T*N rows, but it is a scalar")
    if not constant_input and len(x) % timesteps:
        raise ValueError(f"{name}: x has {len(x)} rows, which is not a multiple of T = {timesteps}")
    if not (0 < v_threshold < np.inf and np.isfinite(v_init)):
        raise ValueError(f"{name}: v_threshold must be positive, and it and v_init finite")


def large_values(
    x: Tensor, floor: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Finds the values that a high quantile is among.

    Calibration adds it to a network behind each activation; it is never part of a converted model.

    Args:
        x: Activations ``[N, C, ...]``.
        floor: Of each channel the number to find the values above of, ``[C]``.

    Returns:
        The values that are not at or below their channel's floor, NaN included, as
        ``channel << 32 | bits of the value as float32``, ``[K]``; and the number of values of a
        channel, ``[]``.
    """
    channels, features = len(floor), int(np.prod(x.shape[2:]))
    with np.errstate(over="ignore"):
        rows = x.reshape(len(x), channels * features).astype(np.float32, copy=False)
    found = np.flatnonzero(~(rows <= np.repeat(floor, features)))
    channel = found // max(features, 1) % channels
    above = channel << 32 | rows.reshape(-1)[found].view(np.uint32)
    return above, np.array(len(x) * features, np.int64)


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
    if neuron.get("spike_min", 0) < -128 or neuron.get("spike_max", 1) > 127:
        raise ValueError("EventConvIFNeuron: spikes of 8 bits reach from -128 to 127")
    currents = event_conv(x, w, b, strides=strides, pads=pads, dilations=dilations, group=group)
    spikes, potential, count = if_neuron(currents, timesteps, v, n, **neuron)
    return spikes.astype(np.int8), potential, count
