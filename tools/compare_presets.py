"""Compare the presets with the ANN and with SpikingJelly on real networks: one table, one run.

All see the same test images and are calibrated on the same at most 1,024 others; nothing is
trained. Loss is in points of top-1 accuracy against the ANN; of EfficientNet-Lite0, whose photos
have no labels, only the agreement with the ANN is told. A row of the table may have a bar.

    mnist         models/mnist_cnn.onnx, MNIST's 10,000 test images
    resnet20      models/cifar10_resnet20.onnx, 5,000 test images (see tools/train_cifar10.py)
    vgg           models/cifar10_vgg.onnx, the same
    efficientnet  EfficientNet-Lite0, 200 crops of photos (see tools/fetch_efficientnet_lite0.py)

SpikingJelly runs as a subprocess in its own environment (see tools/spikingjelly_nets.py); its
columns are its accuracy lost after the same T, with the recipes 99.9% and LTB, and with LTB where
the readout starts late. Without that environment they are left out:

    python tools/compare_presets.py --spikingjelly-python .spikingjelly/bin/python
"""

import argparse
import functools
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper

import onnx_snn
from fetch_efficientnet_lite0 import MODEL_PATH, load_photos
from fetch_mnist import load_mnist
from machine import cpu_count, describe_machine, versions
from onnx_snn.ops import DOMAIN, NEURONS
from onnx_snn.reference import reference
from spikingjelly_process import run_spikingjelly

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "models"
CALIBRATION_IMAGES = 1_024
RECIPES = ("99.9%", "LTB", "LTB delayed")
SPIKES_IMAGES = 50
DRAIN_BLOCK = 8
ERRORS_ONLY = 3

Images = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Data:
    """Images to calibrate on and to test with, [N, C, H, W] each; labels [N] or None."""

    calibration: Images
    x: Images
    y: Labels | None


@dataclass(frozen=True)
class Network:
    """A trained network.

    Attributes:
        model: its ONNX file.
        load: reads its data.
        rows: images times steps of one run, few enough for the memory.
        peer: its name in tools/torch_from_onnx.py; None: SpikingJelly does not run it.
    """

    model: Path
    load: Callable[[], Data]
    rows: int
    peer: str | None = None


@dataclass(frozen=True)
class Row:
    """A preset on a network, and its bar.

    Attributes:
        network: key of `NETWORKS`.
        preset: of `onnx_snn.convert`.
        timesteps: T.
        most_loss: bar: points of accuracy that may be lost.
        least_agreement: bar: percent of the images classified as by the ANN.
        equals_quantised: bar: every image is classified as by the quantised ANN.
    """

    network: str
    preset: str
    timesteps: int
    most_loss: float | None = None
    least_agreement: float | None = None
    equals_quantised: bool = False


def mnist() -> Data:
    """Load MNIST, scaled to [0, 1]."""
    with np.load(MODELS / "mnist_calibration.npz") as data:
        calibration = data["x"]
    return Data(calibration, *load_mnist("test"))


@functools.cache
def cifar10() -> Data:
    """Load CIFAR-10, scaled to [0, 1]."""
    from train_cifar10 import DATA_DIR, load_cifar10  # needs torch

    def to_input(pixels: npt.NDArray[np.uint8]) -> Images:
        return np.ascontiguousarray(pixels.transpose(0, 3, 1, 2), np.float32) / np.float32(255)

    calibration, _ = load_cifar10(DATA_DIR / "cifar10_train.npz")
    x, y = load_cifar10(DATA_DIR / "cifar10_test.npz")
    return Data(to_input(calibration[:CALIBRATION_IMAGES]), to_input(x), y)


def photos() -> Data:
    """Load crops of photos; those to calibrate on are of other photos."""
    return Data(load_photos("calibration"), load_photos("test"), None)


NETWORKS: Mapping[str, Network] = {
    "mnist": Network(MODELS / "mnist_cnn.onnx", mnist, 3_200, "mnist_cnn"),
    "resnet20": Network(MODELS / "cifar10_resnet20.onnx", cifar10, 800, "cifar10_resnet20"),
    "vgg": Network(MODELS / "cifar10_vgg.onnx", cifar10, 800, "cifar10_vgg"),
    "efficientnet": Network(MODEL_PATH, photos, 64),
}

ROWS = (
    Row("mnist", "classic", 16),
    Row("mnist", "default", 8, most_loss=0.10),
    Row("mnist", "default", 16, most_loss=0.03),
    Row("mnist", "radix", 6, most_loss=0.03),
    Row("resnet20", "classic", 32),
    Row("resnet20", "binary", 16, most_loss=2.0),
    Row("resnet20", "binary", 32, most_loss=0.8),
    Row("resnet20", "default", 8, most_loss=1.5),
    Row("resnet20", "default", 16, most_loss=0.5),
    Row("resnet20", "default", 32, most_loss=0.2),
    Row("resnet20", "lossless", 32, equals_quantised=True),
    Row("resnet20", "radix", 6, most_loss=0.3),
    Row("resnet20", "radix", 8, most_loss=0.1),
    Row("vgg", "classic", 32),
    Row("vgg", "default", 8, most_loss=1.0),
    Row("vgg", "default", 16, most_loss=0.4),
    Row("vgg", "default", 32, most_loss=0.2),
    Row("efficientnet", "default", 32, least_agreement=80.0),
    Row("efficientnet", "radix", 8, least_agreement=97.0),
)


def session_options(threads: int) -> ort.SessionOptions:
    """Return session options with the number of threads asked for."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    # Or the threads of one session go on for a while, and take the next one's time.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = ERRORS_ONLY
    return options


def open_session(model: onnx.ModelProto, threads: int) -> ort.InferenceSession:
    """Open a converted model, or any other, on the CPU."""
    options = session_options(threads)
    return onnx_snn.create_session(model, ["CPUExecutionProvider"], options)


def predict(session: ort.InferenceSession, x: Images, batch_size: int) -> Labels:
    """Return the class of each image, by the first output."""
    name, output = session.get_inputs()[0].name, session.get_outputs()[0].name
    batches = (x[i : i + batch_size] for i in range(0, len(x), batch_size))
    classes = [session.run([output], {name: batch})[0].argmax(axis=1) for batch in batches]
    return np.concatenate(classes)


def count_spikes(model: onnx.ModelProto, x: Images, steps: int, args: argparse.Namespace) -> float:
    """Return the mean number of spikes of a neuron for one image, negative ones too.

    Args:
        model: Converted, with schedule ``layer``; spikes [T·N, …] are the first output of neurons.
        x: Images, of one run.
        steps: Steps T of a run.
        args: Of the command line.
    """
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    neurons = [n for n in probe.graph.node if n.domain == DOMAIN and n.op_type in NEURONS]
    outputs = []
    for index, node in enumerate(neurons):
        spikes, sizes = f"spikes/{index}", f"sizes/{index}"
        probe.graph.node.append(
            helper.make_node("ReduceL1", [node.output[0]], [spikes], keepdims=0)
        )
        probe.graph.node.append(helper.make_node("Size", [node.output[0]], [sizes]))
        for name, kind in ((spikes, TensorProto.FLOAT), (sizes, TensorProto.INT64)):
            probe.graph.output.append(helper.make_tensor_value_info(name, kind, []))
            outputs.append(name)
    session = open_session(probe, args.threads)
    counts = session.run(outputs, {session.get_inputs()[0].name: x})
    return float(steps * sum(counts[0::2]) / sum(counts[1::2]))


def measure(
    row: Row, network: Network, data: Data, ann_classes: Labels, args: argparse.Namespace
) -> dict[str, Any]:
    """Convert, run all test images, and compare."""
    start = time.perf_counter()
    snn = onnx_snn.convert(
        network.model,
        data.calibration,
        preset=row.preset,
        timesteps=row.timesteps,
        holdout=0.0,
        weight_bits=args.weight_bits,
    )
    converted = time.perf_counter()
    steps = snn.report.timesteps
    # A loop ends once no neuron fires, which saves most steps of a run that goes on until then.
    schedule = {"schedule": "loop", "block": DRAIN_BLOCK} if steps > row.timesteps else {}
    batch_size = max(1, network.rows // schedule.get("block", steps))
    shown = onnx_snn.reschedule(snn.model, target=args.target, **schedule)
    classes = predict(open_session(shown, args.threads), data.x, batch_size)
    done = time.perf_counter()
    few = data.x[: min(max(1, network.rows // steps), SPIKES_IMAGES)]
    result: dict[str, Any] = {
        "agreement": percent(classes == ann_classes),
        "steps": steps,
        "latency": snn.report.latency,
        "spikes_per_neuron": count_spikes(snn.model, few, steps, args),
        "convert_seconds": converted - start,
        "run_seconds": done - converted,
    }
    if data.y is not None:
        ann_accuracy, accuracy = percent(ann_classes == data.y), percent(classes == data.y)
        result |= {"accuracy": accuracy, "loss": ann_accuracy - accuracy}
    if row.equals_quantised:
        quantised = open_session(reference(snn.model), args.threads)
        same = classes == predict(quantised, data.x, batch_size)
        result["equal_to_quantised"] = percent(same)
    return result


def percent(right: npt.NDArray[np.bool_]) -> float:
    """Return the share that is true, in percent."""
    return 100.0 * float(right.mean())


def bar_of(row: Row) -> str:
    """Return the bar as text; empty: none."""
    if row.most_loss is not None:
        return f"loss <= {row.most_loss:.2f}"
    if row.least_agreement is not None:
        return f"agree >= {row.least_agreement:g} %"
    return "= QANN" if row.equals_quantised else ""


def meets_bar(row: Row, result: Mapping[str, Any]) -> bool | None:
    """Return whether a result meets the row's bar; None: there is none."""
    slack = 1e-9  # what is exactly the bar, but for rounding, meets it
    if row.most_loss is not None:
        return bool(result["loss"] <= row.most_loss + slack)
    if row.least_agreement is not None:
        return bool(result["agreement"] >= row.least_agreement - slack)
    return bool(result["equal_to_quantised"] == 100.0) if row.equals_quantised else None


def measure_spikingjelly(
    network: Network, data: Data, timesteps: list[int], args: argparse.Namespace
) -> dict[str, Any]:
    """Run tools/spikingjelly_nets.py in its environment and return its report."""
    assert data.y is not None, "accuracy is compared, which needs labels"
    with tempfile.TemporaryDirectory() as folder:
        arrays = Path(folder) / "data.npz"
        np.savez(arrays, calibration=data.calibration, x=data.x, y=data.y)
        return run_spikingjelly(
            args.spikingjelly_python,
            "spikingjelly_nets.py",
            *(network.peer, network.model, arrays),
            *("--timesteps", *timesteps),
            *("--threads", args.threads),
        )


def load(network: Network, limit: int | None) -> Data:
    """Load a network's data: at most `limit` test images, and what may be calibrated on."""
    data = network.load()
    y = None if data.y is None else data.y[:limit]
    return Data(data.calibration[:CALIBRATION_IMAGES], data.x[:limit], y)


def compare(name: str, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Measure a network: first itself (and SpikingJelly), then each of its rows."""
    network = NETWORKS[name]
    rows = [row for row in ROWS if row.network == name]
    data = load(network, args.limit)
    options = session_options(args.threads)
    ann = ort.InferenceSession(network.model, options, providers=["CPUExecutionProvider"])
    ann_classes = predict(ann, data.x, 50)
    peer: dict[str, Any] | None = None
    if args.spikingjelly_python and network.peer:
        peer = measure_spikingjelly(network, data, sorted({row.timesteps for row in rows}), args)
    yield {
        "network": name,
        "images": len(data.x),
        "calibration_images": len(data.calibration),
        "ann_accuracy": None if data.y is None else percent(ann_classes == data.y),
        "spikingjelly": peer,
    }
    for row in rows:
        report = {**asdict(row), "bar": bar_of(row)}
        try:
            result = measure(row, network, data, ann_classes, args)
        except onnx_snn.OnnxSnnError as error:  # the other rows are worth having all the same
            yield {**report, "error": str(error), "met": None if not bar_of(row) else False}
            continue
        if peer:
            result["spikingjelly_loss"] = {
                recipe: peer["ann_accuracy"]
                - peer["recipes"][recipe]["accuracy"][str(row.timesteps)]
                for recipe in RECIPES
            }
        yield {**report, **result, "met": meets_bar(row, result)}


def show_network(report: Mapping[str, Any]) -> None:
    """Print the line of a network."""
    accuracy, peer = report["ann_accuracy"], report["spikingjelly"]
    line = f"{report['network']}: {report['images']} images, {report['calibration_images']} to"
    line += " calibrate on"
    line += "" if accuracy is None else f", ANN {accuracy:.2f} %"
    if peer:
        seconds = sum(recipe.get("seconds", 0.0) for recipe in peer["recipes"].values())
        numbers = ", ".join(f"{name} {number}" for name, number in peer["versions"].items())
        line += f" (in {numbers}: {peer['ann_accuracy']:.2f} %, {seconds:.0f} s)"
    print(line, flush=True)


def show_row(report: Mapping[str, Any]) -> None:
    """Print a line of the table."""
    line = f"{report['network']:12} {report['preset']:8} {report['timesteps']:3} "
    if "error" in report:
        print(f"{line}| error: {report['error']}", flush=True)
        return
    accuracy, loss = report.get("accuracy"), report.get("loss")
    line += f"| {number(accuracy, '7.2f')} {number(loss, '6.2f')} {report['agreement']:6.2f} "
    line += f"| {report['steps']:5} {report['latency']:7} {report['spikes_per_neuron']:6.2f} "
    line += f"| {report['convert_seconds']:7.1f} {report['run_seconds']:7.1f} "
    theirs = report.get("spikingjelly_loss", {})
    line += "| " + " ".join(number(theirs.get(name), "11.2f") for name in RECIPES)
    verdict = {True: "met", False: "MISSED", None: ""}[report["met"]]
    print(f"{line} | {report['bar']:14} {verdict}".rstrip(), flush=True)


def number(value: float | None, form: str) -> str:
    """Return a number as text, or a dash as wide."""
    return format("-", f">{form.partition('.')[0]}") if value is None else format(value, form)


HEAD = (
    f"{'':24} | {'accuracy, loss, agreement':^21} | {'':20} | {'seconds':^15} "
    f"| {'SpikingJelly: loss after T':^35} |\n"
    f"{'network':12} {'preset':8} {'T':>3} | {'SNN %':>7} {'points':>6} {'%':>6} "
    f"| {'steps':>5} {'latency':>7} {'spikes':>6} | {'convert':>7} {'run':>7} | "
    + " ".join(f"{name:>11}" for name in RECIPES)
    + " | bar"
)


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="the presets against the ANN and SpikingJelly")
    parser.add_argument("--models", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--limit", type=int, help="number of test images")
    parser.add_argument("--spikingjelly-python", type=Path, metavar="PATH")
    parser.add_argument("--target", choices=["any", "cpu"], default="any", help="see convert")
    parser.add_argument("--weight-bits", type=int, choices=[8, 16], help="see convert")
    parser.add_argument("--threads", type=int, default=cpu_count())
    parser.add_argument("--json", type=Path, help="where to write the result")
    return parser.parse_args()


def main() -> None:
    """Compare, print, and write the JSON file."""
    args = parse_args()
    numbers = versions("onnx-snn", "onnxruntime", "numpy")
    missing = [NETWORKS[name].model for name in args.models if not NETWORKS[name].model.exists()]
    if missing:
        sys.exit(f"error: {missing[0]} is missing; the script that makes it is named in {__file__}")
    print(f"{describe_machine()}, {args.threads} threads, target {args.target}")
    print(", ".join(f"{name} {number}" for name, number in numbers.items()) + "\n")
    print(HEAD, flush=True)
    networks, rows = [], []
    for name in args.models:
        reports = compare(name, args)
        networks.append(next(reports))
        show_network(networks[-1])
        for report in reports:
            rows.append(report)
            show_row(report)
    verdicts = [row["met"] for row in rows if row["met"] is not None]
    print(f"\n{sum(verdicts)} of {len(verdicts)} bars met")
    if args.json:
        content = {
            "machine": describe_machine(),
            "threads": args.threads,
            "versions": numbers,
            "networks": networks,
            "rows": rows,
        }
        args.json.write_text(json.dumps(content, indent=2) + "\n")


if __name__ == "__main__":
    main()
