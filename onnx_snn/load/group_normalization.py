"""Write GroupNormalization, which shape inference does not know, in operators that it knows.

    x [N, C, …] → Reshape [N, groups, ·] → InstanceNormalization → Reshape [N, C, …] → Mul → Add

Group normalisation is instance normalisation with a group's channels seen as one (Wu and He 2018,
arXiv 1803.08494). Scale and shift belong to the channels from opset 21 on, before to the groups.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import NodeProto, helper, numpy_helper

from onnx_snn.load.opset import opset_of

_BY_CHANNEL = 21  # the opset from which on scale and shift are of channels, not of groups
_EPSILON = 1e-5


def expand_group_normalization(model: onnx.ModelProto) -> None:
    """Edit the model in place; without such nodes nothing changes."""
    graph = model.graph
    if not any(_is_group_normalization(node) for node in graph.node):
        return
    by_channel = opset_of(model) >= _BY_CHANNEL
    nodes: list[NodeProto] = []
    for node in graph.node:
        if _is_group_normalization(node):
            expansion = _Expansion(graph, node)
            nodes += expansion.scaled_by_channel() if by_channel else expansion.scaled_by_group()
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def _is_group_normalization(node: NodeProto) -> bool:
    return node.op_type == "GroupNormalization" and node.domain in ("", "ai.onnx")


class _Expansion:
    """What stands in place of one node."""

    def __init__(self, graph: onnx.GraphProto, node: NodeProto) -> None:
        self._graph = graph
        self._node = node
        self._attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}

    def scaled_by_group(self) -> list[NodeProto]:
        x, scale, bias = self._node.input
        return self._normalised(x, scale, bias, self._node.output[0])

    def scaled_by_channel(self) -> list[NodeProto]:
        x, scale, bias = self._node.input
        groups = self._attributes["num_groups"]
        same, scaled = self._own("same"), self._own("scaled")
        one, ones = self._typed("one", np.ones(groups), scale)
        zero, zeros = self._typed("zero", np.zeros(groups), scale)
        return [
            one,
            zero,
            *self._normalised(x, ones, zeros, same),
            *self._by_channel(x),
            self._op("Reshape", [scale, self._own("by_channel")], self._own("scale")),
            self._op("Mul", [same, self._own("scale")], scaled),
            self._op("Reshape", [bias, self._own("by_channel")], self._own("bias")),
            self._op("Add", [scaled, self._own("bias")], self._node.output[0]),
        ]

    def _normalised(self, x: str, scale: str, bias: str, result: str) -> list[NodeProto]:
        by_group = self._constant("by_group", [0, self._attributes["num_groups"], -1])
        groups, normal = self._own("groups"), self._own("normal")
        normalise = self._op("InstanceNormalization", [groups, scale, bias], normal)
        epsilon = self._attributes.get("epsilon", _EPSILON)
        normalise.attribute.append(helper.make_attribute("epsilon", epsilon))
        return [
            self._op("Reshape", [x, by_group], groups),
            normalise,
            self._op("Shape", [x], self._own("shape")),
            self._op("Reshape", [normal, self._own("shape")], result),
        ]

    def _by_channel(self, x: str) -> list[NodeProto]:
        """[-1, 1, 1 …], with an axis less than x: the shape of what is multiplied with x."""
        one = helper.make_tensor("one", onnx.TensorProto.INT64, [1], [1])
        spatial, axes, ones = (self._own(part) for part in ("spatial", "axes", "ones"))
        channels = self._constant("channels", [-1])
        return [
            self._op("Shape", [x], spatial, start=2),
            self._op("Shape", [spatial], axes),
            self._op("ConstantOfShape", [axes], ones, value=one),
            self._op("Concat", [channels, ones], self._own("by_channel"), axis=0),
        ]

    def _typed(self, part: str, values: npt.ArrayLike, like: str) -> tuple[NodeProto, str]:
        """Numbers of the type of the network, which nobody knows yet."""
        numbers = self._constant(f"{part}_float", values, np.float32)
        result = self._own(part)
        return self._op("CastLike", [numbers, like], result), result

    def _op(self, op_type: str, inputs: list[str], output: str, **attributes: Any) -> NodeProto:
        name = f"{self._node.name or self._node.output[0]}/{op_type}_{output.rsplit('/', 1)[-1]}"
        return helper.make_node(op_type, inputs, [output], name, **attributes)

    def _own(self, part: str) -> str:
        return f"onnx_snn/{self._node.output[0]}/{part}"

    def _constant(self, part: str, values: npt.ArrayLike, dtype: npt.DTypeLike = np.int64) -> str:
        tensor = numpy_helper.from_array(np.asarray(values, dtype), self._own(part))
        self._graph.initializer.append(tensor)
        return tensor.name
