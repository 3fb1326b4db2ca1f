"""Every mistake a user can make: one clear line, a non-zero exit code, and no file touched."""

import contextlib
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

import onnx_snn
from nets import Gaussian, Net, cnn, mlp
from onnx_snn.cli import main

OLD = b"what was here before"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A folder with good files, bad files, and an old out.onnx that must stay as it is."""
    folder = tmp_path_factory.mktemp("files")
    with contextlib.chdir(folder):
        make_files()
    return folder


@pytest.fixture
def folder(files, tmp_path, monkeypatch):
    copy = shutil.copytree(files, tmp_path / "files")
    monkeypatch.chdir(copy)
    return copy


def make_files():
    weights = Gaussian(1)
    model = mlp(weights)
    onnx.save(model, "model.onnx")
    x = np.random.default_rng(0).normal(0, 1, (20, 7)).astype(np.float32)
    np.savez("data.npz", x=x, y=np.zeros(20, np.int64))
    onnx_snn.convert(model, x).save("snn.onnx")

    whole = Path("model.onnx").read_bytes()
    Path("truncated.onnx").write_bytes(whole[: len(whole) // 2])
    Path("empty.onnx").write_bytes(b"")
    Path("text.onnx").write_text("this is not a model, but some text\n")
    model.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(
            np.full((7, 9), np.nan, np.float32), model.graph.initializer[0].name
        )
    )
    onnx.save(model, "nan.onnx")
    linear = Net({"x": ["N", 7]})
    onnx.save(linear.model(linear.gemm("x", weights(7, 3))), "linear.onnx")
    gated = Net({"x": ["N", 7]})
    y = gated.op("Sigmoid", gated.relu(gated.gemm("x", weights(7, 7))))
    onnx.save(gated.model(gated.relu(gated.gemm(y, weights(7, 3)))), "gated.onnx")
    mixed = Net({"x": ["N", 7]})
    y = mixed.op("Softmax", mixed.relu(mixed.gemm("x", weights(7, 7))), axis=0)
    onnx.save(mixed.model(mixed.relu(mixed.gemm(y, weights(7, 3)))), "mixed.onnx")
    onnx.save(cnn(weights), "images.onnx")

    np.savez("shape.npz", x=x[:, :5])
    np.savez("type.npz", x=(x * 100).astype(np.int32))
    np.savez("name.npz", z=x, w=x)
    np.savez("none.npz", x=x[:0])
    np.savez("nan.npz", x=np.where(x > 2, np.nan, x).astype(np.float32))
    np.savez("labels.npz", x=x, y=np.zeros(3, np.int64))
    np.save("bare.npy", x)
    Path("damaged.npz").write_bytes(Path("data.npz").read_bytes()[:100])
    Path("pickled.npy").write_bytes(b"\x80\x04N.")
    Path("stats.json").write_text('{"format": 1}')
    Path("folder").mkdir()
    Path("out.onnx").write_bytes(OLD)


def convert(*, model="model.onnx", data="data.npz", out="out.onnx", more=()):
    return ["convert", model, "-c", data, "-o", out, *more]


def evaluate(*, snn="snn.onnx", data="data.npz", more=()):
    return ["evaluate", snn, "-d", data, "--plot", "out.png", *more]


CASES = {
    "no such model": (convert(model="nope.onnx"), 1, "nope.onnx: no such file"),
    "a folder as model": (convert(model="folder"), 1, "folder: is a folder"),
    "not ONNX": (convert(model="text.onnx"), 1, "text.onnx: is not an ONNX model"),
    "truncated": (convert(model="truncated.onnx"), 1, "truncated.onnx:"),
    "zero bytes": (convert(model="empty.onnx"), 1, "empty.onnx: is empty"),
    "NaN in weights": (convert(model="nan.onnx"), 1, "'c0' holds NaN"),
    "nothing to convert": (convert(model="linear.onnx"), 1, "nothing to convert"),
    "an operator between neurons": (convert(model="mixed.onnx"), 1, "Softmax node"),
    "a graded one, strictly": (
        convert(model="gated.onnx", more=["--strict"]),
        1,
        "Sigmoid node 'Sigmoid_2' would stay graded",
    ),
    "converted already": (convert(model="snn.onnx"), 1, "spiking network already"),
    "no such data": (convert(data="nope.npz"), 1, "nope.npz: no such file"),
    "data of another shape": (convert(data="shape.npz"), 1, "has the shape [20, 5]"),
    "data of another rank": (convert(model="images.onnx"), 1, "has the shape [20, 7]"),
    "data of another type": (convert(data="type.npz"), 1, "has the type int32"),
    "data of another name": (convert(data="name.npz"), 1, "no array for the model's input 'x'"),
    "empty data": (convert(data="none.npz"), 1, "holds no samples"),
    "NaN in data": (convert(data="nan.npz"), 1, "holds NaN"),
    "labels of another length": (convert(data="labels.npz"), 1, "differ in the number of samples"),
    "damaged data": (convert(data="damaged.npz"), 1, "damaged.npz: is not a readable"),
    "pickled data": (convert(data="pickled.npy"), 1, "pickled.npy: is not a readable"),
    "an empty folder of images": (convert(model="images.onnx", data="folder"), 1, "no images"),
    "T = 0": (convert(more=["-T", "0"]), 2, "at least 1, not 0"),
    "T negative": (convert(more=["-T", "-5"]), 2, "at least 1, not -5"),
    "T not a number": (convert(more=["-T", "many"]), 2, "valid integer"),
    "T not whole": (convert(more=["-T", "1.5"]), 2, "valid integer"),
    "unknown mode": (convert(more=["--mode", "median"]), 2, "mode must be"),
    "mode out of range": (convert(more=["--mode", "1.5"]), 2, "mode must be"),
    "percentile out of range": (convert(more=["--mode", "101%"]), 2, "mode must be"),
    "unknown schedule": (convert(more=["--schedule", "batch"]), 2, "schedule must be one of"),
    "unknown readout": (convert(more=["--readout", "sum"]), 2, "readout must be one of"),
    "unknown granularity": (convert(more=["--granularity", "x"]), 2, "granularity must be one of"),
    "unknown reset": (convert(more=["--reset", "half"]), 2, "reset must be one of"),
    "unknown reduction": (convert(more=["--batch-reduction", "x"]), 2, "must be one of exact, ema"),
    "block of 0": (convert(more=["--block", "0"]), 2, "block must be"),
    "batch of 0": (convert(more=["--batch-size", "0"]), 2, "batch size must be"),
    "holdout out of range": (convert(more=["--holdout", "0.9"]), 2, "holdout must be"),
    "membrane not finite": (convert(more=["--v-init", "nan"]), 2, "v_init must be"),
    "unknown option": (convert(more=["--speed", "9"]), 2, "--speed"),
    "no calibration": (["convert", "model.onnx", "-o", "out.onnx"], 2, "--calibration"),
    "no output": (["convert", "model.onnx", "-c", "data.npz"], 2, "--output"),
    "bad statistics": (
        ["convert", "model.onnx", "--stats", "stats.json", "-o", "out.onnx"],
        1,
        "stats.json: is not a file of calibration statistics",
    ),
    "bad size": (convert(more=["--size", "28"]), 2, "--size must be two whole numbers"),
    "bad mean": (convert(more=["--mean", "a,b"]), 2, "--mean must be numbers"),
    "no such folder to write to": (convert(out="no/such/out.onnx"), 1, "no/such/out.onnx"),
    "a folder to write to": (convert(out="folder"), 1, "folder: is a folder"),
    "inspect no such file": (["inspect", "nope.onnx"], 1, "no such file"),
    "inspect not ONNX": (["inspect", "text.onnx"], 1, "is not an ONNX model"),
    "evaluate an ANN": (evaluate(snn="model.onnx"), 1, "convert it first"),
    "evaluate no such file": (evaluate(snn="nope.onnx"), 1, "no such file"),
    "evaluate with T = 0": (evaluate(more=["-T", "0"]), 2, "at least 1, not 0"),
    "evaluate with nothing to compare": (evaluate(data="bare.npy"), 2, "no labels"),
    "evaluate with another reference": (evaluate(more=["-r", "images.onnx"]), 1, "reference"),
    "evaluate with a bad reference": (evaluate(more=["-r", "text.onnx"]), 1, "not an ONNX model"),
    "evaluate data of another shape": (evaluate(data="shape.npz"), 1, "has the shape"),
    "plot to no such folder": (evaluate(more=["--plot", "no/such.png"]), 1, "no/such.png"),
    "plot of an unknown kind": (evaluate(more=["--plot", "curve.xyz"]), 1, "curve.xyz"),
    "unknown command": (["train"], 2, "train"),
}


@pytest.mark.parametrize("case", CASES)
def test_one_line_and_nothing_written(folder, capsys, case):
    arguments, code, text = CASES[case]
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    capsys.readouterr()
    assert main(arguments) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert text in err
    assert "Traceback" not in err
    assert Path("out.onnx").read_bytes() == OLD
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
