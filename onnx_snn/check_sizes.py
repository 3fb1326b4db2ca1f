"""Check sizes: would a model, however small its file, ask for tensors of absurd size?

Whatever constants decide is computed once, when a model is loaded, and one ``Tile`` may ask for
terabytes. So sizes are found out first, from shapes and from the values of small constants.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, inliner, numpy_helper
from onnx.reference import ReferenceEvaluator

from onnx_snn.errors import ModelError

_LARGEST_ACTIVATION = 2**30  # bytes, of one sample
_LARGEST_SHAPE = 2**22  # bytes, of integers along one axis
_LARGEST_CONSTANTS = 2**26  # bytes, of all computed ones together, or …
_LARGEST_GROWTH = 4  # … so many times the weights
_SMALL = 4096  # values of a constant that is evaluated to find out what follows from it
_SIZED_BY_VALUES = frozenset(
    {"ConstantOfShape", "Expand", "Tile", "Range", "Pad", "Resize", "Upsample", "OneHot"}
)
_SHAPE_TYPES = (TensorProto.INT64, TensorProto.INT32)
_CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
_ENDLESS = frozenset({"Loop", "Scan", "SequenceMap"})

_Constant = TensorProto | onnx.ValueInfoProto  # a value, or a type and shape


def check_sizes(model: onnx.ModelProto, origin: str) -> None:
    """Refuse a model some tensor of which is of absurd size.

    Args:
        model: a valid one.
        origin: how messages call it.

    Raises:
        ModelError: an activation of one sample takes more than 1 GiB, or what is computed from
            constants alone takes more than 64 MiB and more than four times the weights.
    """
    outline = _outline(model)
    if outline.functions:
        try:
            outline = inliner.inline_local_functions(outline)
        except Exception:  # a type for each reason; who needs them inlined says so
            return
    known: dict[str, _Constant] = {
        tensor.name: _small(tensor) for tensor in model.graph.initializer
    }
    weights = sum(_bytes(_value(tensor)) or 0 for tensor in model.graph.initializer)
    limit = max(_LARGEST_CONSTANTS, _LARGEST_GROWTH * weights)
    _Constants(outline, limit, origin).check(outline.graph, known)
    # Propagating data copies vectors value by value, so their sizes must be known to be harmless.
    for data_prop in (False, True):
        _check_activations(outline, _weight_dims(model), data_prop, origin)


def _outline(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model for one sample, without its large weights, which become inputs.

    What the file says of the outputs' shapes is forgotten, as inference would believe it.
    """
    graph = onnx.GraphProto(name="outline")
    graph.node.extend(model.graph.node)
    graph.input.extend(model.graph.input)
    graph.output.extend(model.graph.output)
    listed = {value.name for value in graph.input}
    weights = {tensor.name for tensor in model.graph.initializer}
    for value in graph.input:
        if value.name not in weights and value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_value = 1
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")
    _name_kernels(graph, _weight_dims(model))
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= _SMALL:
            graph.initializer.append(tensor)
        elif tensor.name not in listed:
            graph.input.append(_value(tensor))
    outline = helper.make_model(graph, opset_imports=model.opset_import, functions=model.functions)
    outline.ir_version = max(model.ir_version, 8)
    return outline


def _weight_dims(model: onnx.ModelProto) -> dict[str, Sequence[int]]:
    return {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}


def _name_kernels(graph: onnx.GraphProto, dims: Mapping[str, Sequence[int]]) -> None:
    """Say what the weights say: older versions of onnx crash where they do not fit the input."""
    for node in graph.node:
        is_named = any(attribute.name == "kernel_shape" for attribute in node.attribute)
        if node.op_type in _CONVOLUTIONS and node.input[1] in dims and not is_named:
            kernel = helper.make_attribute("kernel_shape", dims[node.input[1]][2:])
            node.attribute.append(kernel)


def _check_ranks(inferred: onnx.GraphProto, dims: Mapping[str, Sequence[int]], origin: str) -> None:
    ranks = {
        value.name: len(value.type.tensor_type.shape.dim)
        for value in (*inferred.input, *inferred.value_info)
        if value.type.tensor_type.HasField("shape")
    }
    for node in inferred.node:
        if node.op_type in _CONVOLUTIONS and node.input[1] in dims and node.input[0] in ranks:
            given, wanted = ranks[node.input[0]], len(dims[node.input[1]])
            if given != wanted:
                raise ModelError(
                    f"{origin}: {node.op_type} node '{node.name}' has weights of {wanted} axes and "
                    f"an input of {given}; export the model again"
                )


def _small(tensor: TensorProto) -> _Constant:
    """A small constant itself, of a large one the type and shape."""
    return tensor if math.prod(tensor.dims) <= _SMALL else _value(tensor)


def _value(tensor: TensorProto) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))


def _bytes(value: onnx.ValueInfoProto) -> int | None:
    """Bytes of a value, axes of unknown size counted as one; None if its rank is unknown."""
    tensor = value.type.tensor_type
    if not tensor.HasField("shape") or tensor.elem_type in (0, TensorProto.STRING):
        return None
    try:
        item = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.elem_type)).itemsize
    except KeyError:
        return None
    return math.prod(max(d.dim_value, 1) for d in tensor.shape.dim) * item


def _check_activations(
    outline: onnx.ModelProto, weights: Mapping[str, Sequence[int]], data_prop: bool, origin: str
) -> None:
    try:
        inferred = onnx.shape_inference.infer_shapes(outline, data_prop=data_prop)
    except Exception:  # loading infers the shapes again and says what is wrong
        return
    _check_ranks(inferred.graph, weights, origin)
    for value in (*inferred.graph.input, *inferred.graph.value_info, *inferred.graph.output):
        tensor = value.type.tensor_type
        may_be_shape = len(tensor.shape.dim) == 1 and tensor.elem_type in _SHAPE_TYPES
        limit = _LARGEST_SHAPE if may_be_shape else _LARGEST_ACTIVATION
        if (_bytes(value) or 0) > limit and value.name not in weights:
            raise ModelError(
                f"{origin}: '{value.name}' takes more than {limit >> 20} MiB for each sample; "
                "check the sizes that the model was exported with"
            )


class _Constants:
    """Follows constants through a graph, node by node, and adds up what they would take."""

    def __init__(self, model: onnx.ModelProto, limit: int, origin: str) -> None:
        self._opsets = model.opset_import
        self._left = limit
        self._origin = origin

    def check(self, graph: onnx.GraphProto, known: Mapping[str, _Constant]) -> None:
        known = dict(known) | {tensor.name: _small(tensor) for tensor in graph.initializer}
        for node in graph.node:
            subgraphs = list(_subgraphs(node))
            for subgraph in subgraphs:
                self.check(subgraph, known)
            self._check_divisor(node, known)
            names = {*node.input, *(name for g in subgraphs for name in _free_names(g))} - {""}
            if not names <= known.keys():
                continue
            if node.op_type in _ENDLESS:
                self._refuse(node, "may take for ever")
            if subgraphs:
                continue  # its branches are checked
            for result in self._results(node, [known[name] for name in sorted(names)]):
                known[result.name] = result

    def _check_divisor(self, node: onnx.NodeProto, known: Mapping[str, _Constant]) -> None:
        """An integer divided by zero ends the process, in some versions of onnxruntime."""
        if node.op_type not in ("Div", "Mod"):
            return
        divisor = known.get(node.input[1])
        if isinstance(divisor, TensorProto):
            values = numpy_helper.to_array(divisor)
            if values.dtype.kind in "iu" and not values.all():
                raise ModelError(
                    f"{self._origin}: {node.op_type} node '{node.name}' divides by zero; "
                    "repair the model before converting it"
                )

    def _results(self, node: onnx.NodeProto, inputs: Sequence[_Constant]) -> Sequence[_Constant]:
        """The node's outputs: their values where all is small, else their types and shapes."""
        outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
        values = [each for each in inputs if isinstance(each, TensorProto)]
        others = [each for each in inputs if isinstance(each, onnx.ValueInfoProto)]
        graph = helper.make_graph([node], "node", others, outputs, values)
        model = helper.make_model(graph, opset_imports=self._opsets)
        try:
            inferred = onnx.shape_inference.infer_shapes(model)
        except Exception:  # loading infers the shapes again and says what is wrong
            return outputs
        shaped = list(inferred.graph.output)
        sizes = [_bytes(value) for value in shaped]
        if None in sizes and node.op_type in _SIZED_BY_VALUES:
            self._refuse(node, "is of a size that only its values tell")
        self._left -= sum(size or 0 for size in sizes)
        if self._left < 0:
            self._refuse(node, "takes too much memory")
        if others or any((size or 0) > _SMALL * 8 for size in sizes):
            return shaped
        return _evaluated(model) or shaped

    def _refuse(self, node: onnx.NodeProto, reason: str) -> None:
        raise ModelError(
            f"{self._origin}: what {node.op_type} node '{node.name}' computes from constants "
            f"{reason}; check the constants, or simplify the model before converting it"
        )


def _evaluated(model: onnx.ModelProto) -> Sequence[_Constant] | None:
    """The values of a node's outputs; None if they cannot be computed."""
    try:
        with np.errstate(all="ignore"):
            results = ReferenceEvaluator(model).run(None, {})
        names = [value.name for value in model.graph.output]
        return [
            numpy_helper.from_array(np.asarray(values), name)
            for name, values in zip(names, results, strict=True)
        ]
    except Exception:  # the evaluator has no error of its own
        return None


def _subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _free_names(graph: onnx.GraphProto) -> set[str]:
    """Names that a subgraph reads from the graphs around it."""
    own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
    read = {value.name for value in graph.output}
    for node in graph.node:
        own.update(node.output)
        read.update(node.input)
        for subgraph in _subgraphs(node):
            read |= _free_names(subgraph)
    return read - own
