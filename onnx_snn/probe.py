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
from onnx_snn.errors import ModelError, RuntimeUnavailableError, one_line
from onnx_snn.onnxruntime_api import onnxruntime
from onnx_snn.open_session import open_session
from onnx_snn.ops import DOMAIN, LARGE_VALUES, VERSION
from onnx_snn.ops.reference import large_values
from onnx_snn.session import get_library_path

Array = npt.NDArray[Any]
Places = npt.NDArray[np.float64]
"""Places in a channel: the u-th part of its F values is the one with the index ⌊u·F⌋; [P]."""

_CACHED_VALUES = 800_000  # activations of one run, so that they stay in the cache
_LEAST_SAMPLES = 16  # of one run, so that weights are not loaded for too few


class Observed(NamedTuple):
    """What is to be said about one activation in one batch.

    Attributes:
        above: values above the floor, of each run; see ``reference.large_values``.
        rows: number of values of each channel, those below the floor included.
        greatest: of each channel, where the type is finer than that of ``above``.
        samples: the values at the places asked for, of each run [N, C / b, P, b], in blocks of b
            channels, the last of which may be filled up; () where none were.
    """

    above: Sequence[npt.NDArray[np.int64]]
    rows: int
    greatest: Array | None = None
    samples: Sequence[Array] = ()


class Probe(Protocol):
    """Runs a network and reports on its activations."""

    def observe(
        self,
        feeds: Mapping[str, Array],
        floors: Sequence[npt.NDArray[np.float32]],
        places: Sequence[Places] = (),
    ) -> list[Observed]:
        """Run once.

        Args:
            feeds: a batch.
            floors: of each activation the floors of its channels, [C].
            places: of each activation where to take a sample, if any.
        """


def channels_of(tensor: gs.Variable) -> int | None:
    """Number of channels: the size of axis 1, if there is one and it is always the same."""
    shape = tensor.shape
    return shape[1] if len(shape) > 1 and isinstance(shape[1], int) else None


def sample(values: Array, places: Places) -> Array:
    """The values [N, C, F] at some places, [N, C, P, 1]: in blocks of one channel."""
    return values[:, :, (places * values.shape[2]).astype(np.int64), None]


def make_probe(
    graph: gs.Graph, tensors: Sequence[gs.Variable], *, is_sampling: bool = False
) -> Probe:
    """The fastest probe that there is for these activations; the graph is not changed.

    Args:
        graph: a clean graph.
        tensors: the activations.
        is_sampling: whether samples will be asked for.
    """
    try:
        library = get_library_path()
    except RuntimeUnavailableError:
        return ValueProbe(graph, tensors)
    if any(tensor.dtype != np.float32 for tensor in tensors):
        return ValueProbe(graph, tensors)
    return NativeProbe(graph, tensors, library, is_sampling=is_sampling)


class ValueProbe:
    """Fetches all activations from onnxruntime and looks at them with NumPy."""

    def __init__(self, graph: gs.Graph, tensors: Sequence[gs.Variable]) -> None:
        self._names = [tensor.name for tensor in tensors]
        self._channels = [channels_of(tensor) or 1 for tensor in tensors]
        with refusals():
            self._session = cpu_session(model_up_to(graph, tensors), session_options())

    def values(self, feeds: Mapping[str, Array]) -> list[Array]:
        """The activations, each [N, C, F]; C is 1 where there are no channels."""
        with refusals():
            results = self._session.run(self._names, dict(feeds))
        return [
            values.reshape(len(values), channels, values.size // (len(values) * channels))
            for values, channels in zip(results, self._channels, strict=True)
        ]

    def observe(
        self,
        feeds: Mapping[str, Array],
        floors: Sequence[npt.NDArray[np.float32]],
        places: Sequence[Places] = (),
    ) -> list[Observed]:
        observed = []
        wanted: Sequence[Places | None] = places or [None] * len(floors)
        for values, floor, at in zip(self.values(feeds), floors, wanted, strict=True):
            above, rows = large_values(values, floor)
            is_finer = values.dtype == np.float64
            greatest = values.max(axis=(0, 2), initial=0) if is_finer else None
            taken = () if at is None else [sample(values, at)]
            observed.append(Observed([above], int(rows), greatest, taken))
        return observed


class NativeProbe:
    """Lets a native operator look at the activations where they are made."""

    def __init__(
        self,
        graph: gs.Graph,
        tensors: Sequence[gs.Variable],
        library: str,
        *,
        is_sampling: bool = False,
    ) -> None:
        model = model_up_to(graph, tensors)
        prefixes = [f"onnx_snn/probe/{index}" for index in range(len(tensors))]
        self._floors = [f"{prefix}/floor" for prefix in prefixes]
        self._places = [f"{prefix}/places" for prefix in prefixes if is_sampling]
        self._names: list[str] = []
        del model.graph.output[:]
        for tensor, floor in zip(tensors, self._floors, strict=True):
            self._names += self._add_operator(model.graph, tensor, floor)
        samples = [
            self._add_sampling(model.graph, tensor, places)
            for tensor, places in zip(tensors, self._places, strict=False)
        ]
        self._names += samples
        model.graph.output.extend(map(helper.make_empty_tensor_value_info, self._names))
        model.opset_import.append(helper.make_opsetid(DOMAIN, VERSION))
        options = session_options()
        options.register_custom_ops_library(library)
        with refusals():
            self._session = cpu_session(read_blocks(model, options, samples), options)
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

    @staticmethod
    def _add_sampling(graph: onnx.GraphProto, tensor: gs.Variable, places: str) -> str:
        """Append ``sample`` in ONNX operators; it works with any number F of values."""
        channels = channels_of(tensor) or 1
        shape = helper.make_tensor(
            f"{places}/shape", onnx.TensorProto.INT64, [4], [0, channels, -1, 1]
        )
        graph.initializer.append(shape)
        graph.input.append(helper.make_tensor_value_info(places, onnx.TensorProto.DOUBLE, [places]))

        def add(op: str, inputs: list[str], output: str, **attributes: Any) -> str:
            name = f"{places}/{output}"
            graph.node.append(helper.make_node(op, inputs, [name], **attributes))
            return name

        values = add("Reshape", [tensor.name, shape.name], "values")
        features = add("Shape", [values], "features", start=2, end=3)
        features = add("Cast", [features], "double", to=onnx.TensorProto.DOUBLE)
        index = add("Mul", [places, features], "product")
        index = add("Cast", [index], "index", to=onnx.TensorProto.INT64)
        return add("Gather", [values, index], "sample", axis=2)

    def observe(
        self,
        feeds: Mapping[str, Array],
        floors: Sequence[npt.NDArray[np.float32]],
        places: Sequence[Places] = (),
    ) -> list[Observed]:
        inputs: dict[str, Array] = dict(zip(self._floors, floors, strict=True))
        inputs |= dict.fromkeys(self._places, np.zeros(0))
        inputs |= dict(zip(self._places, places, strict=False))
        size = len(next(iter(feeds.values())))
        step = -(-size // max(1, round(size / self._samples)))  # runs of the same size
        runs = []
        for start in range(0, size, step):
            part = slice(start, start + step)
            inputs |= {name: values[part] for name, values in feeds.items()}
            with refusals():
                runs.append(self._session.run(self._names, inputs))
        parts = list(zip(*runs, strict=True))
        ends = 2 * len(floors)
        samples = parts[ends:] if places else [()] * len(floors)
        observed = [
            Observed(above, int(sum(rows)), samples=taken)
            for above, rows, taken in zip(parts[:ends:2], parts[1:ends:2], samples, strict=True)
        ]
        if not self._is_measured:
            self._is_measured = True
            values = sum(o.rows * c for o, c in zip(observed, self._channels, strict=True))
            self._samples = max(_LEAST_SAMPLES, _CACHED_VALUES * size // max(values, 1))
        return observed


def model_up_to(graph: gs.Graph, tensors: Sequence[gs.Variable]) -> onnx.ModelProto:
    """The part of the network that computes these activations, which are its outputs."""
    part = graph.copy()
    by_name = part.tensors()
    part.outputs = [by_name[tensor.name] for tensor in tensors]
    model: onnx.ModelProto = gs.export_onnx(part.cleanup())
    return model


def session_options() -> Any:
    """SessionOptions of a run that is not to say anything but errors."""
    options = onnxruntime().SessionOptions()
    options.log_severity_level = 3
    return options


def cpu_session(model: onnx.ModelProto, options: Any) -> Any:
    """An InferenceSession on the CPU."""
    return open_session(model, options, ["CPUExecutionProvider"])


@contextmanager
def refusals() -> Iterator[None]:
    """Turn what onnxruntime says against a model into a ``ModelError``."""
    try:
        yield
    except Exception as error:  # onnxruntime's exceptions have no common base
        raise ModelError(f"onnxruntime cannot run the model: {one_line(error)}") from error
