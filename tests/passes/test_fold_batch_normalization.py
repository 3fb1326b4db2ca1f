import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from algebra import assert_close
from nets import Gaussian, Net, cnn, run
from onnx_snn.analyse import analyse
from onnx_snn.load import load_graph
from onnx_snn.passes.fold_batch_normalization import fold_batch_normalization
from strategies import networks

W = Gaussian(11)


def _ops(graph):
    return [node.op for node in graph.nodes]


def _feeds(model):
    random = np.random.default_rng(2)
    feeds = {}
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        shape = [dim.dim_value if dim.HasField("dim_value") else 3 for dim in dims]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        feeds[value.name] = random.normal(size=shape).astype(dtype)
    return feeds


def _fold(model, changes=True, relative=2e-6):
    """Fold, and check that all outputs stay; float32 weights are rounded once, to 6e-8."""
    graph = load_graph(model)
    assert fold_batch_normalization(graph) == changes
    feeds = _feeds(model)
    folded = gs.export_onnx(graph)
    onnx.checker.check_model(folded)
    assert [o.name for o in folded.graph.output] == [o.name for o in model.graph.output]
    for actual, expected in zip(run(folded, feeds), run(model, feeds), strict=True):
        assert_close(actual, expected, relative)
    assert not fold_batch_normalization(graph)
    assert gs.export_onnx(graph).SerializeToString(deterministic=True) == (
        folded.SerializeToString(deterministic=True)
    )
    return graph


def _conv(dims, inputs, outputs, groups=1, op="conv", bias=True):
    net = Net({"x": ["N", inputs, *[5] * dims]})
    rows = (inputs, outputs // groups) if op == "conv_transpose" else (outputs, inputs // groups)
    weight = W(*rows, *[3] * dims)
    y = getattr(net, op)("x", weight, W(outputs) if bias else None, group=groups)
    return net.model(net.batch_normalization(y, outputs))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("op", ["conv", "conv_transpose"])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_convolutions(op, dims, groups, bias):
    model = _conv(dims, 4, 8, groups, op, bias)
    expected = "Conv" if op == "conv" else "ConvTranspose"
    assert _ops(_fold(model)) == [expected]


@pytest.mark.parametrize("bias", [None, W(6), W(1, 6), W(1), W(), W(1, 1)], ids=str)
@pytest.mark.parametrize("attributes", [{}, {"transB": 1, "alpha": 0.6, "beta": 1.7}], ids=str)
def test_gemm(bias, attributes):
    net = Net({"x": ["N", 4]})
    weight = W(6, 4) if attributes else W(4, 6)
    model = net.model(net.batch_normalization(net.gemm("x", weight, bias, **attributes), 6))
    assert _ops(_fold(model)) == ["Gemm"]


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("bias", [W(6), W(1, 6), W(1), W(), W(1, 1)], ids=str)
def test_matmul_and_add(bias, first):
    net = Net({"x": ["N", 4]})
    pair = [net.matmul("x", W(4, 6)), net.constant(bias)]
    y = net.op("Add", *(pair if first else pair[::-1]))
    assert _ops(_fold(net.model(net.batch_normalization(y, 6)))) == ["MatMul", "Add"]


def test_matmul_alone_gets_an_add():
    net = Net({"x": ["N", 4]})
    model = net.model(net.batch_normalization(net.matmul("x", W(4, 6)), 6))
    assert _ops(_fold(model)) == ["MatMul", "Add"]


def test_epsilon_and_two_in_a_row():
    net = Net({"x": ["N", 2, 5, 5]})
    y = net.batch_normalization(net.conv("x", W(3, 2, 3, 3)), 3, epsilon=0.1)
    y = net.batch_normalization(y, 3, seed=1)
    assert _ops(_fold(net.model(y))) == ["Conv"]


@pytest.mark.parametrize("op", ["Identity", "Dropout"])
def test_behind_what_load_removes(op):
    net = Net({"x": ["N", 2, 5, 5]})
    y = net.op(op, net.conv("x", W(3, 2, 3, 3)))
    assert _ops(_fold(net.model(net.batch_normalization(y, 3)))) == ["Conv"]


def test_inside_a_network():
    graph = _fold(cnn(Gaussian(), normalised=True))
    assert _ops(graph) == ["Conv", "Relu", "AveragePool", "Conv", "Relu", "Flatten", "Gemm"]


def test_nothing_to_fold():
    graph = load_graph(cnn(Gaussian()))
    before = gs.export_onnx(graph).SerializeToString(deterministic=True)
    assert not fold_batch_normalization(graph)
    assert gs.export_onnx(graph).SerializeToString(deterministic=True) == before


def test_output_read_by_two_nodes_is_not_folded():
    net = Net({"x": ["N", 2, 5, 5]})
    y = net.conv("x", W(3, 2, 3, 3))
    model = net.model({"a": net.batch_normalization(y, 3), "b": net.relu(y)})
    assert sorted(_ops(_fold(model))) == ["Add", "Conv", "Mul", "Relu"]


def test_output_of_the_graph_is_not_folded():
    net = Net({"x": ["N", 2, 5, 5]})
    y = net.conv("x", W(3, 2, 3, 3))
    model = net.model({"a": net.batch_normalization(y, 3), "b": y})
    assert _ops(_fold(model)) == ["Conv", "Mul", "Add"]


@pytest.mark.parametrize("read", ["node", "output"])
def test_matmul_whose_output_is_read_twice_is_not_folded(read):
    net = Net({"x": ["N", 4]})
    product = net.matmul("x", W(4, 6))
    y = net.batch_normalization(net.op("Add", product, net.constant(W(6))), 6)
    other = net.relu(product) if read == "node" else product
    ops = _ops(_fold(net.model({"a": y, "b": other})))
    assert sorted(ops) == sorted(["MatMul", "Mul", "Add", *["Relu"] * (read == "node")])


def test_shared_weights_are_left_to_the_other_layer():
    net = Net({"x": ["N", 3, 5, 5]})
    weight, bias = net.constant(W(3, 3, 1, 1)), net.constant(W(3))
    y = net.batch_normalization(net.op("Conv", "x", weight, bias), 3)
    model = net.model(net.op("Conv", y, weight, bias))
    graph = _fold(model)
    assert _ops(graph) == ["Conv", "Conv"]
    second = graph.nodes[1].inputs[1:]
    assert [tensor.name for tensor in second] == [weight, bias]
    original = {tensor.name: tensor for tensor in model.graph.initializer}
    for tensor in second:
        expected = onnx.numpy_helper.to_array(original[tensor.name])
        np.testing.assert_array_equal(tensor.values, expected)


def test_shared_weights_whose_name_is_the_layers_own():
    # As tf2onnx names them: the copy for this layer must not take the name of the original.
    net = Net({"x": ["N", 3, 5, 5]})
    weight, bias = net.constant(W(3, 3, 1, 1)), net.constant(W(3))
    y = net.batch_normalization(net.op("Conv", "x", weight, bias), 3)
    model = net.model(net.op("Conv", y, weight, bias))
    for old, new in ((weight, "Conv_0/weight"), (bias, "Conv_0/bias")):
        _rename(model, old, new)
    assert _ops(_fold(model)) == ["Conv", "Conv"]


def test_a_new_bias_whose_name_is_taken():
    net = Net({"x": ["N", 3, 5, 5]})
    bias = net.constant(W(3))
    y = net.batch_normalization(net.op("Conv", "x", net.constant(W(3, 3, 1, 1))), 3)
    model = net.model(net.op("Conv", y, net.constant(W(3, 3, 1, 1)), bias))
    _rename(model, bias, "Conv_0/bias")
    assert _ops(_fold(model)) == ["Conv", "Conv"]


def _rename(model, old, new):
    for tensor in model.graph.initializer:
        tensor.name = new if tensor.name == old else tensor.name
    for node in model.graph.node:
        node.input[:] = [new if name == old else name for name in node.input]


def test_shared_normalization_parameters():
    net = Net({"x": ["N", 3, 5, 5]})
    parameters = [net.constant(np.abs(W(3)) + 0.5) for _ in range(4)]
    y = "x"
    for _ in range(2):
        y = net.op("BatchNormalization", net.conv(y, W(3, 3, 1, 1)), *parameters)
    assert _ops(_fold(net.model(y))) == ["Conv", "Conv"]


@pytest.mark.parametrize(
    "shape", [["N", 4], ["N", 4, 5], ["N", 4, 5, 5], ["N", 4, 2, 2, 2]], ids=len
)
def test_no_layer_in_front(shape):
    net = Net({"x": shape})
    assert _ops(_fold(net.model(net.batch_normalization("x", 4)))) == ["Mul", "Add"]


def test_channels_of_a_matmul_elsewhere():
    # [N, 4, 5] · [5, 6]: BatchNormalization's channels are axis 1, the matrix makes axis 2.
    net = Net({"x": ["N", 4, 5]})
    model = net.model(net.batch_normalization(net.matmul("x", W(5, 6)), 4))
    assert _ops(_fold(model)) == ["MatMul", "Mul", "Add"]


def test_behind_a_sum_of_activations():
    net = Net({"x": ["N", 4]})
    y = net.op("Add", net.matmul("x", W(4, 6)), net.matmul("x", W(4, 6)))
    ops = _ops(_fold(net.model(net.batch_normalization(y, 6))))
    assert ops == ["MatMul", "MatMul", "Add", "Mul", "Add"]


def test_weights_computed_at_run_time_are_not_folded():
    net = Net({"x": ["N", 4]})
    weight = net.op("MatMul", net.op("Transpose", "x", perm=[1, 0]), "x")
    model = net.model(net.batch_normalization(net.op("MatMul", "x", weight), 4))
    assert _ops(_fold(model)) == ["Transpose", "MatMul", "MatMul", "Mul", "Add"]


def test_training_mode_is_refused_and_left_alone():
    net = Net({"x": ["N", 4, 5]})
    ones = net.constant(np.ones(4, np.float32))
    y = net.op("BatchNormalization", "x", *[ones] * 4, outputs=3, training_mode=1)
    graph = load_graph(net.model(net.relu(y)))
    assert not fold_batch_normalization(graph)
    assert _ops(graph) == ["BatchNormalization", "Relu"]


def test_statistics_computed_at_run_time_are_left_alone():
    net = Net({"x": ["N", 4, 5]})
    ones = net.constant(np.ones(4, np.float32))
    mean = net.op("ReduceMean", "x", net.constant([0, 2], "int64"), keepdims=0)
    y = net.op("BatchNormalization", net.relu("x"), ones, ones, mean, ones)
    graph = load_graph(net.model(net.relu(y)))
    assert not fold_batch_normalization(graph)
    assert [v.node for v in analyse(graph).refused] == ["BatchNormalization_2"]


def _shapes(channels, dims):
    """All the ways to write one number, or one per channel at axis 1, of a constant."""
    return [(), (1,), (channels, *[1] * dims), (1, channels, *[1] * dims)]


def _affine(net, y, shape, op="Mul", first=False):
    """One node of a chain; divisors stay away from 0."""
    values = W(*shape)
    constant = net.constant(np.where(values < 0, values - 0.5, values + 0.5), np.float32)
    return net.op(op, *([constant, y] if first else [y, constant]))


class TestDecomposed:
    """What exporters write instead of BatchNormalization."""

    @pytest.mark.parametrize("shape", _shapes(4, 2), ids=str)
    @pytest.mark.parametrize("first", [False, True])
    @pytest.mark.parametrize("op", ["Mul", "Add", "Sub"])
    @pytest.mark.parametrize("bias", [None, W(4)], ids=["plain", "bias"])
    def test_one_node_behind_a_convolution(self, bias, op, first, shape):
        net = Net({"x": ["N", 2, 5, 5]})
        y = _affine(net, net.conv("x", W(4, 2, 3, 3), bias), shape, op, first)
        assert _ops(_fold(net.model(y))) == ["Conv"]

    @pytest.mark.parametrize("shape", _shapes(4, 2), ids=str)
    def test_quotient(self, shape):
        net = Net({"x": ["N", 2, 5, 5]})
        y = _affine(net, net.conv("x", W(4, 2, 3, 3)), shape, "Div")
        assert _ops(_fold(net.model(y))) == ["Conv"]

    @pytest.mark.parametrize("op", ["conv", "conv_transpose"])
    @pytest.mark.parametrize("groups", [1, 2, 4])
    @pytest.mark.parametrize("dims", [1, 2, 3])
    def test_chain_around_batch_normalization(self, dims, groups, op):
        net = Net({"x": ["N", 4, *[5] * dims]})
        rows = (4, 8 // groups) if op == "conv_transpose" else (8, 4 // groups)
        y = getattr(net, op)("x", W(*rows, *[3] * dims), group=groups)
        for kind, first in (("Add", False), ("Div", False), ("Sub", True)):
            y = _affine(net, y, (8, *[1] * dims), kind, first)
        y = net.batch_normalization(y, 8)
        for kind, first in (("Mul", True), ("Sub", False)):
            y = _affine(net, y, (1, 8, *[1] * dims), kind, first)
        assert len(_ops(_fold(net.model(y)))) == 1

    def test_caffe_scale_layer(self):
        net = Net({"x": ["N", 2, 5, 5]})
        y = net.batch_normalization(net.conv("x", W(4, 2, 3, 3), pads=[1] * 4), 4)
        axes = net.constant([1, 2], "int64")
        for op in ("Mul", "Add"):
            y = net.op(op, y, net.op("Unsqueeze", net.constant(W(4)), axes))
        assert _ops(_fold(net.model(net.relu(y)))) == ["Conv", "Relu"]

    def test_keras_with_channels_last(self):
        net = Net({"x": ["N", 6, 6, 2]})
        y = net.op("Transpose", "x", perm=[0, 3, 1, 2])
        y = net.op("Transpose", net.conv(y, W(4, 2, 3, 3), pads=[1] * 4), perm=[0, 2, 3, 1])
        y = net.op("Add", y, net.constant(W(4)))
        y = net.op("Sub", y, net.constant(W(4)))
        variance = net.op("Add", net.constant(np.abs(W(4))), net.constant(np.float32(1e-3)))
        inverse = net.op("Reciprocal", net.op("Sqrt", variance))
        y = net.op("Mul", y, net.op("Mul", inverse, net.constant(W(4))))
        y = net.relu(net.op("Add", y, net.constant(W(1, 1, 1, 4))))
        assert _ops(_fold(net.model(y))) == ["Transpose", "Conv", "Relu", "Transpose"]

    @pytest.mark.parametrize("attributes", [{}, {"transB": 1, "alpha": 0.6, "beta": 1.7}], ids=str)
    @pytest.mark.parametrize("bias", [None, W(6)], ids=["plain", "bias"])
    def test_gemm(self, bias, attributes):
        net = Net({"x": ["N", 4]})
        y = net.gemm("x", W(6, 4) if attributes else W(4, 6), bias, **attributes)
        y = _affine(net, _affine(net, y, (6,)), (1, 6), "Sub", first=True)
        assert _ops(_fold(net.model(y))) == ["Gemm"]

    @pytest.mark.parametrize("bias", [False, True])
    @pytest.mark.parametrize("shape", [["N", 5], ["N", 3, 5], ["N", 2, 3, 5]], ids=len)
    def test_matmul(self, shape, bias):
        net = Net({"x": shape})
        y = net.matmul("x", W(5, 4))
        if bias:
            y = net.op("Add", net.constant(W(4)), y)
        y = _affine(net, _affine(net, y, (4,)), (1, 4), "Sub")
        assert _ops(_fold(net.model(net.relu(y)))) == ["MatMul", "Add", "Relu"]

    def test_factor_behind_a_matmul_needs_no_add(self):
        net = Net({"x": ["N", 3, 5]})
        y = _affine(net, net.matmul("x", W(5, 4)), (4,), "Div")
        assert _ops(_fold(net.model(y))) == ["MatMul"]

    def test_bias_of_a_matmul_is_left_as_it_is(self):
        net = Net({"x": ["N", 5]})
        y = net.op("Add", net.matmul("x", W(5, 4)), net.constant(W(4)))
        _fold(net.model(net.matmul(y, W(4, 2))), changes=False)

    def test_chain_with_a_second_reader_in_the_middle(self):
        net = Net({"x": ["N", 2, 5, 5]})
        middle = _affine(net, net.conv("x", W(4, 2, 3, 3)), (4, 1, 1))
        y = _affine(net, _affine(net, middle, (4, 1, 1)), (4, 1, 1), "Add")
        ops = _ops(_fold(net.model({"a": net.relu(y), "b": middle})))
        assert ops == ["Conv", "Mul", "Add", "Relu"]

    def test_another_axis_stays(self):
        # The first node is the layer's, the second is one number per row of the image.
        net = Net({"x": ["N", 2, 5, 5]})
        y = _affine(net, net.conv("x", W(4, 2, 3, 3)), (4, 1, 1))
        assert _ops(_fold(net.model(_affine(net, y, (3, 1))))) == ["Conv", "Mul"]

    @pytest.mark.parametrize("shape", [(4, 3, 1), (3, 3), (3, 1), (1, 4, 3, 3)], ids=str)
    def test_more_than_one_number_per_channel_stays(self, shape):
        net = Net({"x": ["N", 2, 5, 5]})
        y = _affine(net, net.conv("x", W(4, 2, 3, 3)), shape, "Add")
        assert _ops(_fold(net.model(y), changes=False)) == ["Conv", "Add"]

    def test_equal_numbers_count_as_one(self):
        net = Net({"x": ["N", 2, 5, 5]})
        y = net.op("Mul", net.conv("x", W(4, 2, 3, 3)), net.constant(np.full((4, 3, 3), 0.3, "f4")))
        assert _ops(_fold(net.model(y))) == ["Conv"]

    @pytest.mark.parametrize(
        "shape", [(4, 3, 3), (4, 1, 1), (1, 4, 1, 1), (2, 1, 1, 1, 1)], ids=str
    )
    def test_a_constant_that_widens_stays(self, shape):
        net = Net({"x": ["N", 2, 3, 3]})
        y = net.conv("x", W(1, 2, 3, 3))  # [N, 1, 1, 1]
        ones = net.constant(np.full(shape, 2, np.float32))
        assert _ops(_fold(net.model(net.op("Mul", y, ones)), changes=False)) == ["Conv", "Mul"]

    @pytest.mark.parametrize("op", ["Add", "Mul"])
    def test_two_activations_stay(self, op):
        net = Net({"x": ["N", 2, 5, 5]})
        y = net.conv("x", W(4, 2, 3, 3))
        assert _ops(_fold(net.model(net.op(op, y, y)), changes=False)) == ["Conv", op]

    def test_reciprocal_stays(self):
        net = Net({"x": ["N", 2, 5, 5]})
        y = _affine(net, net.conv("x", W(4, 2, 3, 3)), (4, 1, 1), "Div", first=True)
        assert _ops(_fold(net.model(y), changes=False)) == ["Conv", "Div"]

    @pytest.mark.parametrize(("op", "value"), [("Div", 0), ("Add", np.nan), ("Mul", np.inf)])
    def test_constants_that_are_not_finite_stay(self, op, value):
        net = Net({"x": ["N", 2, 5, 5]})
        y = net.op(op, net.conv("x", W(4, 2, 3, 3)), net.constant(np.float32(value)))
        graph = load_graph(net.model(y))
        assert not fold_batch_normalization(graph)
        assert _ops(graph) == ["Conv", op]

    def test_weights_that_would_overflow_stay(self):
        net = Net({"x": ["N", 2, 5, 5]})
        y = net.conv("x", np.full((4, 2, 3, 3), 1e-30, np.float32))
        large = net.constant(np.float32(1e30))
        y = net.op("Mul", net.op("Mul", net.relu(y), large), large)
        assert _ops(_fold(net.model(y), changes=False)) == ["Conv", "Relu", "Mul", "Mul"]
        y = net.conv("x", np.full((4, 2, 3, 3), 1e10, np.float32))
        graph = load_graph(net.model(net.op("Mul", y, large)))
        assert not fold_batch_normalization(graph)

    def test_integers_stay(self):
        net = Net({"x": ["N", 4]})
        y = net.op("Cast", "x", to=onnx.TensorProto.INT64)
        for _ in range(3):
            y = net.op("Add", y, net.constant([1], "int64"))
        y = net.op("Cast", y, to=onnx.TensorProto.FLOAT)
        assert _ops(_fold(net.model(y), changes=False)).count("Add") == 3

    def test_double_precision_is_kept(self):
        net = Net({"x": ["N", 4]}, onnx.TensorProto.DOUBLE)
        y = net.batch_normalization(net.matmul("x", W(4, 6).astype(np.float64)), 6)
        y = net.op("Mul", y, net.constant(W(6).astype(np.float64)))
        assert _ops(_fold(net.model(y), relative=1e-14)) == ["MatMul", "Add"]

    def test_channels_that_are_switched_off(self):
        net = Net({"x": ["N", 2, 5, 5]})
        y = net.conv("x", W(3, 2, 3, 3), W(3))
        y = net.op("Mul", y, net.constant(np.float32([1, 0, 2]).reshape(3, 1, 1)))
        assert _ops(_fold(net.model(y))) == ["Conv"]


class TestThroughLayout:
    """Transpose, Reshape, Flatten, Squeeze and Unsqueeze between the layer and the chain."""

    def test_transpose_behind_a_matmul(self):
        # PointNet: [N, points, features] → [N, features, points], as BatchNormalization wants it.
        net = Net({"x": ["N", 7, 3]})
        y = net.op("Add", net.matmul("x", W(3, 4)), net.constant(W(4)))
        y = net.batch_normalization(net.op("Transpose", y, perm=[0, 2, 1]), 4)
        assert _ops(_fold(net.model(y))) == ["MatMul", "Add", "Transpose"]

    def test_bias_behind_two_transposes(self):
        net = Net({"x": ["N", 7, 3]})
        y = net.op("Transpose", net.matmul("x", W(3, 4)), perm=[0, 2, 1])
        y = net.op("Transpose", _affine(net, y, (4, 1), "Add"), perm=[0, 2, 1])
        y = net.relu(_affine(net, y, (4,)))
        ops = _ops(_fold(net.model(y)))
        assert ops == ["MatMul", "Add", "Transpose", "Transpose", "Relu"]

    @pytest.mark.parametrize("op", ["Squeeze", "Reshape", "Flatten"])
    def test_axes_of_size_one(self, op):
        net = Net({"x": ["N", 2, 3, 3]})
        y = net.conv("x", W(4, 2, 3, 3), W(4))
        extra = {
            "Squeeze": [net.constant([2, 3], "int64")],
            "Reshape": [net.constant([0, 4], "int64")],
        }
        y = net.op(op, y, *extra.get(op, []))
        assert _ops(_fold(net.model(net.batch_normalization(y, 4)))) == ["Conv", op]

    def test_unsqueeze(self):
        net = Net({"x": ["N", 3]})
        y = net.op("Unsqueeze", net.gemm("x", W(3, 4)), net.constant([2], "int64"))
        assert _ops(_fold(net.model(net.batch_normalization(y, 4)))) == ["Gemm", "Unsqueeze"]

    def test_channels_that_a_reshape_mixes_stay(self):
        net = Net({"x": ["N", 2, 5, 5]})
        y = net.op("Reshape", net.conv("x", W(4, 2, 3, 3)), net.constant([0, 9, 4], "int64"))
        ops = _ops(_fold(net.model(net.batch_normalization(y, 9))))
        assert ops == ["Conv", "Reshape", "Mul", "Add"]

    def test_one_number_passes_any_reshape(self):
        net = Net({"x": ["N", 2, 5, 5]})
        y = net.op("Reshape", net.conv("x", W(4, 2, 3, 3)), net.constant([0, 9, 4], "int64"))
        assert _ops(_fold(net.model(_affine(net, y, (), "Add")))) == ["Conv", "Reshape"]

    def test_a_transposed_tensor_that_is_read_twice_stays(self):
        net = Net({"x": ["N", 2, 5, 5]})
        y = net.op("Transpose", net.conv("x", W(4, 2, 3, 3)), perm=[0, 2, 3, 1])
        ops = _ops(_fold(net.model({"a": _affine(net, y, (4,)), "b": y}), changes=False))
        assert sorted(ops) == ["Conv", "Mul", "Transpose", "Transpose"]  # one for each output

    def test_batch_axis_that_moves_stays(self):
        net = Net({"x": ["N", 4]})
        y = net.op("Transpose", net.gemm("x", W(4, 5)), perm=[1, 0])
        assert _ops(_fold(net.model(_affine(net, y, (5, 1))), changes=False))[-1] == "Mul"

    def test_flatten_before_a_dense_layer(self):
        net = Net({"x": ["N", 4, 3, 3]})
        y = net.op("Flatten", net.batch_normalization(net.relu("x"), 4))
        y = net.gemm(y, W(36, 5), W(5), alpha=0.5, beta=2.0)
        assert _ops(_fold(net.model(y))) == ["Relu", "Flatten", "Gemm"]

    def test_transpose_before_a_matmul(self):
        net = Net({"x": ["N", 4, 3]})
        y = net.op("Transpose", net.batch_normalization(net.relu("x"), 4), perm=[0, 2, 1])
        ops = _ops(_fold(net.model(net.matmul(y, W(4, 5)))))
        assert ops == ["Relu", "Transpose", "MatMul", "Add"]

    def test_preprocessing_with_channels_last(self):
        net = Net({"x": ["N", 6, 6, 3]})
        y = net.op("Sub", "x", net.constant(np.float32([0.48, 0.46, 0.41])))
        y = net.op("Div", y, net.constant(np.float32([0.23, 0.22, 0.25])))
        y = net.op("Transpose", y, perm=[0, 3, 1, 2])
        y = net.relu(net.conv(y, W(4, 3, 3, 3), W(4)))
        assert _ops(_fold(net.model(y))) == ["Transpose", "Conv", "Relu"]


class TestAhead:
    """A chain before a layer; the Relu in front keeps it from being folded backward."""

    @pytest.mark.parametrize("dims", [1, 2, 3])
    @pytest.mark.parametrize("groups", [1, 2, 4])
    @pytest.mark.parametrize("bias", [None, W(8)], ids=["plain", "bias"])
    def test_convolution(self, bias, groups, dims):
        net = Net({"x": ["N", 4, *[5] * dims]})
        y = net.batch_normalization(net.relu("x"), 4)
        y = net.conv(y, W(8, 4 // groups, *[3] * dims), bias, group=groups)
        assert _ops(_fold(net.model(y))) == ["Relu", "Conv"]

    @pytest.mark.parametrize(
        "attributes",
        [
            {"auto_pad": "VALID"},
            {"strides": [2, 2], "dilations": [2, 1], "pads": [0] * 4},
            {"auto_pad": "NOTSET"},
        ],
        ids=str,
    )
    def test_without_padding(self, attributes):
        net = Net({"x": ["N", 3, 7, 7]})
        y = net.conv(net.batch_normalization(net.relu("x"), 3), W(4, 3, 3, 3), **attributes)
        assert _ops(_fold(net.model(y))) == ["Relu", "Conv"]

    @pytest.mark.parametrize(
        "attributes",
        [{"pads": [0, 0, 0, 1]}, {"auto_pad": "SAME_UPPER"}, {"auto_pad": "SAME_LOWER"}],
        ids=str,
    )
    def test_padding_admits_a_factor_only(self, attributes):
        net = Net({"x": ["N", 3, 7, 7]})
        y = net.conv(net.batch_normalization(net.relu("x"), 3), W(4, 3, 3, 3), **attributes)
        assert _ops(_fold(net.model(y))) == ["Relu", "Mul", "Add", "Conv"]
        net = Net({"x": ["N", 3, 7, 7]})
        y = net.conv(_affine(net, net.relu("x"), (3, 1, 1)), W(4, 3, 3, 3), **attributes)
        assert _ops(_fold(net.model(y))) == ["Relu", "Conv"]

    @pytest.mark.parametrize("groups", [1, 2])
    def test_transposed_convolution_admits_a_factor_only(self, groups):
        # At the border fewer weights overlap: the shift's share is not one number per channel.
        net = Net({"x": ["N", 4, 5, 5]})
        weight = W(4, 6 // groups, 3, 3)
        y = net.batch_normalization(net.relu("x"), 4)
        y = net.conv_transpose(y, weight, group=groups)
        assert _ops(_fold(net.model(y))) == ["Relu", "Mul", "Add", "ConvTranspose"]
        net = Net({"x": ["N", 4, 5, 5]})
        y = net.conv_transpose(_affine(net, net.relu("x"), (4, 1, 1)), weight, group=groups)
        assert _ops(_fold(net.model(y))) == ["Relu", "ConvTranspose"]

    @pytest.mark.parametrize("bias", [None, W(6), W()], ids=["plain", "vector", "scalar"])
    @pytest.mark.parametrize("attributes", [{}, {"transB": 1, "alpha": 0.6, "beta": 1.7}], ids=str)
    def test_gemm(self, attributes, bias):
        net = Net({"x": ["N", 4]})
        y = net.batch_normalization(net.relu("x"), 4)
        y = net.gemm(y, W(6, 4) if attributes else W(4, 6), bias, **attributes)
        assert _ops(_fold(net.model(y))) == ["Relu", "Gemm"]

    @pytest.mark.parametrize("shape", [["N", 5], ["N", 3, 5], ["N", 2, 3, 5]], ids=len)
    @pytest.mark.parametrize("bias", [False, True])
    def test_matmul(self, bias, shape):
        net = Net({"x": shape})
        y = _affine(net, _affine(net, net.relu("x"), (5,)), (5,), "Sub", first=True)
        y = net.matmul(y, W(5, 4))
        y = net.op("Add", y, net.constant(W(1, 4))) if bias else y
        assert _ops(_fold(net.model(net.relu(y)))) == ["Relu", "MatMul", "Add", "Relu"]

    def test_channels_elsewhere_stay(self):
        net = Net({"x": ["N", 4, 5]})
        y = net.matmul(net.batch_normalization(net.relu("x"), 4), W(5, 6))
        assert _ops(_fold(net.model(y))) == ["Relu", "Mul", "Add", "MatMul"]

    @pytest.mark.parametrize("second", ["conv", "output"])
    def test_chain_that_is_read_twice_stays(self, second):
        net = Net({"x": ["N", 3, 5, 5]})
        y = net.batch_normalization(net.relu("x"), 3)
        outputs = {"a": net.conv(y, W(2, 3, 3, 3))}
        outputs["b"] = net.conv(y, W(2, 3, 3, 3)) if second == "conv" else y
        ops = _ops(_fold(net.model(outputs)))
        assert ops == ["Relu", "Mul", "Add", *["Conv"] * (1 + (second == "conv"))]

    def test_shared_weights_are_left_to_the_other_layer(self):
        net = Net({"x": ["N", 3, 5, 5]})
        weight, bias = net.constant(W(3, 3, 1, 1)), net.constant(W(3))
        first = net.relu(net.op("Conv", "x", weight, bias))
        y = net.op("Conv", net.batch_normalization(first, 3), weight, bias)
        assert _ops(_fold(net.model(y))) == ["Conv", "Relu", "Conv"]

    def test_layer_behind_that_is_read_twice_and_layer_ahead(self):
        net = Net({"x": ["N", 3, 5, 5]})
        y = net.conv("x", W(3, 3, 3, 3))
        other = net.conv(net.batch_normalization(y, 3), W(2, 3, 3, 3))
        assert _ops(_fold(net.model({"a": other, "b": y}))) == ["Conv", "Conv"]

    def test_large_shift_would_cancel_digits(self):
        net = Net({"x": ["N", 3, 5, 5]})
        y = net.op("Sub", net.relu("x"), net.constant(np.float32(1e5)))
        assert _ops(_fold(net.model(net.conv(y, W(2, 3, 3, 3))), changes=False)) == [
            "Relu",
            "Sub",
            "Conv",
        ]


class TestMerging:
    """Chains next to no layer."""

    def test_two_in_a_row(self):
        net = Net({"x": ["N", 4, 5, 5]})
        y = net.batch_normalization(net.batch_normalization("x", 4), 4, seed=1)
        assert _ops(_fold(net.model(net.relu(y)))) == ["Mul", "Add", "Relu"]

    def test_scale_and_shift_around(self):
        net = Net({"x": ["N", 4, 5, 5]})
        y = net.batch_normalization(_affine(net, "x", (4, 1, 1), "Sub", first=True), 4)
        y = _affine(net, _affine(net, y, ()), (1, 4, 1, 1), "Add")
        assert _ops(_fold(net.model(net.relu(y)))) == ["Mul", "Add", "Relu"]

    def test_only_shifts(self):
        net = Net({"x": ["N", 4, 5]})
        y = _affine(net, _affine(net, "x", (4, 1), "Add"), (), "Sub")
        assert _ops(_fold(net.model(net.relu(y)))) == ["Add", "Relu"]

    def test_only_factors(self):
        net = Net({"x": ["N", 4, 5]})
        y = _affine(net, _affine(net, "x", (4, 1), "Div"), ())
        assert _ops(_fold(net.model(net.relu(y)))) == ["Mul", "Relu"]

    def test_what_undoes_itself(self):
        net = Net({"x": ["N", 4]})
        y = net.op("Sub", net.op("Add", "x", net.constant(np.float32(2))), net.constant([2], "f4"))
        assert _ops(_fold(net.model(y))) == ["Mul"]

    @pytest.mark.parametrize("ops", [["Mul", "Add"], ["Add", "Div"], ["Sub"], ["Mul"]], ids=str)
    def test_the_shortest_is_left_as_it_is(self, ops):
        net = Net({"x": ["N", 4, 5]})
        y = "x"
        for op in ops:
            y = _affine(net, y, (4, 1), op)
        assert _ops(_fold(net.model(net.relu(y)), changes=False)) == [*ops, "Relu"]

    def test_preactivation(self):
        net = Net({"x": ["N", 3, 6, 6]})
        stem = net.conv("x", W(4, 3, 3, 3), pads=[1] * 4)
        y = stem
        for width in (4, 6):
            y = net.relu(net.batch_normalization(y, width))
            y = net.conv(y, W(2, width, 3, 3), pads=[1] * 4)
            y = net.op("Concat", stem, y, axis=1)
        ops = _ops(_fold(net.model(net.relu(net.batch_normalization(y, 6)))))
        assert ops.count("Conv") == 3
        assert ops.count("Mul") == ops.count("Add") == 3


@st.composite
def _chains(draw):
    """Affine nodes, a layer, affine nodes; perhaps layout changes and a second reader."""
    dims = draw(st.integers(1, 2))
    layer = draw(st.sampled_from(["conv", "conv_transpose", "gemm", "matmul"]))
    inputs, outputs = 2 * draw(st.integers(1, 2)), 2 * draw(st.integers(1, 3))
    image = layer.startswith("conv")
    rank = draw(st.integers(2, 3)) if layer == "matmul" else 2
    before = [inputs, *[5] * dims] if image else [*[3] * (rank - 2), inputs]
    axis = 1 if image else rank - 1
    net = Net({"x": ["N", *before]})
    tensors = ["x"]

    def affine(y, shape):
        if draw(st.integers(0, 3)) == 0 and axis == 1:
            return net.batch_normalization(y, shape[0], seed=draw(st.integers(0, 9)))
        varied = draw(st.sampled_from([None, axis, axis, axis, len(shape)]))
        sizes = [size if i + 1 == varied else 1 for i, size in enumerate(shape)]
        skipped = next((i for i, size in enumerate(sizes) if size != 1), len(sizes))
        sizes = draw(st.sampled_from([sizes[skipped:], sizes, [1, *sizes]]))
        op = draw(st.sampled_from(["Add", "Sub", "Mul", "Div"]))
        return _affine(net, y, sizes, op, op != "Div" and draw(st.booleans()))

    def chain(y, shape):
        for _ in range(draw(st.integers(0, 4))):
            y = affine(y, shape)
            tensors.append(y)
        return y

    y = chain(net.relu("x") if draw(st.booleans()) else "x", before)
    bias = W(outputs) if draw(st.booleans()) else None
    if image:
        groups = draw(st.sampled_from([1, 2]))
        pad = draw(st.integers(0, 1))
        rows = (outputs, inputs // groups) if layer == "conv" else (inputs, outputs // groups)
        weight = W(*rows, *[3] * dims)
        y = getattr(net, layer)(y, weight, bias, group=groups, pads=[pad] * (2 * dims))
        grow = 2 * pad - 2 if layer == "conv" else 2 - 2 * pad
        after = [outputs, *[5 + grow] * dims]
    elif layer == "gemm":
        y, after = net.gemm(y, W(outputs, inputs), bias, transB=1, alpha=0.5, beta=2.0), [outputs]
    else:
        y, after = net.matmul(y, W(inputs, outputs)), [*before[:-1], outputs]
    tensors.append(y)
    if draw(st.booleans()) and len(after) > 1:
        # Channels first ↔ last.
        last = len(after)
        perm = [0, *range(2, last + 1), 1] if axis == 1 else [0, last, *range(1, last)]
        y = net.op("Transpose", y, perm=perm)
        after = [after[i - 1] for i in perm[1:]]
        axis = last if axis == 1 else 1
    y = chain(y, after)
    outputs_of = {"y": net.relu(y)}
    if draw(st.booleans()):
        outputs_of["z"] = net.relu(draw(st.sampled_from(tensors)))
    return net.model(outputs_of)


@settings(max_examples=150, deadline=None)
@given(_chains())
def test_random_chains_stay_the_same_function(model):
    graph = load_graph(model)
    fold_batch_normalization(graph)
    assert "BatchNormalization" not in _ops(graph)
    assert not fold_batch_normalization(graph)
    folded = gs.export_onnx(graph)
    onnx.checker.check_model(folded)
    feeds = _feeds(model)
    for actual, expected in zip(run(folded, feeds), run(model, feeds), strict=True):
        # The chains shift by up to 2 and divide by 0.5 and more, several times.
        assert_close(actual, expected, 1e-5, magnitude=1.0)


@settings(max_examples=40, deadline=None)
@given(networks())
def test_random_networks_stay_the_same_function(example):
    graph = load_graph(example.model)
    before = sum(node.op_type == "BatchNormalization" for node in example.model.graph.node)
    assert fold_batch_normalization(graph) == (before > 0)
    assert "BatchNormalization" not in _ops(graph)
    feeds = {"x": example.x}
    # A dozen layers, each rounded to 6e-8 of its largest value.
    folded = gs.export_onnx(graph)
    assert_close(run(folded, feeds)[0], run(example.model, feeds)[0], 1e-5, magnitude=0.1)
