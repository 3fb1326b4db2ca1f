"""Models of one IFNeuron or AddIFNeuron, and runs of them in buffers that the caller owns."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime as ort
from onnx import TensorProto, helper

from onnx_snn.ops import ADD_IF_NEURON, DOMAIN, IF_NEURON, VERSION
from onnx_snn.ops.portable import ATTRIBUTES, Signature, if_neuron_function

Array = npt.NDArray[Any]
OPSET = 18
IR_VERSION = 8


def neuron_model(
    dtype: npt.DTypeLike,
    attributes: Mapping[str, Any],
    inputs: tuple[str, ...] = (),
    outputs: tuple[str, ...] = (),
    *,
    portable: bool = False,
    shortcut: bool = False,
) -> bytes:
    """Return a model of one neuron with inputs x and T and output s, for shapes of any rank.

    Args:
        dtype: of currents, states and spikes.
        attributes: of the node; those missing have their defaults.
        inputs: optional inputs to have: ("v",), ("n",) or ("v", "n").
        outputs: optional outputs to have: ("v_next",), ("n_next",) or ("v_next", "n_next").
        portable: whether the model holds the portable body. Without it, a model that loads runs
            native kernels.
        shortcut: whether it is an AddIFNeuron, with inputs r and R; not with `portable`.
    """
    elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    functions = []
    if portable:
        attributes = {**ATTRIBUTES, **attributes}  # a function's attributes have no defaults
        alphabet = attributes["spike_min"], attributes["spike_max"]
        signature = Signature(
            binary=alphabet == (0, 1) and attributes["count_max"] < 0,
            v="v" in inputs,
            n="n" in inputs,
            v_next="v_next" in outputs,
            n_next="n_next" in outputs,
            reset=attributes.get("reset", "subtract"),
            elem_type=elem_type,
        )
        functions = [if_neuron_function(signature, OPSET)]
    first = ("x", "r", "R") if shortcut else ("x",)
    node = helper.make_node(
        ADD_IF_NEURON if shortcut else IF_NEURON,
        _in_place((*first, "T", *inputs), (*first, "T", "v", "n")),
        _in_place(("s", *outputs), ("s", "v_next", "n_next")),
        domain=DOMAIN,
        **attributes,
    )
    timesteps = helper.make_tensor_value_info("T", TensorProto.INT64, [])
    ins, outs = (
        [helper.make_tensor_value_info(name, elem_type, None) for name in names]
        for names in ((*first, *inputs), ("s", *outputs))
    )
    graph = helper.make_graph([node], "neuron", [timesteps, *ins], outs)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(DOMAIN, VERSION)]
    model = helper.make_model(
        graph, opset_imports=opsets, functions=functions, ir_version=IR_VERSION
    )
    content: bytes = model.SerializeToString()
    return content


def _in_place(names: tuple[str, ...], places: tuple[str, ...]) -> list[str]:
    """Names at their places, "" where one is left out before another."""
    last = max(places.index(name) for name in names)
    return [place if place in names else "" for place in places[: last + 1]]


def aligned_empty(shape: tuple[int, ...], dtype: npt.DTypeLike) -> Array:
    """Return an array that starts at a 64-byte line, as onnxruntime's own tensors do."""
    dtype = np.dtype(dtype)
    size = int(np.prod(shape)) * dtype.itemsize
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + size].view(dtype).reshape(shape)


@dataclass(frozen=True)
class BoundRun:
    """A run on memory that exists: what `session.run` would allocate and copy is not measured.

    Holds the arrays, as a binding has their addresses only.
    """

    session: ort.InferenceSession
    binding: ort.IOBinding
    arrays: list[Array]

    def __call__(self) -> None:
        self.session.run_with_iobinding(self.binding)


def bind(
    session: ort.InferenceSession, inputs: Mapping[str, Array], outputs: Mapping[str, Array]
) -> BoundRun:
    """Return a run that reads and writes the given arrays in place, on the CPU."""
    binding = session.io_binding()
    for name, array in inputs.items():
        binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
    for name, array in outputs.items():
        binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
    return BoundRun(session, binding, [*inputs.values(), *outputs.values()])
