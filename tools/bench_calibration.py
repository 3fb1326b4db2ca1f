"""Measure calibration against plain inference of the same network over the same data.

    python tools/bench_calibration.py

Both open their session and see the same images in batches of the same size: calibration through
onnx_snn's own data handling, plain inference in a loop over slices of the array. Calibration finds
the maximum alone (mode "max"), or the 99.9 % quantile besides, of each layer and of each of its
channels. The three take turns, and medians are compared.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs
import onnxruntime as ort

from machine import describe_machine, versions
from onnx_snn.calibrate import calibrate
from onnx_snn.data import Dataset, InputSpec, input_specs
from onnx_snn.load import load_graph
from onnx_snn.model_io import read_model
from onnx_snn.passes.fold_batch_normalization import fold_batch_normalization

ROOT = Path(__file__).resolve().parent.parent
PERCENTILES = {"max": (), "99.9%": (99.9,)}
BAR = 1.5

Images = npt.NDArray[np.float32]


def infer(model: Path, x: Images, batch_size: int) -> None:
    """Run the network over the images."""
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    for start in range(0, len(x), batch_size):
        session.run(None, {name: x[start : start + batch_size]})


def gather(
    graph: gs.Graph,
    specs: list[InputSpec],
    x: Images,
    batch_size: int,
    percentiles: tuple[float, ...],
) -> None:
    """Calibrate on the images."""
    calibrate(graph, Dataset(x, specs, batch_size), percentiles=percentiles)


def seconds(runs: dict[str, Callable[[], None]], repeats: int) -> dict[str, list[float]]:
    """Return the times of each run, all taking turns, after one turn to warm up."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(1 + repeats):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return {name: taken[1:] for name, taken in times.items()}


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Measure all batch sizes."""
    with np.load(args.calibration) as data:
        sample = data["x"]
    x = np.concatenate([sample] * -(-args.images // len(sample)))[: args.images]
    model = read_model(args.model)
    graph = load_graph(model)
    fold_batch_normalization(graph)
    rows = {}
    for batch_size in args.batch_sizes:
        runs: dict[str, Callable[[], None]] = {"plain": partial(infer, args.model, x, batch_size)}
        for name, percentiles in PERCENTILES.items():
            runs[name] = partial(gather, graph, input_specs(model), x, batch_size, percentiles)
        taken = {
            name: statistics.median(times) for name, times in seconds(runs, args.repeats).items()
        }
        rows[batch_size] = {
            "plain_us": 1e6 * taken["plain"] / len(x),
            **{f"{name}_us": 1e6 * taken[name] / len(x) for name in PERCENTILES},
            **{f"{name}_ratio": taken[name] / taken["plain"] for name in PERCENTILES},
        }
    return {
        "machine": describe_machine(),
        "versions": versions("onnx-snn", "onnxruntime", "numpy"),
        "images": len(x),
        "repeats": args.repeats,
        "rows": rows,
    }


def show(report: dict[str, Any]) -> None:
    """Print the report as one table."""
    print(report["machine"])
    print(", ".join(f"{name} {number}" for name, number in report["versions"].items()))
    print(f"{report['images']} images, medians of {report['repeats']} runs, us per image\n")
    print(f"{'batch':>6} | {'plain':>7} | {'max':>7}  {'ratio':>6} | {'99.9%':>7}  {'ratio':>6}")
    for batch_size, row in report["rows"].items():
        print(
            f"{batch_size:6} | {row['plain_us']:7.1f} "
            f"| {row['max_us']:7.1f}  {row['max_ratio']:5.2f}x "
            f"| {row['99.9%_us']:7.1f}  {row['99.9%_ratio']:5.2f}x"
        )
    worst = max(row[f"{name}_ratio"] for row in report["rows"].values() for name in PERCENTILES)
    verdict = "met" if worst <= BAR else "missed"
    print(f"\nThe bar, at most {BAR} times plain inference, is {verdict}.")


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    models = ROOT / "models"
    parser = argparse.ArgumentParser(description="Calibration against plain inference")
    parser.add_argument("--model", type=Path, default=models / "mnist_cnn.onnx")
    parser.add_argument("--calibration", type=Path, default=models / "mnist_calibration.npz")
    parser.add_argument("--images", type=int, default=20000, help="repeats the sample to so many")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[64, 100])
    parser.add_argument("--repeats", type=int, default=9)
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
