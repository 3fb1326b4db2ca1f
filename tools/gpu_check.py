"""Check the CUDA kernels on a machine with a GPU: right, clean, and how fast.

    python tools/gpu_check.py                        build the library and check everything
    python tools/gpu_check.py --library PATH         check a library that is built
    python tools/gpu_check.py --provider cpu         the same comparisons on the CPU, no figures
    make stand-in                                    without a GPU: kernels and placement

- kernels: IFNeuron, AddIFNeuron, PhaseNeuron and SpikeMaxPool with every attribute, type, optional
  input and output, odd shapes and unaligned memory, in onnxruntime, against the NumPy reference,
  bit for bit. Inputs are drawn afresh (the seed is printed); outputs lie between margins and are
  filled with NaN before.
- sanitizer: compute-sanitizer's memcheck and racecheck over some of these, where it is installed.
- placement: converted networks on all schedules and in half precision, placed on the provider: no
  copies between host and device, and CUDA graphs where no Loop is in the way.
- model: the same networks on the GPU against float32 on the CPU; where their nodes ran.
- speed: the neurons' bytes per second against a copy from device to device; whole networks.

The result goes to tools/results/gpu_DATE.json. Exit code: 0 where all is well, else 1.
"""

import argparse
import datetime
import itertools
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

import onnx_snn
from cuda_driver import CudaDriver, NoGpuError
from fetch_efficientnet_lite0 import MODEL_PATH, load_photos
from machine import describe_machine, versions
from neuron_model import Array, neuron_model
from onnx_snn.ops import MOST_RADIX_STEPS
from onnx_snn.ops.reference import add_if_neuron, if_neuron, phase_neuron, spike_max_pool
from onnx_snn.session import LIBRARY_NAME
from phase_neuron_model import phase_neuron_model
from spike_max_pool_model import spike_max_pool_model

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "tools" / "results"
CHECKS = ("kernels", "sanitizer", "placement", "model", "speed")
MODELS = ("mnist", "resnet20", "vgg", "efficientnet")
ROWS = 3_200  # images times steps of one run
ERRORS_ONLY, FATAL_ONLY = 3, 4


@dataclass
class Target:
    """Where models run.

    Attributes:
        device: "cuda" or "cpu", as onnxruntime calls memory.
        library: the native operators.
        driver: of the GPU; None on the CPU.
    """

    device: str
    library: Path
    driver: CudaDriver | None

    def session(
        self,
        model: bytes,
        *,
        device: str = "",
        strict: bool = False,
        profile: str = "",
        optimised: str = "",
        graph: bool = False,
    ) -> ort.InferenceSession:
        """Open a model.

        Args:
            model: the file's content.
            device: where, if not on this target's device.
            strict: whether a node that a GPU target would leave to the CPU is an error.
            profile: start of the name of a profile to write.
            optimised: a file to write, the model as it is run.
            graph: whether to capture a CUDA graph.
        """
        options = ort.SessionOptions()
        options.log_severity_level = ERRORS_ONLY
        options.register_custom_ops_library(str(self.library))
        if profile:
            options.enable_profiling, options.profile_file_prefix = True, profile
        if optimised:
            options.optimized_model_filepath = optimised
        providers: list[Any] = ["CPUExecutionProvider"]
        if (device or self.device) == "cuda":
            assert self.driver is not None
            settings = {"use_tf32": "0", "user_compute_stream": str(self.driver.stream)}
            if graph:
                options.log_severity_level = FATAL_ONLY  # a refusal is an answer
                settings["enable_cuda_graph"] = "1"
            providers.insert(0, ("CUDAExecutionProvider", settings))
            if strict:
                options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
                providers.pop()
        return ort.InferenceSession(model, options, providers=providers)


# kernels


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
        model = spike_max_pool_model(dtype, variant.attributes, has_counts)
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


def check_kernels(target: Target, args: argparse.Namespace) -> dict[str, Any]:
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


# sanitizer


def check_sanitizer(target: Target, args: argparse.Namespace) -> dict[str, Any]:
    """Run the quick kernel checks under compute-sanitizer."""
    program = shutil.which("compute-sanitizer")
    if program is None or target.device != "cuda":
        why = "no GPU in use" if target.device != "cuda" else "compute-sanitizer is not installed"
        return {"skipped": why, "ok": True}
    result: dict[str, Any] = {"ok": True}
    for tool in ("memcheck", "racecheck"):
        command = [program, "--tool", tool, "--error-exitcode", "9", sys.executable, __file__]
        command += ["--only", "kernels", "--quick", "--library", str(target.library)]
        command += ["--seed", str(args.seed), "--json", "-"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = [line for line in (done.stdout + done.stderr).splitlines() if "=====" in line]
        clean = done.returncode == 0
        result[tool] = "clean" if clean else f"exit code {done.returncode}: " + " ".join(lines[-3:])
        result["ok"] = result["ok"] and clean
    return result


# networks


@dataclass(frozen=True)
class Network:
    """A trained network with a sample of its data, images as it takes them.

    Attributes:
        file: its ONNX file.
        calibration: images.
        x: test images.
        y: their labels; None: they have none.
        timesteps: T.
        preset: of the conversion.
    """

    file: Path
    calibration: Array
    x: Array
    y: Array | None
    timesteps: int
    preset: str = "default"

    @property
    def forms(self) -> list[str]:
        """Those that the preset has."""
        return [form for form in FORMS if self.preset != "radix" or form != "loop"]


def load_networks(args: argparse.Namespace) -> dict[str, Network]:
    """Return the networks of ``models/``, and EfficientNet-Lite0 where it was fetched."""
    models = ROOT / "models"
    with np.load(models / "mnist_calibration.npz") as data:
        digits = data["x"]
    with np.load(models / "mnist_test.npz") as data:
        mnist = Network(
            models / "mnist_cnn.onnx", digits, data["x"][:1000], data["y"][:1000], args.timesteps
        )
    with np.load(models / "cifar10_samples.npz") as data:
        pixels = {name: data[name] / np.float32(255) for name in ("calibration", "x")}
        labels = data["y"]
    networks = {"mnist": mnist}
    for name in ("resnet20", "vgg"):
        file = models / f"cifar10_{name}.onnx"
        networks[name] = Network(file, pixels["calibration"], pixels["x"], labels, 16)
    if MODEL_PATH.exists():
        photos = load_photos("test")[: args.photos]
        some = load_photos("calibration")[:64]
        networks["efficientnet"] = Network(MODEL_PATH, some, photos, None, 8, "radix")
    return networks


FORMS: Mapping[str, Mapping[str, Any]] = {
    "layer": {},
    "loop": {"schedule": "loop", "block": 8},
    "fp16": {"precision": "fp16"},
}
"""How a network is converted, beside the defaults."""

STREAM = {"schedule": "step"}


def convert(network: Network, form: Mapping[str, Any]) -> bytes:
    """Convert a network; returns the file's content."""
    options = {"timesteps": network.timesteps, "bias_calibration": False, "holdout": 0.0}
    options |= {"preset": network.preset, "target": "cuda", **form}
    snn = onnx_snn.convert(network.file, network.calibration, **options)
    content: bytes = snn.model.SerializeToString()
    return content


# placement


def check_placement(target: Target, args: argparse.Namespace) -> dict[str, Any]:
    """Look at where the provider places the nodes of converted networks, and what that takes."""
    if target.device != "cuda":
        return {"skipped": "no GPU in use", "ok": True}
    rows = {}
    for name, network in load_networks(args).items():
        if name not in args.models:
            continue
        forms = {form: FORMS[form] for form in network.forms} | {"step": STREAM}
        for form, options in forms.items():
            model = convert(network, options)
            with tempfile.TemporaryDirectory() as folder:
                target.session(model, optimised=f"{folder}/placed.onnx")
                copies = count_copies(onnx.load(f"{folder}/placed.onnx").graph)
            captured = can_capture(target, model)
            ok = copies == 0 and captured == (form != "loop")
            rows[f"{name}, {form}"] = {"copies": copies, "cuda_graph": captured, "ok": ok}
    return {"rows": rows, "ok": all(row["ok"] for row in rows.values())}


def count_copies(graph: onnx.GraphProto) -> int:
    """Return the number of copies between host and device, those in subgraphs too."""
    bodies = [a.g for node in graph.node for a in node.attribute if a.HasField("g")]
    here = sum(node.op_type.startswith("Memcpy") for node in graph.node)
    return here + sum(count_copies(body) for body in bodies)


def can_capture(target: Target, model: bytes) -> bool:
    """Return whether onnxruntime takes the model for a CUDA graph."""
    try:
        target.session(model, graph=True)
    except Exception as error:  # onnxruntime's exceptions have no common base
        if "graph capture" not in str(error):
            raise
        return False
    return True


# model


def check_model(target: Target, args: argparse.Namespace) -> dict[str, Any]:
    """Compare converted networks on the target with the same in float32 on the CPU."""
    rows: dict[str, Any] = {}
    for name, network in load_networks(args).items():
        if name not in args.models:
            continue
        size = max(1, min(args.batch_size, ROWS // network.timesteps))
        reference = classify(target.session(convert(network, {}), device="cpu"), network, size)
        for form in network.forms:
            model = convert(network, FORMS[form])
            here = classify(target.session(model), network, size)
            placed = placement(target, model, network.x[:size])
            rows[f"{name}, {form}"] = compare_networks(here, reference, network, form) | placed
    for row in rows.values():
        row["ok"] &= row["copies"] == 0
    return {"rows": rows, "ok": all(row["ok"] for row in rows.values())}


def classify(session: ort.InferenceSession, network: Network, size: int) -> Array:
    """Return the scores of all test images."""
    return np.concatenate([run_batch(session, batch) for batch in batches(network.x, size)])


def compare_networks(here: Array, cpu: Array, network: Network, form: str) -> dict[str, Any]:
    """Return how near the scores of a form are to those of the CPU, and whether that is near."""
    agreement = 100 * float((here.argmax(1) == cpu.argmax(1)).mean())
    difference = float(np.sqrt(np.mean((here - cpu) ** 2) / np.mean(cpu**2)))
    # Sums in another order, or of fewer bits, move a few spikes by a step.
    least, most = (97.0, 0.1) if form == "fp16" else (99.0, 0.05)
    least = min(least, 100 - 100 / len(here))  # one may differ
    row: dict[str, Any] = {
        "agreement": agreement,
        "difference": difference,
        "ok": bool(np.isfinite(here).all()) and agreement >= least and difference <= most,
    }
    if network.y is not None:
        row["accuracy"] = 100 * float((here.argmax(1) == network.y).mean())
        row["cpu_accuracy"] = 100 * float((cpu.argmax(1) == network.y).mean())
        row["ok"] &= abs(row["accuracy"] - row["cpu_accuracy"]) <= 100 - least
    return row


def batches(x: Array, size: int) -> Iterator[Array]:
    """Yield the images in batches."""
    return (x[i : i + size] for i in range(0, len(x), size))


def run_batch(session: ort.InferenceSession, batch: Array) -> Array:
    """Return the network's output."""
    output: Array = session.run(None, {session.get_inputs()[0].name: batch})[0]
    return output


def placement(target: Target, model: bytes, batch: Array) -> dict[str, Any]:
    """Return what a profile says: copies between devices, and operators run on the CPU."""
    with tempfile.TemporaryDirectory() as folder:
        session = target.session(model, profile=f"{folder}/profile")
        run_batch(session, batch)
        events = json.loads(Path(session.end_profiling()).read_text())
    nodes = [e["args"] for e in events if e.get("cat") == "Node" and "provider" in e["args"]]
    on_cpu = Counter(n["op_name"] for n in nodes if n["provider"] == "CPUExecutionProvider")
    return {
        "copies": sum(n["op_name"].startswith("Memcpy") for n in nodes),
        "nodes": len(nodes),
        "on_cpu": dict(on_cpu) if target.device == "cuda" else {},
    }


# speed


def check_speed(target: Target, args: argparse.Namespace) -> dict[str, Any]:
    """Measure the kernel against the device's own copy, and whole networks."""
    if target.driver is None:
        return {"skipped": "no GPU in use; tools/bench_if_neuron.py measures the CPU", "ok": True}
    return {
        "neuron": neuron_speed(target, args),
        "network_ms": network_speed(target, args),
        "ok": True,
    }


def neuron_speed(target: Target, args: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Return bytes read and written per second, and those of a copy as large."""
    driver = target.driver
    assert driver is not None
    rows = {}
    models = {"": partial(neuron_model, attributes={})}
    models["PhaseNeuron, "] = partial(phase_neuron_model, attributes={})
    for (name, model), dtype in itertools.product(models.items(), (np.float32, np.float16)):
        size = round(args.megabytes * 2**20)
        source, spikes, neuron = prepare_neuron(target, model(dtype), dtype, size)
        size = source.tensor_size_in_bytes()
        copy = partial(driver.copy, source.data_ptr(), spikes.data_ptr(), size)
        runs: dict[str, Callable[[], Any]] = {"neuron": neuron, "copy": copy}
        seconds = interleaved(runs, partial(driver.seconds, times=5), args.repeats)
        rows[f"{name}{np.dtype(dtype)}"] = {
            "neuron_gigabytes_per_second": 2e-9 * size / seconds["neuron"],
            "copy_gigabytes_per_second": 2e-9 * size / seconds["copy"],
            "of_a_copy": seconds["copy"] / seconds["neuron"],
        }
    return rows


def prepare_neuron(
    target: Target, model: bytes, dtype: npt.DTypeLike, size: int, steps: int = 32
) -> tuple[ort.OrtValue, ort.OrtValue, Callable[[], None]]:
    """Return currents of a size, room for their spikes, and a run that waits for nothing."""
    row = np.random.default_rng(0).uniform(-0.5, 1, size // steps // np.dtype(dtype).itemsize)
    currents = np.tile(row.astype(dtype), (steps, 1))
    source = ort.OrtValue.ortvalue_from_numpy(currents, target.device, 0)
    spikes = ort.OrtValue.ortvalue_from_shape_and_type(currents.shape, dtype, target.device, 0)
    timesteps = ort.OrtValue.ortvalue_from_numpy(np.array(steps))
    session = target.session(model, strict=True)
    binding = session.io_binding()
    binding.bind_ortvalue_input("x", source)
    binding.bind_ortvalue_input("T", timesteps)
    binding.bind_ortvalue_output("s", spikes)
    options = ort.RunOptions()
    options.add_run_config_entry("disable_synchronize_execution_providers", "1")
    return source, spikes, partial(session.run_with_iobinding, binding, options)


def network_speed(target: Target, args: argparse.Namespace) -> dict[str, float]:
    """Return the time of a batch in ms, from and to host memory."""
    networks = load_networks(args)
    runs: dict[str, Callable[[], Any]] = {}
    for name in (name for name in args.models if name in networks):
        network = networks[name]
        batch = network.x[: max(1, min(args.batch_size, ROWS // network.timesteps))]
        models = {"ann": network.file.read_bytes()}
        models |= {form: convert(network, FORMS[form]) for form in network.forms}
        for form, model in models.items():
            runs[f"{name}, {form}"] = partial(run_batch, target.session(model), batch)
    seconds = interleaved(runs, wall_seconds, args.repeats)
    return {name: 1e3 * taken for name, taken in seconds.items()}


def interleaved(
    runs: Mapping[str, Callable[[], Any]],
    measure: Callable[[Callable[[], Any]], float],
    repeats: int,
) -> dict[str, float]:
    """Return the median of each, all taking turns, the first two turns left out."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(2 + repeats):
        for name, run in runs.items():
            times[name].append(measure(run))
    return {name: statistics.median(taken[2:]) for name, taken in times.items()}


def wall_seconds(run: Callable[[], Any]) -> float:
    """Return the time of a run that ends when its outputs are there."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


# all together


def build_library() -> Path:
    """Build the native library with its CUDA kernels."""
    folder = ROOT / "build" / "gpu_check"
    for command in (
        ["cmake", "-S", str(ROOT / "custom_ops"), "-B", str(folder), "-DONNX_SNN_CUDA=ON"],
        ["cmake", "--build", str(folder), "--parallel"],
    ):
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except FileNotFoundError:
            sys.exit("error: cmake is not installed; build elsewhere and give --library PATH")
        if done.returncode != 0:
            sys.exit(f"error: the library does not build\n{(done.stdout + done.stderr)[-2000:]}")
    return next(folder.rglob(LIBRARY_NAME))


def open_target(args: argparse.Namespace) -> Target:
    """Return the device asked for; ends the program where it is not there."""
    if args.provider == "cpu":
        return Target("cpu", args.library or Path(onnx_snn.get_library_path()), None)
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        sys.exit("error: this onnxruntime has no CUDA provider; install onnxruntime-gpu")
    try:
        driver = CudaDriver()
    except NoGpuError as error:
        sys.exit(f"error: {error}; nothing was checked")
    if hasattr(ort, "preload_dlls"):
        ort.preload_dlls()
    target = Target("cuda", args.library or build_library(), driver)
    if "CUDAExecutionProvider" not in target.session(neuron_model(np.float32, {})).get_providers():
        sys.exit(
            "error: onnxruntime could not start its CUDA provider; the versions of CUDA and cuDNN "
            "that it needs must be installed"
        )
    return target


def check(target: Target, args: argparse.Namespace) -> dict[str, Any]:
    """Run the checks asked for."""
    functions = {
        "kernels": check_kernels,
        "sanitizer": check_sanitizer,
        "placement": check_placement,
        "model": check_model,
        "speed": check_speed,
    }
    results = {name: functions[name](target, args) for name in CHECKS if name in args.only}
    device = "CPU" if target.driver is None else target.driver.device_name()
    cuda = {} if target.driver is None else {"CUDA driver": target.driver.driver_version()}
    package = "onnxruntime" if target.driver is None else "onnxruntime-gpu"
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "machine": describe_machine(),
        "device": device,
        "versions": versions("onnx-snn", package, "numpy") | cuda,
        "timesteps": args.timesteps,
        "batch_size": args.batch_size,
        "checks": results,
        "ok": all(result["ok"] for result in results.values()),
    }


def show(report: dict[str, Any]) -> None:
    """Print the report as one table."""
    print(f"{report['machine']}; {report['device']}")
    print(", ".join(f"{name} {number}" for name, number in report["versions"].items()) + "\n")
    for name, result in report["checks"].items():
        verdict = "skipped" if "skipped" in result else "ok" if result["ok"] else "FAILED"
        print(f"{name:10} {verdict:8} {describe(name, result)}")


def describe(name: str, result: dict[str, Any]) -> str:
    """Return the findings of one check, the lines after the first one indented."""
    if "skipped" in result:
        return str(result["skipped"])
    lines = []
    if name == "kernels":
        failures = result["failures"]
        lines = [f"{result['runs']} runs, seed {result['seed']}, {len(failures)} wrong"]
        lines += failures[:10]
    elif name == "sanitizer":
        lines = [f"{tool}: {result[tool]}" for tool in ("memcheck", "racecheck")]
    elif name == "placement":
        for network, row in result["rows"].items():
            graph = "a CUDA graph" if row["cuda_graph"] else "no CUDA graph"
            line = f"{network}: {row['copies']} copies, {graph}"
            lines.append(line if row["ok"] else f"{line}  WRONG")
    elif name == "model":
        lines = [describe_model(name, row) for name, row in result["rows"].items()]
    else:
        lines = [
            f"{dtype}: {row['neuron_gigabytes_per_second']:.0f} GB/s, "
            f"{100 * row['of_a_copy']:.0f} % of a copy"
            for dtype, row in result["neuron"].items()
        ]
        lines += [f"{network}: {ms:.2f} ms a batch" for network, ms in result["network_ms"].items()]
    return f"\n{'':20}".join(lines)


def describe_model(name: str, row: dict[str, Any]) -> str:
    """Return one line about a network."""
    on_cpu = ", ".join(f"{count} {op}" for op, count in row["on_cpu"].items()) or "none"
    line = f"{name}: "
    if "accuracy" in row:
        line += f"accuracy {row['accuracy']:.2f} % (CPU {row['cpu_accuracy']:.2f}), "
    return (
        f"{line}agreement {row['agreement']:.2f} %, difference {row['difference']:.1e}, "
        f"{row['copies']} copies; on the CPU: {on_cpu}" + ("" if row["ok"] else "  WRONG")
    )


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="The CUDA kernels: right, clean, and how fast")
    parser.add_argument("--library", type=Path, help="native library (default: build it)")
    parser.add_argument("--provider", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--only", nargs="+", choices=CHECKS, default=list(CHECKS))
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--photos", type=int, default=50, help="of EfficientNet-Lite0")
    parser.add_argument("--quick", action="store_true", help="a few shapes of every kernel")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 2**32)
    parser.add_argument("-T", "--timesteps", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--megabytes", type=float, default=1024, help="currents for the speed")
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--json", help="where to write the result; - for nowhere")
    return parser.parse_args(arguments)


def main() -> None:
    """Check, print, write the JSON file, and say by the exit code whether all is well."""
    args = parse_args()
    target = open_target(args)
    report = check(target, args)
    show(report)
    path = args.json
    if path is None and target.driver is not None:
        path = RESULTS / f"gpu_{report['date']}.json"
    if path is not None and path != "-":
        Path(path).write_text(json.dumps(report, indent=2) + "\n")
    sys.exit(0 if report["ok"] else 1)


if __name__ == "__main__":
    main()
