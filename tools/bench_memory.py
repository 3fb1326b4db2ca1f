"""Measure the memory that evaluation and the loop schedule need, on the MNIST CNN (Linux only).

    python tools/bench_memory.py

- evaluate: peak of `python -m onnx_snn evaluate SNN --data DATA` on many images and on a tenth of
  them. Bar: the difference is no more than the images are.
- loop: one block of one step at a time, against the network that it was made from. Bar: at most
  twice the peak of that, plus the membranes.

Peaks are resident memory of a fresh process each. For the schedules there is also what one run
needs on top of an open session, with onnxruntime's arena off and freed blocks given back at once:
what is in use at the same time, without what an allocator keeps in store. By that measure a Loop
cannot meet the bar: onnxruntime keeps the membranes a block found until those it leaves are
complete, so that they count twice.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from machine import describe_machine, versions

# Only children load numpy, onnxruntime and data: a process starts as large as its parent leaves it.

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "models"
SCHEDULES = ("loop", "layer")
CALIBRATION_IMAGES = 256
EACH_BLOCK_BY_ITSELF = {"MALLOC_MMAP_THRESHOLD_": "65536"}  # read by glibc when a process starts


def in_child(function: Callable[..., Any], *args: Any, env: dict[str, str] | None = None) -> Any:
    """Return what a function returns in a process of its own."""
    before = dict(os.environ)
    os.environ.update(env or {})
    try:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            return pool.apply(function, args)
    finally:
        os.environ.clear()
        os.environ.update(before)


def resident(field: str) -> int:
    """Return VmRSS (resident memory) or VmHWM (its peak) of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(field))


def prepare(model: Path, folder: Path, timesteps: int, batch_size: int) -> int:
    """Convert the model for every schedule; returns the bytes of all membranes of a batch."""
    import math

    import numpy as np

    import onnx_snn

    with np.load(MODELS / "mnist_calibration.npz") as data:
        x = data["x"][:CALIBRATION_IMAGES]
    for schedule in SCHEDULES:
        options = {"preset": "classic", "timesteps": timesteps, "schedule": schedule}
        snn = onnx_snn.convert(model, x, block=1, **options)
        snn.save(folder / f"{schedule}.onnx")
    currents = {node.input[0] for node in snn.model.graph.node if node.op_type == "IFNeuron"}
    shapes = [
        [dim.dim_value for dim in value.type.tensor_type.shape.dim[1:]]
        for value in snn.model.graph.value_info
        if value.name in currents
    ]
    return 4 * batch_size * sum(math.prod(shape) for shape in shapes)


def make_data(path: Path, images: int) -> int:
    """Repeat the test images to the number asked for; returns their bytes."""
    import numpy as np

    with np.load(MODELS / "mnist_test.npz") as data:
        x, y = data["x"], data["y"]
    x = np.resize(x, (images, *x.shape[1:]))
    np.savez(path, x=x, y=np.resize(y, images))
    return int(x.nbytes)


def evaluate(snn: Path, data: Path) -> int:
    """Run the command line's evaluate and return this process's peak."""
    import runpy

    sys.argv = ["onnx-snn", "evaluate", str(snn), "--data", str(data)]
    with open(os.devnull, "w") as nothing, redirect_stdout(nothing):
        try:
            runpy.run_module("onnx_snn", run_name="__main__", alter_sys=True)
        except SystemExit as end:
            if end.code:
                raise RuntimeError(f"onnx-snn evaluate ended with code {end.code}") from None
    return resident("VmHWM")


def run(model: Path, batch_size: int, threads: int, arena: bool) -> tuple[int, int]:
    """Run a batch; returns the process's peak, and what the run needed on top of the session."""
    import ctypes
    import gc

    import numpy as np
    import onnxruntime as ort

    import onnx_snn

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.enable_cpu_mem_arena = options.enable_mem_pattern = arena
    session = onnx_snn.create_session(model, ["CPUExecutionProvider"], options)
    with np.load(MODELS / "mnist_test.npz") as data:
        x = np.resize(data["x"], (batch_size, *data["x"].shape[1:]))
    name = session.get_inputs()[0].name
    if not arena:
        session.run(None, {name: x[:1]})  # code and threads are loaded when first used
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    before = resident("VmRSS")
    session.run(None, {name: x})
    peak = resident("VmHWM")
    return peak, peak - before


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Measure all peaks."""
    report: dict[str, Any] = {
        "machine": describe_machine(),
        "versions": versions("onnx-snn", "onnxruntime", "numpy"),
        "timesteps": args.timesteps,
        "batch_size": args.batch_size,
        "threads": args.threads,
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        membranes = in_child(prepare, args.model, folder, args.timesteps, args.batch_size)
        report["membranes"] = membranes
        networks = {"ann": args.model, **{s: folder / f"{s}.onnx" for s in SCHEDULES}}
        report["networks"] = {}
        for network, path in networks.items():
            arguments = (run, path, args.batch_size, args.threads)
            report["networks"][network] = {
                "process": in_child(*arguments, True)[0],
                "run": in_child(*arguments, False, env=EACH_BLOCK_BY_ITSELF)[1],
            }
        report["evaluate"] = [] if args.skip_evaluate else evaluate_sizes(args, folder)
    return report


def evaluate_sizes(args: argparse.Namespace, folder: Path) -> list[dict[str, int]]:
    """Measure evaluate on a tenth of the images, and on all."""
    rows = []
    for images in (args.images // 10, args.images):
        data = folder / f"{images}.npz"
        size = in_child(make_data, data, images)
        snn = folder / "layer.onnx"
        peak = statistics.median_low(in_child(evaluate, snn, data) for _ in range(args.repeats))
        rows.append({"images": images, "bytes": size, "process": peak})
    return rows


def show(report: dict[str, Any]) -> None:
    """Print the report as two tables."""
    print(report["machine"])
    print(", ".join(f"{name} {number}" for name, number in report["versions"].items()))
    networks, membranes = report["networks"], report["membranes"]
    print(
        f"\nMB at T = {report['timesteps']}, batch {report['batch_size']}, {report['threads']} "
        f"threads; the membranes are {megabytes(membranes)}"
    )
    print(f"{'':24} | {'process':>8} | {'one run':>8}")
    for name, row in networks.items():
        print(f"{name:24} | {megabytes(row['process'])} | {megabytes(row['run'])}")
    bars = {key: 2 * networks["ann"][key] + membranes for key in ("process", "run")}
    print(f"{'bar: 2 ann + membranes':24} | " + " | ".join(map(megabytes, bars.values())))
    met = [verdict(networks["loop"][key] <= bar) for key, bar in bars.items()]
    print(f"{'loop':24} | {met[0]:>8} | {met[1]:>8}")
    if not report["evaluate"]:
        return
    print("\nMB at the peak of evaluate")
    few, many = report["evaluate"]
    for row in (few, many):
        print(f"{row['images']:6d} images, {megabytes(row['bytes'])} | {megabytes(row['process'])}")
    more, allowed = many["process"] - few["process"], many["bytes"] - few["bytes"]
    print(f"difference {megabytes(more)}, allowed {megabytes(allowed)}: {verdict(more <= allowed)}")


def megabytes(size: int) -> str:
    """Return bytes as MB, in eight columns."""
    return f"{size / 2**20:8.1f}"


def verdict(met: bool) -> str:
    """Return what to say of a bar."""
    return "met" if met else "missed"


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Memory of evaluation and of the loop schedule")
    parser.add_argument("--model", type=Path, default=MODELS / "mnist_cnn.onnx")
    parser.add_argument("-T", "--timesteps", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--images", type=int, default=10_000, help="to evaluate")
    parser.add_argument("--repeats", type=int, default=3, help="of evaluate, for the median")
    parser.add_argument("--skip-evaluate", action="store_true", help="measure the schedules only")
    parser.add_argument("--json", type=Path, help="where to write the result")
    return parser.parse_args()


def main() -> None:
    """Measure, print, and write the JSON file."""
    args = parse_args()
    if sys.platform != "linux":
        sys.exit("error: peaks of memory are read from /proc, which only Linux has")
    report = measure(args)
    show(report)
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
