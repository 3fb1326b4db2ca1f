import itertools

import numpy as np
import pytest
from onnx import TensorProto, helper

from loading import loaded, model_of, ops, sample, unknown, value
from nets import Net

N = helper.make_node


class TestSplit:
    @pytest.mark.parametrize(
        ("opset", "sizes", "attributes"),
        [
            (11, None, {"split": [1, 4]}),
            (13, [1, 4], {}),
            (18, [4, 1], {}),
            (18, None, {"num_outputs": 2}),  # uneven: 3 and 2
        ],
        ids=str,
    )
    def test_becomes_slices(self, opset, sizes, attributes):
        node = N("Split", ["x", "s"] if sizes else ["x"], ["a", "b"], axis=1, **attributes)
        constants = {"s": np.array(sizes)} if sizes else {}
        outputs = [unknown("a"), unknown("b")]
        model = model_of([node], [value("x", "N", 5, 2)], outputs, constants, opset=opset)
        graph = loaded(model, x=sample(3, 5, 2))
        assert ops(graph) == ["Slice", "Slice"]
        assert len({node.name for node in graph.nodes}) == 2

    def test_into_equal_parts_along_the_last_axis(self):
        node = N("Split", ["x"], ["a", "b", "c"], axis=-1, num_outputs=3)
        outputs = [unknown("a"), unknown("c")]
        graph = loaded(model_of([node], [value("x", "N", 2, 6)], outputs), x=sample(3, 2, 6))
        assert ops(graph) == ["Slice", "Slice"]

    def test_of_an_unknown_size_stays(self):
        node = N("Split", ["x"], ["a", "b"], axis=1, num_outputs=2)
        outputs = [unknown("a"), unknown("b")]
        graph = loaded(model_of([node], [value("x", "N", "L")], outputs), x=sample(3, 4))
        assert ops(graph) == ["Split"]


class TestCast:
    @pytest.mark.parametrize(
        ("source", "target", "kept"),
        [
            (TensorProto.FLOAT, TensorProto.FLOAT, 0),
            (TensorProto.FLOAT16, TensorProto.FLOAT16, 0),
            (TensorProto.FLOAT, TensorProto.DOUBLE, 1),
            (TensorProto.FLOAT, TensorProto.INT64, 1),
        ],
    )
    def test_goes_if_the_type_is_the_same(self, source, target, kept):
        nodes = [N("Relu", ["x"], ["r"]), N("Cast", ["r"], ["y"], to=target)]
        output = helper.make_tensor_value_info("y", target, ["N", 3])
        model = model_of(nodes, [value("x", "N", 3, elem_type=source)], [output])
        x = sample(2, 3).astype(helper.tensor_dtype_to_np_dtype(source))
        assert ops(loaded(model, x=x)) == ["Relu"] + ["Cast"] * kept


class TestDropout:
    @pytest.mark.parametrize("opset", [7, 10, 12, 13, 18, 21])
    def test_goes_in_every_opset(self, opset):
        ratio = {"ratio": 0.3} if opset < 12 else {}
        nodes = [N("Dropout", ["x"], ["a", "mask"], **ratio), N("Relu", ["a"], ["y"])]
        model = model_of(nodes, [value("x", "N", 3)], [value("y", "N", 3)], opset=opset)
        assert ops(loaded(model, x=sample(2, 3))) == ["Relu"]

    def test_whose_mask_is_used_stays(self):
        nodes = [N("Dropout", ["x"], ["a", "mask"]), N("Cast", ["mask"], ["y"], to=1)]
        model = model_of(nodes, [value("x", "N", 3)], [value("y", "N", 3)])
        assert ops(loaded(model, x=sample(2, 3))) == ["Dropout", "Cast"]


@pytest.mark.parametrize("op", ["Expand", "Tile"])
@pytest.mark.parametrize(("times", "kept"), [([1, 1], 0), ([1, 3], 1)])
def test_repeating_once_is_no_work(op, times, kept):
    net = Net({"x": ["N", 1]})
    y = net.op(op, net.relu("x"), net.constant(times, np.int64))
    assert ops(loaded(net.model(net.relu(y)), x=sample(2, 1))) == ["Relu", *[op] * kept, "Relu"]


def test_unused_branches_and_chains_of_idle_nodes_go():
    net = Net({"x": ["N", 3]})
    y = "x"
    for op, _ in itertools.product(("Identity", "Dropout"), range(3)):
        y = net.op(op, y)
    net.op("Sigmoid", y)
    assert ops(loaded(net.model(net.relu(y)), x=sample(2, 3))) == ["Relu"]
