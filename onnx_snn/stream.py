"""Streams: run a spiking network step by step, or block by block, and keep its membranes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx

from onnx_snn.bound_session import BoundSession
from onnx_snn.errors import DataError, OptionError, one_line
from onnx_snn.model_io import ModelSource, read_model
from onnx_snn.onnxruntime_api import onnxruntime
from onnx_snn.options import check_positive
from onnx_snn.reschedule import reschedule
from onnx_snn.schedule import CLOCK, Schedule, ScheduleRecord
from onnx_snn.session import create_session

if TYPE_CHECKING:
    import onnxruntime as ort

Array = npt.NDArray[Any]


class Stream:
    """Holds the state of a network between runs: event cameras, endless input, early exit.

        stream = Stream("snn.onnx")
        for frame in camera:
            scores = stream.run({"image": frame}, timesteps=1)["scores"]

    The state stays on the session's device from run to run; ``run_on_device`` leaves the outputs
    there too.

    Attributes:
        record: how the network is scheduled; its coding tells what ``run`` takes.
        timesteps: steps seen since the start or the last ``reset``.

    Args:
        model: a converted model; one of another schedule is put on ``step`` first.
        providers: as onnxruntime takes them.
        sess_options: as onnxruntime takes them.
        use_native: False runs the portable bodies even where the library is there.

    Raises:
        ModelError: not a model made by onnx_snn.
        OptionError: the providers replay a CUDA graph, which cannot hand on a state.
    """

    def __init__(
        self,
        model: ModelSource,
        providers: Sequence[Any] | None = None,
        sess_options: ort.SessionOptions | None = None,
        *,
        use_native: bool = True,
    ) -> None:
        source = read_model(model)
        self.record = ScheduleRecord.of(source)
        if self.record.schedule is not Schedule.STEP:
            source = reschedule(source, schedule="step")
            self.record = ScheduleRecord.of(source)
        session = create_session(source, providers, sess_options, use_native=use_native)
        self._session = session
        self._bound = BoundSession(session)
        if self._bound.is_fixed:
            raise OptionError(
                "a CUDA graph reads the same memory in every run, so that a stream cannot hand on "
                "its state; leave the provider option enable_cuda_graph out"
            )
        self._inputs = {value.name: value for value in session.get_inputs()}
        carried = {name for state in self.record.states for name in (state.input, state.output)}
        self._data_inputs = _data_inputs(source, carried, self.record)
        self._results = [value.name for value in session.get_outputs()]
        self._outputs = [name for name in self._results if name not in carried]
        self._state: dict[str, Array | ort.OrtValue] = {}
        self.timesteps = 0

    @property
    def state(self) -> dict[str, Array]:
        """Membranes and sums by the name of their input, to be saved; empty before the first run.

        Reading it copies them to the host.
        Assign it to a stream of the same model to go on where the other one stopped.
        """
        return {name: _to_array(value) for name, value in self._state.items()}

    @state.setter
    def state(self, values: Mapping[str, Array]) -> None:
        wanted = {state.input for state in self.record.states}
        if values and set(values) != wanted:
            raise DataError(
                f"the state is not one of this network ('{sorted(wanted ^ set(values))[0]}' "
                "differs); assign what Stream.state gave"
            )
        self._state = dict(values)
        self.timesteps = int(values[CLOCK]) if values else 0

    def reset(self) -> None:
        """Forget everything: the next run is at step 0, with a batch of any size."""
        self.state = {}

    def run(self, feeds: Mapping[str, Any] | Any, timesteps: int | None = None) -> dict[str, Array]:
        """Run some steps.

        Args:
            feeds: an array for each input, or the array of the only one: images [N, …], shown
                at each of these steps, or, where the network takes sequences, [T, N, …]. Also
                tensors of other libraries and ``OrtValue``, as ``BoundSession.run`` takes them.
            timesteps: number of steps T; None: the file's own. Sequences tell it themselves.

        Returns:
            The outputs by name: the mean over all steps since the start [N, …], or with the
            running readout that mean after each of these steps, [T, N, …].

        Raises:
            DataError: an input is missing, unknown, or differs in its number of samples.
            OptionError: T is not a positive whole number, or T is given beside sequences.
        """
        results = self._advance(feeds, timesteps)
        return {name: _to_array(results[name]) for name in self._outputs}

    def run_on_device(
        self, feeds: Mapping[str, Any] | Any, timesteps: int | None = None
    ) -> dict[str, ort.OrtValue]:
        """Like ``run``, but the outputs are left on the device, as by ``BoundSession.run``."""
        results = self._advance(feeds, timesteps)
        return {name: _to_ort_value(results[name]) for name in self._outputs}

    def _advance(
        self, feeds: Mapping[str, Any] | Any, timesteps: int | None
    ) -> dict[str, Array | ort.OrtValue]:
        """Run some steps and keep the state; returns all results, where they are."""
        values = self._checked(feeds)
        if timesteps is not None:
            values[self.record.timesteps_input] = _checked_timesteps(timesteps, self.record)
        state = self._state or self._initial_state(values)
        results = self._evaluate({**values, **state})
        self._state = {entry.input: results[entry.output] for entry in self.record.states}
        self.timesteps += self._steps(values)
        if CLOCK in self._state and self._bound.device != "cpu":  # it is read on the host
            self._state[CLOCK] = np.array(self.timesteps, np.int64)
        return results

    def _evaluate(self, values: Mapping[str, Any]) -> dict[str, Array | ort.OrtValue]:
        if self._bound.device != "cpu":
            return {**self._bound.run(values)}
        # Arrays: making OrtValues takes a fifth of the time that a small network runs.
        try:
            results = self._session.run(self._results, values)
        except Exception as error:  # onnxruntime's exceptions have no common base
            raise DataError(f"onnxruntime refuses the data: {one_line(error)}") from error
        return dict(zip(self._results, results, strict=True))

    def _checked(self, feeds: Mapping[str, Any] | Any) -> dict[str, Any]:
        if not isinstance(feeds, Mapping):
            if len(self._data_inputs) != 1:
                raise DataError(
                    f"the network has the inputs {', '.join(self._data_inputs)}; "
                    "give a mapping with an array for each"
                )
            feeds = {self._data_inputs[0]: feeds}
        if set(feeds) != set(self._data_inputs):
            raise DataError(
                f"the network takes the inputs {', '.join(self._data_inputs)}, "
                f"not {', '.join(feeds) or 'none'}"
            )
        return {name: self._readable(name, value) for name, value in feeds.items()}

    def _readable(self, name: str, value: Any) -> Any:
        """On the CPU any array will do, in any order of memory."""
        if self._bound.device != "cpu":
            return value
        try:
            return _to_array(value)
        except Exception as error:  # of another library
            raise DataError(
                f"input '{name}' cannot be read on the CPU: {one_line(error)}; give a NumPy array"
            ) from error

    def _steps(self, values: Mapping[str, Any]) -> int:
        """How many steps a run had."""
        for name in self.record.sequences:
            return _shape(values[name])[0]
        return int(values.get(self.record.timesteps_input, self.record.timesteps))

    def _initial_state(self, values: Mapping[str, Any]) -> dict[str, Array]:
        samples = _samples(values, self._data_inputs, self.record)
        state = {}
        for entry in self.record.states:
            value = self._inputs[entry.input]
            # A size that is not fixed follows that of the input: the graph broadcasts 1 to it.
            sizes = [size if isinstance(size, int) else 1 for size in value.shape]
            shape = [samples, *sizes[1:]] if sizes else []
            state[entry.input] = np.full(shape, entry.init, _DTYPES[value.type])
        return state


_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
}


def _to_array(value: Any) -> Array:
    array: Array = value.numpy() if isinstance(value, onnxruntime().OrtValue) else np.asarray(value)
    return array


def _to_ort_value(value: Array | ort.OrtValue) -> ort.OrtValue:
    return (
        onnxruntime().OrtValue.ortvalue_from_numpy(value)
        if isinstance(value, np.ndarray)
        else value
    )


def _data_inputs(model: onnx.ModelProto, carried: set[str], record: ScheduleRecord) -> list[str]:
    names = (value.name for value in model.graph.input)
    return [name for name in names if name not in carried and name != record.timesteps_input]


def _checked_timesteps(timesteps: int, record: ScheduleRecord) -> Array:
    if not record.timesteps_input:
        raise OptionError("the network takes sequences [T, N, …], which tell T; give no timesteps")
    check_positive(timesteps, "timesteps")
    return np.array(timesteps, np.int64)


def _samples(values: Mapping[str, Any], names: Sequence[str], record: ScheduleRecord) -> int:
    sizes = set()
    for name in names:
        axis = 1 if name in record.sequences else 0
        shape = _shape(values[name])
        if len(shape) <= axis:
            raise DataError(f"the array for input '{name}' has no batch axis")
        sizes.add(shape[axis])
    if len(sizes) != 1:
        raise DataError(f"the inputs differ in the number of samples ({sorted(sizes)})")
    return sizes.pop()


def _shape(value: Any) -> tuple[int, ...]:
    is_ort_value = isinstance(value, onnxruntime().OrtValue)
    return tuple(value.shape() if is_ort_value else np.shape(value))
