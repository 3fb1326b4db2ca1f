"""Numbers of steps are computed on the host, as onnxruntime's CUDA provider places nodes.

The rules are onnxruntime's (``GetCpuPreferredNodes`` in core/framework/fallback_cpu_capability.cc,
and the memory types of its CUDA kernels), for the nodes that the time axis is written with. The
provider itself is asked by ``make stand-in``.
"""

from collections.abc import Iterator

import numpy as np
import onnx
import pytest

from nets import Dyadic, Net
from onnx_snn import convert, reschedule
from onnx_snn.ops import DOMAIN, TIMESTEPS_INPUT
from simulator import dyadic_thresholds, stats_of

HOST_INPUTS = {
    "Reshape": {1},
    "Expand": {1},
    "Tile": {1},
    "Pad": {1, 3},
    "Slice": {1, 2, 3, 4},
    "Range": {0, 1, 2},
    "CumSum": {1},
    "Unsqueeze": {1},
    "Squeeze": {1},
    "ReduceSum": {1},
    "ReduceProd": {1},
    "Loop": {0},
}
X = Dyadic(9)(4, 3, 9, 9, step=1 / 8)


def _model():
    weights = Dyadic(2)
    net = Net({"x": ["N", 3, 9, 9]})
    s = net.relu(net.conv("x", weights(8, 3, 3, 3), weights(8), pads=[1] * 4))
    y = net.relu(net.conv(s, weights(8, 8, 3, 3), weights(8), pads=[1] * 4))
    s = net.op("MaxPool", net.relu(net.op("Add", y, s)), kernel_shape=[2, 2], strides=[2, 2])
    s = net.op("Flatten", net.op("GlobalAveragePool", net.op("Sigmoid", s)))
    return net.model({"y": net.op("Softmax", net.gemm(s, weights(8, 3), weights(3)))})


def host_inputs(node: onnx.NodeProto) -> set[str]:
    """What a kernel of the CUDA provider reads on the host."""
    if node.domain == DOMAIN:
        return (
            {node.input[TIMESTEPS_INPUT[node.op_type]]}
            if node.op_type in TIMESTEPS_INPUT
            else set()
        )
    return {node.input[i] for i in HOST_INPUTS.get(node.op_type, ()) if i < len(node.input)}


def copies(graph: onnx.GraphProto, constants: frozenset[str] = frozenset()) -> Iterator[str]:
    """Name the tensors that would cross between host and device, in subgraphs too."""
    constants |= {tensor.name for tensor in graph.initializer}
    constants -= {value.name for value in graph.input}  # T may be given
    inputs = {value.name for value in graph.input}
    on_host: set[str] = set()
    read_on_host, read_on_device = set[str](), set[str]()
    for node in graph.node:
        given = {name for name in node.input if name}
        wanted = host_inputs(node) - {""}
        computed = given - constants - inputs
        if given <= constants and not node.attribute:
            constants |= set(node.output)
        elif node.op_type == "Shape":
            on_host |= set(node.output)
        elif computed & on_host and computed <= on_host and not wanted & computed:
            on_host |= set(node.output)
            read_on_host |= given
        else:
            read_on_host |= wanted
            read_on_device |= given - wanted
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from copies(attribute.g, constants)
    computed = {name for node in graph.node for name in node.output} - constants
    yield from read_on_device & on_host
    yield from read_on_host & (computed - on_host)
    yield from inputs & read_on_host & read_on_device


def _converted(**options):
    model = _model()
    stats = stats_of(model, dyadic_thresholds(model, {"x": X}))
    return convert(model, stats=stats, mode="max", timesteps=6, holdout=0, **options).model


SCHEDULES = {
    "rate": ("layer", "loop", "step"),
    "drain": ("layer", "loop", "step"),
    "radix": ("layer", "step"),
}
WAYS = [
    (coding, schedule, input_coding)
    for coding, schedules in SCHEDULES.items()
    for schedule in schedules
    for input_coding in (("constant", "sequence") if coding == "rate" else ("constant",))
]


@pytest.mark.parametrize("target", ["any", "cuda"])
@pytest.mark.parametrize("readout", ["mean", "running"])
@pytest.mark.parametrize(("coding", "schedule", "input_coding"), WAYS)
def test_nothing_crosses_between_host_and_device(coding, schedule, input_coding, readout, target):
    snn = _converted(
        coding=coding,
        neuron="if" if coding == "radix" else "signed",
        schedule=schedule,
        block=4,
        input_coding=input_coding,
        readout=readout,
        target=target,
    )
    assert sorted(set(copies(snn.graph))) == []


def test_a_given_t_is_read_in_one_place():
    # Where two providers read an input that has a default, one of them sees only the default.
    snn = reschedule(_converted(), schedule="layer")
    readers = [node for node in snn.graph.node if "T" in node.input]
    assert [node.op_type for node in readers] == ["Range"]
    assert np.isin("T", [tensor.name for tensor in snn.graph.initializer])
