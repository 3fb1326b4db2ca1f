"""The instruction sets that kernels are tried with, and whether this machine has them."""

import platform
from pathlib import Path

import pytest

_FLAGS = {
    "plain": set(),
    "avx2": {"avx2", "fma", "f16c"},
    "avx512": {"avx2", "fma", "f16c", "avx512f", "avx512vl", "avx512bw", "avx512dq"},
    "amx": {"amx_tile", "amx_int8"},
}
INSTRUCTION_SETS = list(_FLAGS)


def skip_without(name: str) -> None:
    """Skip a test where the processor lacks an instruction set."""
    if not _FLAGS[name] <= _processor_flags():
        pytest.skip(f"this machine has no {name}, or does not tell")


def _processor_flags() -> set[str]:
    """What the processor has, as Linux tells it."""
    info = Path("/proc/cpuinfo")
    if platform.machine() != "x86_64" or not info.exists():
        return set()
    lines = info.read_text().splitlines()
    return set(next(line for line in lines if line.startswith("flags")).split())
