"""The networks that the onnx package ships, with weights like those that training leaves.

The ``light_*.onnx`` files of onnx's backend tests are ResNet-50, VGG-19, DenseNet-121 and others,
whole but for their weights: a ConstantOfShape stands for every larger one. `topology` draws these
weights and fits them to the activations layer by layer (data-dependent initialisation: Mishkin and
Matas, "All you need is a good init", ICLR 2016), so that batch normalisation finds the statistics
that it holds and the activations neither vanish nor explode with the depth.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from nets import session

Array = npt.NDArray[Any]

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
TOPOLOGIES = (
    "bvlc_alexnet",
    "densenet121",
    "inception_v1",
    "inception_v2",
    "resnet50",
    "shufflenet",
    "squeezenet",
    "vgg19",
    "zfnet512",
)
FULLY_CONVOLUTIONAL = ("densenet121", "squeezenet")

# Standard deviations of what the weight layers yield. Local response normalisation needs the
# magnitude of the published models, whose images were not scaled to 1, to do anything.
HIDDEN = 1.0
BEFORE_LRN = 100.0
CLASSES = 3.0
FIT_IMAGES = 4

# Weights drawn at a time; larger arrays repeat them. A prime: no two channels become equal.
BLOCK = 4_000_037


@functools.lru_cache(maxsize=1)  # the largest takes 0.6 GB
def topology(name: str, seed: int = 0, image: int = 224) -> onnx.ModelProto:
    """One of `TOPOLOGIES` with random weights; the result is shared: copy it before a change.

    Args:
        name: The name in `TOPOLOGIES`.
        seed: Another seed, other weights.
        image: Height and width of the input; only those in `FULLY_CONVOLUTIONAL` have a choice.
    """
    model = onnx.load(LIGHT / f"light_{name}.onnx")
    if image != 224:
        _resize(model.graph, name, image)
    random = np.random.default_rng(seed)
    roles = _roles(model.graph)
    shapes = _parameter_shapes(model.graph)
    weights = {p: _draw(random, role, shapes[p]) for p, role in roles.items()}
    _Fit(model, roles, weights, random).run(images(FIT_IMAGES, seed=seed + 1, size=image))
    _replace(model.graph, weights)
    return model


def images(count: int, seed: int = 0, size: int = 224) -> Array:
    """Random images with the spectrum of photos, [count, 3, size, size], about normal(0, 1).

    The amplitude falls with the spatial frequency f as 1/f (Field, "Relations between the
    statistics of natural images", JOSA A 1987).
    """
    random = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size))
    amplitude = 1 / np.maximum(frequency, 1 / size)
    noise = np.fft.rfft2(random.normal(size=(count, 3, size, size)))
    x = np.fft.irfft2(noise * amplitude, (size, size))
    return (x / x.std(axis=(1, 2, 3), keepdims=True)).astype(np.float32)


# What a parameter is, told by the node that consumes it.
_ROLES = {
    ("Conv", 1): "weight",
    ("Conv", 2): "bias",
    ("Gemm", 1): "weight",
    ("Gemm", 2): "bias",
    ("BatchNormalization", 1): "gamma",
    ("BatchNormalization", 2): "beta",
    ("BatchNormalization", 3): "mean",
    ("BatchNormalization", 4): "variance",
    ("Mul", 1): "gamma",
    ("Add", 1): "beta",
}
_RESHAPES = ("Reshape", "Unsqueeze")


def _roles(graph: onnx.GraphProto) -> dict[str, str]:
    """The role of every parameter, in the order of the graph."""
    consumers: dict[str, set[str]] = {}
    for node in graph.node:
        for name in node.input:
            consumers.setdefault(name, set()).add(node.op_type)
    source = _sources(graph)
    roles: dict[str, str] = {}
    for node in graph.node:
        after = consumers.get(node.output[0], set())
        for index, name in enumerate(node.input):
            role = _ROLES.get((node.op_type, index))
            if role is None or name not in source:
                continue
            if node.op_type == "BatchNormalization" and "Mul" in after:
                role = {"gamma": "one", "beta": "zero"}.get(role, role)  # as Caffe has it
            elif role == "gamma" and "Sum" in after:
                role = "branch gamma"
            roles[source[name]] = role
    return roles


def _sources(graph: onnx.GraphProto) -> dict[str, str]:
    """The parameter that every constant value is, perhaps in another shape."""
    source = {tensor.name: tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "ConstantOfShape":
            source[node.output[0]] = node.output[0]
        elif node.op_type in _RESHAPES and node.input[0] in source:
            source[node.output[0]] = source[node.input[0]]
    return source


def _parameter_shapes(graph: onnx.GraphProto) -> dict[str, tuple[int, ...]]:
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    shapes = {name: tuple(tensor.dims) for name, tensor in initializers.items()}
    for node in graph.node:
        if node.op_type == "ConstantOfShape":
            shape = numpy_helper.to_array(initializers[node.input[0]])
            shapes[node.output[0]] = tuple(shape.tolist())
    return shapes


def _draw(random: np.random.Generator, role: str, shape: tuple[int, ...]) -> Array:
    match role:
        case "weight":
            # The fit scales it; the gain differs by a few percent from channel to channel.
            block = random.standard_normal(min(BLOCK, math.prod(shape)), np.float32)
            values = np.resize(block, shape)
            gain = random.normal(1, 0.05, (shape[0], *[1] * (len(shape) - 1)))
            return np.multiply(values, gain.astype(np.float32), out=values)
        case "gamma":
            values = random.uniform(0.5, 1.5, shape)
        case "branch gamma":
            values = random.uniform(0.1, 0.5, shape)
        case "beta":
            values = random.normal(0, 0.3, shape)
        case "bias":
            values = random.normal(0, 0.1, shape)
        case "one" | "variance":
            values = np.ones(shape)
        case _:
            values = np.zeros(shape)
    return values.astype(np.float32)


class _Fit:
    """Runs a network node by node and fits each layer's parameters to what reaches it."""

    def __init__(
        self,
        model: onnx.ModelProto,
        roles: dict[str, str],
        weights: dict[str, Array],
        random: np.random.Generator,
    ) -> None:
        self._graph = model.graph
        self._opset = model.opset_import
        self._source = _sources(model.graph)
        self._weights = weights
        self._random = random
        self._before_lrn = set(_before_lrn(model.graph))
        self._last_layer = [n for n in self._graph.node if n.op_type in ("Conv", "Gemm")][
            -1
        ].output[0]
        # Per value one array for each image: Reshape has the batch of 1 written into it.
        self._values: dict[str, list[Array]] = {}

    def run(self, x: Array) -> None:
        for tensor in self._graph.initializer:
            self._values[tensor.name] = [numpy_helper.to_array(tensor)] * len(x)
        for name, array in self._weights.items():
            self._values[name] = [array] * len(x)
        self._values[self._input()] = [image[None] for image in x]
        last_use = {name: i for i, node in enumerate(self._graph.node) for name in node.input}
        for i, node in enumerate(self._graph.node):
            if node.op_type == "ConstantOfShape":
                continue
            self._fit(node)
            for name in node.input:
                if last_use[name] == i:
                    self._values.pop(name, None)

    def _input(self) -> str:
        constant = {tensor.name for tensor in self._graph.initializer}
        (name,) = (value.name for value in self._graph.input if value.name not in constant)
        return name

    def _fit(self, node: onnx.NodeProto) -> None:
        if node.op_type == "BatchNormalization":
            self._fit_statistics(node)
        outputs = self._evaluate(node)
        if node.op_type in ("Conv", "Gemm"):
            outputs = self._fit_layer(node, outputs)
        self._values[node.output[0]] = outputs

    def _evaluate(self, node: onnx.NodeProto) -> list[Array]:
        inputs = {name: self._values[name] for name in dict.fromkeys(node.input)}
        single = onnx.NodeProto()
        single.CopyFrom(node)
        del single.output[1:]  # Dropout's mask
        graph = helper.make_graph(
            [single],
            "node",
            [_value_info(name, arrays[0].dtype) for name, arrays in inputs.items()],
            [_value_info(node.output[0], np.dtype(np.float32))],
        )
        one = session(helper.make_model(graph, opset_imports=self._opset, ir_version=8))
        per_image = zip(*inputs.values(), strict=True)
        return [one.run(None, dict(zip(inputs, x, strict=True)))[0] for x in per_image]

    def _fit_statistics(self, node: onnx.NodeProto) -> None:
        """Give batch normalisation the mean and the variance of its input."""
        x = np.concatenate(self._values[node.input[0]])
        mean, variance = self._weights[node.input[3]], self._weights[node.input[4]]
        mean[:] = x.mean(axis=(0, 2, 3))
        # Off by what a training set differs from a few images.
        variance[:] = x.var(axis=(0, 2, 3)) * self._random.uniform(0.9, 1.1, len(variance))
        np.maximum(variance, 1e-3 * variance.mean(), out=variance)

    def _fit_layer(self, node: onnx.NodeProto, outputs: list[Array]) -> list[Array]:
        """Scale a layer to the standard deviation it should have; a bias centres its channels.

        Without the centring, the mean that every ReLU adds outgrows all that tells one image from
        another, in networks without batch normalisation.
        """
        y = np.concatenate(outputs)
        mean = y.mean(axis=tuple(i for i in range(y.ndim) if i != 1), keepdims=True)
        deviation = y - mean
        if node.output[0] == self._last_layer:  # what is left of it after a global pooling
            deviation = deviation.mean(axis=tuple(range(2, y.ndim)))
        target = self._target(node)
        scale = np.float32(target / deviation.std())
        self._weights[self._source[node.input[1]]] *= scale
        if len(node.input) == 2:
            return [output * scale for output in outputs]
        bias = self._weights[self._source[node.input[2]]]
        offset = (np.float32(target) * bias).reshape(mean.shape)
        bias[:] = (offset - scale * (mean - bias.reshape(mean.shape))).reshape(-1)
        return [scale * (output - mean) + offset for output in outputs]

    def _target(self, node: onnx.NodeProto) -> float:
        if node.output[0] in self._before_lrn:
            return BEFORE_LRN
        return CLASSES if node.output[0] == self._last_layer else HIDDEN


def _before_lrn(graph: onnx.GraphProto) -> Iterator[str]:
    """The outputs of the layers whose rectified outputs are normalised by an LRN."""
    producer = {output: node for node in graph.node for output in node.output}
    for node in graph.node:
        if node.op_type == "LRN":
            before = producer[node.input[0]]
            while before.op_type != "Conv":
                before = producer[before.input[0]]
            yield before.output[0]


def _value_info(name: str, dtype: npt.DTypeLike) -> onnx.ValueInfoProto:
    elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return helper.make_tensor_value_info(name, elem_type, None)


def _resize(graph: onnx.GraphProto, name: str, image: int) -> None:
    if name not in FULLY_CONVOLUTIONAL:
        raise ValueError(f"{name} takes images of 224 x 224 only")
    constant = {tensor.name for tensor in graph.initializer}
    (value,) = (value for value in graph.input if value.name not in constant)
    for dim in value.type.tensor_type.shape.dim[2:]:
        dim.dim_value = image


def _replace(graph: onnx.GraphProto, weights: dict[str, Array]) -> None:
    """Put the weights in as initializers, which in this IR version are inputs too."""
    stand_ins = [node for node in graph.node if node.op_type == "ConstantOfShape"]
    gone = {node.input[0] for node in stand_ins} | weights.keys()
    _keep(graph.node, lambda node: node.op_type != "ConstantOfShape")
    _keep(graph.initializer, lambda tensor: tensor.name not in gone)
    _keep(graph.input, lambda value: value.name not in gone)
    for name in list(weights):
        array = weights.pop(name)  # not twice in memory
        graph.initializer.add(
            name=name,
            dims=array.shape,
            data_type=onnx.TensorProto.FLOAT,
            raw_data=array.tobytes(),
        )
        graph.input.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, array.shape))


def _keep(protos: Any, condition: Callable[[Any], bool]) -> None:
    kept = [proto for proto in protos if condition(proto)]
    del protos[:]
    protos.extend(kept)


def without_softmax(model: onnx.ModelProto) -> onnx.ModelProto:
    """The network up to its logits, of which errors say more than of probabilities."""
    last = next(n for n in model.graph.node if model.graph.output[0].name in n.output)
    if last.op_type != "Softmax":
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    logits = helper.make_tensor_value_info(last.input[0], onnx.TensorProto.FLOAT, None)
    copy.graph.output[0].CopyFrom(logits)
    copy.graph.node.remove(next(n for n in copy.graph.node if n.output[0] == last.output[0]))
    return copy
