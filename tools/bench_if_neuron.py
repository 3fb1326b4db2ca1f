"""Measure the neurons' kernels on the CPU against copying the same number of bytes.

    python tools/bench_if_neuron.py --threads 2

Every row runs in onnxruntime on buffers that exist already, so that no allocation is measured,
and alternates with copies of the same currents by NumPy, in one thread and in as many as
onnxruntime has. "times a copy" compares bytes read and written per second with the faster copy;
for the first row, which reads and writes as much as the copy, that is the ratio of the times.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

import onnx_snn
from machine import describe_machine, versions
from neuron_model import Array, aligned_empty, bind, neuron_model
from phase_neuron_model import phase_neuron_model

WARM_UP = 2
SLOW = 10  # the portable body gets that many times fewer repeats
BAR = 1.3


@dataclass(frozen=True)
class Case:
    """One way to run the neuron."""

    name: str
    dtype: npt.DTypeLike = np.float32
    steps: int = 32
    attributes: Mapping[str, Any] = field(default_factory=dict)
    with_state: bool = False
    portable: bool = False
    phase: bool = False


CASES = [
    Case("float32, T = 32"),
    Case("float16", np.float16),
    Case("float64", np.float64),
    Case("constant input", attributes={"constant_input": 1}),
    Case("reset to zero", attributes={"reset": "zero"}),
    Case("burst, up to 4", attributes={"spike_max": 4}),
    Case("signed, counted", attributes={"spike_min": -1}),
    Case("T = 1, state in and out", steps=1, with_state=True),
    Case("portable body", portable=True),
    Case("PhaseNeuron, radix", phase=True),
    Case("PhaseNeuron, float16", np.float16, phase=True),
]


def make_run(case: Case, size: int, threads: int) -> tuple[Callable[[], None], int]:
    """Return a run of the case on `size` bytes of currents (or of spikes, if those are constant).

    Also returns how many bytes it reads and writes at least.
    """
    neurons = size // np.dtype(case.dtype).itemsize // case.steps
    state, rows = (1, neurons), (case.steps, neurons)
    constant = case.attributes.get("constant_input", 0)
    inputs = {"x": random_currents(state if constant else rows, case.dtype)}
    outputs = {"s": aligned_empty(rows, case.dtype)}
    if case.with_state:
        inputs["v"] = random_currents(state, case.dtype)
        outputs["v_next"] = aligned_empty(state, case.dtype)
    if case.phase:
        model = phase_neuron_model(case.dtype, case.attributes)
    else:
        optional = tuple(inputs)[1:], tuple(outputs)[1:]
        model = neuron_model(case.dtype, case.attributes, *optional, portable=case.portable)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnx_snn.create_session(
        model, ["CPUExecutionProvider"], options, use_native=not case.portable
    )
    moved = sum(array.nbytes for array in (*inputs.values(), *outputs.values()))
    return bind(session, {"T": np.array(case.steps), **inputs}, outputs), moved


def random_currents(shape: tuple[int, int], dtype: npt.DTypeLike) -> Array:
    """Return currents under which a neuron fires at about a quarter of the steps."""
    currents = aligned_empty(shape, dtype)
    random = np.random.default_rng(0)
    for row in currents:
        row[:] = random.uniform(-0.5, 1.0, shape[1])
    return currents


def make_copy(
    source: npt.NDArray[np.float32], pool: ThreadPoolExecutor, threads: int
) -> Callable[[], None]:
    """Return a copy of the source in as many threads, the caller's among them."""
    target = aligned_empty(source.shape, source.dtype)
    target[:] = 0  # so that no page is mapped later
    parts = list(zip(np.array_split(target, threads), np.array_split(source, threads), strict=True))

    def copy() -> None:
        others = [pool.submit(np.copyto, *part) for part in parts[1:]]
        np.copyto(*parts[0])
        wait(others)

    return copy


def median_seconds(runs: Mapping[str, Callable[[], None]], repeats: int) -> dict[str, float]:
    """Return the median time of each, all taking turns."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(WARM_UP + repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(taken[WARM_UP:]) for name, taken in times.items()}


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Measure all cases."""
    size = round(args.megabytes * 2**20)
    source = random_currents((1, size // 4), np.float32)[0]
    rows = {}
    with ThreadPoolExecutor(max(1, args.threads - 1)) as pool:
        copies = {
            "copy_1_thread": make_copy(source, pool, 1),
            "copy": make_copy(source, pool, args.threads),
        }
        for case in CASES:
            run, moved = make_run(case, size, args.threads)
            repeats = max(3, args.repeats // SLOW) if case.portable else args.repeats
            seconds = median_seconds({"neuron": run, **copies}, repeats)
            copied_per_second = 2 * size / min(seconds["copy"], seconds["copy_1_thread"])
            rows[case.name] = {
                "ms": 1e3 * seconds["neuron"],
                "megabytes_moved": moved / 2**20,
                "gigabytes_per_second": 1e-9 * moved / seconds["neuron"],
                "copy_ms": 1e3 * seconds["copy"],
                "copy_1_thread_ms": 1e3 * seconds["copy_1_thread"],
                "times_a_copy": copied_per_second / (moved / seconds["neuron"]),
            }
    return {
        "machine": describe_machine(),
        "versions": versions("onnx-snn", "onnxruntime", "numpy"),
        "threads": args.threads,
        "megabytes": args.megabytes,
        "repeats": args.repeats,
        "rows": rows,
    }


def show(report: dict[str, Any]) -> None:
    """Print the report as one table."""
    print(report["machine"])
    print(", ".join(f"{name} {number}" for name, number in report["versions"].items()))
    print(
        f"{report['megabytes']:g} MB of currents, {report['threads']} threads, "
        f"medians of {report['repeats']} runs\n"
    )
    print(
        f"{'IFNeuron':24} | {'ms':>8}  {'MB moved':>8}  {'GB/s':>6} "
        f"| {'copy, ms':>8}  {'1 thread':>8} | times a copy"
    )
    for name, row in report["rows"].items():
        print(
            f"{name:24} | {row['ms']:8.2f}  {row['megabytes_moved']:8.0f}  "
            f"{row['gigabytes_per_second']:6.1f} | {row['copy_ms']:8.2f}  "
            f"{row['copy_1_thread_ms']:8.2f} | {row['times_a_copy']:6.2f}"
        )
    first = next(iter(report["rows"].values()))["times_a_copy"]
    verdict = "met" if first <= BAR else "missed"
    print(f"\nThe bar for the first row, at most {BAR} times a copy, is {verdict}.")


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="The neurons' kernels against a copy, on the CPU")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--megabytes", type=float, default=64, help="size of the currents")
    parser.add_argument("--json", type=Path, help="where to write the result")
    return parser.parse_args()


def main() -> None:
    """Measure, print, and write the JSON file."""
    args = parse_args()
    report = measure(args)
    show(report)
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
