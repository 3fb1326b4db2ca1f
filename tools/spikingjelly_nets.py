"""Convert a network of ``models/`` with SpikingJelly and measure its accuracy at several T.

Two recipes, both calibrated on the same images:

- ``99.9%``: `RateCodingRecipe`, layer-wise thresholds, V0 = 0.
- ``LTB``: `LocalThresholdBalancingRecipe`, channel-wise thresholds, V0 = 1/2. Its thresholds grow
  by a step for every batch, and too few steps leave them far too small. SpikingJelly's example for
  ImageNet makes 391 of 50,000 images; small batches and several passes make up to 512 of 1,024.
  ``LTB delayed`` is the same network read out only from the step on that SpikingJelly's
  `estimate_delay_start` proposes.

All T come from one run: the answer at T is that of the logits summed over the first T steps.

Runs in an environment of its own, with pillow and onnx (see tools/record_spikingjelly.py):

    python tools/spikingjelly_nets.py cifar10_vgg models/cifar10_vgg.onnx data.npz -T 8 16 32
"""

import argparse
import copy
import json
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from spikingjelly.activation_based import functional
from spikingjelly.activation_based.ann2snn import Converter, estimate_delay_start
from spikingjelly.activation_based.ann2snn.recipes import (
    LocalThresholdBalancingRecipe,
    RateCodingRecipe,
)
from torch import Tensor, nn

from torch_from_onnx import BUILDERS, load_net

RATE_BATCH = 100
LTB_BATCH = 8
LTB_PASSES = 4


def convert(ann: nn.Module, recipe: str, calibration: Tensor) -> nn.Module:
    """Convert with the recipe ``"99.9%"`` or ``"LTB"``."""
    if recipe == "LTB":
        chosen = LocalThresholdBalancingRecipe(calibration.split(LTB_BATCH) * LTB_PASSES)
    else:
        chosen = RateCodingRecipe(calibration.split(RATE_BATCH), mode=recipe)
    return Converter(chosen).convert(copy.deepcopy(ann)).eval()


def delays(snn: nn.Module, calibration: Tensor, timesteps: list[int]) -> dict[int, int]:
    """Return for each T how many steps SpikingJelly would not read out."""
    batches = calibration.split(RATE_BATCH)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where T is too small for a delay
        return {t: estimate_delay_start(snn, batches, "cpu", t) for t in timesteps}


def simulate(snn: nn.Module, x: Tensor, timesteps: int) -> Tensor:
    """Show the images at every step and return the sum of the logits so far, [T + 1, N, 10]."""
    functional.reset_net(snn)
    logits = torch.stack([snn(x) for _ in range(timesteps)])
    return torch.cat([torch.zeros_like(logits[:1]), logits.cumsum(dim=0)])


def accuracies(
    snn: nn.Module, data: dict[str, Tensor], windows: list[tuple[int, int]], batch_size: int
) -> list[float]:
    """Return the accuracy in percent for each window (first, end) of steps that are read out."""
    correct = np.zeros(len(windows), np.int64)
    batches = zip(data["x"].split(batch_size), data["y"].split(batch_size), strict=True)
    for x, y in batches:
        sums = simulate(snn, x, max(end for _, end in windows))
        answers = [(sums[end] - sums[first]).argmax(dim=1) for first, end in windows]
        correct += [int((answer == y).sum()) for answer in answers]
    return (100.0 * correct / len(data["y"])).tolist()


def measure(ann: nn.Module, data: dict[str, Tensor], args: argparse.Namespace) -> dict[str, Any]:
    """Return for each recipe the accuracy by T, and the seconds that it took."""
    timesteps: list[int] = args.timesteps
    report: dict[str, Any] = {}
    for recipe in ("99.9%", "LTB"):
        start = time.perf_counter()
        snn = convert(ann, recipe, data["calibration"])
        windows = [(0, t) for t in timesteps]
        waits = delays(snn, data["calibration"], timesteps) if recipe == "LTB" else {}
        windows += [(waits[t], t) for t in timesteps if waits]
        values = accuracies(snn, data, windows, args.batch_size)
        seconds = time.perf_counter() - start
        report[recipe] = {
            "accuracy": dict(zip(timesteps, values[: len(timesteps)], strict=True)),
            "seconds": seconds,
        }
        if waits:
            report[f"{recipe} delayed"] = {
                "accuracy": dict(zip(timesteps, values[len(timesteps) :], strict=True)),
                "delay": waits,
            }
    return report


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="a network of models/ in SpikingJelly")
    parser.add_argument("net", choices=list(BUILDERS))
    parser.add_argument("model", type=Path, help="its ONNX file")
    parser.add_argument("data", type=Path, help=".npz with calibration, x (float32) and y")
    parser.add_argument("-T", "--timesteps", type=int, nargs="+", default=[8, 16, 32])
    parser.add_argument("--batch-size", type=int, default=50)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="where to write the result")
    return parser.parse_args()


@torch.no_grad()
def main() -> None:
    """Measure both recipes, print and write the result."""
    args = parse_args()
    torch.set_num_threads(args.threads)
    with np.load(args.data) as arrays:
        data = {name: torch.from_numpy(arrays[name]) for name in ("calibration", "x", "y")}
    ann = load_net(args.net, args.model)
    answers = torch.cat([ann(x).argmax(dim=1) for x in data["x"].split(args.batch_size)])
    report = {
        "versions": {name: version(name) for name in ("spikingjelly", "torch")},
        "ann_accuracy": 100.0 * float((answers == data["y"]).double().mean()),
        "recipes": measure(ann, data, args),
    }
    text = json.dumps(report, indent=2)
    print(text)
    if args.json:
        args.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
