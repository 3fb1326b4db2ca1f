"""The instruction sets that kernels are tried with."""

import platform
from pathlib import Path

import pytest

INSTRUCTION_SETS = {
    "plain": set(),
    "avx2": {"avx2", "fma", "f16c"},
    "avx512": {"avx2", "fma", "f16c", "avx512f", "avx512vl", "avx512bw", "avx512dq"},
}


def processor_flags() -> set[str]:
    """What the processor has, as Linux tells it."""
    info = Path("/proc/cpuinfo")
    if platform.machine() != "x86_64" or not info.exists():
        return set()
    lines = info.read_text().splitlines()
    return set(next(line for line in lines if line.startswith("flags")).split())


@pytest.fixture(params=INSTRUCTION_SETS)
def isa(request, monkeypatch) -> str:
    """An instruction set of this machine, which sessions made in the test use."""
    monkeypatch.setenv("ONNX_SNN_ISA", request.param)
    if not INSTRUCTION_SETS[request.param] <= processor_flags():
        pytest.skip(f"this machine has no {request.param}, or does not tell")
    return request.param
