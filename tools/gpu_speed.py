"""How fast the CUDA kernels are, against the device's own copy, and converted networks."""

import statistics
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from gpu_networks import Converted, run_batch
from gpu_target import Target
from neuron_model import Array, neuron_model
from phase_neuron_model import phase_neuron_model
from spike_max_pool_model import spike_max_pool_model

STEPS = 32


def check_speed(
    target: Target, networks: Mapping[str, Converted], args: Namespace
) -> dict[str, Any]:
    """Measure the kernels against the device's own copy, and whole networks."""
    if target.driver is None:
        return {"skipped": "no GPU in use; tools/bench_if_neuron.py measures the CPU", "ok": True}
    return {
        "kernels": kernel_speed(target, args.megabytes, args.repeats),
        "network_ms": network_speed(target, networks, args),
        "ok": True,
    }


@dataclass(frozen=True)
class Call:
    """A call of an operator.

    Attributes:
        name: for the report.
        model: the file's content.
        feeds: inputs but T.
        spikes: shape of the output.
    """

    name: str
    model: bytes
    feeds: Mapping[str, Array]
    spikes: tuple[int, ...]


def calls(megabytes: float, dtype: npt.DTypeLike) -> Iterator[Call]:
    """Yield a call of every operator on so much input."""
    random = np.random.default_rng(0)
    channels, side = 64, 32
    images = round(megabytes * 2**20 / np.dtype(dtype).itemsize / STEPS / channels / side**2)
    shape = (max(images, 1), channels, side, side)
    x = np.tile(random.uniform(-0.5, 1, shape).astype(dtype), (STEPS, 1, 1, 1))
    spikes = (x > 0).astype(dtype)
    factors = np.full(channels, 0.5, dtype)
    yield Call("IFNeuron", neuron_model(dtype, {}), {"x": x}, x.shape)
    sum_model = neuron_model(dtype, {}, shortcut=True)
    yield Call("AddIFNeuron", sum_model, {"x": x, "r": spikes, "R": factors}, x.shape)
    yield Call("PhaseNeuron", phase_neuron_model(dtype, {}), {"x": x}, x.shape)
    pool = spike_max_pool_model(dtype, {"kernel_shape": [2, 2], "strides": [2, 2]})
    yield Call("SpikeMaxPool", pool, {"x": spikes}, (*x.shape[:2], side // 2, side // 2))


def kernel_speed(target: Target, megabytes: float, repeats: int) -> dict[str, dict[str, float]]:
    """Return bytes read and written per second, and those of a copy of the input."""
    driver = target.driver
    assert driver is not None
    rows = {}
    for dtype in (np.float32, np.float16):
        for call in calls(megabytes, dtype):
            run, source, spikes = prepare(target, call, dtype)
            size = source.tensor_size_in_bytes()
            moved = sum(x.nbytes for x in call.feeds.values()) + spikes.tensor_size_in_bytes()
            room = ort.OrtValue.ortvalue_from_shape_and_type(
                source.shape(), dtype, target.device, 0
            )
            copy = partial(driver.copy, source.data_ptr(), room.data_ptr(), size)
            runs: dict[str, Callable[[], Any]] = {"kernel": run, "copy": copy}
            seconds = interleaved(runs, partial(driver.seconds, times=5), repeats)
            speeds = {"kernel": moved / seconds["kernel"], "copy": 2 * size / seconds["copy"]}
            rows[f"{call.name}, {np.dtype(dtype)}"] = {
                "kernel_gigabytes_per_second": 1e-9 * speeds["kernel"],
                "copy_gigabytes_per_second": 1e-9 * speeds["copy"],
                "of_a_copy": speeds["kernel"] / speeds["copy"],
            }
    return rows


def show_speed(row: Mapping[str, float]) -> str:
    """Return what a kernel reached, for the report."""
    return (
        f"{row['kernel_gigabytes_per_second']:.0f} GB/s, {100 * row['of_a_copy']:.0f} % of a copy"
    )


def prepare(
    target: Target, call: Call, dtype: npt.DTypeLike
) -> tuple[Callable[[], None], ort.OrtValue, ort.OrtValue]:
    """Return a run that waits for nothing, its input x, and room for its spikes."""
    session = target.session(call.model, strict=True)
    binding = session.io_binding()
    values = {
        name: ort.OrtValue.ortvalue_from_numpy(array, target.device, 0)
        for name, array in call.feeds.items()
    }
    values["T"] = ort.OrtValue.ortvalue_from_numpy(np.array(STEPS))
    spikes = ort.OrtValue.ortvalue_from_shape_and_type(call.spikes, dtype, target.device, 0)
    for name, value in values.items():
        binding.bind_ortvalue_input(name, value)
    binding.bind_ortvalue_output("s", spikes)
    options = ort.RunOptions()
    options.add_run_config_entry("disable_synchronize_execution_providers", "1")
    return partial(session.run_with_iobinding, binding, options), values["x"], spikes


def network_speed(
    target: Target, networks: Mapping[str, Converted], args: Namespace
) -> dict[str, float]:
    """Return the time of a batch in ms, from and to host memory."""
    runs: dict[str, Callable[[], Any]] = {}
    for name, converted in networks.items():
        network = converted.network
        batch = network.x[: network.batch_size(args.batch_size)]
        models = {"ann": network.file.read_bytes()}
        models |= {form: converted.files[form] for form in network.forms}
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
