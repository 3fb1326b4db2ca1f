"""Sessions of models of any size. The size that protobuf allows is lowered to a few kilobytes."""

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnx_snn
from nets import Gaussian, run
from onnx_snn.open_session import open_session
from wide_net import LIMIT, wide_net

CPU = ["CPUExecutionProvider"]
X = np.random.default_rng(1).normal(size=(3, 8)).astype(np.float32)


@pytest.fixture(name="folders", params=[False, True], ids=["small", "too large for protobuf"])
def _folders(request, monkeypatch, tmp_path):
    """Folder of temporary files, and whether sessions have to use it."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    if request.param:
        monkeypatch.setattr("onnx_snn.external_data.LARGEST_MESSAGE", LIMIT)
    return tmp_path


def test_computes_the_same(folders):
    model = wide_net()
    session = open_session(model, None, CPU)
    np.testing.assert_array_equal(
        session.run(None, {"x": X})[0],
        ort.InferenceSession(model.SerializeToString(), providers=CPU).run(None, {"x": X})[0],
    )
    assert not list(folders.iterdir())


def test_takes_paths_and_bytes(folders):
    path = folders / "model.onnx"
    onnx.save(wide_net(), path)
    for source in (str(path), path.read_bytes()):
        (y,) = open_session(source, None, CPU).run(None, {"x": X})
        # With other optimisations onnxruntime adds in another order.
        np.testing.assert_allclose(y, run(wide_net(), {"x": X})[0], atol=1e-6)


def test_options_are_obeyed(folders):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = open_session(wide_net(), options, CPU)
    assert session.get_session_options().intra_op_num_threads == 1


def test_weights_of_subgraphs(folders):
    weight = numpy_helper.from_array(Gaussian()(60, 60), "w")
    value = helper.make_tensor_value_info
    output = value("y", TensorProto.FLOAT, ["N", 60])
    branch = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["b"])],
        "branch",
        [],
        [value("b", TensorProto.FLOAT, ["N", 60])],
        [weight],
    )
    node = helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch)
    inputs = [value("x", TensorProto.FLOAT, ["N", 60]), value("yes", TensorProto.BOOL, [])]
    graph = helper.make_graph([node], "g", inputs, [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    x = Gaussian(1)(3, 60)
    (y,) = open_session(model, None, CPU).run(None, {"x": x, "yes": np.array(True)})
    np.testing.assert_allclose(y, x @ numpy_helper.to_array(weight), atol=1e-6)


def test_errors_are_those_of_onnxruntime_and_leave_nothing(folders):
    model = wide_net()
    model.graph.node[0].op_type = "Nonesuch"
    with pytest.raises(Exception, match="Nonesuch"):
        open_session(model, None, CPU)
    assert not list(folders.iterdir())


class TestWholePath:
    """A network above the limit, all the way; against the same network below it."""

    @pytest.fixture(name="converted")
    @staticmethod
    def _converted(monkeypatch):
        model, data = wide_net(), np.random.default_rng(2).normal(size=(40, 8)).astype(np.float32)
        below = onnx_snn.convert(model, data, timesteps=4)
        monkeypatch.setattr("onnx_snn.external_data.LARGEST_MESSAGE", LIMIT)
        return model, data, below, onnx_snn.convert(model, data, timesteps=4)

    def test_the_conversion_is_the_same(self, converted):
        _, _, below, above = converted
        assert above.model == below.model
        assert above.report.to_dict() == below.report.to_dict()

    def test_it_is_saved_opened_evaluated_and_rescheduled(self, converted, tmp_path):
        model, data, below, above = converted
        path = tmp_path / "snn.onnx"
        above.save(path)
        assert {file.name for file in tmp_path.iterdir()} == {"snn.onnx", "snn.onnx.data"}
        assert path.stat().st_size < LIMIT < below.model.ByteSize()
        (expected,) = onnx_snn.create_session(below.model, CPU).run(None, {"x": data})
        for source in (path, str(path), above.model):
            (actual,) = onnx_snn.create_session(source, CPU).run(None, {"x": data})
            np.testing.assert_array_equal(actual, expected)
        assert onnx_snn.evaluate(path, data, reference=model) == onnx_snn.evaluate(
            below.model, data, reference=model
        )
        loop = onnx_snn.reschedule(path, schedule="loop", block=2)
        (actual,) = onnx_snn.create_session(loop, CPU).run(None, {"x": data})
        np.testing.assert_allclose(actual, expected, atol=1e-6)
        stream = onnx_snn.Stream(path, CPU)
        (actual,) = stream.run(data, timesteps=4).values()
        np.testing.assert_allclose(actual, expected, atol=1e-6)
