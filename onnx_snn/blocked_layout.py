"""Look at activations in the layout in which onnxruntime's CPU convolutions write them.

onnxruntime lays the channels of a convolutional network out in blocks (NCHWc) when it optimises the
graph, and adds ReorderOutput nodes where a tensor has to be in the plain layout. Such a reordering
costs more than a LargeValues node, or than taking a few values of each channel, so both read the
blocks as they are.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from onnx_snn.external_data import detach
from onnx_snn.onnxruntime_api import onnxruntime
from onnx_snn.ops import LARGE_VALUES

_DOMAIN = "com.microsoft.nchwc"
_INT64 = onnx.TensorProto.INT64
_WIDEST_BLOCK = 16
_LARGEST_MODEL = 1 << 30  # bytes; a larger one is not written to a file for this


def read_blocks(
    model: onnx.ModelProto, options: Any, samples: Sequence[str] = ()
) -> onnx.ModelProto:
    """The model as onnxruntime optimises it, without ReorderOutput where only some values are read.

    Args:
        model: has LargeValues nodes.
        options: SessionOptions that can run them; left at the optimised model's needs.
        samples: names of outputs [N, C, P, 1], each a Gather along axis 2, with indices [P], of the
            Reshape of an activation to [N, C, F, 1].

    Returns:
        The model to run with ``options``; the given one where nothing is gained. Its samples may
        be [N, C / block, P, block]; the last block may end in values that are of no channel.
    """
    if detach(model).size > _LARGEST_MODEL:
        return model
    optimised = _optimise(model, options)
    graph = optimised.graph
    source = {
        node.output[0]: node.input[0]
        for node in graph.node
        if node.domain == _DOMAIN and node.op_type == "ReorderOutput" and not _channels_last(node)
    }
    readers = [
        node for node in graph.node if node.op_type == LARGE_VALUES and node.input[0] in source
    ]
    block = _block_size() if readers else None
    if block is None:
        return model
    for node in readers:
        node.input[0] = source[node.input[0]]
        node.attribute.append(helper.make_attribute("block", block))
    for name in samples:
        _sample_blocks(graph, name, source, block)
    unread = source.keys() - {name for node in graph.node for name in node.input}
    kept = [node for node in graph.node if node.output[0] not in unread]
    del graph.node[:]
    graph.node.extend(kept)
    options.graph_optimization_level = onnxruntime().GraphOptimizationLevel.ORT_DISABLE_ALL
    return optimised


def _sample_blocks(
    graph: onnx.GraphProto, sample: str, source: Mapping[str, str], block: int
) -> None:
    """Take a sample [N, C / block, P, block] of the blocks of an activation."""
    writer = {name: node for node in graph.node for name in node.output}
    gather = writer[sample]
    flatten = writer.get(gather.input[0])
    if flatten is None or flatten.op_type != "Reshape" or flatten.input[0] not in source:
        return
    blocks = -(-_channels(writer[flatten.input[0]]) // block)
    shape = helper.make_tensor(f"{sample}/blocks", _INT64, [4], [0, blocks, -1, block])
    graph.initializer.append(shape)
    flatten.input[:] = [source[flatten.input[0]], shape.name]


def _optimise(model: onnx.ModelProto, options: Any) -> onnx.ModelProto:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimised.onnx"
        options.optimized_model_filepath = str(path)
        content, providers = model.SerializeToString(), ["CPUExecutionProvider"]
        onnxruntime().InferenceSession(content, options, providers=providers)
        options.optimized_model_filepath = ""
        return onnx.load(path)


def _channels_last(node: onnx.NodeProto) -> bool:
    return any(a.name == "channels_last" and a.i != 0 for a in node.attribute)


def _channels(reorder: onnx.NodeProto) -> int:
    """Number of channels, without those that fill up the last block."""
    return int(next(a.i for a in reorder.attribute if a.name == "channels"))


def _block_size() -> int | None:
    """Number of channels in a block, as a reordering of numbered values shows it."""
    channels = 4 * _WIDEST_BLOCK
    shape = [1, channels, 1, 2]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("ReorderInput", ["x"], ["y"], domain=_DOMAIN)],
        "block_size",
        [value("x", onnx.TensorProto.FLOAT, shape)],
        [value("y", onnx.TensorProto.FLOAT, shape)],
    )
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid(_DOMAIN, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    content, providers = model.SerializeToString(), ["CPUExecutionProvider"]
    session = onnxruntime().InferenceSession(content, providers=providers)
    x = np.arange(2 * channels, dtype=np.float32).reshape(shape)
    (y,) = session.run(None, {"x": x})
    for block in (2, 4, 8, _WIDEST_BLOCK):
        blocks = x.reshape(1, channels // block, block, 2).swapaxes(2, 3)
        if np.array_equal(y.reshape(-1), blocks.reshape(-1)):
            return block
    return None
