"""Run an onnxruntime session on values of any device."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from onnx_snn.onnxruntime_api import onnxruntime

if TYPE_CHECKING:
    import onnxruntime as ort


class OrtValueRunner:
    """Runs a session on ``OrtValue``, and leaves outputs on the devices wanted.

    Of onnxruntime's ways to run only ``run_with_ortvaluevector`` takes an input that has a default,
    as T has, which an ``IOBinding`` does not, and leaves outputs on a device, which
    ``run_with_ort_values`` does not.

    Args:
        session: what to run.
        devices: the outputs wanted by name, and the device to leave each on.
    """

    def __init__(self, session: ort.InferenceSession, devices: Mapping[str, ort.OrtDevice]) -> None:
        from onnxruntime.capi import _pybind_state

        api = onnxruntime()
        self._session = session
        self._outputs = list(devices)
        self._devices = [device._get_c_device() for device in devices.values()]
        self._host = api.OrtDevice.make("cpu", 0)._get_c_device()
        # Looked up once: a run of a small network takes less time than it takes to prepare.
        self._ort_value, self._run_options = api.OrtValue, api.RunOptions
        self._native_value = _pybind_state.OrtValue
        self._vector = _pybind_state.OrtValueVector

    def on_host(self, array: npt.NDArray[Any]) -> ort.OrtValue:
        """A contiguous array as it is; ``OrtValue.ortvalue_from_numpy`` would do more work."""
        return self._ort_value(self._native_value.ortvalue_from_numpy(array, self._host), array)

    def run(
        self, feeds: Mapping[str, ort.OrtValue], written: Collection[ort.OrtValue] = ()
    ) -> dict[str, ort.OrtValue]:
        """Run once; onnxruntime's errors pass through, but it does not tell of inputs left out.

        Args:
            feeds: inputs by name; what lies on another device than it is read on is copied.
            written: memory for each of the outputs; none: it is allocated.
        """
        given, results = self._vector(), self._vector()
        for value in feeds.values():
            given.push_back(value._get_c_value())
        for value in written:
            results.push_back(value._get_c_value())
        self._session.run_with_ortvaluevector(
            self._run_options(), list(feeds), given, self._outputs, results, self._devices
        )
        return {name: self._own(results[index]) for index, name in enumerate(self._outputs)}

    def _own(self, value: Any) -> ort.OrtValue:
        """A value by itself: one of a vector keeps all others of it alive."""
        vector = self._vector()
        vector.push_back(value)
        return self._ort_value(vector[0])
