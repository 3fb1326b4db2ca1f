"""The activations of a graph that are to become spikes."""

from __future__ import annotations

import numpy as np
import onnx_graphsurgeon as gs

from onnx_snn.errors import CalibrationError
from onnx_snn.operators import Kind, operator_of
from onnx_snn.operators.neurons import Bounded


def spiking_nodes(graph: gs.Graph) -> list[gs.Node]:
    """The nodes whose activations need statistics, in the order of evaluation."""
    return [node for node in graph.nodes if operator_of(node).kind is Kind.SPIKING]


def activation_bound(node: gs.Node) -> float:
    """What the activations of a spiking node never exceed: b for Clip(x, 0, b), else infinity."""
    operator = operator_of(node)
    return float(np.max(operator.interval(node).high)) if isinstance(operator, Bounded) else np.inf


def not_finite(node: gs.Node, kind: str) -> CalibrationError:
    """The error to raise where the activations of a node are ``"NaN"`` or ``"infinite"``."""
    return CalibrationError(
        f"the activations of {node.op} node '{node.name}' are {kind} on the calibration data; "
        "check the data's preprocessing and the model's weights"
    )
