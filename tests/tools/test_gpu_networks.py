from onnx import TensorProto, helper

from gpu_networks import count_copies


def _node(op, source, result, **attributes):
    return helper.make_node(op, [source], [result], **attributes)


def test_copies_in_bodies_of_loops_count():
    body = helper.make_graph(
        [_node("MemcpyToHost", "a", "b"), _node("Identity", "b", "c")],
        "body",
        [],
        [helper.make_tensor_value_info("c", TensorProto.FLOAT, [])],
    )
    nodes = [
        _node("MemcpyFromHost", "x", "y"),
        _node("Relu", "y", "z"),
        _node("Loop", "z", "w", body=body),
    ]
    graph = helper.make_graph(nodes, "graph", [], [])
    assert count_copies(graph) == 2
    del graph.node[0]
    assert count_copies(graph) == 1
