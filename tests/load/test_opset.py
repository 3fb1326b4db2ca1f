import numpy as np
import onnxruntime.capi.onnxruntime_pybind11_state as ort_errors
import pytest
from onnx import TensorProto, helper, numpy_helper

from loading import loaded, model_of, ops, sample, unknown, value
from nets import session
from onnx_snn.errors import UnsupportedModelError
from onnx_snn.load import load_graph

N = helper.make_node
CHANNELS = np.array([1, 2, 3, 4], np.float32)
X = ["x"], ["y"]


def _ints(*values):
    return np.array(values, np.int64)


def _floats(*values):
    return np.array(values, np.float32)


# The operators whose form or meaning changed after the opset given: opset, nodes, constants.
CASES = {
    "Upsample-7": (7, [N("Upsample", *X, scales=[1.0, 1.0, 2.0, 2.0])], {}),
    "Upsample-7-linear": (
        7,
        [N("Upsample", *X, scales=[1.0, 1.0, 2.0, 2.0], mode="linear")],
        {},
    ),
    "Upsample-7-fraction": (7, [N("Upsample", *X, scales=[1.0, 1.0, 1.5, 1.7])], {}),
    "Upsample-9-linear": (
        9,
        [N("Upsample", ["x", "s"], ["y"], mode="linear")],
        {"s": _floats(1, 1, 2, 3)},
    ),
    "Resize-10": (10, [N("Resize", ["x", "s"], ["y"])], {"s": _floats(1, 1, 1.7, 2)}),
    "Resize-10-linear": (
        10,
        [N("Resize", ["x", "s"], ["y"], mode="linear")],
        {"s": _floats(1, 1, 2, 1.5)},
    ),
    "Resize-10-smaller": (10, [N("Resize", ["x", "s"], ["y"])], {"s": _floats(1, 1, 0.7, 0.6)}),
    "Resize-11": (
        11,
        [N("Resize", ["x", "r", "s"], ["y"], mode="linear")],
        {"r": _floats(), "s": _floats(1, 1, 2, 2)},
    ),
    "BatchNormalization-7": (
        7,
        [N("BatchNormalization", ["x", "a", "a", "a", "a"], ["y"], spatial=1, epsilon=1e-3)],
        {"a": CHANNELS},
    ),
    "Clip-6": (7, [N("Clip", *X, min=-0.5, max=0.5)], {}),
    "Clip-6-one-side": (9, [N("Clip", *X, max=0.5)], {}),
    "Clip-11": (11, [N("Clip", ["x", "", "m"], ["y"])], {"m": np.float32(0.5)}),
    "Pad-2": (7, [N("Pad", *X, pads=[0, 0, 1, 0, 0, 0, 2, 1], value=1.5)], {}),
    "Pad-2-reflect": (8, [N("Pad", *X, pads=[0, 0, 1, 0, 0, 0, 2, 1], mode="reflect")], {}),
    "Slice-1": (7, [N("Slice", *X, axes=[1, 2], starts=[1, -3], ends=[3, 100])], {}),
    "Slice-10": (
        10,
        [N("Slice", ["x", "s", "e", "a", "t"], ["y"])],
        {"s": _ints(5), "e": _ints(-7), "a": _ints(3), "t": _ints(-2)},
    ),
    "TopK-1": (7, [N("TopK", ["x"], ["y", "i"], k=2, axis=1)], {}),
    "TopK-10": (10, [N("TopK", ["x", "k"], ["y", "i"], axis=1)], {"k": _ints(2)}),
    "Softmax-1": (7, [N("Softmax", *X)], {}),
    "Softmax-11-axis-2": (11, [N("Softmax", *X, axis=2)], {}),
    "Softmax-11-axis-0": (11, [N("Softmax", *X, axis=0)], {}),
    "LogSoftmax-1": (9, [N("LogSoftmax", *X)], {}),
    "Hardmax-1": (9, [N("Hardmax", *X)], {}),
    "Hardmax-11": (11, [N("Hardmax", *X, axis=2)], {}),
    "Dropout-7": (7, [N("Relu", ["x"], ["a"]), N("Dropout", ["a"], ["y", "m"], ratio=0.4)], {}),
    "Dropout-10": (10, [N("Dropout", ["x"], ["a"]), N("Relu", ["a"], ["y"])], {}),
    "Dropout-12": (
        12,
        [N("Dropout", ["x", "r", "t"], ["a"]), N("Relu", ["a"], ["y"])],
        {"r": np.float32(0.3), "t": np.array(False)},
    ),
    "ReduceSum-1": (7, [N("ReduceSum", *X, axes=[2, 3], keepdims=0)], {}),
    "ReduceSum-13": (13, [N("ReduceSum", ["x", "a"], ["y"])], {"a": _ints(-1)}),
    "ReduceMean-11": (11, [N("ReduceMean", *X, axes=[-1, -2])], {}),
    "ReduceMax-12": (12, [N("ReduceMax", *X, axes=[1], keepdims=0)], {}),
    "ReduceMean-17-all": (17, [N("ReduceMean", *X)], {}),
    "Squeeze-1": (
        7,
        [N("Unsqueeze", ["x"], ["a"], axes=[2, 3]), N("Squeeze", ["a"], ["y"], axes=[3])],
        {},
    ),
    "Unsqueeze-11": (11, [N("Unsqueeze", *X, axes=[-1])], {}),
    "Split-2": (7, [N("Split", ["x"], ["y", "b"], axis=1, split=[1, 3])], {}),
    "Split-2-equal": (9, [N("Split", ["x"], ["a", "y"], axis=1)], {}),
    "Split-13": (13, [N("Split", ["x", "s"], ["a", "y"], axis=-1)], {"s": _ints(4, 2)}),
    "AveragePool-7": (
        7,
        [N("AveragePool", *X, kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER")],
        {},
    ),
    "Cast-6": (7, [N("Cast", ["x"], ["a"], to=7), N("Cast", ["a"], ["y"], to=1)], {}),
    "PRelu-7": (7, [N("PRelu", ["x", "s"], ["y"])], {"s": CHANNELS.reshape(4, 1, 1)}),
    "Sum-8": (8, [N("Sum", ["x", "x"], ["y"])], {}),
    "Expand-8": (8, [N("Expand", ["x", "s"], ["y"])], {"s": _ints(2, 1, 4, 6, 6)}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("ir_version", [3, 8])
def test_an_older_operator_computes_the_same(case, ir_version):
    opset, nodes, constants = CASES[case]
    inputs = [value("x", "N", 4, 6, 6)]
    model = model_of(nodes, inputs, [unknown("y")], constants, opset=opset, ir_version=ir_version)
    if ir_version == 3:
        model.graph.input.extend(
            helper.make_tensor_value_info(t.name, t.data_type, t.dims)
            for t in model.graph.initializer
        )
    for batch in (1, 3):
        graph = loaded(model, x=sample(batch, 4, 6, 6))
    assert graph.opset == 18
    assert [tensor.name for tensor in graph.inputs] == ["x"]


@pytest.mark.parametrize("opset", range(7, 27))
def test_a_small_classifier_of_any_opset(opset):
    shape = numpy_helper.from_array(_ints(-1, 4 * 36), "t")
    nodes = [
        N("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        N("BatchNormalization", ["a", "c", "c", "c", "c"], ["b"]),
        N("Relu", ["b"], ["r"]),
        N("Constant", [], ["shape"], value=shape),
        N("Reshape", ["r", "shape"], ["f"]),
        N("Gemm", ["f", "v", "c"], ["y"]),
    ]
    weights = {"w": sample(4, 2, 3, 3), "c": CHANNELS, "v": sample(144, 4, seed=1)}
    model = model_of(nodes, [value("x", "N", 2, 6, 6)], [value("y", "N", 4)], weights, opset=opset)
    try:
        session(model)
    except ort_errors.InvalidArgument:
        pytest.skip("this onnxruntime does not know the opset")
    graph = loaded(model, x=sample(3, 2, 6, 6))
    assert graph.opset == max(opset, 18)
    assert ops(graph) == ["Conv", "BatchNormalization", "Relu", "Reshape", "Gemm"]


def test_normalisation_of_single_positions_is_refused():
    node = N("BatchNormalization", ["x", "a", "a", "a", "a"], ["y"], spatial=0)
    inputs, constants = [value("x", "N", 4, 6)], {"a": np.ones((4, 6), np.float32)}
    model = model_of([node], inputs, [unknown("y")], constants, opset=7)
    with pytest.raises(UnsupportedModelError, match=r"^opset 7 .*spatial.*; export the model"):
        load_graph(model)


def test_another_domain_is_left_to_analyse():
    nodes = [
        N("Relu", ["x"], ["r"]),
        N(
            "LinearRegressor",
            ["r"],
            ["y"],
            name="tail",
            domain="ai.onnx.ml",
            coefficients=[1.0, 2.0],
            intercepts=[0.5],
        ),
    ]
    model = model_of(
        nodes,
        [value("x", "N", 2)],
        [value("y", "N", 1)],
        opset=11,
        domains={"ai.onnx.ml": 1},
    )
    graph = loaded(model, x=sample(3, 2))
    assert [(node.op, node.domain) for node in graph.nodes] == [
        ("Relu", None),
        ("LinearRegressor", "ai.onnx.ml"),
    ]
    assert graph.inputs[0].dtype == helper.tensor_dtype_to_np_dtype(TensorProto.FLOAT)
