"""A small network whose weights are kilobytes, for the tests of what is done with large ones."""

from __future__ import annotations

import onnx

from nets import Gaussian, Net

LIMIT = 12_000
"""Bytes, fewer than the network or a conversion of it has, more than they have without weights."""


def wide_net(seed: int = 0) -> onnx.ModelProto:
    """[N, 8] → Gemm 60 Relu → Gemm 50 Relu → Gemm 5."""
    random = Gaussian(seed)
    net = Net({"x": ["N", 8]})
    y = net.relu(net.gemm("x", random(8, 60), random(60)))
    y = net.relu(net.gemm(y, random(60, 50), random(50)))
    return net.model(net.gemm(y, random(50, 5), random(5)))
