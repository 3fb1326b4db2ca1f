"""Measure whole networks on the CPU: the ANN, SpikingJelly, and our dense and event-driven forms.

    python tools/bench_cpu.py --spikingjelly-python .spikingjelly/bin/python --plot time.png

All see the same real test images in one batch. `dense` is a converted network as `convert` writes
it, with native neurons between onnxruntime's layers; `portable` the same in a stock onnxruntime;
`events` the one with ``target="cpu"``, and `events, 16 bits` and `events, 8 bits` the same with
``weight_bits`` (and without bias calibration, which takes no time in a run). They take turns;
SpikingJelly runs as a subprocess in its own environment just before, and its better step mode with
its better number of threads counts.

A synaptic operation is a weight added because of an event: every active input of a layer times
what it is connected to. `--layers` tells them, and the time of each layer, one by one. `--plot`
draws the time of single layers against the firing rate of their input, and the dense line.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

import bench_event_conv
import onnx_snn
from bench_event_conv import median_seconds
from compare_presets import NETWORKS, count_spikes, session_options
from machine import cpu_count, describe_machine, versions
from onnx_snn.ops import (
    DOMAIN,
    EVENT_CONV,
    EVENT_CONV_ADD_IF_NEURON,
    EVENT_CONV_IF_NEURON,
)
from spikingjelly_process import run_spikingjelly

CPU = ["CPUExecutionProvider"]
STEPS = {"mnist": 50, "resnet20": 16, "vgg": 16}
CALIBRATION_IMAGES = 256
SPIKINGJELLY_BAR = 8.0
ANN_BAR = 3.0
PLOT_RATES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)


@dataclass(frozen=True)
class Layer:
    """An event-driven layer of a converted network.

    Attributes:
        name: of its node.
        rate: the share of its inputs that is not 0.
        operations: synaptic operations of the run.
        seconds: that a run spends in it, or 0.
    """

    name: str
    rate: float
    operations: float
    seconds: float


def runner(session: ort.InferenceSession, x: Any) -> Callable[[], Any]:
    """Return a run of a session on images."""
    feeds = {session.get_inputs()[0].name: x}
    return lambda: session.run(None, feeds)


def event_layers(model: onnx.ModelProto, x: Any, args: argparse.Namespace) -> list[Layer]:
    """Return the event-driven layers of a model, with what they did for these images."""
    sources = {
        EVENT_CONV: [("", 0, 1)],
        EVENT_CONV_IF_NEURON: [("", 0, 1)],
        EVENT_CONV_ADD_IF_NEURON: [("", 0, 1), ("shortcut", 3, 4)],
    }
    nodes = [n for n in model.graph.node if n.domain == DOMAIN and n.op_type in sources]
    sizes = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    read = sorted({node.input[index] for node in nodes for _, index, _ in sources[node.op_type]})
    for name in read:
        probe.graph.output.append(helper.make_tensor_value_info(name, TensorProto.INT8, None))
    session = onnx_snn.create_session(probe, CPU, session_options(args.threads))
    feeds = {session.get_inputs()[0].name: x}
    events = dict(zip(read, session.run(read, feeds), strict=True))
    seconds = profile(model, x, args)
    layers = []
    for node in nodes:
        done, rate = 0.0, 0.0
        for kind, index, weight in sources[node.op_type]:
            active = events[node.input[index]] != 0
            if not kind:
                rate = float(active.mean())
            done += synapses(node, kind, active, sizes[node.input[weight]])
        layers.append(Layer(node.name, rate, done, seconds.get(node.name, 0.0)))
    return layers


def synapses(node: onnx.NodeProto, kind: str, active: Any, weight: Any) -> float:
    """Return how many weights the active inputs [N, H, W, C] of a layer meet, exactly."""
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    prefix = f"{kind}_" if kind else ""
    strides = attributes[f"{prefix}strides"]
    pads = [0] * 4 if kind else attributes["pads"]
    dilations = [1, 1] if kind else attributes["dilations"]
    group = attributes[f"{prefix}group"]
    taps = []  # of each row, and of each column: the kernel's positions that lie over it
    for axis in range(2):
        size, kernel = active.shape[1 + axis], weight[axis]
        reach = (kernel - 1) * dilations[axis] + 1
        outputs = (size + pads[axis] + pads[axis + 2] - reach) // strides[axis] + 1
        met = np.zeros(size)
        for tap in range(kernel):
            places = np.arange(outputs) * strides[axis] + tap * dilations[axis] - pads[axis]
            met[places[(places >= 0) & (places < size)]] += 1
        taps.append(met)
    per_pixel = active.sum(axis=(0, 3))
    return float(taps[0] @ per_pixel @ taps[1]) * weight[3] / group


def profile(model: onnx.ModelProto, x: Any, args: argparse.Namespace) -> dict[str, float]:
    """Return the median seconds that a run spends in each node."""
    with tempfile.TemporaryDirectory() as folder:
        options = session_options(args.threads)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnx_snn.create_session(model, CPU, options)
        run = runner(session, x)
        for _ in range(args.repeats):
            run()
        events = json.loads(Path(session.end_profiling()).read_text())
    taken: dict[str, list[float]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            name = event["name"].removesuffix("_kernel_time")
            taken.setdefault(name, []).append(1e-6 * event["dur"])
    return {name: statistics.median(times) for name, times in taken.items()}


def measure_spikingjelly(name: str, data: Any, x: Any, args: argparse.Namespace) -> dict[str, Any]:
    """Run tools/spikingjelly_speed.py in its environment and return its report."""
    network = NETWORKS[name]
    with tempfile.TemporaryDirectory() as folder:
        arrays = Path(folder) / "data.npz"
        np.savez(arrays, calibration=data.calibration[:CALIBRATION_IMAGES], x=x)
        return run_spikingjelly(
            args.spikingjelly_python,
            "spikingjelly_speed.py",
            *(network.peer, network.model, arrays),
            *("--timesteps", args.timesteps or STEPS[name]),
            *("--threads", *range(1, args.threads + 1)),
            *("--repeats", args.repeats),
        )


def measure(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """Measure one network in all forms."""
    network, steps = NETWORKS[name], args.timesteps or STEPS[name]
    data = network.load()
    x = data.x[: args.batch]
    peer = measure_spikingjelly(name, data, x, args) if args.spikingjelly_python else None
    converted = onnx_snn.convert(
        network.model, data.calibration[:CALIBRATION_IMAGES], timesteps=steps, holdout=0.0
    )
    dense, events = converted.model, onnx_snn.reschedule(converted.model, target="cpu")

    def of_few_bits(bits: int) -> onnx.ModelProto:
        options = {"timesteps": steps, "target": "cpu", "weight_bits": bits}
        return onnx_snn.convert(network.model, stats=converted.stats, **options).model

    def session(model: onnx.ModelProto, *, native: bool = True) -> ort.InferenceSession:
        options = session_options(args.threads)
        return onnx_snn.create_session(model, CPU, options, use_native=native)

    ann = ort.InferenceSession(network.model, session_options(args.threads), providers=CPU)
    runs = {
        "ann": runner(ann, x),
        "dense": runner(session(dense), x),
        "events": runner(session(events), x),
        **{f"events, {bits} bits": runner(session(of_few_bits(bits)), x) for bits in (16, 8)},
    }
    different = np.mean(runs["dense"]()[0].argmax(1) != runs["events"]()[0].argmax(1))
    seconds = median_seconds(runs, args.repeats)
    slow = {"portable": runner(session(dense, native=False), x)}
    seconds |= median_seconds(slow, min(args.repeats, 3))
    layers = event_layers(events, x, args)
    operations = sum(layer.operations for layer in layers)
    spikes = count_spikes(dense, x, steps, args)
    result = {
        "network": name,
        "steps": steps,
        "milliseconds_per_image": {k: 1e3 * s / len(x) for k, s in seconds.items()},
        "spikes_per_neuron": spikes,
        "firing_rate": spikes / steps,
        "synaptic_operations_per_second": operations / seconds["events"],
        "differing_answers": float(different),
        "layers": [vars(layer) for layer in layers],
    }
    if peer:
        best = min(peer["seconds"], key=peer["seconds"].__getitem__)
        result["spikingjelly"] = peer
        result["milliseconds_per_image"]["spikingjelly"] = 1e3 * peer["seconds"][best] / len(x)
        result["spikingjelly_best"] = best
    return result


def show(result: Mapping[str, Any], args: argparse.Namespace) -> None:
    """Print the lines of one network."""
    taken = result["milliseconds_per_image"]
    print(
        f"\n{result['network']}, T = {result['steps']}, batch {args.batch}: "
        f"{result['spikes_per_neuron']:.2f} spikes per neuron (rate {result['firing_rate']:.1%}), "
        f"{1e-9 * result['synaptic_operations_per_second']:.1f} G synaptic operations/s"
    )
    events = [form for form in taken if form.startswith("events")]
    for form in ("ann", *events, "dense", "portable", "spikingjelly"):
        if form not in taken:
            continue
        line = f"  {form:15} {taken[form]:9.3f} ms/image  {taken[form] / taken['ann']:7.2f} x ANN"
        if form in events:
            verdict = "met" if taken[form] <= ANN_BAR * taken["ann"] else "missed"
            line += f"  (bar {ANN_BAR:g}: {verdict})" if result["network"] != "mnist" else ""
        else:
            line += f"  {taken[form] / taken['events']:7.2f} x events"
        if form == "spikingjelly":
            faster = taken[form] / taken["events"]
            verdict = "met" if faster >= SPIKINGJELLY_BAR else "missed"
            line += f"  (bar {SPIKINGJELLY_BAR:g}: {verdict}; best {result['spikingjelly_best']})"
        print(line, flush=True)
    if args.layers:
        for layer in result["layers"]:
            speed = layer["operations"] / layer["seconds"] if layer["seconds"] else 0.0
            print(
                f"    {layer['name']:34} rate {layer['rate']:6.1%}  {1e3 * layer['seconds']:8.3f} "
                f"ms  {1e-9 * speed:6.1f} GSOP/s"
            )


def plot(path: Path, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Measure single layers at several firing rates, and draw their time against the rate."""
    import matplotlib.pyplot as plt
    from matplotlib import ticker

    settings = argparse.Namespace(
        steps=16, images=4, threads=args.threads, repeats=args.repeats, weight_bits=32
    )
    figure, axes = plt.subplots(figsize=(7, 4.5), layout="constrained")
    rows = []
    for colour, layer in enumerate(bench_event_conv.BAR_LAYERS):
        measured = [bench_event_conv.measure_layer(layer, rate, settings) for rate in PLOT_RATES]
        rates = [100 * row["rate"] for row in measured]
        axes.plot(rates, [r["events_ms"] for r in measured], f"C{colour}o-", label=layer.name)
        dense = statistics.median(r["dense_ms"] for r in measured)
        axes.axhline(dense, color=f"C{colour}", linestyle="--", linewidth=1)
        rows += measured
    axes.set(
        xlabel="firing rate of the input, %",
        ylabel="ms for 16 steps of 4 images",
        title="Event-driven layers; dashed: onnxruntime's Conv, then IFNeuron",
        xscale="log",
        yscale="log",
    )
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter(ticker.FormatStrFormatter("%g"))
        axis.set_minor_formatter(ticker.NullFormatter())
    axes.legend(title="layer", loc="center left")
    figure.savefig(path, dpi=120)
    return rows


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Whole networks on the CPU")
    parser.add_argument("--models", nargs="+", choices=list(STEPS), default=list(STEPS))
    parser.add_argument("--timesteps", type=int, help=f"T (default: {STEPS})")
    parser.add_argument("--spikingjelly-python", type=Path, metavar="PATH")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int, default=cpu_count())
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--layers", action="store_true", help="tell of every layer")
    parser.add_argument("--plot", type=Path, metavar="PNG", help="time against firing rate")
    parser.add_argument("--json", type=Path, help="where to write the result")
    return parser.parse_args()


def main() -> None:
    """Measure, print, draw and write the JSON file."""
    args = parse_args()
    numbers = versions("onnx-snn", "onnxruntime", "numpy")
    print(f"{describe_machine()}, {args.threads} threads")
    print(", ".join(f"{name} {number}" for name, number in numbers.items()))
    results = []
    for name in args.models:
        results.append(measure(name, args))
        show(results[-1], args)
    rows = plot(args.plot, args) if args.plot else []
    if args.json:
        content = {
            "machine": describe_machine(),
            "versions": numbers,
            "threads": args.threads,
            "batch": args.batch,
            "repeats": args.repeats,
            "networks": results,
            "plot": rows,
        }
        args.json.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
