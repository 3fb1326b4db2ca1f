"""The portable body of ``AddIFNeuron``: a sum, and ``IFNeuron`` on it."""

from __future__ import annotations

from collections.abc import Iterable

from onnx import FunctionProto, NodeProto

from onnx_snn.ops import ADD_IF_NEURON
from onnx_snn.ops.portable.folded_time import constant, make_function, node, state_type
from onnx_snn.ops.portable.if_neuron import CURRENTS_OF_EACH_STEP, Signature, call_if_neuron


def add_if_neuron_function(signature: Signature, opset: int) -> FunctionProto:
    """The body for one signature; it calls ``IFNeuron``, in float32 where x is of float16.

    Args:
        signature: shared by all neurons of the model, with or without a shortcut: the model holds
            the function that ``if_neuron_function`` makes for the same signature.
        opset: the default-domain opset of the model, at least 18.

    Returns:
        A function ``onnx_snn.AddIFNeuron``, equal to ``onnx_snn.ops.reference.add_if_neuron``.
    """
    elem_type = state_type(signature.elem_type)
    given = {"v": signature.v, "n": signature.n}
    states = [name for name, is_given in given.items() if is_given]
    wide = [f"{name}_state" if name in states else "" for name in signature.inputs[2:]]
    results = [f"{name}_state" for name in signature.outputs]
    nodes = [
        *_add_currents(elem_type),
        *(node("Cast", [name], f"{name}_state", to=elem_type) for name in states),
        call_if_neuron(signature, ["currents", "T", *wide], results, CURRENTS_OF_EACH_STEP),
        *(node("CastLike", [f"{name}_state", "x"], name) for name in signature.outputs),
    ]
    return make_function(
        ADD_IF_NEURON,
        ["x", "r", "R", *signature.inputs[1:]],
        signature.outputs,
        nodes,
        opset,
        CURRENTS_OF_EACH_STEP,
        "Integrate-and-fire neurons behind a shortcut (onnx_snn, version 1).",
        calls_others=True,
    )


def _add_currents(elem_type: int) -> Iterable[NodeProto]:
    """x + R * r, in the type of the state; R is one number, or one for each channel."""
    for name in ("x", "r", "R"):
        yield node("Cast", [name], f"{name}_state", to=elem_type)
    # Add would broadcast; no tensor has -2 rows.
    yield node("Shape", ["x"], "size")
    yield node("Shape", ["r"], "r_size")
    yield node("Equal", ["size", "r_size"], "is_same")
    yield constant("impossible", value_int=-2)
    yield node("Where", ["is_same", "size", "impossible"], "size_checked")
    yield node("Reshape", ["r_state", "size_checked"], "r_checked", allowzero=1)
    # R stands at axis 1.
    yield constant("all", value_ints=[-1])
    yield constant("two", value_ints=[2])
    yield constant("end", value_ints=[2**62])
    yield node("Slice", ["size", "two", "end"], "behind_channels")
    yield node("Shape", ["behind_channels"], "axes_behind")
    yield constant("one", value_ints=[1])
    yield node("Expand", ["one", "axes_behind"], "ones")
    yield node("Concat", ["all", "ones"], "factors_shape", axis=0)
    yield node("Reshape", ["R_state", "factors_shape"], "factors")
    yield node("Mul", ["r_checked", "factors"], "shortcut")
    yield node("Add", ["x_state", "shortcut"], "currents")
