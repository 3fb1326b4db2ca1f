"""Replace maximum by average pooling, on request: cheaper, but another function.

    MaxPool → AveragePool            GlobalMaxPool → GlobalAveragePool

Padding is left out of the averages, as it is of the maxima.
"""

from __future__ import annotations

import onnx_graphsurgeon as gs

from onnx_snn.errors import UnsupportedModelError
from onnx_snn.graph import is_standard


def average_max_pools(graph: gs.Graph) -> bool:
    """Replace every maximum pooling of a clean graph.

    Args:
        graph: edited in place.

    Returns:
        Whether anything changed.

    Raises:
        UnsupportedModelError: a window has gaps (dilations).
    """
    found = [
        node
        for node in graph.nodes
        if node.op in ("MaxPool", "GlobalMaxPool") and is_standard(node)
    ]
    for node in found:
        if any(int(step) != 1 for step in node.attrs.get("dilations", [])):
            raise UnsupportedModelError(
                f"MaxPool node '{node.name}' has dilations, which averages have not; "
                "keep the exact maximum (max_pool='exact')"
            )
    for node in found:
        if node.op == "MaxPool":
            for attribute in ("dilations", "storage_order"):
                node.attrs.pop(attribute, None)
            node.attrs["count_include_pad"] = 0
            node.op = "AveragePool"
        else:
            node.op = "GlobalAveragePool"
    return bool(found)
