"""Run a session on tensors that stay where they are: on a GPU, or in other libraries' memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from onnx_snn.errors import DataError, OnnxSnnError, RuntimeUnavailableError, one_line
from onnx_snn.onnxruntime_api import onnxruntime

if TYPE_CHECKING:
    import onnxruntime as ort

_DEVICES = {"CUDAExecutionProvider": "cuda"}


class BoundSession:
    """A session whose outputs are left on its device, and that reads inputs there.

        bound = BoundSession(create_session("snn.onnx"))
        scores = bound.run({"image": images})["scores"]     # a torch tensor on the GPU, say
        torch.from_dlpack(scores)                           # still there

    Attributes:
        device: ``"cuda"`` where the session's first provider is CUDA, else ``"cpu"``.

    Args:
        session: of ``create_session``, or any other.
        device_id: which GPU, the one of the session.
        is_fixed: whether every run reads and writes the same memory, as a CUDA graph does (provider
            option ``enable_cuda_graph``): arrays are copied to where those of the first run are,
            outputs are overwritten by the next run, and shapes stay the same.
    """

    def __init__(
        self, session: ort.InferenceSession, device_id: int = 0, *, is_fixed: bool = False
    ) -> None:
        self._session = session
        self._device_id = device_id
        self._is_fixed = is_fixed
        self._kept_inputs: dict[str, ort.OrtValue] = {}
        self._kept_outputs: dict[str, ort.OrtValue] = {}
        self._outputs = [value.name for value in session.get_outputs()]
        self._defaults = {value.name for value in session.get_overridable_initializers()}
        self.device = _DEVICES.get(session.get_providers()[0], "cpu")

    def run(self, feeds: Mapping[str, Any]) -> dict[str, ort.OrtValue]:
        """Run once.

        Args:
            feeds: by the name of an input, a tensor of the session's device that speaks DLPack
                (torch, CuPy, JAX …; it is read in place), an ``OrtValue`` such as this gave
                before, or a NumPy array, which is copied there.

        Returns:
            The outputs by name, on the device: ``.numpy()`` copies one to the host, and
            ``torch.from_dlpack`` takes it as it is.

        Raises:
            DataError: onnxruntime refuses the tensors, T is given, which a binding cannot set, or
                a shape changes where they are fixed.
            RuntimeUnavailableError: this onnxruntime takes no DLPack tensors.
        """
        for name in self._defaults & feeds.keys():
            raise DataError(
                f"onnxruntime binds no input that has a default, such as '{name}'; set it in the "
                f"file, by onnx_snn.reschedule(model, timesteps={feeds[name]})"
            )
        binding = self._session.io_binding()
        try:
            for name, value in feeds.items():
                self._bind(binding, name, value)
            for name in self._outputs:
                if name in self._kept_outputs:
                    binding.bind_ortvalue_output(name, self._kept_outputs[name])
                else:
                    binding.bind_output(name, self.device, self._device_id)
            self._session.run_with_iobinding(binding)
        except OnnxSnnError:
            raise
        except Exception as error:  # onnxruntime's exceptions have no common base
            raise DataError(f"onnxruntime refuses the data: {one_line(error)}") from error
        outputs = dict(zip(self._outputs, binding.get_outputs(), strict=True))
        if self._is_fixed and not self._kept_outputs:
            self._kept_outputs = outputs
        return dict(self._kept_outputs or outputs)

    def _bind(self, binding: ort.IOBinding, name: str, value: Any) -> None:
        api = onnxruntime()
        if isinstance(value, api.OrtValue):
            binding.bind_ortvalue_input(name, value)
        elif isinstance(value, np.ndarray | np.generic) or not hasattr(value, "__dlpack__"):
            array = np.ascontiguousarray(value).reshape(np.shape(value))
            if self._is_fixed:
                binding.bind_ortvalue_input(name, self._kept(name, array))
            else:
                binding.bind_cpu_input(name, array)
        elif hasattr(api.OrtValue, "from_dlpack"):
            binding.bind_ortvalue_input(name, api.OrtValue.from_dlpack(value))
        else:
            raise RuntimeUnavailableError(
                f"onnxruntime {api.__version__} takes no DLPack tensors; install a newer one, or "
                f"give a NumPy array or an OrtValue for '{name}'"
            )

    def _kept(self, name: str, array: Any) -> ort.OrtValue:
        """The array, copied to where the first one for this input is."""
        if name not in self._kept_inputs:
            own = array.copy()  # on the CPU an OrtValue is the array's memory
            value = onnxruntime().OrtValue.ortvalue_from_numpy(own, self.device, self._device_id)
            self._kept_inputs[name] = value
            return value
        value = self._kept_inputs[name]
        if tuple(value.shape()) != array.shape:
            raise DataError(
                f"'{name}' has the shape {list(array.shape)}, but this session is fixed to "
                f"{list(value.shape())}; open another for it"
            )
        value.update_inplace(array)
        return value
