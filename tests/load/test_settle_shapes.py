"""Shape computations as exporters write them, and files exported for one batch size."""

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from loading import loaded, loaded_from_one, model_of, ops, sample, unknown, value
from nets import Net, run, session
from onnx_snn.errors import UnsupportedModelError
from onnx_snn.load import load_graph

N = helper.make_node


def _ints(*values):
    return np.array(values, np.int64)


def _net(*shape):
    return Net({"x": list(shape)})


def _dim(net, x, axis):
    """One size of a tensor as a vector, the way torch's exporter writes it."""
    size = net.op("Gather", net.op("Shape", x), net.constant(axis, np.int64), axis=0)
    return net.op("Unsqueeze", size, net.constant([0], np.int64))


def _node(graph, op):
    (node,) = [node for node in graph.nodes if node.op == op]
    return node


class TestReshape:
    @pytest.mark.parametrize(
        ("rest", "expected"),
        [([-1], [0, 24]), ([24], [0, 24]), ([4, 6], [0, 4, 6]), ([2, -1, 3], [0, 2, 4, 3])],
        ids=str,
    )
    def test_the_batch_is_copied(self, rest, expected):
        net = _net("N", 2, 3, 4)
        h = net.relu("x")
        target = net.op("Concat", _dim(net, h, 0), net.constant(rest, np.int64), axis=0)
        graph = loaded(net.model(net.op("Reshape", h, target)), x=sample(5, 2, 3, 4))
        assert ops(graph) == ["Relu", "Reshape"]
        assert list(graph.nodes[1].inputs[1].values) == expected
        assert graph.outputs[0].shape[0] == "N"
        assert all(isinstance(size, int) for size in graph.outputs[0].shape[1:])

    def test_sizes_are_computed_with(self):
        # As in a channel shuffle, [N, 2, C/2, H, W] from the sizes of the input itself; but a
        # shuffle would become a Gather.
        net = _net("N", 4, 3, 5)
        half = net.op("Div", _dim(net, "x", 1), net.constant([2], np.int64))
        sizes = [_dim(net, "x", axis) for axis in range(4)]
        target = net.op(
            "Concat", sizes[0], net.constant([2], np.int64), half, sizes[2], sizes[3], axis=0
        )
        y = net.op("Transpose", net.op("Reshape", "x", target), perm=[0, 2, 1, 4, 3])
        y = net.op("Reshape", y, net.op("Shape", "x"))
        graph = loaded(net.model(net.relu(y)), x=sample(3, 4, 3, 5))
        assert ops(graph) == ["Reshape", "Transpose", "Reshape", "Relu"]
        assert list(graph.nodes[0].inputs[1].values) == [0, 2, 2, 3, 5]
        assert list(graph.nodes[2].inputs[1].values) == [0, 4, 3, 5]

    def test_samples_merged_with_another_axis_and_parted_again(self):
        net = _net("N", 4, 6)
        rows = net.op("Reshape", "x", net.constant([-1, 6], np.int64))
        y = net.gemm(rows, sample(6, 3))
        target = net.op("Concat", _dim(net, "x", 0), net.constant([-1], np.int64), axis=0)
        graph = loaded(net.model(net.op("Reshape", y, target)), x=sample(3, 4, 6))
        assert ops(graph) == ["Reshape", "Gemm", "Reshape"]
        assert list(graph.nodes[0].inputs[1].values) == [-1, 6]
        assert list(graph.nodes[2].inputs[1].values) == [-1, 12]

    def test_images_of_any_size(self):
        net = _net("N", 3, "H", "W")
        h = net.relu("x")
        sizes = [_dim(net, h, 0), _dim(net, h, 1), net.constant([-1], np.int64)]
        y = net.op("Reshape", h, net.op("Concat", *sizes, axis=0))
        graph = loaded(net.model(y), x=sample(2, 3, 5, 7))
        assert list(_node(graph, "Reshape").inputs[1].values) == [0, 3, -1]
        assert graph.inputs[0].shape == ["N", 3, "H", "W"]

    def test_a_target_with_two_unknown_sizes_stays_computed(self):
        net = _net("N", "C", "H", "W")
        sizes = [_dim(net, "x", axis) for axis in (2, 3, 0, 1)]
        y = net.op("Reshape", "x", net.op("Concat", *sizes, axis=0))
        graph = loaded(net.model(y), x=sample(2, 3, 5, 7))
        assert "Shape" in ops(graph)


class TestOtherParameters:
    def test_resize_to_the_size_of_another(self):
        net = _net("N", 2, 4, 6)
        small = net.op("AveragePool", "x", kernel_shape=[2, 2], strides=[2, 2])
        ends = [net.constant(v, np.int64) for v in ([0], [2], [4])]
        begin = net.op("Slice", net.op("Shape", small), ends[0], ends[1])
        end = net.op("Slice", net.op("Shape", "x"), ends[1], ends[2])
        sizes = net.op("Concat", begin, end, axis=0)
        y = net.op("Resize", small, "", "", sizes, mode="linear")
        graph = loaded(net.model(net.op("Add", y, "x")), x=sample(3, 2, 4, 6))
        assert ops(graph) == ["AveragePool", "Resize", "Add"]
        resize = _node(graph, "Resize")
        assert list(resize.attrs["axes"]) == [2, 3]
        assert list(resize.inputs[3].values) == [4, 6]

    def test_slices_to_the_end_of_the_batch(self):
        net = _net("N", 5)
        ends = net.op("Concat", _dim(net, "x", 0), net.constant([4], np.int64), axis=0)
        starts, axes = net.constant([0, 1], np.int64), net.constant([0, 1], np.int64)
        graph = loaded(net.model(net.op("Slice", "x", starts, ends, axes)), x=sample(3, 5))
        assert ops(graph) == ["Slice"]
        assert graph.outputs[0].shape == ["N", 3]

    def test_expand_to_the_shape_of_an_activation(self):
        net = _net("N", 2, 3)
        total = net.op("ReduceSum", net.relu("x"), net.constant([2], np.int64))
        y = net.op("Expand", total, net.op("Shape", "x"))
        graph = loaded(net.model(y), x=sample(4, 2, 3))
        assert ops(graph) == ["Relu", "ReduceSum", "Expand"]
        assert list(graph.nodes[2].inputs[1].values) == [1, 1, 3]
        assert graph.outputs[0].shape == ["N", 2, 3]

    def test_range_and_masks_become_weights(self):
        # The position where it is odd, else 0.
        net = _net("N", 6)
        size = net.op("Squeeze", _dim(net, "x", 1))
        positions = net.op("Range", net.constant(0, np.int64), size, net.constant(1, np.int64))
        two, one = net.constant(2, np.int64), net.constant(1, np.int64)
        odd = net.op("Equal", net.op("Mod", positions, two), one)
        shape = net.op("ConstantOfShape", _dim(net, "x", 1))
        y = net.op("Where", odd, net.op("Cast", positions, to=TensorProto.FLOAT), shape)
        graph = loaded(net.model(net.op("Add", "x", y)), x=sample(3, 6))
        assert ops(graph) == ["Add"]
        np.testing.assert_array_equal(graph.nodes[0].inputs[1].values, [0, 1, 0, 3, 0, 5])

    @pytest.mark.parametrize("divisor", [4, 1000])
    @pytest.mark.parametrize("op", ["Div", "Min", "Equal"])
    def test_what_many_batch_sizes_have_in_common_is_no_constant(self, op, divisor):
        # N // 1000 is 0 for every usual batch, N == 4 never true for most.
        net = _net("N", 3)
        size = net.op(op, _dim(net, "x", 0), net.constant([divisor], np.int64))
        y = net.op("Add", "x", net.op("Cast", size, to=TensorProto.FLOAT))
        model = net.model(y)
        clean = session(gs.export_onnx(load_graph(model)))
        for batch in (1, 3, 4, 5, 1000):
            x = sample(batch, 3)
            np.testing.assert_array_equal(clean.run(None, {"x": x}), run(model, {"x": x}))

    def test_torch_asks_whether_a_size_is_minus_one(self):
        net = _net("N", 4, 3)
        shape = net.op("Concat", _dim(net, "x", 0), net.constant([1, 3], np.int64), axis=0)
        ones = net.op("ConstantOfShape", net.constant([3], np.int64))
        ones = net.op("Add", net.op("Cast", ones, to=7), net.constant([1], np.int64))
        unset = net.op("Equal", shape, net.constant([-1, -1, -1], np.int64))
        token = net.op("Expand", net.constant(sample(1, 1, 3)), net.op("Where", unset, ones, shape))
        graph = loaded(net.model(net.op("Concat", token, "x", axis=1)), x=sample(5, 4, 3))
        assert graph.outputs[0].shape == ["N", 5, 3]

    @pytest.mark.parametrize("op", ["Expand", "Tile"])
    def test_a_class_token_follows_the_batch(self, op):
        net = _net("N", 4, 3)
        ones = net.constant([1, 1], np.int64)
        shape = net.op("Concat", _dim(net, "x", 0), ones, axis=0)
        token = net.op(op, net.constant(sample(1, 1, 3)), shape)
        graph = loaded(net.model(net.op("Concat", token, "x", axis=1)), x=sample(5, 4, 3))
        assert graph.outputs[0].shape == ["N", 5, 3]
        assert _node(graph, op).outputs[0].shape == ["N", 1, 3]
        assert _only_shapes_behind(_node(graph, op).inputs[1])

    def test_a_squeeze_leaves_a_batch_of_one(self):
        net = _net("N", 3, 1, 1)
        model = net.model(net.op("Squeeze", net.relu("x")), check=False)  # of unknown rank
        graph = loaded(model, x=sample(2, 3, 1, 1))
        (y,) = run(gs.export_onnx(graph), {"x": sample(1, 3, 1, 1)})
        assert y.shape == (1, 3)

    def test_numbers_drawn_at_random_stay_so(self):
        net = _net("N", 3)
        noise = net.op("RandomNormal", shape=[3])
        graph = load_graph(net.model(net.op("Add", "x", noise)))
        assert sorted(ops(graph)) == ["Add", "RandomNormal"]

    def test_a_huge_constant_is_not_made(self):
        net = _net("N", 3)
        zeros = net.op("ConstantOfShape", net.constant([1 << 20, 1 << 20], np.int64))
        total = net.op("ReduceSum", zeros, keepdims=0)
        graph = load_graph(net.model(net.op("Add", "x", total)))
        assert ops(graph) == ["ConstantOfShape", "ReduceSum", "Add"]


def _only_shapes_behind(tensor):
    """Whether a tensor is computed from the shapes of others, and constants."""
    pending = list(tensor.inputs)
    while pending:
        node = pending.pop()
        if node.op != "Shape":
            pending += [producer for source in node.inputs for producer in source.inputs]
            if any(isinstance(t, gs.Variable) and not t.inputs for t in node.inputs):
                return False
    return True


class TestOneBatchSize:
    """Files exported with a batch of 1 do the same to every sample of any batch."""

    @pytest.mark.parametrize(
        "target", [[1, -1], [1, 24], [-1, 24], [1, 4, 6], [1, 1, 24], [-1, 4, 6]], ids=str
    )
    def test_reshape(self, target):
        net = _net(1, 2, 3, 4)
        y = net.op("Reshape", net.relu("x"), net.constant(target, np.int64))
        graph = loaded_from_one(net.model(y), x=sample(3, 2, 3, 4))
        assert graph.outputs[0].shape[0] == "N"

    def test_reshape_that_moves_the_batch(self):
        net = _net(1, 4, 6)
        y = net.op("Transpose", "x", perm=[1, 0, 2])
        y = net.op("Reshape", y, net.constant([4, 1, 2, 3], np.int64))
        y = net.op("Transpose", y, perm=[1, 0, 2, 3])
        graph = loaded_from_one(net.model(y), x=sample(3, 4, 6))
        assert list(_node(graph, "Reshape").inputs[1].values) == [4, 0, 2, 3]

    def test_expand(self):
        net = _net(1, 2, 1)
        y = net.op("Expand", net.relu("x"), net.constant([1, 2, 5], np.int64))
        assert loaded_from_one(net.model(y), x=sample(3, 2, 1)).outputs[0].shape == ["N", 2, 5]

    @pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
    def test_resize(self, mode):
        net = _net(1, 2, 3, 4)
        sizes = net.constant([1, 2, 7, 9], np.int64)
        y = net.op("Resize", net.relu("x"), "", "", sizes, mode=mode)
        graph = loaded_from_one(net.model(y), x=sample(3, 2, 3, 4))
        assert graph.outputs[0].shape == ["N", 2, 7, 9]

    def test_slice(self):
        net = _net(1, 4)
        bounds = [net.constant(v, np.int64) for v in ([0, 1], [1, 3])]
        graph = loaded_from_one(net.model(net.op("Slice", net.relu("x"), *bounds)), x=sample(3, 4))
        assert graph.outputs[0].shape == ["N", 2]

    def test_class_token(self):
        net = _net(1, 4, 3)
        token = net.op("Expand", net.constant(sample(1, 1, 3)), net.constant([1, 1, 3], np.int64))
        y = net.op("Concat", token, net.relu("x"), axis=1)
        graph = loaded_from_one(net.model(y), x=sample(5, 4, 3))
        assert _only_shapes_behind(_node(graph, "Expand").inputs[1])

    def test_a_size_that_only_looks_like_the_batch(self):
        # Four samples of four channels; the 4 of the second axis stays.
        net = _net(4, 4, 6)
        y = net.op("Reshape", net.relu("x"), net.constant([4, 4, 2, 3], np.int64))
        graph = load_graph(net.model(y))
        assert list(_node(graph, "Reshape").inputs[1].values) == [0, 4, 2, 3]

    def test_samples_merged_into_features_are_refused(self):
        net = _net(1, 4, 6)
        y = net.op("Reshape", net.relu("x"), net.constant([4, 6], np.int64))
        with pytest.raises(
            UnsupportedModelError,
            match=r"Reshape node 'Reshape_1' works for the batch size 1 only, .*export it with",
        ):
            load_graph(net.model(y))


class TestBranches:
    @staticmethod
    def _model(size):
        """Squeeze the last axis if it has size 1, else keep it; as torch.jit writes it."""
        branches = [
            helper.make_graph(
                [
                    N("Constant", [], ["k"], value_float=factor),
                    N("Mul", ["r", "k"], ["m"]),
                    N(op, ["m"], ["o"]),
                ],
                op,
                [],
                [unknown("o")],
            )
            for op, factor in (("Squeeze", 2.0), ("Identity", 3.0))
        ]
        nodes = [N("Relu", ["x"], ["r"])]
        for index in range(2):
            nodes += [
                N("Shape", ["r"], [f"s{index}"], start=2, end=3),
                N("Equal", [f"s{index}", "one"], [f"c{index}"]),
                N("If", [f"c{index}"], [f"y{index}"], then_branch=branches[0],
                  else_branch=branches[1]),
            ]  # fmt: skip
        outputs = [unknown("y0"), unknown("y1")]
        return model_of(nodes, [value("x", "N", 2, size)], outputs, {"one": _ints(1)})

    @pytest.mark.parametrize(("size", "kept"), [(1, ["N", 2]), (4, ["N", 2, 4])])
    def test_a_known_condition_takes_its_branch(self, size, kept):
        graph = loaded(self._model(size), x=sample(3, 2, size))
        assert "If" not in ops(graph)
        assert [tensor.shape for tensor in graph.outputs] == [kept, kept]

    def test_an_unknown_one_stays(self):
        model = self._model("W")
        clean = gs.export_onnx(load_graph(model))
        for width in (1, 3):
            for actual, expected in zip(
                run(clean, {"x": sample(2, 2, width)}),
                run(model, {"x": sample(2, 2, width)}),
                strict=True,
            ):
                np.testing.assert_array_equal(actual, expected)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 4), st.integers(1, 5), st.integers(1, 4), st.integers(1, 6), st.booleans())
def test_chains_over_random_shapes(batch, channels, height, width, fixed):
    """[N, C, H, W] → [N, C, HW] → [N, HW, C] → [N, HWC], all sizes computed."""
    net = _net(1 if fixed else "N", channels, height, width)
    area = net.op("Mul", _dim(net, "x", 2), _dim(net, "x", 3))
    y = net.op("Concat", _dim(net, "x", 0), _dim(net, "x", 1), area, axis=0)
    y = net.op("Transpose", net.op("Reshape", net.relu("x"), y), perm=[0, 2, 1])
    target = net.op("Concat", _dim(net, y, 0), net.constant([-1], np.int64), axis=0)
    model = net.model(net.op("Reshape", y, target))
    check = loaded_from_one if fixed else loaded
    graph = check(model, x=sample(batch, channels, height, width))
    assert graph.outputs[0].shape == ["N", channels * height * width]
    assert "Shape" not in ops(graph)


def test_every_batch_size_gives_the_same_samples():
    net = _net("N", 2, 4)
    target = net.op("Concat", _dim(net, "x", 0), net.constant([8], np.int64), axis=0)
    y = net.gemm(net.op("Reshape", net.relu("x"), target), sample(8, 3))
    clean = session(gs.export_onnx(load_graph(net.model(y))))
    x = sample(7, 2, 4)
    (whole,) = clean.run(None, {"x": x})
    parts = [clean.run(None, {"x": x[k : k + 1]})[0] for k in range(7)]
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("target", [[0, -1], [0, 2, -1], [-1, 24], [0, -1, 2, 3]], ids=str)
def test_a_batch_of_no_samples(target):
    net = Net({"x": ["N", 2, 3, 4]})
    graph = load_graph(net.model(net.op("Reshape", net.relu("x"), net.constant(target, "int64"))))
    (y,) = run(gs.export_onnx(graph), {"x": np.zeros((0, 2, 3, 4), np.float32)})
    assert y.shape == (0, *np.zeros(24).reshape(target[1:]).shape)
