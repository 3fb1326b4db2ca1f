"""Converted networks on a GPU: where their nodes run, and what they answer."""

import json
import tempfile
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort

import onnx_snn
from fetch_efficientnet_lite0 import MODEL_PATH, load_photos
from gpu_target import ROOT, Target
from neuron_model import Array

MODELS = ("mnist", "resnet20", "vgg", "efficientnet")
ROWS = 3_200  # images times steps of one run


@dataclass(frozen=True)
class Network:
    """A trained network with a sample of its data, images as it takes them.

    Attributes:
        file: its ONNX file.
        calibration: images.
        x: test images.
        y: their labels; None: they have none.
        timesteps: T.
        preset: of the conversion.
    """

    file: Path
    calibration: Array
    x: Array
    y: Array | None
    timesteps: int
    preset: str = "default"

    @property
    def forms(self) -> list[str]:
        """Those that the preset has."""
        return [form for form in FORMS if self.preset != "radix" or form != "loop"]

    def batch_size(self, most: int) -> int:
        """Return how many images a run takes."""
        return max(1, min(most, ROWS // self.timesteps))


def load_networks(timesteps: int = 50, photos: int = 50) -> dict[str, Network]:
    """Return the networks of ``models/``, and EfficientNet-Lite0 where it was fetched.

    Args:
        timesteps: T of the MNIST network.
        photos: test images of EfficientNet-Lite0.
    """
    models = ROOT / "models"
    with np.load(models / "mnist_calibration.npz") as data:
        digits = data["x"]
    with np.load(models / "mnist_test.npz") as data:
        mnist = Network(
            models / "mnist_cnn.onnx", digits, data["x"][:1000], data["y"][:1000], timesteps
        )
    with np.load(models / "cifar10_samples.npz") as data:
        pixels = {name: data[name] / np.float32(255) for name in ("calibration", "x")}
        labels = data["y"]
    networks = {"mnist": mnist}
    for name in ("resnet20", "vgg"):
        file = models / f"cifar10_{name}.onnx"
        networks[name] = Network(file, pixels["calibration"], pixels["x"], labels, 16)
    if MODEL_PATH.exists():
        photos = load_photos("test")[:photos]
        some = load_photos("calibration")[:64]
        networks["efficientnet"] = Network(MODEL_PATH, some, photos, None, 8, "radix")
    return networks


FORMS: Mapping[str, Mapping[str, Any]] = {
    "layer": {},
    "loop": {"schedule": "loop", "block": 8},
    "fp16": {"precision": "fp16"},
}
"""How a network is converted, beside the defaults."""

STREAM = {"schedule": "step"}


@dataclass(frozen=True)
class Converted:
    """A network in all its forms, which are converted once for all checks.

    Attributes:
        network: the trained one.
        files: the content of each form's file, and of ``step``.
    """

    network: Network
    files: Mapping[str, bytes]


def convert_networks(args: Namespace) -> dict[str, Converted]:
    """Convert the networks asked for."""
    converted = {}
    for name, network in load_networks(args.timesteps, args.photos).items():
        if name in args.models:
            forms = {form: FORMS[form] for form in network.forms} | {"step": STREAM}
            files = {form: convert(network, options) for form, options in forms.items()}
            converted[name] = Converted(network, files)
    return converted


def convert(network: Network, form: Mapping[str, Any]) -> bytes:
    """Convert a network; returns the file's content."""
    options = {"timesteps": network.timesteps, "bias_calibration": False, "holdout": 0.0}
    options |= {"preset": network.preset, "target": "cuda", **form}
    snn = onnx_snn.convert(network.file, network.calibration, **options)
    content: bytes = snn.model.SerializeToString()
    return content


def check_placement(target: Target, networks: Mapping[str, Converted]) -> dict[str, Any]:
    """Look at where the provider places the nodes of converted networks, and what that takes."""
    if target.device != "cuda":
        return {"skipped": "no GPU in use", "ok": True}
    rows = {}
    for name, converted in networks.items():
        for form, model in converted.files.items():
            with tempfile.TemporaryDirectory() as folder:
                target.session(model, optimised=f"{folder}/placed.onnx")
                copies = count_copies(onnx.load(f"{folder}/placed.onnx").graph)
            captured = can_capture(target, model)
            ok = copies == 0 and captured == (form != "loop")
            rows[f"{name}, {form}"] = {"copies": copies, "cuda_graph": captured, "ok": ok}
    return {"rows": rows, "ok": all(row["ok"] for row in rows.values())}


def count_copies(graph: onnx.GraphProto) -> int:
    """Return the number of copies between host and device, those in subgraphs too."""
    bodies = [a.g for node in graph.node for a in node.attribute if a.HasField("g")]
    here = sum(node.op_type.startswith("Memcpy") for node in graph.node)
    return here + sum(count_copies(body) for body in bodies)


def can_capture(target: Target, model: bytes) -> bool:
    """Return whether onnxruntime takes the model for a CUDA graph."""
    try:
        target.session(model, graph=True)
    except Exception as error:  # onnxruntime's exceptions have no common base
        if "graph capture" not in str(error):
            raise
        return False
    return True


def check_model(
    target: Target, networks: Mapping[str, Converted], batch_size: int
) -> dict[str, Any]:
    """Compare converted networks on the target with the same in float32 on the CPU."""
    rows: dict[str, Any] = {}
    for name, converted in networks.items():
        network, files = converted.network, converted.files
        size = network.batch_size(batch_size)
        reference = classify(target.session(files["layer"], device="cpu"), network, size)
        for form in network.forms:
            model = files[form]
            here = classify(target.session(model), network, size)
            placed = placement(target, model, network.x[:size])
            rows[f"{name}, {form}"] = compare_networks(here, reference, network, form) | placed
    for row in rows.values():
        row["ok"] &= row["copies"] == 0
    return {"rows": rows, "ok": all(row["ok"] for row in rows.values())}


def classify(session: ort.InferenceSession, network: Network, size: int) -> Array:
    """Return the scores of all test images."""
    return np.concatenate([run_batch(session, batch) for batch in batches(network.x, size)])


def compare_networks(here: Array, cpu: Array, network: Network, form: str) -> dict[str, Any]:
    """Return how near the scores of a form are to those of the CPU, and whether that is near."""
    agreement = 100 * float((here.argmax(1) == cpu.argmax(1)).mean())
    difference = float(np.sqrt(np.mean((here - cpu) ** 2) / np.mean(cpu**2)))
    # Sums in another order, or of fewer bits, move a few spikes by a step.
    least, most = (97.0, 0.1) if form == "fp16" else (99.0, 0.05)
    least = min(least, 100 - 100 / len(here))  # one may differ
    row: dict[str, Any] = {
        "agreement": agreement,
        "difference": difference,
        "ok": bool(np.isfinite(here).all()) and agreement >= least and difference <= most,
    }
    if network.y is not None:
        row["accuracy"] = 100 * float((here.argmax(1) == network.y).mean())
        row["cpu_accuracy"] = 100 * float((cpu.argmax(1) == network.y).mean())
        row["ok"] &= abs(row["accuracy"] - row["cpu_accuracy"]) <= 100 - least
    return row


def batches(x: Array, size: int) -> Iterator[Array]:
    """Yield the images in batches."""
    return (x[i : i + size] for i in range(0, len(x), size))


def run_batch(session: ort.InferenceSession, batch: Array) -> Array:
    """Return the network's output."""
    output: Array = session.run(None, {session.get_inputs()[0].name: batch})[0]
    return output


def placement(target: Target, model: bytes, batch: Array) -> dict[str, Any]:
    """Return what a profile says: copies between devices, and operators run on the CPU."""
    with tempfile.TemporaryDirectory() as folder:
        session = target.session(model, profile=f"{folder}/profile")
        run_batch(session, batch)
        events = json.loads(Path(session.end_profiling()).read_text())
    nodes = [e["args"] for e in events if e.get("cat") == "Node" and "provider" in e["args"]]
    on_cpu = Counter(n["op_name"] for n in nodes if n["provider"] == "CPUExecutionProvider")
    return {
        "copies": sum(n["op_name"].startswith("Memcpy") for n in nodes),
        "nodes": len(nodes),
        "on_cpu": dict(on_cpu) if target.device == "cuda" else {},
    }
