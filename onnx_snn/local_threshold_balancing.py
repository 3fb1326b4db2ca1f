"""Local threshold balancing: thresholds that grow by what they clip, layer by layer.

The rule ``ltb`` of Bu et al. 2025, "Inference-scale complexity in ANN-SNN conversion for
high-performance and low-power applications", as SpikingJelly's ``LocalThresholdBalancingRecipe``
has it. From θ = 0 on, each run moves the threshold of every channel c by

    θ_c ← θ_c + 2·mean(max(x − θ_c, 0))        the mean over samples and positions

and passes min(x, θ_c) on, so that later layers see what a converted network will send them. Each
step is one of gradient descent on the clipping error, the fewer of them, the smaller θ stays: the
rule weighs clipping against the rounding of a rate by stopping early.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx_graphsurgeon as gs
from onnx import helper

from onnx_snn.data import Batch
from onnx_snn.probe import channels_of, cpu_session, model_up_to, refusals, session_options
from onnx_snn.scale import FloatArray

SAMPLES_PER_STEP = 8
"""A batch with more samples makes several steps."""

STEPS = 100
"""So many steps are wanted, and few data are gone through again for them."""

Array = npt.NDArray[Any]


class LocalThresholdBalancing:
    """A network whose activations are clipped at thresholds that grow while it runs.

    Args:
        graph: a clean, folded graph; not changed.
        tensors: its activations, none below 0.

    Attributes:
        steps: number of steps made.
    """

    def __init__(self, graph: gs.Graph, tensors: Sequence[gs.Variable]) -> None:
        self.steps = 0
        model = model_up_to(graph, tensors)
        del model.graph.output[:]
        self._state: dict[str, Array] = {}
        clipping = [_Clipping(tensor, index) for index, tensor in enumerate(tensors)]
        self._names = [part.names for part in clipping]
        nodes = list(model.graph.node)
        del model.graph.node[:]
        writer = {name: node for node in nodes for name in node.output}
        behind: dict[str, list[_Clipping]] = {}
        for part in clipping:
            behind.setdefault(writer[part.source].output[0], []).append(part)
        clipped = {part.source: part.clipped for part in clipping}
        for node in nodes:
            for position, name in enumerate(node.input):
                node.input[position] = clipped.get(name, name)
            model.graph.node.append(node)
            for part in behind.get(node.output[0], []):
                model.graph.node.extend(part.nodes)
        for part in clipping:
            model.graph.input.extend(part.inputs)
            model.graph.output.extend(map(helper.make_empty_tensor_value_info, part.outputs))
            model.graph.initializer.extend(part.initializers)
            self._state |= part.start
        with refusals():
            self._session = cpu_session(model, session_options())
        self._outputs = [name for part in clipping for name in part.outputs]

    def run(self, batch: Batch) -> None:
        """Let the thresholds grow by what they clip of a batch."""
        size = len(batch)
        for start in range(0, size, SAMPLES_PER_STEP):
            self._step(batch.take(slice(start, start + SAMPLES_PER_STEP)).feeds)

    def _step(self, feeds: Mapping[str, Array]) -> None:
        with refusals():
            after = self._session.run(self._outputs, {**feeds, **self._state})
        self._state = dict(zip(self._state, after, strict=True))
        self.steps += 1

    @property
    def thresholds(self) -> list[tuple[float, FloatArray]]:
        """Of each activation θ as one number, and θ of each channel, [C]; 0: it was never above 0.

        The number for a layer grows in the same network, by what it would clip itself.
        """
        return [
            (
                float(self._state[layer].reshape(-1)[0]),
                self._state[channels].reshape(-1).astype(np.float64),
            )
            for channels, layer in self._names
        ]


class _Clipping:
    """The nodes behind one activation."""

    def __init__(self, tensor: gs.Variable, index: int) -> None:
        prefix = f"onnx_snn/ltb/{index}"
        rank = len(tensor.shape)
        channels = channels_of(tensor)
        # Sums of float16 are too coarse.
        dtype = np.dtype(np.float32 if tensor.dtype == np.float16 else tensor.dtype)
        kind = helper.np_dtype_to_tensor_dtype(dtype)
        own = helper.np_dtype_to_tensor_dtype(np.dtype(tensor.dtype))
        shape = [1, channels or 1, *[1] * (rank - 2)][:rank]
        self.source, self.clipped = tensor.name, f"{prefix}/clipped"
        self.names = f"{prefix}/channels", f"{prefix}/layer"
        self.outputs = [f"{name}/after" for name in self.names]
        self.start = {
            self.names[0]: np.zeros(shape, dtype),
            self.names[1]: np.zeros([1] * rank, dtype),
        }
        self.inputs = [
            helper.make_tensor_value_info(name, kind, value.shape)
            for name, value in self.start.items()
        ]
        kept = [axis for axis in range(rank) if shape[axis] == 1 or axis != 1]
        axes = {self.names[0]: kept, self.names[1]: list(range(rank))}
        two = helper.make_tensor(f"{prefix}/two", kind, [], [2.0])
        self.initializers = [two]
        values = f"{prefix}/values"
        self.nodes = [helper.make_node("Cast", [tensor.name], [values], to=kind)]
        for name, after in zip(self.names, self.outputs, strict=True):
            over, axis = f"{name}/over", f"{name}/axes"
            self.initializers.append(
                helper.make_tensor(axis, onnx.TensorProto.INT64, [len(axes[name])], axes[name])
            )
            self.nodes += [
                # max(x − θ, 0) = max(x, θ) − θ, with one node less that sees all values
                helper.make_node("Max", [values, name], [f"{over}/max"]),
                helper.make_node("ReduceMean", [f"{over}/max", axis], [f"{over}/mean"], keepdims=1),
                helper.make_node("Sub", [f"{over}/mean", name], [over]),
                helper.make_node("Mul", [over, two.name], [f"{over}/growth"]),
                helper.make_node("Add", [name, f"{over}/growth"], [after]),
            ]
        limit = f"{prefix}/limit"
        self.nodes += [
            helper.make_node("Cast", [self.outputs[0]], [limit], to=own),
            helper.make_node("Min", [tensor.name, limit], [self.clipped]),
        ]
