"""What every exporter script does the same way: read the weights, check and write a fixture.

A script is run as ``python SCRIPT WEIGHTS.npz FOLDER``. A fixture is FOLDER/NAME.onnx, as the
exporter wrote it, and FOLDER/NAME.npz: ``input/NAME`` and ``output/NAME`` for every input and
output of the model, and ``versions``.
"""

import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort

Array = npt.NDArray[Any]

TOLERANCE = 1e-4
EPSILON = 1e-3
"""The epsilon of every batch normalization."""


class Weights:
    """The arrays of one network, by the names of torch's ``state_dict``."""

    def __init__(self, net: str) -> None:
        prefix = f"{net}/"
        with np.load(sys.argv[1]) as file:
            names = [name for name in file.files if name.startswith(prefix)]
            self.arrays = {name.removeprefix(prefix): file[name] for name in names}
        self.images: Array = self.arrays.pop("images")

    def __getitem__(self, name: str) -> Array:
        return self.arrays[name]

    def batch_normalization(self, layer: str) -> list[Array]:
        """Gamma, beta, mean and variance of the normalization after ``layer``."""
        names = ("weight", "bias", "running_mean", "running_var")
        return [self[f"{layer}_bn.{name}"] for name in names]

    def channels_last_linear(self, layer: str, height: int, width: int) -> Array:
        """Weight [in, out] of a linear layer behind the Flatten of an [N, H, W, C] tensor."""
        weight = self[f"{layer}.weight"]
        by_channel = weight.reshape(len(weight), -1, height, width)
        return by_channel.transpose(2, 3, 1, 0).reshape(-1, len(weight))


def save(
    name: str,
    model: onnx.ModelProto,
    inputs: Sequence[Array],
    outputs: Sequence[Array],
    packages: Sequence[str],
) -> None:
    """Write a fixture, if onnxruntime computes what the framework computes.

    Args:
        name: file name without suffix.
        model: what the exporter made.
        inputs: one array of samples for each input of the model, in order.
        outputs: the framework's own outputs for them.
        packages: distributions whose versions are recorded.

    Raises:
        AssertionError: the exported model disagrees with the framework.
    """
    _forget_sources(model)
    onnx.checker.check_model(model)
    feeds = dict(zip([value.name for value in model.graph.input], inputs, strict=True))
    computed = run(model, feeds)
    for (output, actual), expected in zip(computed.items(), outputs, strict=True):
        np.testing.assert_allclose(
            actual, expected, rtol=TOLERANCE, atol=TOLERANCE, err_msg=f"{name}: {output}"
        )
    arrays = {f"input/{key}": value for key, value in feeds.items()}
    arrays |= {f"output/{key}": value for key, value in computed.items()}
    versions = [f"{package} {version(package)}" for package in (*packages, "onnxruntime")]
    folder = Path(sys.argv[2])
    onnx.save(model, folder / f"{name}.onnx")
    np.savez_compressed(folder / f"{name}.npz", **arrays, versions=np.asarray(versions))
    print(f"{name}: {model.ByteSize()} bytes, outputs {[v.shape for v in computed.values()]}")


def run(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Outputs of onnxruntime with its optimisations off; sample by sample if the batch is 1."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    samples = len(next(iter(feeds.values())))
    size = 1 if session.get_inputs()[0].shape[0] == 1 else samples
    batches = [
        session.run(None, {key: value[start : start + size] for key, value in feeds.items()})
        for start in range(0, samples, size)
    ]
    names = [output.name for output in session.get_outputs()]
    return {
        name: np.concatenate([_as_array(value) for value in values])
        for name, values in zip(names, zip(*batches, strict=True), strict=True)
    }


def _as_array(value: Any) -> Array:
    """A tensor as it is; a sequence of maps, which ZipMap makes, as the array of its values."""
    if isinstance(value, np.ndarray):
        return value
    return np.asarray([list(entry.values()) for entry in value], dtype=np.float32)


def _forget_sources(model: onnx.ModelProto) -> None:
    """Remove where in whose file a node comes from: paths of the machine that made it."""
    nodes = [*model.graph.node, *(node for body in model.functions for node in body.node)]
    for node in nodes:
        node.doc_string = ""
        for entry in reversed(node.metadata_props):
            if "stack_trace" in entry.key:
                node.metadata_props.remove(entry)
    home = str(Path(__file__).resolve().parent).encode()
    assert home not in model.SerializeToString(), "the model names a path of this machine"
