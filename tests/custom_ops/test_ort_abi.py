"""The hand-written C ABI of onnxruntime, against the official header where there is one.

``ONNXRUNTIME_INCLUDE_DIR`` names a folder to look for ``onnxruntime_c_api.h`` in, besides those
of the compiler.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[2] / "custom_ops"
COMPILER = os.environ.get("CXX") or shutil.which("c++")


def compile_check(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    include = os.environ.get("ONNXRUNTIME_INCLUDE_DIR")
    return subprocess.run(
        [
            str(COMPILER),
            "-std=c++17",
            *([f"-I{include}"] if include else []),
            *flags,
            str(folder / "ort_abi_check.cpp"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module", autouse=True)
def _official_header():
    if COMPILER is None:
        pytest.skip("no C++ compiler")
    macros = compile_check(SOURCES, "-E", "-dM")
    assert macros.returncode == 0, macros.stderr
    if "ONNX_SNN_OFFICIAL_HEADER" not in macros.stdout:
        pytest.skip("no onnxruntime_c_api.h (Debian: libonnxruntime-dev)")


def test_abi_is_that_of_the_official_header():
    check = compile_check(SOURCES, "-fsyntax-only")
    assert check.returncode == 0, check.stderr


@pytest.mark.parametrize(
    ("right", "wrong", "complaint"),
    [
        ("Function<274,", "Function<275,", "KernelContext_ParallelFor"),
        ("const KernelInfo*, const char*, int64_t*)", "const KernelInfo*, int64_t*)", "_int64"),
        ("void(ORT_ABI_CALL* destroy_kernel)(void* kernel);", "", "KernelDestroy"),
        ("kDouble = 11", "kDouble = 12", "ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE"),
    ],
)
def test_check_fails_where_the_abi_is_wrong(tmp_path: Path, right: str, wrong: str, complaint: str):
    shutil.copy(SOURCES / "ort_abi_check.cpp", tmp_path)
    header = (SOURCES / "ort_abi.h").read_text()
    assert right in header
    (tmp_path / "ort_abi.h").write_text(header.replace(right, wrong))
    check = compile_check(tmp_path, "-fsyntax-only")
    assert check.returncode != 0
    assert complaint in check.stderr
