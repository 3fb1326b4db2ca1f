"""The quantised ANN written anew: what the codings drain, two_phase and radix must count up to.

It knows nothing of the package. The original network runs in float64 in onnx's NumPy evaluator;
behind every activation stands q·clip(⌊a/q + ½⌋, 0, L) with q = λ/L. It differs from the function in
``onnx_snn.reference``, where integers flow.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from nets import Array, Dyadic, Gaussian, Net, cnn, mlp, residual
from onnx_snn import ActivationStats, convert
from onnx_snn.ops import DOMAIN
from onnx_snn.ops.reference import if_neuron, phase_neuron
from simulator import expose

_TIE = 1e-9
"""Sums that end at a half are found there, whatever the order of summation in float64."""


@dataclass
class Quantised:
    """Outputs by name, and integers N by the name of the neurons."""

    outputs: dict[str, Array]
    counts: dict[str, Array]


def quantise(
    model: onnx.ModelProto,
    thresholds: Mapping[str, Array],
    feeds: Mapping[str, Array],
    levels: int,
    *,
    v_init: float = 0.5,
) -> Quantised:
    """Run the quantised ANN.

    Args:
        model: the original network.
        thresholds: λ by the name of the neurons: that of the node, or with ``/positive`` and
            ``/negative`` behind it where it takes two populations.
        feeds: samples [N, …].
        levels: L.
        v_init: what is added ahead of rounding down.
    """
    counts: dict[str, Array] = {}

    def round_to(name: str, values: Array) -> Array:
        quantum = _beside_channels(thresholds[name], values) / levels
        steps = np.floor(values / quantum + v_init + _TIE)
        counts[name] = np.clip(steps, 0, levels)
        return counts[name] * quantum

    def two_sided(name: str, x: Array, slope: Any) -> Array:
        return round_to(f"{name}/positive", x) - slope * round_to(f"{name}/negative", -x)

    class Relu(OpRun):
        op_domain = ""

        def _run(self, x: Array) -> tuple[Array]:
            return (round_to(self.onnx_node.name, x),)

    class Clip(OpRun):
        op_domain = ""

        def _run(self, x: Array, low: Array, high: Array) -> tuple[Array]:
            if low < 0:
                return (two_sided(self.onnx_node.name, x, 1),)
            if low > 0:
                return (low + round_to(self.onnx_node.name, x - low),)
            return (round_to(self.onnx_node.name, x),)

    class LeakyRelu(OpRun):
        op_domain = ""

        def _run(self, x: Array, alpha: float) -> tuple[Array]:
            return (two_sided(self.onnx_node.name, x, alpha),)

    class PRelu(OpRun):
        op_domain = ""

        def _run(self, x: Array, slope: Array) -> tuple[Array]:
            return (two_sided(self.onnx_node.name, x, slope),)

    class Abs(OpRun):
        op_domain = ""

        def _run(self, x: Array) -> tuple[Array]:
            return (two_sided(self.onnx_node.name, x, -1),)

    class Min(OpRun):
        op_domain = ""

        def _run(self, x: Array, y: Array) -> tuple[Array]:
            if np.ndim(y):
                return (np.minimum(x, y),)
            return (y - round_to(self.onnx_node.name, y - x),)

    class Max(OpRun):
        op_domain = ""

        def _run(self, x: Array, y: Array) -> tuple[Array]:
            if np.ndim(x):
                return (np.maximum(x, y),)
            return (x + round_to(self.onnx_node.name, y - x),)

    operators = [Relu, Clip, LeakyRelu, PRelu, Abs, Min, Max]
    evaluator = ReferenceEvaluator(in_type(model, np.float64), new_ops=operators)
    wide = {name: values.astype(np.float64) for name, values in feeds.items()}
    results = evaluator.run(None, wide)
    return Quantised(dict(zip(evaluator.output_names, results, strict=True)), counts)


def _beside_channels(threshold: Array, values: Array) -> Array:
    """λ in a shape that broadcasts: one number, or one for each entry of axis 1."""
    if threshold.ndim == 0 or len(threshold) == 1:
        return threshold
    return threshold.reshape(-1, *[1] * (values.ndim - 2))


def in_type(model: onnx.ModelProto, dtype: Any) -> onnx.ModelProto:
    """A copy whose floating-point weights, inputs and outputs are of another type."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    floats = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
    elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    for tensor in copy.graph.initializer:
        if tensor.data_type in floats:
            values = numpy_helper.to_array(tensor).astype(dtype)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for value in (*copy.graph.input, *copy.graph.output):
        if value.type.tensor_type.elem_type in floats:
            value.type.tensor_type.elem_type = elem_type
    del copy.graph.value_info[:]
    return copy


def exposed(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy that gives every activation as well."""
    return expose(model, [n.output[0] for n in model.graph.node if n.op_type in _ACTIVATIONS])


_ACTIVATIONS = ("Relu", "Clip", "LeakyRelu", "PRelu", "Abs")


def thresholds_of(snn: onnx.ModelProto) -> dict[str, Array]:
    """The λ that a converted file records, by the name of the neurons."""
    entries = {entry.key: entry.value for entry in snn.metadata_props}
    found = json.loads(entries["onnx_snn.thresholds"])
    return {name: np.asarray(values) for name, values in found.items()}


def dyadic_stats(
    model: onnx.ModelProto, feeds: Mapping[str, Array], *, granularity: str = "layer"
) -> ActivationStats:
    """Statistics under which ``mode="max"`` gives powers of two near half the maxima."""
    options = {"neuron": "if", "coding": "rate", "mode": "max", "granularity": granularity}
    found = convert(model, feeds, holdout=0, timesteps=1, **options).stats
    tensors = {
        name: replace(
            entry, max=_near_half(entry.max), channel_max=[*map(_near_half, entry.channel_max)]
        )
        for name, entry in found.tensors.items()
    }
    return replace(found, tensors=tensors)


def _near_half(value: float) -> float:
    return float(np.exp2(np.round(np.log2(value / 2)))) if value > 0 else 0.5


def with_spikes(snn: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, str]]:
    """A copy of a ``layer`` file with all spikes as outputs; their names by those of neurons."""
    names = {node.name: node.output[0] for node in snn.graph.node if node.domain == DOMAIN}
    return with_outputs(snn, names.values()), names


def with_outputs(model: onnx.ModelProto, tensors: Iterable[str]) -> onnx.ModelProto:
    """A copy with more outputs: as the file knows them, or of the type of the first input."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    present = {output.name for output in copy.graph.output}
    known = {value.name: value for value in copy.graph.value_info}
    elem_type = copy.graph.input[0].type.tensor_type.elem_type
    copy.graph.output.extend(
        known.get(name) or helper.make_tensor_value_info(name, elem_type, None)
        for name in tensors
        if name not in present
    )
    return copy


def evaluate_in_numpy(snn: onnx.ModelProto, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Run a ``layer`` file in onnx's NumPy evaluator, its neurons as they are specified.

    No onnxruntime has convolutions in float64 on a CPU.
    """

    class IFNeuron(OpRun):
        op_domain = DOMAIN

        def _run(self, x: Array, steps: Array, *states: Array, **attributes: Any) -> Any:
            results = if_neuron(x, int(steps), *states, **attributes)
            return results[: len(self.onnx_node.output)]

    class PhaseNeuron(OpRun):
        op_domain = DOMAIN

        def _run(self, x: Array, steps: Array, **attributes: Any) -> Any:
            return (phase_neuron(x, int(steps), **attributes),)

    copy = onnx.ModelProto()
    copy.CopyFrom(snn)
    del copy.functions[:]
    evaluator = ReferenceEvaluator(copy, new_ops=[IFNeuron, PhaseNeuron])
    return dict(zip(evaluator.output_names, evaluator.run(None, dict(feeds)), strict=True))


def weighted_counts(spikes: Array, timesteps: int, base: int) -> Array:
    """Σ base^(T−1−t)·s_t of folded spikes [T·N, …]."""
    sequence = spikes.reshape(timesteps, -1, *spikes.shape[1:]).astype(np.float64)
    weights = float(base) ** np.arange(timesteps - 1, -1, -1)
    return np.tensordot(weights, sequence, axes=1)


# Networks: weights → model. Behind a Dyadic every sum is exact unless said otherwise.
Weights = Dyadic | Gaussian


def max_pools(weights: Weights) -> onnx.ModelProto:
    """Maxima of spikes, of currents, of maxima, and of branches; two inputs' worth of shapes."""
    net = Net({"x": ["N", 2, 7, 7]})
    pads = [1, 1, 1, 1]
    y = net.relu(net.conv("x", weights(4, 2, 3, 3), weights(4), pads=pads))
    y = net.op("MaxPool", y, kernel_shape=[3, 3], strides=[2, 2], pads=pads)
    y = net.conv(y, weights(4, 4, 3, 3), weights(4), pads=pads)
    y = net.relu(net.op("MaxPool", y, kernel_shape=[2, 2]))
    both = net.op("Max", y, net.relu(net.conv(y, weights(4, 4, 1, 1), weights(4))))
    y = net.relu(net.conv(net.op("GlobalMaxPool", both), weights(5, 4, 1, 1), weights(5)))
    return net.model(net.gemm(net.op("Flatten", y), weights(5, 3), weights(3)))


def capped(weights: Weights) -> onnx.ModelProto:
    """Clips as neurons: one bound, two bounds around 0, and a bound above 0."""
    net = Net({"x": ["N", 6]})

    def clip(x: str, low: float, high: float) -> str:
        return net.op("Clip", x, net.constant(np.float32(low)), net.constant(np.float32(high)))

    y = clip(net.gemm("x", weights(6, 8), weights(8)), 0, 0.5)
    y = clip(net.gemm(y, weights(8, 9), weights(9)), -0.25, 0.5)
    y = clip(net.gemm(y, weights(9, 9), weights(9)), 0.125, 1)
    return net.model(net.gemm(y, weights(9, 3), weights(3)))


def leaky(weights: Weights) -> onnx.ModelProto:
    """Two populations for one activation."""
    net = Net({"x": ["N", 2, 5, 5]})
    y = net.op("LeakyRelu", net.conv("x", weights(4, 2, 3, 3), weights(4)), alpha=0.125)
    y = net.op("Abs", net.conv(y, weights(4, 4, 1, 1), weights(4)))
    slope = net.constant(np.full((4, 1, 1), 0.25, np.float32))
    y = net.op("PRelu", net.conv(y, weights(4, 4, 2, 2), weights(4)), slope)
    return net.model(net.gemm(net.op("Flatten", y), weights(16, 3), weights(3)))


def branches(weights: Weights) -> onnx.ModelProto:
    """Side by side, depthwise, and what is static meeting spikes."""
    net = Net({"x": ["N", 4, 5]})
    static = net.conv("x", weights(4, 4, 1), weights(4))
    hidden = net.relu(static)
    y = net.relu(net.conv(hidden, weights(4, 1, 3), weights(4), group=4, pads=[1, 1]))
    y = net.relu(net.op("Concat", y, static, "x", axis=1))
    y = net.relu(net.op("Sub", net.conv(y, weights(4, 12, 1)), static))
    y = net.relu(net.op("Add", y, net.constant(weights(4, 1))))
    return net.model(net.gemm(net.op("Flatten", y), weights(20, 3), weights(3)))


def thirds(weights: Weights) -> onnx.ModelProto:
    """Means over 9 places and of 3 branches: exact in no binary type."""
    net = Net({"x": ["N", 2, 8, 8]})
    y = net.relu(net.conv("x", weights(4, 2, 3, 3), weights(4)))
    pooled = net.op("AveragePool", y, kernel_shape=[3, 3], strides=[1, 1], pads=[1] * 4)
    y = net.relu(net.op("Mean", y, pooled, net.op("GlobalAveragePool", y)))
    y = net.relu(net.conv(y, weights(6, 4, 3, 3), weights(6)))
    return net.model(net.gemm(net.op("Flatten", y), weights(96, 3), weights(3)))


def normalised(weights: Weights) -> onnx.ModelProto:
    """BatchNormalization behind a layer, and ahead of one behind neurons."""
    net = Net({"x": ["N", 2, 6, 6]})
    y = net.relu(net.batch_normalization(net.conv("x", weights(4, 2, 3, 3), weights(4)), 4))
    pooled = net.op("MaxPool", y, kernel_shape=[2, 2])
    y = net.op("Concat", net.batch_normalization(pooled, 4, 1), pooled, axis=1)
    y = net.relu(net.batch_normalization(y, 8, 2))
    return net.model(net.gemm(net.op("Flatten", y), weights(72, 3), weights(3)))


NETS: dict[str, tuple[Callable[[Weights], onnx.ModelProto], tuple[int, ...]]] = {
    "mlp": (mlp, (7,)),
    "cnn": (cnn, (2, 8, 8)),
    "residual": (residual, (3, 6, 6)),
    "max_pools": (max_pools, (2, 7, 7)),
    "capped": (capped, (6,)),
    "leaky": (leaky, (2, 5, 5)),
    "branches": (branches, (4, 5)),
}
"""Exact with dyadic weights: builder and shape of a sample."""

MORE_NETS = {**NETS, "thirds": (thirds, (2, 8, 8)), "normalised": (normalised, (2, 6, 6))}
