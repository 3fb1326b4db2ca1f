"""Sessions of converted models, with the native library and without it."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import onnx
import onnxruntime as ort
import pytest
from onnx import helper

from if_neuron_cases import SIGNED, Case, assert_identical
from onnx_snn import create_session, get_library_path
from onnx_snn.errors import ModelError, OnnxSnnError, RuntimeUnavailableError
from onnx_snn.ops.portable import Signature, if_neuron_function

CASE = Case(shape=(2, 9), steps=7, attributes={"v_threshold": 0.5, **SIGNED}, v="full")
FEEDS = CASE.feeds("float32")
EXPECTED = CASE.expected("float32")
CPU = ["CPUExecutionProvider"]


def model() -> onnx.ModelProto:
    """A valid model of one neuron with its portable body."""
    signature = Signature(binary=False, n_next=True)
    proto = CASE.model("float32", [if_neuron_function(signature, 18)])
    for value in (*proto.graph.input, *proto.graph.output):
        shape = [] if value.name == "T" else [None, None]
        elem_type = value.type.tensor_type.elem_type
        value.CopyFrom(helper.make_tensor_value_info(value.name, elem_type, shape))
    return proto


def native_only() -> onnx.ModelProto:
    """One without it."""
    proto = model()
    del proto.functions[:]
    return proto


def decoy() -> onnx.ModelProto:
    """One whose portable body gives the currents back, so that it shows which body ran."""
    proto = model()
    (body,) = proto.functions
    copies = [helper.make_node("Identity", [body.input[0]], [name]) for name in body.output]
    del body.node[:]
    body.node.extend(copies)
    return proto


def assert_one_line(error: OnnxSnnError):
    assert len(str(error).splitlines()) == 1


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    # A name of its own for every test: what has been said once is not said again.
    name = f"libmissing_{request.node.name}.so"
    monkeypatch.setattr("onnx_snn.session.LIBRARY_NAME", name)
    return name


def test_takes_paths_bytes_and_protos(tmp_path: Path):
    path = tmp_path / "neuron.onnx"
    onnx.save(model(), path)
    for source in (path, str(path), path.read_bytes(), model()):
        session = create_session(source, providers=CPU)
        assert type(session) is ort.InferenceSession
        assert_identical(session.run(None, FEEDS), EXPECTED)


def test_registers_the_library(tmp_path: Path):
    """A model without the portable body runs nowhere else."""
    assert_identical(create_session(native_only(), providers=CPU).run(None, FEEDS), EXPECTED)
    with pytest.raises(ModelError, match=r"cannot load the model: .*IFNeuron") as error:
        create_session(native_only(), providers=CPU, use_native=False)
    assert_one_line(error.value)


def test_portable_bodies_on_request():
    session = create_session(model(), providers=CPU, use_native=False)
    assert_identical(session.run(None, FEEDS), EXPECTED)


def test_native_kernels_go_before_portable_bodies():
    assert_identical(create_session(decoy(), providers=CPU).run(None, FEEDS), EXPECTED)
    portable = create_session(decoy(), providers=CPU, use_native=False)
    assert_identical(portable.run(None, FEEDS), [FEEDS["x"]] * len(EXPECTED))


def test_library_path_is_a_file_that_onnxruntime_loads():
    path = Path(get_library_path())
    assert path.is_file()
    assert path.parent.name == "onnx_snn"
    ort.SessionOptions().register_custom_ops_library(str(path))


def test_default_providers_end_with_the_cpu():
    providers = create_session(model()).get_providers()
    assert providers[-1] == "CPUExecutionProvider"
    assert set(providers) <= {"CUDAExecutionProvider", "CPUExecutionProvider"}


def test_options_of_the_caller_serve_many_sessions():
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    for _ in range(3):
        session = create_session(native_only(), CPU, options)
        assert session.get_session_options().intra_op_num_threads == 1
        assert_identical(session.run(None, FEEDS), EXPECTED)


def test_options_may_have_the_library_already():
    options = ort.SessionOptions()
    options.register_custom_ops_library(get_library_path())
    session = create_session(native_only(), CPU, options)
    assert_identical(session.run(None, FEEDS), EXPECTED)


def test_without_the_library_models_run_and_a_warning_says_so(no_library: str):
    with pytest.warns(RuntimeWarning, match=f"{no_library} is not installed") as warned:
        session = create_session(model(), providers=CPU)
    assert warned[0].filename == __file__
    assert_identical(session.run(None, FEEDS), EXPECTED)
    create_session(model(), providers=CPU)  # silent: warnings are errors in tests


@pytest.mark.parametrize("filters", [[], ["-W", "always"]], ids=["default", "always"])
def test_the_warning_is_shown_once(tmp_path: Path, filters: list[str]):
    onnx.save(model(), tmp_path / "neuron.onnx")
    script = """
import onnx_snn
from onnx_snn import session
session.LIBRARY_NAME = "libmissing.so"
onnx_snn.create_session("neuron.onnx")
onnx_snn.create_session("neuron.onnx")
for _ in range(2):
    onnx_snn.create_session("neuron.onnx")
"""
    process = subprocess.run(
        [sys.executable, *filters, "-c", script],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert process.stderr.count("libmissing.so is not installed") == 1


def test_no_warning_where_the_library_is_not_wanted(no_library: str):
    session = create_session(model(), providers=CPU, use_native=False)
    assert_identical(session.run(None, FEEDS), EXPECTED)


@pytest.mark.usefixtures("no_library")
def test_missing_library_has_no_path():
    with pytest.raises(RuntimeUnavailableError, match="is not installed") as error:
        get_library_path()
    assert_one_line(error.value)


def test_broken_library_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Not a silent fall-back to bodies that are slower."""
    broken = tmp_path / "libbroken.so"
    broken.write_bytes(b"\x7fELF, but not for long")
    monkeypatch.setattr("onnx_snn.session.get_library_path", lambda: str(broken))
    with pytest.raises(RuntimeUnavailableError, match="cannot load the native library") as error:
        create_session(model(), providers=CPU)
    assert "libbroken.so" in str(error.value)
    assert_one_line(error.value)


def test_missing_onnxruntime_is_an_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(RuntimeUnavailableError, match=r"install onnx-snn\[cpu\]") as error:
        create_session(model())
    assert_one_line(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file"),
        (b"", "model"),
        (b"\x00garbage\xff" * 9, "model"),
        (model().SerializeToString()[:-40], "model"),
    ],
    ids=["missing", "empty", "garbage", "truncated"],
)
@pytest.mark.parametrize("as_text", [False, True])
def test_refuses_files(tmp_path: Path, content: bytes | None, message: str, as_text: bool):
    path = tmp_path / "bad.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=message) as error:
        create_session(str(path) if as_text else path, providers=CPU)
    assert_one_line(error.value)
    assert "bad.onnx" in str(error.value)


def test_refuses_a_folder(tmp_path: Path):
    with pytest.raises(ModelError, match="is a folder") as error:
        create_session(tmp_path, providers=CPU)
    assert_one_line(error.value)


@pytest.mark.parametrize("content", [b"", b"garbage", model().SerializeToString()[:-40]])
def test_refuses_bytes(content: bytes):
    with pytest.raises(ModelError) as error:
        create_session(content, providers=CPU)
    assert_one_line(error.value)


def test_refuses_wrong_attributes():
    proto = model()
    next(a for a in proto.graph.node[0].attribute if a.name == "v_threshold").f = -1.0
    with pytest.raises(ModelError, match="v_threshold must be positive") as error:
        create_session(proto, providers=CPU)
    assert_one_line(error.value)


def test_timesteps_are_chosen_per_run():
    session = create_session(native_only(), providers=CPU)
    for steps in (1, 3, 20):
        case = replace(CASE, steps=steps)
        assert_identical(session.run(None, case.feeds("float32")), case.expected("float32"))


def test_a_provider_that_is_not_there_is_told_in_one_line():
    name = "CUDAExecutionProvider"
    if name in ort.get_available_providers():
        pytest.skip("CUDA is there")
    with pytest.warns(RuntimeWarning, match=f"{name} is not part of this onnxruntime") as caught:
        session = create_session(model(), providers=[(name, {"device_id": 0}), *CPU])
    (told,) = [str(warning.message) for warning in caught]
    assert "install onnxruntime-gpu" in told
    assert told.endswith("The model runs on CPUExecutionProvider")
    assert session.get_providers() == CPU
    assert_identical(session.run(None, FEEDS), EXPECTED)


def test_a_provider_that_nobody_has_leaves_the_cpu():
    with pytest.warns(RuntimeWarning, match="NoSuchProvider is not part of this onnxruntime"):
        session = create_session(model(), providers=["NoSuchProvider"])
    assert session.get_providers() == CPU
