"""Run a session on tensors that stay where they are: on a GPU, or in other libraries' memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from onnx_snn.errors import DataError, OnnxSnnError, RuntimeUnavailableError, one_line
from onnx_snn.onnxruntime_api import onnxruntime
from onnx_snn.ort_value_runner import OrtValueRunner

if TYPE_CHECKING:
    import onnxruntime as ort

_CUDA = "CUDAExecutionProvider"
_STRINGS = "tensor(string)"  # no GPU holds them


class BoundSession:
    """A session whose outputs are left on its device, and that reads inputs there.

        bound = BoundSession(create_session("snn.onnx"))
        scores = bound.run({"image": images})["scores"]     # a torch tensor on the GPU, say
        torch.from_dlpack(scores)                           # still there

    Attributes:
        device: ``"cuda"`` where the session's first provider is CUDA, else ``"cpu"``.
        is_fixed: whether every run reads and writes the same memory.

    Args:
        session: of ``create_session``, or any other.
        is_fixed: arrays are copied to where those of the first run are, outputs are overwritten by
            the next run, and tensors, shapes and T stay those of the first run. Always so where
            the session replays a CUDA graph (provider option ``enable_cuda_graph``).
    """

    def __init__(self, session: ort.InferenceSession, *, is_fixed: bool = False) -> None:
        on_cuda = session.get_providers()[0] == _CUDA
        options = session.get_provider_options()[_CUDA] if on_cuda else {}
        self.device = "cuda" if on_cuda else "cpu"
        self.is_fixed = is_fixed or options.get("enable_cuda_graph") == "1"
        self._device_id = int(options.get("device_id", 0))
        self._required = [
            value.name for value in session.get_inputs() if not value.type.startswith("optional")
        ]
        self._defaults = {value.name for value in session.get_overridable_initializers()}
        make = onnxruntime().OrtDevice.make
        own, host = make(self.device, self._device_id), make("cpu", 0)
        devices = {
            value.name: host if value.type == _STRINGS else own for value in session.get_outputs()
        }
        self._runner = OrtValueRunner(session, devices)
        self._copies: dict[str, ort.OrtValue] = {}
        self._first: _Run | None = None  # of a fixed session

    def run(self, feeds: Mapping[str, Any]) -> dict[str, ort.OrtValue]:
        """Run once.

        Args:
            feeds: by the name of an input, a tensor of the session's device that speaks DLPack
                (torch, CuPy, JAX …; it is read in place), an ``OrtValue`` such as this gave
                before, or a NumPy array, which is copied there. ``T`` may be given, as a number.

        Returns:
            The outputs by name, on the device: ``.numpy()`` copies one to the host, and
            ``torch.from_dlpack`` takes it as it is. Strings are on the host.

        Raises:
            DataError: an input is missing, onnxruntime refuses the tensors, or a shape, a
                tensor's memory or T changes where they are fixed.
            RuntimeUnavailableError: this onnxruntime takes no DLPack tensors.
        """
        for name in self._required:
            if name not in feeds:
                raise DataError(f"onnxruntime refuses the data: the input '{name}' is missing")
        try:
            api = onnxruntime()
            values = {name: self._value(api, name, value) for name, value in feeds.items()}
            settings = self._settings(values)
            if self._first is not None:
                self._first.check(values, settings)
            written = () if self._first is None else self._first.outputs.values()
            outputs = self._runner.run(values, written)
        except OnnxSnnError:
            raise
        except Exception as error:  # onnxruntime's exceptions have no common base
            raise DataError(f"onnxruntime refuses the data: {one_line(error)}") from error
        if self.is_fixed and self._first is None:
            self._first = _Run(values, settings, outputs)
        return outputs

    def _value(self, api: Any, name: str, value: Any) -> ort.OrtValue:
        if isinstance(value, api.OrtValue):
            return value
        if isinstance(value, np.ndarray | np.generic) or not hasattr(value, "__dlpack__"):
            array = np.asarray(value, order="C")
            if self.is_fixed and name not in self._defaults:
                return self._copy(name, array)
            return self._runner.on_host(array)
        if hasattr(api.OrtValue, "from_dlpack"):
            return api.OrtValue.from_dlpack(value)
        raise RuntimeUnavailableError(
            f"onnxruntime {api.__version__} takes no DLPack tensors; install a newer one, or "
            f"give a NumPy array or an OrtValue for '{name}'"
        )

    def _copy(self, name: str, array: Any) -> ort.OrtValue:
        """The array, copied to where that of the first run is."""
        kept = self._copies.get(name)
        if self._first is None or kept is None:
            own = array.copy()  # on the CPU an OrtValue is the array's memory
            kept = onnxruntime().OrtValue.ortvalue_from_numpy(own, self.device, self._device_id)
            self._copies[name] = kept
        else:
            _check_shape(name, array.shape, kept)
            kept.update_inplace(array)
        return kept

    def _settings(self, values: Mapping[str, ort.OrtValue]) -> dict[str, Any]:
        """What is given in place of defaults. A CUDA graph keeps what the host read of it."""
        if not self.is_fixed:
            return {}
        return {name: values[name].numpy().tolist() for name in values if name in self._defaults}


@dataclass(frozen=True)
class _Run:
    """The first run of a fixed session: what it read and wrote."""

    inputs: Mapping[str, ort.OrtValue]
    settings: Mapping[str, Any]
    outputs: Mapping[str, ort.OrtValue]

    def check(self, values: Mapping[str, ort.OrtValue], settings: Mapping[str, Any]) -> None:
        """Refuse to read anything else."""
        for name in sorted(settings.keys() | self.settings.keys()):
            given, first = (each.get(name, "not given") for each in (settings, self.settings))
            if given != first:
                raise DataError(
                    f"'{name}' is {given}, but this session is fixed to the first run's, where it "
                    f"was {first}; open another for it"
                )
        for name in values.keys() - settings.keys():
            first = self.inputs[name]
            _check_shape(name, values[name].shape(), first)
            if values[name].data_ptr() != first.data_ptr():
                raise DataError(
                    f"'{name}' is not in the memory that this session is fixed to; copy it into "
                    "the tensor that the first run was given, or always give NumPy arrays"
                )


def _check_shape(name: str, shape: Any, first: ort.OrtValue) -> None:
    if list(shape) != list(first.shape()):
        raise DataError(
            f"'{name}' has the shape {list(shape)}, but this session is fixed to "
            f"{list(first.shape())}; open another for it"
        )
