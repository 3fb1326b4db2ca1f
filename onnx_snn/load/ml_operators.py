"""Bring operators of the domain ``ai.onnx.ml``, which scikit-learn exports, to standard ones.

    Scaler                    becomes  Sub → Mul
    ZipMap, at an output      is gone: the output is its tensor of probabilities [N, classes]

Others (labels from class numbers, say) stay, and may stand behind the last neuron.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

ML_DOMAIN = "ai.onnx.ml"

BY_SAMPLE = frozenset(
    {
        "ArrayFeatureExtractor",
        "Binarizer",
        "CategoryMapper",
        "FeatureVectorizer",
        "Imputer",
        "LabelEncoder",
        "Normalizer",
        "OneHotEncoder",
    }
)
"""Operators of the domain that treat each sample by itself."""


def replace_ml_operators(model: onnx.ModelProto) -> None:
    """Edit the model in place; without such operators nothing changes."""
    graph = model.graph
    if not any(node.domain == ML_DOMAIN for node in graph.node):
        return
    nodes: list[NodeProto] = []
    for node in graph.node:
        if node.domain == ML_DOMAIN and node.op_type == "Scaler":
            nodes += _scaler(graph, node)
        elif node.domain == ML_DOMAIN and node.op_type == "ZipMap":
            nodes.append(helper.make_node("Identity", node.input, node.output, name=node.name))
            _become_tensor(graph, node.output[0])
        else:
            nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


def _scaler(graph: onnx.GraphProto, node: NodeProto) -> list[NodeProto]:
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    result, centred = node.output[0], f"{node.output[0]}/centred"
    names = []
    for role, default in (("offset", 0.0), ("scale", 1.0)):
        values = np.asarray(attributes.get(role, [default]), np.float32)
        names.append(f"{result}/{role}")
        graph.initializer.append(numpy_helper.from_array(values, names[-1]))
    return [
        helper.make_node("Sub", [node.input[0], names[0]], [centred], name=f"{node.name}/centre"),
        helper.make_node("Mul", [centred, names[1]], [result], name=node.name),
    ]


def _become_tensor(graph: onnx.GraphProto, name: str) -> None:
    for value in graph.output:
        if value.name == name:
            value.type.Clear()
            value.type.tensor_type.elem_type = TensorProto.FLOAT
