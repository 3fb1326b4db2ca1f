"""The blocked layout against the plain one, value for value."""

import numpy as np
import onnx_graphsurgeon as gs
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from nets import Dyadic, Net, run
from onnx_snn import get_library_path
from onnx_snn.blocked_layout import read_blocks
from onnx_snn.errors import RuntimeUnavailableError
from onnx_snn.ops import DOMAIN, LARGE_VALUES, VERSION
from onnx_snn.ops.reference import large_values
from simulator import expose


@pytest.fixture(name="options")
def _options():
    options = ort.SessionOptions()
    try:
        options.register_custom_ops_library(get_library_path())
    except RuntimeUnavailableError:
        pytest.skip("built without the native library")
    return options


def _run(model, options, feeds):
    content, providers = model.SerializeToString(), ["CPUExecutionProvider"]
    return ort.InferenceSession(content, options, providers=providers).run(None, feeds)


def _looked_at(model, tensor, channels):
    """The model with LargeValues behind one of its tensors, for its only outputs."""
    looked_at = expose(model, [tensor])
    outputs = [helper.make_tensor_value_info(n, TensorProto.INT64, None) for n in ("above", "n")]
    looked_at.graph.input.append(
        helper.make_tensor_value_info("floor", TensorProto.FLOAT, [channels])
    )
    looked_at.graph.node.append(
        helper.make_node(LARGE_VALUES, [tensor, "floor"], ["above", "n"], domain=DOMAIN)
    )
    del looked_at.graph.output[:]
    looked_at.graph.output.extend(outputs)
    looked_at.opset_import.append(helper.make_opsetid(DOMAIN, VERSION))
    return looked_at


def _two_convolutions(channels):
    random = Dyadic()
    net = Net({"x": ["N", 3, 8, 8]})
    hidden = net.relu(net.conv("x", random(32, 3, 3, 3), random(32)))
    last = net.relu(net.conv(hidden, random(channels, 32, 3, 3), random(channels)))
    return net.model({"y": last}), last


@pytest.mark.parametrize("channels", [1, 7, 16, 40])
def test_the_values_of_a_convolution_are_those_of_the_plain_layout(options, channels):
    model, tensor = _two_convolutions(channels)
    x, floor = Dyadic(1)(5, 3, 8, 8), np.linspace(0, 1, channels, dtype=np.float32)
    (values,) = run(model, {"x": x})
    blocked = read_blocks(_looked_at(model, tensor, channels), options)
    above, count = _run(blocked, options, {"x": x, "floor": floor})
    expected, expected_count = large_values(values, floor)
    np.testing.assert_array_equal(np.sort(above), np.sort(expected))
    assert count == expected_count
    assert above.size > 0


def test_no_values_are_reordered(options):
    model, tensor = _two_convolutions(32)
    plain = _looked_at(model, tensor, 32)
    nodes = [node.op_type for node in read_blocks(plain, options).graph.node]
    if nodes == [node.op_type for node in plain.graph.node]:
        pytest.skip("onnxruntime has no blocked convolutions on this machine")
    assert sorted(nodes) == ["Conv", "Conv", LARGE_VALUES]


def test_a_network_without_convolutions_stays_as_it_is(options):
    net = Net({"x": ["N", 4]})
    hidden = net.relu(net.gemm("x", Dyadic()(4, 5)))
    model = _looked_at(net.model({"y": hidden}), hidden, 5)
    assert read_blocks(model, options) is model


def test_the_given_model_is_not_changed(options):
    model = _looked_at(*_two_convolutions(32), 32)
    before = model.SerializeToString(deterministic=True)
    read_blocks(model, options)
    assert model.SerializeToString(deterministic=True) == before
    assert gs.import_onnx(model).nodes[-1].op == LARGE_VALUES


@pytest.mark.parametrize("channels", [1, 7, 16, 40])
def test_a_sample_is_taken_of_the_blocks(options, channels):
    model, tensor = _two_convolutions(channels)
    looked_at = _looked_at(model, tensor, channels)
    graph = looked_at.graph
    graph.input.append(helper.make_tensor_value_info("at", TensorProto.INT64, ["P"]))
    shape = [0, channels, -1, 1]
    graph.initializer.append(helper.make_tensor("shape", TensorProto.INT64, [4], shape))
    graph.node.append(helper.make_node("Reshape", [tensor, "shape"], ["flat"]))
    graph.node.append(helper.make_node("Gather", ["flat", "at"], ["sample"], axis=2))
    graph.output.append(helper.make_empty_tensor_value_info("sample"))
    x, at = Dyadic(1)(5, 3, 8, 8), np.array([3, 0, 15])
    (values,) = run(model, {"x": x})
    blocked = read_blocks(looked_at, options, ["sample"])
    feeds = {"x": x, "at": at, "floor": np.zeros(channels, np.float32)}
    *_, sample = _run(blocked, options, feeds)
    plain = sample.swapaxes(2, 3).reshape(5, -1, 3)[:, :channels]
    np.testing.assert_array_equal(plain, values.reshape(5, channels, -1)[:, :, at])
    assert not any(node.op_type == "ReorderOutput" for node in blocked.graph.node)
