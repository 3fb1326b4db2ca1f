"""The CUDA kernels against the NumPy reference, bit for bit, over a table of calls."""

import itertools
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from gpu_target import Target
from neuron_model import Array, neuron_model
from onnx_snn.ops import MOST_RADIX_STEPS
from onnx_snn.ops.reference import add_if_neuron, if_neuron, phase_neuron, spike_max_pool
from phase_neuron_model import phase_neuron_model
from spike_max_pool_model import spike_max_pool_model


@dataclass(frozen=True)
class Variant:
    """Attributes of the neuron, and whether the sanitizers see it."""

    name: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    quick: bool = False


VARIANTS = [
    Variant("binary", quick=True),
    Variant("binary, reset to zero", {"reset": "zero"}, quick=True),
    Variant("binary, threshold 0.7, V0 = 0", {"v_threshold": 0.7, "v_init": 0.0}),
    Variant("binary, up to 3", {"count_max": 3}),
    Variant("burst", {"spike_max": 4}, quick=True),
    Variant("burst, threshold 0.7", {"spike_max": 4, "v_threshold": 0.7}),
    Variant("burst, reset to zero", {"spike_max": 4, "reset": "zero"}, quick=True),
    Variant("signed", {"spike_min": -1}),
    Variant("signed, -2 to 5", {"spike_min": -1, "count_min": -2, "count_max": 5}),
    Variant("signed burst, reset to zero", {"spike_min": -2, "spike_max": 2, "reset": "zero"}),
]
PHASE_VARIANTS = [
    Variant("radix", quick=True),
    Variant("radix, threshold 0.7, V0 = 0", {"v_threshold": 0.7, "v_init": 0.0}),
    Variant("two-phase", {"base": 1}, quick=True),
    Variant("two-phase, threshold 0.7", {"base": 1, "v_threshold": 0.7}),
]
POOLS = [
    Variant("2 x 2", {"kernel_shape": [2, 2], "strides": [2, 2]}, quick=True),
    Variant("3 x 3", {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}, quick=True),
    Variant("3 x 3, dilated", {"kernel_shape": [3, 3], "dilations": [2, 3], "pads": [2] * 4}),
    Variant("4 x 3", {"kernel_shape": [4, 3], "strides": [1, 3], "pads": [3, 0, 1, 2]}),
    Variant("4 x 4", {"kernel_shape": [4, 4], "strides": [3, 2], "pads": [1, 2, 0, 3]}),
    Variant("5 x 5", {"kernel_shape": [5, 5], "pads": [2] * 4}, quick=True),
    Variant("2 x 2 outside", {"kernel_shape": [2, 2], "dilations": [5, 7], "pads": [1] * 4}),
    Variant("a row of 3", {"kernel_shape": [3], "strides": [2], "pads": [1, 1]}, quick=True),
    Variant("a row of 25", {"kernel_shape": [25], "pads": [24, 12]}),
]
STATES: list[tuple[tuple[str, ...], tuple[str, ...]]] = [
    ((), ()),
    (("v",), ("v_next",)),
    (("n",), ("n_next",)),
    (("v", "n"), ("v_next", "n_next")),
]
DTYPES = (np.float32, np.float16, np.float64)
STEPS = (1, 2, 5, 32, 257)
SHAPES = ((1,), (0, 3), (8,), (33,), (3, 7, 11), (2, 4, 26, 26), (9999,))
POOL_SHAPES = ((1, 1, 5, 7), (0, 3, 6, 8), (2, 3, 6, 8), (3, 7, 11, 13), (2, 2, 17, 40))
QUICK_STEPS = (1, 5, 32)
QUICK_SHAPES = ((1,), (8,), (33,), (2, 4, 26, 26))
MARGIN = 64  # values, a whole number of cache lines


@dataclass(frozen=True)
class Kind:
    """A way to call a neuron, and what it should give.

    Attributes:
        name: for the report.
        model: the file's content.
        dtype: of currents, states and spikes.
        constant: whether every step gets the same current.
        inputs: the optional ones to give.
        expected: outputs by name, from inputs and T.
        most_steps: T at most.
        shapes: of the states.
    """

    name: str
    model: bytes
    dtype: npt.DTypeLike
    constant: int
    inputs: tuple[str, ...]
    expected: Callable[[Mapping[str, Array], int], dict[str, Array]]
    most_steps: int = max(STEPS)
    shapes: tuple[tuple[int, ...], ...] = SHAPES

    def draw(
        self, random: np.random.Generator, steps: int, shape: tuple[int, ...]
    ) -> dict[str, Array]:
        """Draw inputs."""
        return draw_inputs(random, self.dtype, steps, shape, self.constant, self.inputs)


def if_neuron_kinds(quick: bool) -> Iterator[Kind]:
    """Yield calls of IFNeuron."""
    variants = [variant for variant in VARIANTS if variant.quick or not quick]
    states = [STATES[0], STATES[-1]] if quick else STATES
    for dtype, variant, constant, state in itertools.product(DTYPES, variants, (0, 1), states):
        inputs, outputs = state
        attributes = {**variant.attributes, "constant_input": constant}
        model = neuron_model(dtype, attributes, inputs, outputs)
        name = f"{np.dtype(dtype)}, {variant.name}, constant input {constant}"
        expected = partial(expect_if_neuron, attributes, outputs)
        yield Kind(name, model, dtype, constant, inputs, expected)


def expect_if_neuron(
    attributes: Mapping[str, Any], outputs: tuple[str, ...], feeds: Mapping[str, Array], steps: int
) -> dict[str, Array]:
    """Return what the reference gives."""
    results = if_neuron(feeds["x"], steps, feeds.get("v"), feeds.get("n"), **attributes)
    named = dict(zip(("s", "v_next", "n_next"), results, strict=True))
    return {name: named[name] for name in ("s", *outputs)}


def add_if_neuron_kinds(quick: bool) -> Iterator[Kind]:
    """Yield calls of AddIFNeuron."""
    variants = [variant for variant in VARIANTS if variant.quick or not quick]
    for dtype, variant, state in itertools.product(DTYPES, variants, (STATES[0], STATES[-1])):
        inputs, outputs = state
        model = neuron_model(dtype, variant.attributes, inputs, outputs, shortcut=True)
        name = f"{np.dtype(dtype)}, with a shortcut, {variant.name}"
        expected = partial(expect_add_if_neuron, variant.attributes, outputs)
        yield Kind(name, model, dtype, 0, ("r", "R", *inputs), expected)


def expect_add_if_neuron(
    attributes: Mapping[str, Any], outputs: tuple[str, ...], feeds: Mapping[str, Array], steps: int
) -> dict[str, Array]:
    """Return what the reference gives."""
    currents = (feeds[name] for name in ("x", "r", "R"))
    results = add_if_neuron(*currents, steps, feeds.get("v"), feeds.get("n"), **attributes)
    named = dict(zip(("s", "v_next", "n_next"), results, strict=True))
    return {name: named[name] for name in ("s", *outputs)}


def phase_neuron_kinds(quick: bool) -> Iterator[Kind]:
    """Yield calls of PhaseNeuron."""
    variants = [variant for variant in PHASE_VARIANTS if variant.quick or not quick]
    for dtype, variant, constant in itertools.product(DTYPES, variants, (0, 1)):
        attributes = {**variant.attributes, "constant_input": constant}
        model = phase_neuron_model(dtype, attributes)
        name = f"{np.dtype(dtype)}, {variant.name}, constant input {constant}"
        expected = partial(expect_phase_neuron, attributes)
        is_radix = variant.attributes.get("base", 2) == 2
        most_steps = MOST_RADIX_STEPS if is_radix else max(STEPS)
        yield Kind(name, model, dtype, constant, (), expected, most_steps)


def expect_phase_neuron(
    attributes: Mapping[str, Any], feeds: Mapping[str, Array], steps: int
) -> dict[str, Array]:
    """Return what the reference gives."""
    return {"s": phase_neuron(feeds["x"], steps, **attributes)}


class PoolKind(Kind):
    """A way to call SpikeMaxPool."""

    def draw(
        self, random: np.random.Generator, steps: int, shape: tuple[int, ...]
    ) -> dict[str, Array]:
        """Draw spikes of any size, whose sums are rounded; counts are at times one for all."""
        counts = () if random.random() < 0.25 else shape
        values = {"x": random.normal(0.2, 1, (steps * shape[0], *shape[1:])).astype(self.dtype)}
        wide = np.float64 if self.dtype == np.float64 else np.float32
        return values | {
            name: np.asarray(9 * random.normal(size=counts), wide) for name in self.inputs
        }


def spike_max_pool_kinds(quick: bool) -> Iterator[Kind]:
    """Yield calls of SpikeMaxPool."""
    variants = [variant for variant in POOLS if variant.quick or not quick]
    for dtype, variant, has_counts in itertools.product(DTYPES, variants, (False, True)):
        model = spike_max_pool_model(dtype, variant.attributes, has_counts=has_counts)
        name = f"{np.dtype(dtype)}, {variant.name}, counts {int(has_counts)}"
        expected = partial(expect_spike_max_pool, variant.attributes, has_counts)
        inputs = ("c",) if has_counts else ()
        is_row = len(variant.attributes["kernel_shape"]) == 1
        shapes = tuple((n, c * h, w) if is_row else (n, c, h, w) for n, c, h, w in POOL_SHAPES)
        yield PoolKind(name, model, dtype, 0, inputs, expected, shapes=shapes)


def expect_spike_max_pool(
    attributes: Mapping[str, Any], has_counts: bool, feeds: Mapping[str, Array], steps: int
) -> dict[str, Array]:
    """Return what the reference gives."""
    s, c_next = spike_max_pool(feeds["x"], steps, feeds.get("c"), **attributes)
    return {"s": s, "c_next": c_next} if has_counts else {"s": s}


class Guarded:
    """An array in a device's memory, between margins.

    All is NaN at first but the values given: what a kernel leaves unwritten shows, and so does
    what it writes outside.
    """

    def __init__(
        self, shape: tuple[int, ...], dtype: npt.DTypeLike, offset: int, values: Array | None = None
    ) -> None:
        self.shape, self.dtype = shape, np.dtype(dtype)
        self.size, self.start = int(np.prod(shape)), MARGIN + offset
        self._host = np.full(self.start + self.size + MARGIN, np.nan, dtype)
        if values is not None:
            self._inside(self._host)[:] = values.ravel()

    def place(self, device: str) -> int:
        """Copy all to the device; returns the address of the first value."""
        self._memory = ort.OrtValue.ortvalue_from_numpy(self._host, device, 0)
        address: int = self._memory.data_ptr()
        return address + self.start * self.dtype.itemsize

    def read(self) -> tuple[Array, bool]:
        """Return the values, and whether the margins are as they were."""
        whole = np.array(self._memory.numpy())
        values = self._inside(whole).reshape(self.shape).copy()
        self._inside(whole)[:] = np.nan
        return values, bool(np.isnan(whole).all())

    def _inside(self, whole: Array) -> Array:
        return whole[self.start : self.start + self.size]


def check_kernels(target: Target, args: Namespace) -> dict[str, Any]:
    """Compare every kernel with the reference."""
    random = np.random.default_rng(args.seed)
    runs, failures = 0, []
    families = (if_neuron_kinds, add_if_neuron_kinds, phase_neuron_kinds, spike_max_pool_kinds)
    for kind in itertools.chain.from_iterable(kinds(args.quick) for kinds in families):
        session = target.session(kind.model, strict=True)
        for steps, shape, is_shifted in run_shapes(args.quick, kind.shapes):
            if steps > kind.most_steps:
                continue
            feeds = kind.draw(random, steps, shape)
            wanted = kind.expected(feeds, steps)
            offsets = {name: int(is_shifted and random.integers(2)) for name in (*feeds, *wanted)}
            wrong = compare(target, session, steps, feeds, wanted, offsets)
            runs += 1
            if wrong:
                failures.append(f"{kind.name}, T = {steps}, {shape}, offsets {offsets}: {wrong}")
    return {"runs": runs, "failures": failures, "seed": args.seed, "ok": not failures}


def run_shapes(
    quick: bool, shapes: tuple[tuple[int, ...], ...]
) -> Iterator[tuple[int, tuple[int, ...], bool]]:
    """Yield T, a shape, and whether some of the memory is a value off its alignment."""
    if quick and shapes is SHAPES:
        shapes = QUICK_SHAPES
    return itertools.product(QUICK_STEPS if quick else STEPS, shapes, (False, True))


def draw_inputs(
    random: np.random.Generator,
    dtype: npt.DTypeLike,
    steps: int,
    shape: tuple[int, ...],
    constant: int,
    inputs: tuple[str, ...],
) -> dict[str, Array]:
    """Draw currents and states.

    They are multiples of 1/16, whose sums are exact, with now and then something out of the
    ordinary; states are at times one value for all.
    """
    rows = shape if constant else (steps * shape[0], *shape[1:])
    feeds = {name: draw_currents(random, rows) for name in ("x", "r") if name in ("x", *inputs)}
    if "R" in inputs:
        by_channel = random.random() < 0.75
        feeds["R"] = np.asarray(random.integers(-8, 9, rows[1:2] if by_channel else ()) / 8)
    for name in (name for name in inputs if name in "vn"):
        state_shape = () if random.random() < 0.25 else shape
        scale = 1 if name == "n" else 1 / 16
        feeds[name] = np.asarray(random.integers(-3, 4, state_shape) * scale)
    return {name: values.astype(dtype) for name, values in feeds.items()}


def draw_currents(random: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Draw currents of one input."""
    x = random.integers(-12, 25, shape) / 16
    odd = random.random(shape) < random.choice([0, 0.01])
    x[odd] = random.choice([np.nan, np.inf, -np.inf, 6e4, -6e4, 1e-5], int(odd.sum()))
    return x


def compare(
    target: Target,
    session: ort.InferenceSession,
    steps: int,
    feeds: Mapping[str, Array],
    wanted: Mapping[str, Array],
    offsets: Mapping[str, int],
) -> str:
    """Run a kernel and return what is wrong with its outputs, or nothing."""
    ins = {name: Guarded(x.shape, x.dtype, offsets[name], x) for name, x in feeds.items()}
    outs = {name: Guarded(x.shape, x.dtype, offsets[name]) for name, x in wanted.items()}
    timesteps = np.array(steps)
    binding = session.io_binding()
    binding.bind_input("T", "cpu", 0, timesteps.dtype, (), timesteps.ctypes.data)
    for arrays, bind in ((ins, binding.bind_input), (outs, binding.bind_output)):
        for name, array in arrays.items():
            address = array.place(target.device)
            bind(name, target.device, 0, array.dtype, array.shape, address)
    session.run_with_iobinding(binding)
    binding.synchronize_outputs()
    for name, array in outs.items():
        values, margins_are_whole = array.read()
        if not margins_are_whole:
            return f"{name} was written outside its memory"
        same = (values == wanted[name]) | (np.isnan(values) & np.isnan(wanted[name]))
        if not same.all():
            at = tuple(int(index) for index in np.argwhere(~same)[0])
            return f"{name}{list(at)} is {values[at]}, not {wanted[name][at]}"
    return ""
