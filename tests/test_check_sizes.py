import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from nets import Gaussian, Net, cnn, residual
from onnx_snn import convert
from onnx_snn.check_sizes import check_sizes
from onnx_snn.errors import ModelError


def _net(*sizes):
    return Net({"x": ["N", 2, *sizes]})


def _assert_refused(model, *parts):
    with pytest.raises(ModelError) as caught:
        check_sizes(model, "the file")
    for part in ("the file: ", *parts):
        assert part in str(caught.value)


class TestConstants:
    @pytest.mark.parametrize(("side", "is_refused"), [(4095, False), (4097, True)])
    def test_of_64_mib(self, side, is_refused):
        """4096 x 4096 float32 values are 64 MiB."""
        net = _net(4)
        sizes = net.constant(np.array([side, side]))
        model = net.model(net.op("Add", "x", net.op("ReduceSum", net.op("ConstantOfShape", sizes))))
        if is_refused:
            _assert_refused(model, "ConstantOfShape_0", "takes too much memory")
        else:
            check_sizes(model, "the file")

    def test_all_together(self):
        net = _net(4)
        sizes = net.constant(np.array([4096, 1024]))
        y = "x"
        for _ in range(5):
            y = net.op("Add", y, net.op("ReduceSum", net.op("ConstantOfShape", sizes)))
        _assert_refused(net.model(y), "ConstantOfShape", "takes too much memory")

    def test_large_weights_may_be_computed_with(self):
        """24 MiB of weights become 72 MiB, more than a file without weights may ask for."""
        net = _net(4)
        weight = net.constant(np.zeros((6, 2**20), np.float32))
        for _ in range(3):
            weight = net.op("Neg", weight)
        check_sizes(net.model(net.op("Add", "x", net.op("ReduceSum", weight))), "the file")

    def test_sizes_that_are_computed_themselves(self):
        net = _net(4)
        ones = net.constant(np.ones(1000, np.float32))
        last = net.op("ReduceMax", net.op("NonZero", ones), keepdims=0)  # 999
        sizes = net.op("Reshape", last, net.constant(np.array([1])))
        few = net.op("ReduceSum", net.op("ConstantOfShape", sizes))
        check_sizes(net.model(net.op("Add", "x", few)), "the file")
        many = net.op("Mul", sizes, net.constant(np.array([10**8])))
        huge = net.op("ReduceSum", net.op("ConstantOfShape", many))
        _assert_refused(net.model(net.op("Add", "x", huge)), "takes too much memory")

    @pytest.mark.parametrize("reads_input", [True, False])
    def test_loops(self, reads_input):
        value = helper.make_tensor_value_info
        body = helper.make_graph(
            [
                helper.make_node("Identity", ["go"], ["go_on"]),
                helper.make_node("Add", ["sum", "x" if reads_input else "c1"], ["next"]),
            ],
            "body",
            [
                value("i", TensorProto.INT64, []),
                value("go", TensorProto.BOOL, []),
                value("sum", TensorProto.FLOAT, None),
            ],
            [value("go_on", TensorProto.BOOL, []), value("next", TensorProto.FLOAT, None)],
        )
        net = _net(4)
        rounds, start = net.constant(np.int64(2**60)), net.constant(np.zeros((1, 2, 4), np.float32))
        total = net.op("Loop", rounds, net.constant(True), start, body=body)
        model = net.model(net.op("Add", "x", total), check=False)
        if reads_input:
            check_sizes(model, "the file")
        else:
            _assert_refused(model, "Loop node 'Loop_0'", "may take for ever")

    def test_inside_a_branch(self):
        huge = helper.make_graph(
            [
                helper.make_node("ConstantOfShape", ["sizes"], ["huge"]),
                helper.make_node("ReduceSum", ["huge"], ["out"], keepdims=0),
            ],
            "huge",
            [],
            [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(np.array([2**20, 2**20]), "sizes")],
        )
        net = _net(4)
        condition = net.op("Cast", net.op("ReduceMax", "x", keepdims=0), to=TensorProto.BOOL)
        branch = net.op("If", condition, then_branch=huge, else_branch=huge)
        _assert_refused(net.model(net.op("Add", "x", branch), check=False), "ConstantOfShape")

    def test_inside_a_function(self):
        net = _net(4)
        sizes = net.constant(np.array([2**20, 2**20]))
        model = net.model(net.op("Add", "x", net.op("ReduceSum", sizes)), check=False)
        model.graph.node[0].op_type, model.graph.node[0].domain = "Huge", "local"
        opsets = [helper.make_opsetid("", 18)]
        nodes = [
            helper.make_node("ConstantOfShape", ["a"], ["c"]),
            helper.make_node("ReduceSum", ["c"], ["b"]),
        ]
        model.functions.append(helper.make_function("local", "Huge", ["a"], ["b"], nodes, opsets))
        model.opset_import.append(helper.make_opsetid("local", 1))
        _assert_refused(model, "ConstantOfShape", "takes too much memory")


class TestActivations:
    def test_of_1_gib(self):
        net = _net(4)
        tiled = net.op("Tile", "x", net.constant(np.array([1, 1, 2**25])))
        check_sizes(net.model(tiled), "the file")  # 2 · 4 · 2^25 · 4 bytes are 1 GiB
        net = _net(4)
        tiled = net.op("Tile", "x", net.constant(np.array([1, 1, 2**25 + 1])))
        _assert_refused(net.model(tiled), "'tile0'", "more than 1024 MiB for each sample")

    @pytest.mark.parametrize("batch", ["N", 512])
    def test_the_batch_does_not_count(self, batch):
        net = Net({"x": [batch, 2, 2**20]})  # 8 MiB
        check_sizes(net.model(net.relu("x")), "the file")

    def test_padding_of_the_batch_counts(self):
        net = _net(4)
        pads = net.constant(np.array([0, 0, 0, 10**9, 0, 0]))
        _assert_refused(net.model(net.op("Pad", "x", pads)), "more than 1024 MiB")

    def test_wrong_shapes_of_outputs_are_not_believed(self):
        net = _net(4)
        model = net.model(net.op("Tile", "x", net.constant(np.array([1, 1, 2**30]))))
        model.graph.output[0].CopyFrom(
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 1])
        )
        _assert_refused(model, "more than 1024 MiB")


class TestCrashes:
    """What ends the process in the oldest versions of onnx and onnxruntime that are supported."""

    @pytest.mark.parametrize("op_type", ["Div", "Mod"])
    @pytest.mark.parametrize("divisors", [[0], [3, 0], [3, 2]])
    def test_integers_divided_by_zero(self, op_type, divisors):
        net = _net(4)
        numbers = net.constant(np.array([5, 5]))
        quotient = net.op(op_type, numbers, net.constant(np.array(divisors)))
        total = net.op("Cast", net.op("ReduceSum", quotient), to=TensorProto.FLOAT)
        model = net.model(net.op("Add", "x", total), check=False)
        if 0 in divisors:
            _assert_refused(model, f"{op_type} node '{op_type}_0' divides by zero")
        else:
            check_sizes(model, "the file")

    @pytest.mark.parametrize("shape", [["N", 2], ["N", 2, 8], ["N", 2, 8, 8, 8]])
    def test_weights_of_another_number_of_axes(self, shape):
        model = cnn(Gaussian())
        model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, shape))
        _assert_refused(model, "weights of 4 axes", f"an input of {len(shape)}")


class TestHarmless:
    @pytest.mark.parametrize("schedule", ["layer", "loop", "step"])
    def test_networks_and_what_they_are_converted_to(self, schedule):
        for model, shape in ((cnn(Gaussian()), (2, 8, 8)), (residual(Gaussian()), (3, 6, 6))):
            before = model.SerializeToString(deterministic=True)
            check_sizes(model, "the file")
            assert model.SerializeToString(deterministic=True) == before
            data = np.random.default_rng(0).normal(size=(8, *shape)).astype(np.float32)
            check_sizes(convert(model, data, schedule=schedule).model, "the snn")

    def test_a_model_without_shapes(self):
        model = cnn(Gaussian())
        model.graph.input[0].type.tensor_type.ClearField("shape")
        check_sizes(model, "the file")

    def test_weights_are_not_copied(self):
        """Only their types and shapes are looked at: damaged ones do not disturb."""
        net = Net({"x": ["N", 2**13]})
        model = net.model(net.matmul("x", np.zeros((2**13, 4), np.float32)))
        model.graph.initializer[0].ClearField("raw_data")
        check_sizes(model, "the file")
        assert isinstance(model, onnx.ModelProto)
