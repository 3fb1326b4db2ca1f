"""Tell what the CUDA compiler made of the kernels: registers, spills, and how they reach memory.

    python tools/read_cuda_code.py --architectures 75 80 86 89 90

Needs nvcc and cuobjdump (from PyPI: nvidia-cuda-cuobjdump and nvidia-cuda-nvdisasm), no GPU.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SOURCES = Path(__file__).resolve().parent.parent / "custom_ops"
RUNS_BEFORE_USE = re.compile(r"(?:L )+")


@dataclass(frozen=True)
class Kernel:
    """A kernel of one type and width.

    Attributes:
        registers: of a thread.
        spilled: bytes written to memory for want of registers.
        ahead: most loads in a row of which no store needs the result first.
        accesses: instructions by what they do: LDG.128 is a load of 16 bytes.
    """

    registers: int
    spilled: int
    ahead: int
    accesses: Counter[str]


def kernels(source: Path, architecture: int) -> Iterator[Kernel]:
    """Compile a source file and yield its kernels."""
    with tempfile.TemporaryDirectory() as folder:
        cubin = Path(folder) / "kernels.cubin"
        options = ["-std=c++17", "--fmad=false", f"-arch=sm_{architecture}", "-Xptxas", "-v"]
        report = run(["nvcc", *options, "-cubin", str(source), "-o", str(cubin)])
        code = run(["cuobjdump", "-sass", str(cubin)])
    found = {}
    for name, text in re.findall(r"Function properties for (\S+)\n(.*?registers)", report, re.S):
        spilled = int(re.findall(r"(\d+) bytes spill stores", text)[0])
        found[name] = int(re.findall(r"Used (\d+) registers", text)[0]), spilled
    for part in re.split(r"Function : ", code)[1:]:
        name, body = part.split("\n", 1)
        kinds = re.findall(r"\s((?:LDG|STG|LDL|STL)[.A-Z0-9]*)\s", body)
        order = "".join("L " if kind.startswith("LDG") else "S " for kind in kinds)
        ahead = max((len(run_) // 2 for run_ in RUNS_BEFORE_USE.findall(order)), default=0)
        yield Kernel(*found[name.strip()], ahead, Counter(map(access, kinds)))


def access(instruction: str) -> str:
    """Return LDG, STG, LDL or STL with its bits."""
    bits = re.findall(r"\.(?:U|S)?(8|16|64|128)(?=\.|$)", instruction)
    return f"{instruction[:3]}.{bits[0] if bits else 32}"


def run(command: list[str]) -> str:
    """Run a program; returns what it prints."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        sys.exit(f"error: {command[0]} is not installed")
    if done.returncode != 0:
        sys.exit(f"error: {' '.join(command)}\n{done.stderr}")
    return done.stdout + done.stderr


def main() -> None:
    """Print a line for each source file and architecture."""
    parser = argparse.ArgumentParser(description="What the CUDA compiler made of the kernels")
    parser.add_argument("--architectures", type=int, nargs="+", default=[75, 80, 90])
    for architecture in parser.parse_args().architectures:
        for source in sorted(SOURCES.glob("*.cu")):
            found = list(kernels(source, architecture))
            wide = [kernel for kernel in found if kernel.accesses["LDG.128"]]
            local = sum(kernel.accesses["LDL.32"] + kernel.accesses["STL.32"] for kernel in found)
            ahead = min((kernel.ahead for kernel in wide or found), default=0)
            print(
                f"sm_{architecture} {source.stem:22} {len(found):3} kernels, "
                f"{max(kernel.registers for kernel in found):3} registers at most, "
                f"{sum(kernel.spilled for kernel in found)} bytes spilled, "
                f"{local} local accesses; {len(wide)} with 16-byte loads, "
                f"{ahead} loads ahead at least",
                flush=True,
            )


if __name__ == "__main__":
    main()
