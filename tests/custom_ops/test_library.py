"""The shared library: what it exports and needs, and how it bears being shared."""

import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnxruntime as ort
import pytest

from if_neuron_cases import Case, assert_identical, native
from onnx_snn import get_library_path

linux_tools = pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("nm") is None or shutil.which("readelf") is None,
    reason="reads ELF files with nm and readelf",
)


def output_of(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@linux_tools
def test_exports_the_entry_point_and_nothing_else():
    symbols = output_of("nm", "-D", "--defined-only", get_library_path()).splitlines()
    assert [line.split()[-1] for line in symbols] == ["RegisterCustomOps"]


@linux_tools
def test_needs_the_system_libraries_only():
    """No CUDA runtime, nor anything of onnxruntime's: it loads on every machine."""
    dynamic = output_of("readelf", "--dynamic", "--wide", get_library_path()).splitlines()
    needed = [line.split("[")[1].rstrip("]") for line in dynamic if "(NEEDED)" in line]
    system = {"libstdc++", "libm", "libgcc_s", "libc", "libdl", "librt", "libpthread"}
    assert needed
    names = {name.split(".")[0] for name in needed}
    assert {name for name in names - system if not name.startswith("ld-linux")} == set()


FIRST = Case(v="full", n="full", seed=1)
SECOND = Case(attributes={"reset": "zero", "v_threshold": 0.5}, seed=2)


def assert_runs(session, case):
    assert_identical(session.run(None, case.feeds("float32")), case.expected("float32"))


def test_sessions_share_it():
    cases = [FIRST, SECOND, FIRST]
    sessions = [native(case.model("float32")) for case in cases]
    del sessions[0], cases[0]  # the first to load it may be the first to go
    for session, case in zip(sessions, cases, strict=True):
        assert_runs(session, case)


def test_options_with_the_library_serve_many_sessions():
    options = ort.SessionOptions()
    options.register_custom_ops_library(get_library_path())
    model = FIRST.model("float32").SerializeToString()
    for _ in range(3):
        assert_runs(ort.InferenceSession(model, options, providers=["CPUExecutionProvider"]), FIRST)


def test_registering_it_again_changes_nothing():
    options = ort.SessionOptions()
    for _ in range(3):
        options.register_custom_ops_library(get_library_path())
    model = FIRST.model("float32").SerializeToString()
    assert_runs(ort.InferenceSession(model, options, providers=["CPUExecutionProvider"]), FIRST)


@pytest.mark.parametrize("threads", [1, 2])
def test_runs_of_one_session_at_once_do_not_meet(threads):
    # A session holds no state: all that a run needs is in its inputs.
    steps = [1, 2, 5, 9, 16, 30, 3, 7]
    cases = [Case(shape=(3, 4001), steps=t, v="full", n="full", seed=t) for t in steps]
    calls = [(case.feeds("float32"), case.expected("float32")) for case in cases]
    session = native(cases[0].model("float32"), threads)

    def run_often(index):
        feeds, expected = calls[index % len(calls)]
        for _ in range(10):
            assert_identical(session.run(None, feeds), expected)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(run_often, range(16)))


def test_sessions_may_be_opened_at_once():
    model = FIRST.model("float32")
    with ThreadPoolExecutor(8) as pool:
        sessions = list(pool.map(lambda _: native(model), range(16)))
    for session in sessions:
        assert_runs(session, FIRST)


def test_inputs_are_left_as_they_are():
    feeds = FIRST.feeds("float32")
    native(FIRST.model("float32")).run(None, feeds)
    for name, values in FIRST.feeds("float32").items():
        np.testing.assert_array_equal(feeds[name], values)
