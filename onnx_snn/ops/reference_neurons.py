"""The specification of ``IFNeuron``, ``AddIFNeuron`` and ``PhaseNeuron`` in plain NumPy."""

from __future__ import annotations

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
def add_if_neuron(
    x: Tensor,
    r: Tensor,
    factors: Tensor,
    timesteps: int,
    v: Tensor | None = None,
    n: Tensor | None = None,
    **neuron: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    """Runs integrate-and-fire neurons on ``x + factors * r``: the end of a residual block.

    Args:
        x: Input currents ``[T * N, C, ...]``.
        r: What the shortcut brings, of x's shape: spikes or currents.
        factors: What it counts, for each channel ``[C]``, or one number for all ``[]``.
        timesteps: As for ``if_neuron``.
        v: As for ``if_neuron``.
        n: As for ``if_neuron``.
        neuron: Attributes of ``if_neuron`` but ``constant_input``.

    Returns:
        As ``if_neuron``; float16 is computed in float32, the sum of the currents too.

    Raises:
        ValueError: If a shape or an attribute is not as described.
    """
    if r.shape != x.shape:
        raise ValueError(f"AddIFNeuron: r has shape {r.shape}, but that of x, {x.shape}, is needed")
    if factors.shape not in ((), x.shape[1:2]):
        raise ValueError(
            f"AddIFNeuron: R must be one value, or one for each channel of x {x.shape}, not "
            f"{factors.shape}"
        )
    state = np.dtype(np.float32) if x.dtype == np.float16 else x.dtype
    by_channel = factors.reshape(factors.shape + (1,) * max(x.ndim - 2, 0)).astype(state)
    currents = x.astype(state) + by_channel * r.astype(state)
    start = [None if given is None else given.astype(state) for given in (v, n)]
    s, v_next, n_next = if_neuron(currents, timesteps, *start, **neuron)
    return s.astype(x.dtype), v_next.astype(x.dtype), n_next.astype(x.dtype)


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
