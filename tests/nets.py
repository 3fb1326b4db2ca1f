"""Small networks for the tests, and onnxruntime to run them with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[Any]


def session(model: onnx.ModelProto, *, optimise: bool = False) -> ort.InferenceSession:
    """A CPU session, by default with onnxruntime's own graph optimisations off."""
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if not optimise:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def run(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    return session(model).run(None, dict(feeds))


class Dyadic:
    """Random small multiples of powers of two: sums of them are exact in float32."""

    def __init__(self, seed: int = 0) -> None:
        self._random = np.random.default_rng(seed)

    def __call__(self, *shape: int, step: float = 1 / 16, most: int = 8) -> Array:
        return (self._random.integers(-most, most + 1, shape) * step).astype(np.float32)


class Gaussian:
    """Random weights as training leaves them."""

    def __init__(self, seed: int = 0) -> None:
        self._random = np.random.default_rng(seed)

    def __call__(self, *shape: int) -> Array:
        fan_in = max(1, int(np.prod(shape[1:])))
        return (self._random.normal(0, 1, shape) / np.sqrt(fan_in)).astype(np.float32)


class Net:
    """Builds an ONNX model node by node.

    Every method that adds a node returns the name of its output.

        net = Net({"x": ["N", 2, 8, 8]})
        hidden = net.relu(net.conv("x", weight, bias))
        model = net.model({"y": net.gemm(net.op("Flatten", hidden), w, b)})
    """

    def __init__(
        self, inputs: Mapping[str, Sequence[int | str]], elem_type: int = TensorProto.FLOAT
    ) -> None:
        self._inputs = [
            helper.make_tensor_value_info(name, elem_type, list(shape))
            for name, shape in inputs.items()
        ]
        self._elem_type = elem_type
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: list[onnx.TensorProto] = []

    def constant(self, values: npt.ArrayLike, dtype: npt.DTypeLike | None = None) -> str:
        name = f"c{len(self._initializers)}"
        self._initializers.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def op(self, op_type: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        index = len(self._nodes)
        names = [f"{op_type.lower()}{index}" + (f"_{k}" if k else "") for k in range(outputs)]
        self._nodes.append(
            helper.make_node(op_type, list(inputs), names, name=f"{op_type}_{index}", **attributes)
        )
        return names[0]

    def relu(self, x: str) -> str:
        return self.op("Relu", x)

    def conv(self, x: str, weight: Array, bias: Array | None = None, **attributes: Any) -> str:
        return self.op("Conv", x, *self._parameters(weight, bias), **attributes)

    def conv_transpose(
        self, x: str, weight: Array, bias: Array | None = None, **attributes: Any
    ) -> str:
        return self.op("ConvTranspose", x, *self._parameters(weight, bias), **attributes)

    def gemm(self, x: str, weight: Array, bias: Array | None = None, **attributes: Any) -> str:
        return self.op("Gemm", x, *self._parameters(weight, bias), **attributes)

    def matmul(self, x: str, weight: Array) -> str:
        return self.op("MatMul", x, self.constant(weight))

    def batch_normalization(self, x: str, channels: int, seed: int = 0, **attributes: Any) -> str:
        random = np.random.default_rng(seed)
        dtype = helper.tensor_dtype_to_np_dtype(self._elem_type)
        gamma, beta, mean = (random.normal(c, 0.5, channels) for c in (1, 0, 0))
        variance = random.uniform(0.5, 2, channels)
        parameters = [self.constant(p.astype(dtype)) for p in (gamma, beta, mean, variance)]
        return self.op("BatchNormalization", x, *parameters, **attributes)

    def _parameters(self, weight: Array, bias: Array | None) -> list[str]:
        return [self.constant(weight), *([] if bias is None else [self.constant(bias)])]

    def model(
        self, outputs: Mapping[str, str] | str, opset: int = 18, check: bool = True
    ) -> onnx.ModelProto:
        """The finished model; ``outputs`` maps the names wanted to tensors made so far."""
        if isinstance(outputs, str):
            outputs = {"y": outputs}
        nodes = [
            *self._nodes,
            *(
                helper.make_node("Identity", [t], [n], name=f"output_{n}")
                for n, t in outputs.items()
            ),
        ]
        values = [onnx.ValueInfoProto(name=name) for name in outputs]
        graph = helper.make_graph(nodes, "net", self._inputs, values, self._initializers)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
        model.ir_version = 8
        model = onnx.shape_inference.infer_shapes(model)  # types and shapes of the outputs
        del model.graph.value_info[:]
        if check:
            onnx.checker.check_model(model)
        return model


def cnn(weights: Dyadic | Gaussian, *, normalised: bool = False) -> onnx.ModelProto:
    """[N, 2, 8, 8] → Conv (BN) Relu AveragePool → Conv Relu → Flatten → Gemm → [N, 5]."""
    net = Net({"x": ["N", 2, 8, 8]})
    y = net.conv("x", weights(4, 2, 3, 3), weights(4), pads=[1, 1, 1, 1])
    if normalised:
        y = net.batch_normalization(y, 4)
    y = net.op("AveragePool", net.relu(y), kernel_shape=[2, 2], strides=[2, 2])
    y = net.relu(net.conv(y, weights(6, 4, 3, 3), weights(6)))
    y = net.gemm(net.op("Flatten", y), weights(24, 5), weights(5))
    return net.model(y)


def residual_blocks() -> onnx.ModelProto:
    """[N, 3, 9, 9] → a shortcut of spikes, and one of a 1x1 convolution with a stride → [N, 3]."""
    weights = Dyadic(2)
    net = Net({"x": ["N", 3, 9, 9]})
    s = net.relu(net.conv("x", weights(8, 3, 3, 3), weights(8), pads=[1] * 4))
    y = net.relu(net.conv(s, weights(8, 8, 3, 3), weights(8), pads=[1] * 4))
    s = net.relu(net.op("Add", net.conv(y, weights(8, 8, 3, 3), weights(8), pads=[1] * 4), s))
    y = net.relu(net.conv(s, weights(5, 8, 3, 3), weights(5), pads=[1] * 4, strides=[2, 2]))
    shortcut = net.conv(s, weights(7, 8, 1, 1), weights(7), strides=[2, 2])
    s = net.relu(net.op("Add", shortcut, net.conv(y, weights(7, 5, 3, 3), pads=[1] * 4)))
    s = net.op("Flatten", net.op("GlobalAveragePool", s))
    return net.model({"y": net.gemm(s, weights(7, 3), weights(3))})


def residual(weights: Dyadic | Gaussian) -> onnx.ModelProto:
    """Two residual blocks, one with an identity and one with a 1x1 shortcut, and a Concat."""
    net = Net({"x": ["N", 3, 6, 6]})
    pads = [1, 1, 1, 1]
    stem = net.relu(net.conv("x", weights(4, 3, 3, 3), weights(4), pads=pads))
    y = net.relu(net.conv(stem, weights(4, 4, 3, 3), weights(4), pads=pads))
    y = net.conv(y, weights(4, 4, 3, 3), weights(4), pads=pads)
    first = net.relu(net.op("Add", y, stem))
    y = net.relu(net.conv(first, weights(8, 4, 3, 3), weights(8), pads=pads))
    shortcut = net.conv(first, weights(8, 4, 1, 1))
    second = net.relu(net.op("Add", net.conv(y, weights(8, 8, 1, 1), weights(8)), shortcut))
    both = net.op("Concat", first, second, axis=1)
    y = net.relu(net.conv(both, weights(6, 12, 3, 3), weights(6)))
    y = net.op("Flatten", net.op("GlobalAveragePool", y))
    return net.model(net.gemm(y, weights(6, 4), weights(4)))


def mlp(weights: Dyadic | Gaussian) -> onnx.ModelProto:
    """[N, 7] → MatMul Add Relu → Gemm Relu → Gemm → [N, 3]."""
    net = Net({"x": ["N", 7]})
    y = net.op("Add", net.matmul("x", weights(7, 9)), net.constant(weights(9)))
    y = net.relu(net.gemm(net.relu(y), weights(8, 9), weights(8), transB=1))
    return net.model(net.gemm(y, weights(8, 3), weights(3)))
