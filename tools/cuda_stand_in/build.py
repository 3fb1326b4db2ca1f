"""Build stand-ins for CUDA's libraries, to try what is for a GPU on a machine without one.

    make stand-in       builds all this, and runs tools/gpu_check.py on it

onnxruntime's CUDA provider loads, and places the nodes of a model, as on a GPU; the kernels of
onnx_snn are compiled for the CPU and run there, through the provider. Not run are onnxruntime's own
kernels, so that no network computes anything, and nothing is measured.
"""

import argparse
import re
import subprocess
from pathlib import Path

import onnxruntime as ort

HERE = Path(__file__).resolve().parent
PROVIDER = Path(ort.__file__).parent / "capi" / "libonnxruntime_providers_cuda.so"
LIBRARIES = {
    "cudart": r"(cuda|__cuda).*",
    "cublasLt": r"cublasLt.*",
    "cublas": r"cublas(?!Lt).*",
    "curand": r"curand.*",
}
SONAMES = {"cudart": "13", "cublasLt": "13", "cublas": "13", "curand": "10"}


def wanted_symbols() -> list[str]:
    """Return what the provider wants to find in other libraries."""
    command = ["nm", "-D", "--undefined-only", str(PROVIDER)]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return sorted({line.split()[-1].split("@")[0] for line in lines})


def stub(name: str) -> str:
    """Return a function that succeeds; one that makes something gives a handle."""
    if "Create" in name and not name.startswith("cuda"):
        return (
            f'extern "C" int {name}(void** made) {{ static char thing; *made = &thing; return 0; }}'
        )
    return f'extern "C" int {name}() {{ return 0; }}'


def write_stubs(folder: Path) -> None:
    """Write a source file for each library, and the versions of their symbols."""
    folder.mkdir(parents=True, exist_ok=True)
    written = set(re.findall(r"^\S.*?\b(\w+)\(", (HERE / "runtime.cpp").read_text(), re.MULTILINE))
    symbols = [symbol for symbol in wanted_symbols() if symbol not in written]
    for library, pattern in LIBRARIES.items():
        stubs = [stub(symbol) for symbol in symbols if re.fullmatch(pattern, symbol)]
        (folder / f"{library}.cpp").write_text("\n".join([*stubs, ""]))
        soname = f"lib{library}.so.{SONAMES[library]}"
        (folder / f"{library}.map").write_text(f"{soname} {{ global: *; }};\n")
    (folder / "cuda.map").write_text("{ global: *; };\n")


def main() -> None:
    """Build all in a folder; libraries of CUDA are in ``lib``, the kernels in ``ops``."""
    parser = argparse.ArgumentParser(description="Stand-ins for CUDA's libraries")
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    write_stubs(folder / "stubs")
    subprocess.run(["cmake", "-S", HERE, "-B", folder], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["cmake", "--build", folder, "--parallel"], check=True)


if __name__ == "__main__":
    main()
