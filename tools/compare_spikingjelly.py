"""Compare onnx_snn with SpikingJelly on the MNIST CNN: accuracy and time, in one run.

Both convert the same weights with the same calibration images and V0 = 0, and see the same test
images for the same number of steps. Ours is measured twice: with the exact statistic over all
calibration images, and with SpikingJelly's moving average over their batches ("ema").

SpikingJelly runs as a subprocess in its own environment (see tools/record_spikingjelly.py):

    python tools/compare_spikingjelly.py --spikingjelly-python .spikingjelly/bin/python
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort

import onnx_snn
from fetch_mnist import DATA_DIR, Images, Labels, load_mnist
from machine import describe_machine, versions
from spikingjelly_process import run_spikingjelly

ROOT = Path(__file__).resolve().parent.parent
SETTINGS: dict[str, str | float] = {
    "max": "max",
    "99.9%": "99.9%",
    "1/2": 1 / 2,
    "1/3": 1 / 3,
    "1/4": 1 / 4,
    "1/5": 1 / 5,
}
CALIBRATION_BATCH = 100
REFERENCE_IMAGES = 500


def measure_spikingjelly(
    args: argparse.Namespace, reference: Path, step_mode: str, limit: int
) -> dict[str, Any]:
    """Run tools/spikingjelly_mnist.py in its environment and return its report."""
    return run_spikingjelly(
        args.spikingjelly_python,
        "spikingjelly_mnist.py",
        *(args.model, args.calibration, args.test),
        *("--modes", ",".join(SETTINGS)),
        *("--timesteps", args.timesteps),
        *("--batch-size", args.batch_size),
        *("--threads", args.threads),
        *("--time-batches", args.time_batches),
        *("--step-mode", step_mode),
        *("--limit", limit),
        *("--reference", reference),
    )


def make_options(args: argparse.Namespace) -> ort.SessionOptions:
    """Return session options with the number of threads asked for."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = args.threads
    options.log_severity_level = 3  # no warning that T has a default
    return options


def convert(
    args: argparse.Namespace, mode: str | float, batch_reduction: str
) -> ort.InferenceSession:
    """Convert with onnx_snn as SpikingJelly does: V0 = 0, calibrated on batches in order."""
    x = load_npz(args.calibration)[0]
    snn = onnx_snn.convert(
        args.model,
        [x[i : i + CALIBRATION_BATCH] for i in range(0, len(x), CALIBRATION_BATCH)],
        preset="classic",
        mode=mode,
        timesteps=args.timesteps,
        holdout=0.0,
        batch_reduction=batch_reduction,
    )
    return onnx_snn.create_session(
        snn.model, providers=["CPUExecutionProvider"], sess_options=make_options(args)
    )


def predict(session: ort.InferenceSession, x: Images, batch_size: int) -> Images:
    """Return the probabilities for all images."""
    batches = (x[i : i + batch_size] for i in range(0, len(x), batch_size))
    return np.concatenate(
        [session.run(["probabilities"], {"image": batch})[0] for batch in batches]
    )


def accuracy(probabilities: Images, y: Labels) -> float:
    """Return the share of correct answers, in percent."""
    return 100.0 * float((probabilities.argmax(axis=1) == y).mean())


def seconds_per_batch(session: ort.InferenceSession, batch: Images, repeats: int) -> float:
    """Return the median time of a run, after one run to warm up."""
    times = []
    for _ in range(1 + repeats):
        start = time.perf_counter()
        session.run(["probabilities"], {"image": batch})
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def load_npz(path: Path) -> tuple[Images, Labels]:
    """Load images and labels."""
    with np.load(path) as data:
        return data["x"], data["y"]


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    models = ROOT / "models"
    parser = argparse.ArgumentParser(description="onnx_snn against SpikingJelly on the MNIST CNN")
    parser.add_argument("--spikingjelly-python", type=Path, required=True, metavar="PATH")
    parser.add_argument("--model", type=Path, default=models / "mnist_cnn.onnx")
    parser.add_argument("--calibration", type=Path, default=models / "mnist_calibration.npz")
    parser.add_argument("--test", type=Path, help=".npz with x, y (default: MNIST's test set)")
    parser.add_argument("-T", "--timesteps", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--limit", type=int, help="number of test images")
    parser.add_argument("--time-batches", type=int, default=7, help="runs per timing")
    parser.add_argument("--json", type=Path, help="where to write the result")
    args = parser.parse_args()
    if args.test is None:
        load_mnist("test")  # fetches it
        args.test = DATA_DIR / "mnist_test.npz"
    return args


def compare(args: argparse.Namespace) -> dict[str, Any]:
    """Measure every setting on both sides."""
    x, y = load_npz(args.test)
    limit = len(y) if args.limit is None else min(args.limit, len(y))
    x, y = x[:limit], y[:limit]
    ann = ort.InferenceSession(args.model, make_options(args), providers=["CPUExecutionProvider"])
    probabilities = predict(ann, x, args.batch_size)

    with tempfile.TemporaryDirectory() as folder:
        reference = Path(folder) / "reference.npy"
        np.save(reference, probabilities[:REFERENCE_IMAGES])
        steps = measure_spikingjelly(args, reference, "s", limit)
        multi = measure_spikingjelly(args, reference, "m", 0)

    rows = {}
    for name, mode in SETTINGS.items():
        exact = convert(args, mode, "exact")
        ema = convert(args, mode, "ema")
        rows[name] = {
            "spikingjelly_accuracy": steps["modes"][name]["accuracy"][-1],
            "exact_accuracy": accuracy(predict(exact, x, args.batch_size), y),
            "ema_accuracy": accuracy(predict(ema, x, args.batch_size), y),
            "spikingjelly_single_step_ms": 1e3 * steps["modes"][name]["seconds_per_batch"],
            "spikingjelly_multi_step_ms": 1e3 * multi["modes"][name]["seconds_per_batch"],
            "ms": 1e3 * seconds_per_batch(exact, x[: args.batch_size], args.time_batches),
        }
    return {
        "machine": describe_machine(),
        "versions": versions("onnx-snn", "onnxruntime", "numpy")
        | {name: steps[name] for name in ("spikingjelly", "torch")},
        "timesteps": args.timesteps,
        "batch_size": args.batch_size,
        "threads": args.threads,
        "images": limit,
        "ann_accuracy": accuracy(probabilities, y),
        "settings": rows,
    }


def show(report: dict[str, Any]) -> None:
    """Print the report as one table."""
    print(report["machine"])
    print(", ".join(f"{name} {number}" for name, number in report["versions"].items()))
    print(
        f"{report['images']} images, T = {report['timesteps']}, batch {report['batch_size']}, "
        f"{report['threads']} threads, ANN {report['ann_accuracy']:.2f} %\n"
    )
    print(f"{'':7} |{'accuracy, %':^27}|{'points':^16}|{'ms per batch':^29}|")
    print(
        f"{'setting':7} | {'SpJelly':>7}  {'exact':>7}  {'ema':>7} | {'exact':>6}  {'ema':>6} "
        f"| {'steps':>8}  {'multi':>8}  {'ours':>7} | ratio"
    )
    for name, row in report["settings"].items():
        theirs = row["spikingjelly_accuracy"]
        steps, multi = row["spikingjelly_single_step_ms"], row["spikingjelly_multi_step_ms"]
        exact, ema = row["exact_accuracy"], row["ema_accuracy"]
        print(
            f"{name:7} | {theirs:7.2f}  {exact:7.2f}  {ema:7.2f} "
            f"| {exact - theirs:+6.2f}  {ema - theirs:+6.2f} "
            f"| {steps:8.1f}  {multi:8.1f}  {row['ms']:7.1f} "
            f"| {min(steps, multi) / row['ms']:4.1f}x"
        )


def main() -> None:
    """Compare, print, and write the JSON file."""
    args = parse_args()
    report = compare(args)
    show(report)
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
