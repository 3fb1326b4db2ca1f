"""Models of one PhaseNeuron."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper

from neuron_model import IR_VERSION, OPSET
from onnx_snn.ops import DOMAIN, PHASE_NEURON, VERSION


def phase_neuron_model(dtype: npt.DTypeLike, attributes: Mapping[str, Any]) -> bytes:
    """Return a model of one PhaseNeuron with inputs x and T and output s, for shapes of any rank.

    It has no portable body: a model that loads runs native kernels.

    Args:
        dtype: of currents and spikes.
        attributes: of the node; those missing have their defaults.
    """
    elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node(PHASE_NEURON, ["x", "T"], ["s"], domain=DOMAIN, **attributes)],
        "neuron",
        [value("x", elem_type, None), value("T", TensorProto.INT64, [])],
        [value("s", elem_type, None)],
    )
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION)
    content: bytes = model.SerializeToString()
    return content
