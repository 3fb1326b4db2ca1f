"""Convert the MNIST CNN with SpikingJelly and measure its accuracy, thresholds and speed.

The network is rebuilt in torch with the weights of the ONNX file and converted with
SpikingJelly's `RateCodingRecipe`. Its logits are summed over time, and the recipe knows no
Softmax, so the last layer is left out: the answer is the same.

Runs in an environment of its own (see tools/record_spikingjelly.py):

    python tools/spikingjelly_mnist.py models/mnist_cnn.onnx models/mnist_calibration.npz \
        models/mnist_test.npz --modes max,99.9%,1/2 -T 50 --json result.json
"""

import argparse
import copy
import json
import statistics
import time
from collections.abc import Iterable
from fractions import Fraction
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from spikingjelly.activation_based import functional
from spikingjelly.activation_based.ann2snn import Converter
from spikingjelly.activation_based.ann2snn.modules import VoltageScaler
from spikingjelly.activation_based.ann2snn.recipes import RateCodingRecipe
from torch import Tensor, nn

from train_mnist_cnn import load_onnx_weights, mnist_cnn

CALIBRATION_BATCH = 100


def parse_mode(text: str) -> str | float:
    """Parse ``max``, ``99.9%``, ``0.5`` or ``1/3``."""
    return text if text == "max" or text.endswith("%") else float(Fraction(text))


def load_npz(path: Path, limit: int | None = None) -> tuple[Tensor, Tensor]:
    """Load images and labels, at most `limit` of them."""
    with np.load(path) as data:
        return torch.from_numpy(data["x"][:limit]), torch.from_numpy(data["y"][:limit])


def convert(ann: nn.Module, mode: str | float, batches: Iterable[Tensor]) -> nn.Module:
    """Convert with layer-wise thresholds, V0 = 0."""
    return Converter(RateCodingRecipe(batches, mode=mode)).convert(copy.deepcopy(ann)).eval()


def thresholds(snn: nn.Module) -> list[float]:
    """Return the threshold of every spiking layer, in order."""
    return [
        module.scale.item()
        for name, module in snn.named_modules()
        if isinstance(module, VoltageScaler) and name.endswith("scaler1")
    ]


def simulate(snn: nn.Module, x: Tensor, timesteps: int, step_mode: str) -> Tensor:
    """Show the images at every step and return the summed logits so far, [T, N, 10]."""
    functional.reset_net(snn)
    if step_mode == "m":
        logits = snn(x.expand(timesteps, *x.shape))
    else:
        logits = torch.stack([snn(x) for _ in range(timesteps)])
    return logits.cumsum(dim=0)


def accuracies(snn: nn.Module, x: Tensor, y: Tensor, args: argparse.Namespace) -> list[float]:
    """Return the accuracy after every step, in percent."""
    correct = torch.zeros(args.timesteps, dtype=torch.int64)
    for images, labels in zip(x.split(args.batch_size), y.split(args.batch_size), strict=True):
        answers = simulate(snn, images, args.timesteps, args.step_mode).argmax(dim=2)
        correct += (answers == labels).sum(dim=1)
    return [100.0 * count / len(y) for count in correct.tolist()]


def seconds_per_batch(snn: nn.Module, x: Tensor, args: argparse.Namespace) -> float:
    """Return the median time of `time_batches` runs of the first batch, after one to warm up."""
    times = []
    for _ in range(1 + args.time_batches):
        start = time.perf_counter()
        simulate(snn, x[: args.batch_size], args.timesteps, args.step_mode)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def check_reference(ann: nn.Module, x: Tensor, path: Path) -> None:
    """Compare the rebuilt network's probabilities with recorded ones of the first images."""
    recorded = np.load(path)
    probabilities = torch.cat([ann(batch) for batch in x[: len(recorded)].split(500)])
    np.testing.assert_allclose(probabilities.numpy(), recorded, rtol=1e-3, atol=1e-5)


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="the MNIST CNN in SpikingJelly")
    parser.add_argument("model", type=Path, help="ONNX file of the CNN")
    parser.add_argument("calibration", type=Path, help=".npz with x, y")
    parser.add_argument("test", type=Path, help=".npz with x, y")
    parser.add_argument("--modes", default="max,99.9%,1/2,1/3,1/4,1/5")
    parser.add_argument("-T", "--timesteps", type=int, default=50)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--step-mode", choices=("s", "m"), default="s")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--limit", type=int, help="test images for the accuracy (0: only timing)")
    parser.add_argument("--time-batches", type=int, default=0, help="batches to time (0: none)")
    parser.add_argument("--reference", type=Path, help=".npy of the ANN's outputs to check")
    parser.add_argument("--json", type=Path, help="where to write the result")
    return parser.parse_args()


@torch.no_grad()
def main() -> None:
    """Measure every mode, print a line for each, and write the JSON file."""
    args = parse_args()
    torch.set_num_threads(args.threads)
    x_calibration, _ = load_npz(args.calibration)
    x, y = load_npz(args.test)
    limit = len(y) if args.limit is None else args.limit

    ann = mnist_cnn()
    load_onnx_weights(ann, args.model)
    if args.reference:
        check_reference(ann, x, args.reference)
    ann = ann[:-1]  # without the Softmax

    modes: dict[str, dict[str, float | list[float]]] = {}
    for text in args.modes.split(","):
        snn = convert(ann, parse_mode(text), x_calibration.split(CALIBRATION_BATCH))
        functional.set_step_mode(snn, args.step_mode)
        levels = thresholds(snn)
        modes[text] = {"thresholds": levels}
        line = f"{text:>8}  thresholds " + " ".join(f"{level:.6f}" for level in levels)
        if limit:
            curve = accuracies(snn, x[:limit], y[:limit], args)
            modes[text]["accuracy"] = curve
            line += f"  accuracy {curve[-1]:.2f} %"
        if args.time_batches:
            seconds = seconds_per_batch(snn, x, args)
            modes[text]["seconds_per_batch"] = seconds
            line += f"  {1e3 * seconds:.1f} ms per batch"
        print(line, flush=True)

    if args.json:
        report = {
            "spikingjelly": version("spikingjelly"),
            "torch": version("torch"),
            "timesteps": args.timesteps,
            "batch_size": args.batch_size,
            "step_mode": args.step_mode,
            "threads": args.threads,
            "images": limit,
            "modes": modes,
        }
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
