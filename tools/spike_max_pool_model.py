"""Models of one SpikeMaxPool."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper

from neuron_model import IR_VERSION, OPSET
from onnx_snn.ops import DOMAIN, SPIKE_MAX_POOL, VERSION


def spike_max_pool_model(
    dtype: npt.DTypeLike, attributes: Mapping[str, Any], *, has_counts: bool = False
) -> bytes:
    """Return a model of one SpikeMaxPool with inputs x and T and output s.

    It has no portable body: a model that loads runs native kernels.

    Args:
        dtype: of x and s.
        attributes: of the node; those missing have their defaults.
        has_counts: whether there are the input c and the output c_next, too.
    """
    elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    counts = TensorProto.DOUBLE if elem_type == TensorProto.DOUBLE else TensorProto.FLOAT
    value = helper.make_tensor_value_info
    inputs = [value("x", elem_type, None), value("T", TensorProto.INT64, [])]
    outputs = [value("s", elem_type, None)]
    if has_counts:
        inputs.append(value("c", counts, None))
        outputs.append(value("c_next", counts, None))
    names = [[info.name for info in infos] for infos in (inputs, outputs)]
    node = helper.make_node(SPIKE_MAX_POOL, *names, domain=DOMAIN, **attributes)
    graph = helper.make_graph([node], "pool", inputs, outputs)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    content: bytes = model.SerializeToString()
    return content
