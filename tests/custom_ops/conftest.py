"""The instruction sets that kernels are tried with."""

import pytest

from instruction_sets import INSTRUCTION_SETS, skip_without


@pytest.fixture(params=INSTRUCTION_SETS)
def isa(request, monkeypatch) -> str:
    """An instruction set of this machine, which sessions made in the test use."""
    monkeypatch.setenv("ONNX_SNN_ISA", request.param)
    skip_without(request.param)
    return request.param
