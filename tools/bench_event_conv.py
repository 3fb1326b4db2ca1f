"""Measure EventConvIFNeuron on the CPU against onnxruntime's Conv followed by IFNeuron.

    python tools/bench_event_conv.py --threads 2

Both run on the same T*N images of random spikes, in onnxruntime on buffers that exist already, and
take turns. The dense network has its spikes as float32, channels first, and runs in the same time
at every rate; ours has them as int8, channels last.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

import onnx_snn
from machine import describe_machine, versions
from neuron_model import IR_VERSION, OPSET, Array, BoundRun, aligned_empty, bind
from onnx_snn.ops import DOMAIN, EVENT_CONV_IF_NEURON, IF_NEURON, VERSION

WARM_UP = 2
GREATEST = {8: 127, 16: 32_639}  # integer weights
BARS = {0.02: 8.0, 0.05: 5.0, 0.1: 3.0, 0.2: 1.6, 0.5: 0.9}
"""At least so many times faster than the dense network, by firing rate."""


@dataclass(frozen=True)
class Layer:
    """A convolution with neurons behind it; the output is as large as the input."""

    size: int
    channels: int
    kernel: int = 3
    groups: int = 1

    @property
    def name(self) -> str:
        """Image size, kernel and channels."""
        kind = f", {self.groups} groups" if self.groups > 1 else ""
        return f"{self.size}x{self.size}, {self.kernel}x{self.kernel}, {self.channels}{kind}"


BAR_LAYERS = [Layer(32, 64), Layer(16, 128), Layer(8, 256), Layer(4, 512)]
OTHER_LAYERS = [
    Layer(32, 16),
    Layer(16, 32),
    Layer(16, 128, kernel=1),
    Layer(16, 128, groups=4),
    Layer(16, 128, groups=128),
    Layer(1, 1024, kernel=1),
]


def make_runs(
    layer: Layer, x: Array, steps: int, threads: int, weight_bits: int
) -> dict[str, BoundRun]:
    """Return a run of the dense network and one of ours on the same spikes, channels last."""
    random = np.random.default_rng(1)
    inputs = layer.channels // layer.groups
    fan_in = inputs * layer.kernel**2
    w = random.normal(0, fan_in**-0.5, (layer.kernel, layer.kernel, inputs, layer.channels))
    if weight_bits in GREATEST:  # as onnx_snn.passes.round_weights
        step = 2.0 ** np.ceil(np.log2(np.abs(w).max() / GREATEST[weight_bits]))
        w = np.rint(w / step) * step
    w, b = w.astype(np.float32), np.full(layer.channels, 0.1, np.float32)
    conv = {"pads": [layer.kernel // 2] * 4, "group": layer.groups}
    timesteps = np.array(steps)

    def session(
        nodes: list[Any], elem_type: int, initializers: Mapping[str, Array]
    ) -> ort.InferenceSession:
        value = helper.make_tensor_value_info
        graph = helper.make_graph(
            nodes,
            "layer",
            [value("x", elem_type, [None] * 4)],
            [value("s", elem_type, [None] * 4)],
            [numpy_helper.from_array(array, name) for name, array in initializers.items()],
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        # Or the threads of one session go on for a while, and take the other's time.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        return onnx_snn.create_session(model, ["CPUExecutionProvider"], options)

    dense = session(
        [
            helper.make_node("Conv", ["x", "W", "B"], ["currents"], **conv),
            helper.make_node(IF_NEURON, ["currents", "T"], ["s"], domain=DOMAIN),
        ],
        TensorProto.FLOAT,
        {"W": np.ascontiguousarray(w.transpose(3, 2, 0, 1)), "B": b, "T": timesteps},
    )
    node = helper.make_node(
        EVENT_CONV_IF_NEURON, ["x", "W", "B", "T"], ["s"], domain=DOMAIN, **conv
    )
    events = session([node], TensorProto.INT8, {"W": w, "B": b, "T": timesteps})

    x_dense = aligned_copy(x.transpose(0, 3, 1, 2).astype(np.float32))
    x_events = aligned_copy(x)
    s_dense = aligned_empty(x_dense.shape, np.float32)
    s_events = aligned_empty(x_events.shape, np.int8)
    runs = {
        "dense": bind(dense, {"x": x_dense}, {"s": s_dense}),
        "events": bind(events, {"x": x_events}, {"s": s_events}),
    }
    for run in runs.values():
        run()
    different = np.mean(s_dense.transpose(0, 2, 3, 1) != s_events)
    if different > 1e-3:  # sums are rounded in another order
        raise SystemExit(f"{layer.name}: {100 * different:.2f} % of the spikes differ")
    return runs


def aligned_copy(array: Array) -> Array:
    """Return a copy where onnxruntime would have put it."""
    copy = aligned_empty(array.shape, array.dtype)
    copy[:] = array
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


def measure_layer(layer: Layer, rate: float, args: argparse.Namespace) -> dict[str, Any]:
    """Measure one layer at one rate."""
    random = np.random.default_rng(0)
    shape = (args.steps * args.images, layer.size, layer.size, layer.channels)
    x = (random.random(shape, np.float32) < rate).astype(np.int8)
    seconds = median_seconds(
        make_runs(layer, x, args.steps, args.threads, args.weight_bits), args.repeats
    )
    fan_out = layer.kernel**2 * layer.channels // layer.groups
    ratio = seconds["dense"] / seconds["events"]
    return {
        "layer": layer.name,
        "rate": rate,
        "dense_ms": 1e3 * seconds["dense"],
        "events_ms": 1e3 * seconds["events"],
        "times_faster": ratio,
        "synaptic_operations_per_second": float(x.sum()) * fan_out / seconds["events"],
        "bar": BARS.get(rate) if layer in BAR_LAYERS else None,
    }


def show(report: Mapping[str, Any]) -> None:
    """Print the report as one table."""
    print(report["machine"])
    print(", ".join(f"{name} {number}" for name, number in report["versions"].items()))
    print(
        f"T = {report['steps']}, N = {report['images']}, {report['threads']} threads, "
        f"medians of {report['repeats']} runs; dense: Conv and IFNeuron\n"
    )
    print(
        f"{'layer':26} | {'rate':>5} | {'dense ms':>8}  {'ours ms':>8} | {'faster':>6}  GSOP/s  bar"
    )
    for row in report["rows"]:
        bar, verdict = row["bar"], ""
        if bar:
            verdict = f"{bar:>4} {'met' if row['times_faster'] >= bar else 'missed'}"
        print(
            f"{row['layer']:26} | {row['rate']:4.0%}  | {row['dense_ms']:8.2f}  "
            f"{row['events_ms']:8.2f} | {row['times_faster']:6.2f}  "
            f"{1e-9 * row['synaptic_operations_per_second']:6.1f}  {verdict}"
        )


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description="Event-driven layers against dense ones, on the CPU"
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=11)
    parser.add_argument("--steps", type=int, default=16, help="T")
    parser.add_argument("--images", type=int, default=4, help="N")
    parser.add_argument("--rates", type=float, nargs="+", default=list(BARS), help="of the input")
    parser.add_argument("--weight-bits", type=int, choices=[*GREATEST, 32], default=32, help="of W")
    parser.add_argument("--all", action="store_true", help="further kinds of layers too")
    parser.add_argument("--json", type=Path, help="where to write the result")
    return parser.parse_args()


def main() -> None:
    """Measure, print, and write the JSON file."""
    args = parse_args()
    layers = BAR_LAYERS + (OTHER_LAYERS if args.all else [])
    report = {
        "machine": describe_machine(),
        "versions": versions("onnx-snn", "onnxruntime", "numpy"),
        "threads": args.threads,
        "steps": args.steps,
        "images": args.images,
        "repeats": args.repeats,
        "weight_bits": args.weight_bits,
        "rows": [measure_layer(layer, rate, args) for layer in layers for rate in args.rates],
    }
    show(report)
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
