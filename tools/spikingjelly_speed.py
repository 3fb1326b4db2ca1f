"""Time a network of ``models/`` in SpikingJelly: both step modes, by number of threads.

The network is converted with the recipe 99.9% (see tools/spikingjelly_nets.py); how it was
converted does not matter for the time of a dense network.

Runs in an environment of its own, with pillow and onnx (see tools/record_spikingjelly.py):

    python tools/spikingjelly_speed.py cifar10_vgg models/cifar10_vgg.onnx data.npz -T 16
"""

import argparse
import json
import statistics
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from spikingjelly.activation_based import functional
from torch import Tensor, nn

from spikingjelly_nets import convert
from torch_from_onnx import BUILDERS, load_net


def run(snn: nn.Module, x: Tensor, timesteps: int, step_mode: str) -> Tensor:
    """Show the images at every step and return the sum of the logits, [N, 10]."""
    functional.reset_net(snn)
    if step_mode == "m":
        logits: Tensor = snn(x.expand(timesteps, *x.shape))
        return logits.sum(dim=0)
    return torch.stack([snn(x) for _ in range(timesteps)]).sum(dim=0)


def median_seconds(snn: nn.Module, x: Tensor, args: argparse.Namespace, step_mode: str) -> float:
    """Return the median time of a run, after one to warm up."""
    functional.set_step_mode(snn, step_mode)
    times = []
    for _ in range(1 + args.repeats):
        start = time.perf_counter()
        run(snn, x, args.timesteps, step_mode)
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="the speed of a network in SpikingJelly")
    parser.add_argument("net", choices=list(BUILDERS))
    parser.add_argument("model", type=Path, help="its ONNX file")
    parser.add_argument("data", type=Path, help=".npz with calibration and x, float32")
    parser.add_argument("-T", "--timesteps", type=int, default=16)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path, help="where to write the result")
    return parser.parse_args()


@torch.no_grad()
def main() -> None:
    """Time every step mode with every number of threads, print and write the result."""
    args = parse_args()
    with np.load(args.data) as arrays:
        calibration, x = (torch.from_numpy(arrays[name]) for name in ("calibration", "x"))
    snn = convert(load_net(args.net, args.model), "99.9%", calibration)
    seconds: dict[str, float] = {}
    for threads in args.threads:
        torch.set_num_threads(threads)
        for step_mode in "sm":
            seconds[f"{step_mode}{threads}"] = median_seconds(snn, x, args, step_mode)
    report = {
        "versions": {name: version(name) for name in ("spikingjelly", "torch")},
        "seconds": seconds,
    }
    text = json.dumps(report, indent=2)
    print(text)
    if args.json:
        args.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
