"""Pool spikes: one operator for a maximum between spikes, for a GPU.

    Accumulate → MaxPool → Difference   becomes   SpikeMaxPool

What was a dozen passes over memory reads each spike once. The spikes are the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_graphsurgeon as gs

from onnx_snn.ops import DOMAIN, MOST_POOL_PLACES, SPIKE_MAX_POOL
from onnx_snn.spiking_graph import ACCUMULATE, DIFFERENCE, SpikingGraph
from onnx_snn.time_axis.steps import sum_type


def pool_spikes(network: SpikingGraph) -> None:
    """Put ``SpikeMaxPool`` into a spiking network where it can be.

    That is where steps weigh alike (not with radix coding), and for windows over one or two axes
    of up to ``MOST_POOL_PLACES`` places, with explicit pads and sizes rounded down.

    Args:
        network: not yet on a schedule; edited in place.
    """
    if not network.weights.are_alike:
        return
    starts: dict[str, gs.Constant] = {}
    for node in network.crossings():
        found = _sums_and_pool(node)
        window = None if found is None else _window(found[1])
        if found is None or window is None:
            continue
        spikes, result = found[0].inputs[0], node.outputs[0]
        dtype = sum_type(np.dtype(spikes.dtype or np.float32))
        key = f"onnx_snn/c_init/{dtype}"
        start = starts.setdefault(key, gs.Constant(key, np.zeros((), dtype)))
        inputs = [spikes, network.timesteps, start]
        outputs, name = [result, gs.Variable.empty()], f"{found[1].name}/spikes"
        at = network.graph.nodes.index(node)
        node.inputs.clear()
        node.outputs.clear()
        pool = gs.Node(SPIKE_MAX_POOL, name, window, inputs, outputs, DOMAIN)
        network.graph.nodes[at] = pool
    network.graph.cleanup(remove_unused_graph_inputs=False)


def _sums_and_pool(node: gs.Node) -> tuple[gs.Node, gs.Node] | None:
    """The Accumulate and the MaxPool ahead of a Difference, if it is of that kind."""
    if node.op != DIFFERENCE or node.attrs["averages"]:
        return None
    pool = _producer(node, "MaxPool", None)
    sums = None if pool is None else _producer(pool, ACCUMULATE, DOMAIN)
    if pool is None or sums is None or sums.attrs["averages"]:
        return None
    return sums, pool


def _producer(node: gs.Node, op: str, domain: str | None) -> gs.Node | None:
    """What computes a node's first input, if it is such an operator."""
    found = next(iter(node.inputs[0].inputs), None)
    is_such = found is not None and (found.op, found.domain or None) == (op, domain)
    return found if is_such else None


def _window(pool: gs.Node) -> dict[str, Any] | None:
    """The attributes of a SpikeMaxPool, all written out, or None if there is none."""
    attributes = pool.attrs
    kernel = list(attributes["kernel_shape"])
    axes = len(kernel)
    mode, pads = attributes.get("auto_pad", "NOTSET"), attributes.get("pads")
    if mode == "VALID" or not pads:
        pads = [0] * 2 * axes
    is_explicit = mode in ("NOTSET", "VALID", "") and not attributes.get("ceil_mode", 0)
    fits = axes in (1, 2) and int(np.prod(kernel)) <= MOST_POOL_PLACES
    is_padded_little = all(0 <= pad < size for pad, size in zip(pads, kernel * 2, strict=True))
    if not (is_explicit and fits and is_padded_little):
        return None
    return {
        "kernel_shape": kernel,
        "strides": list(attributes.get("strides") or [1] * axes),
        "pads": list(pads),
        "dilations": list(attributes.get("dilations") or [1] * axes),
    }
