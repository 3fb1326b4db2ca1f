"""Look at the activations of a network while onnxruntime runs it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import onnx
import onnx_graphsurgeon as gs
from onnx import helper

from onnx_snn.blocked_layout import read_blocks
from onnx_snn.errors import ModelError, RuntimeUnavailableError
from onnx_snn.onnxruntime_api import onnxruntime
from onnx_snn.open_session import open_session
from onnx_snn.ops import DOMAIN, LARGE_VALUES, VERSION
from onnx_snn.ops.reference import large_values
from onnx_snn.session import get_library_path

Array = npt.NDArray[Any]

_CACHED_VALUES = 800_000  # activations of one run, so that they stay in the cache
_LEAST_SAMPLES = 16  # of one run, so that weights are not loaded for too few


class Observed(NamedTuple):
    """What is to be said about one activation in one batch.

    Attributes:
        above: values above the floor, of each run; see ``reference.large_values``.
        rows: number of values of each channel, those below the floor included.
        greatest: of each channel, where the type is finer than that of ``above``.
    """

    above: Sequence[npt.NDArray[np.int64]]
    rows: int
    greatest: Array | None = None


class Probe(Protocol):
    """Runs a network and reports on its activations."""

    def observe(
        self, feeds: Mapping[str, Array], floors: Sequence[npt.NDArray[np.float32]]
    ) -> list[Observed]:
        """Run once; ``floors`` has a floor [C] for each activation."""


def channels_of(tensor: gs.Variable) -> int | None:
    """Number of channels: the size of axis 1, if there is one and it is always the same."""
    shape = tensor.shape
    return shape[1] if len(shape) > 1 and isinstance(shape[1], int) else None


def make_probe(graph: gs.Graph, tensors: Sequence[gs.Variable]) -> Probe:
    """The fastest probe that there is for these activations; the graph is not changed."""
    try:
        library = get_library_path()
    except RuntimeUnavailableError:
        return ValueProbe(graph, tensors)
    if any(tensor.dtype != np.float32 for tensor in tensors):
        return ValueProbe(graph, tensors)
    return NativeProbe(graph, tensors, library)


class ValueProbe:
    """Fetches all activations from onnxruntime and looks at them with NumPy."""

    def __init__(self, graph: gs.Graph, tensors: Sequence[gs.Variable]) -> None:
        self._names = [tensor.name for tensor in tensors]
        self._channels = [channels_of(tensor) or 1 for tensor in tensors]
        with _refusals():
            self._session = _session(_model_up_to(graph, tensors), _options())

    def values(self, feeds: Mapping[str, Array]) -> list[Array]:
        """The activations, each [N, C, F]; C is 1 where there are no channels."""
        with _refusals():
            results = self._session.run(self._names, dict(feeds))
        return [
            values.reshape(len(values), channels, values.size // (len(values) * channels))
            for values, channels in zip(results, self._channels, strict=True)
        ]

    def observe(
        self, feeds: Mapping[str, Array], floors: Sequence[npt.NDArray[np.float32]]
    ) -> list[Observed]:
        observed = []
        for values, floor in zip(self.values(feeds), floors, strict=True):
            above, rows = large_values(values, floor)
            is_finer = values.dtype == np.float64
            greatest = values.max(axis=(0, 2), initial=0) if is_finer else None
            observed.append(Observed([above], int(rows), greatest))
        return observed


class NativeProbe:
    """Lets a native operator look at the activations where they are made."""

    def __init__(self, graph: gs.Graph, tensors: Sequence[gs.Variable], library: str) -> None:
        model = _model_up_to(graph, tensors)
        self._floors = [f"onnx_snn/probe/{index}/floor" for index in range(len(tensors))]
        self._names: list[str] = []
        del model.graph.output[:]
        for tensor, floor in zip(tensors, self._floors, strict=True):
            self._names += self._add_operator(model.graph, tensor, floor)
        model.graph.output.extend(map(helper.make_empty_tensor_value_info, self._names))
        model.opset_import.append(helper.make_opsetid(DOMAIN, VERSION))
        options = _options()
        options.register_custom_ops_library(library)
        with _refusals():
            self._session = _session(read_blocks(model, options), options)
        self._channels = [channels_of(tensor) or 1 for tensor in tensors]
        self._samples = _LEAST_SAMPLES
        self._is_measured = False

    @staticmethod
    def _add_operator(graph: onnx.GraphProto, tensor: gs.Variable, floor: str) -> list[str]:
        channels, source = channels_of(tensor), tensor.name
        if channels is None:
            one = helper.make_tensor(f"{floor}/shape", onnx.TensorProto.INT64, [3], [0, 1, -1])
            graph.initializer.append(one)
            source = f"{floor}/values"
            graph.node.append(helper.make_node("Reshape", [tensor.name, one.name], [source]))
        outputs = [f"{floor}/{name}" for name in ("above", "count")]
        graph.input.append(
            helper.make_tensor_value_info(floor, onnx.TensorProto.FLOAT, [channels or 1])
        )
        graph.node.append(helper.make_node(LARGE_VALUES, [source, floor], outputs, domain=DOMAIN))
        return outputs

    def observe(
        self, feeds: Mapping[str, Array], floors: Sequence[npt.NDArray[np.float32]]
    ) -> list[Observed]:
        inputs = dict(zip(self._floors, floors, strict=True))
        size = len(next(iter(feeds.values())))
        step = -(-size // max(1, round(size / self._samples)))  # runs of the same size
        runs = []
        for start in range(0, size, step):
            part = slice(start, start + step)
            inputs |= {name: values[part] for name, values in feeds.items()}
            with _refusals():
                runs.append(self._session.run(self._names, inputs))
        parts = list(zip(*runs, strict=True))
        observed = [
            Observed(above, int(sum(rows)))
            for above, rows in zip(parts[::2], parts[1::2], strict=True)
        ]
        if not self._is_measured:
            self._is_measured = True
            values = sum(o.rows * c for o, c in zip(observed, self._channels, strict=True))
            self._samples = max(_LEAST_SAMPLES, _CACHED_VALUES * size // max(values, 1))
        return observed


def _model_up_to(graph: gs.Graph, tensors: Sequence[gs.Variable]) -> onnx.ModelProto:
    """The part of the network that computes these activations, which are its outputs."""
    part = graph.copy()
    by_name = part.tensors()
    part.outputs = [by_name[tensor.name] for tensor in tensors]
    model: onnx.ModelProto = gs.export_onnx(part.cleanup())
    return model


def _options() -> Any:
    options = onnxruntime().SessionOptions()
    options.log_severity_level = 3
    return options


def _session(model: onnx.ModelProto, options: Any) -> Any:
    return open_session(model, options, ["CPUExecutionProvider"])


@contextmanager
def _refusals() -> Iterator[None]:
    """What onnxruntime says against a model."""
    try:
        yield
    except Exception as error:  # onnxruntime's exceptions have no common base
        reason = " ".join(str(error).split())
        raise ModelError(f"onnxruntime cannot run the model: {reason}") from error
