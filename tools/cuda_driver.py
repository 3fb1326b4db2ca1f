"""The little of NVIDIA's driver interface that measuring needs: memory, copies, events."""

import ctypes
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_DEFAULT_FLAGS = 0  # of a stream: it waits for copies on the null stream, as onnxruntime makes
_CAPABILITY_MAJOR, _CAPABILITY_MINOR = 75, 76


class NoGpuError(RuntimeError):
    """No driver or no device answers."""


class CudaDriver:
    """The first GPU's primary context, which onnxruntime uses too, and a stream of our own.

    Raises:
        NoGpuError: there is none.
    """

    def __init__(self) -> None:
        try:
            self._cuda = ctypes.CDLL(_LIBRARY)
        except OSError:
            raise NoGpuError(f"no NVIDIA driver ({_LIBRARY} is missing)") from None
        count, context = ctypes.c_int(), ctypes.c_void_p()
        with suppress(RuntimeError):  # no device is an error of cuInit
            self._call("cuInit", 0)
            self._call("cuDeviceGetCount", ctypes.byref(count))
        if count.value == 0:
            raise NoGpuError("the NVIDIA driver finds no GPU")
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(context), 0)
        self._call("cuCtxSetCurrent", context)
        stream = ctypes.c_void_p()
        self._call("cuStreamCreate", ctypes.byref(stream), _DEFAULT_FLAGS)
        self.stream: int = stream.value or 0

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self._cuda, name)(*arguments)
        if status != 0:
            raise RuntimeError(f"{name} failed with CUDA error {status}")

    def device_name(self) -> str:
        """Return what the GPU calls itself, with its compute capability."""
        name = ctypes.create_string_buffer(256)
        self._call("cuDeviceGetName", name, len(name), 0)
        numbers = []
        for attribute in (_CAPABILITY_MAJOR, _CAPABILITY_MINOR):
            number = ctypes.c_int()
            self._call("cuDeviceGetAttribute", ctypes.byref(number), attribute, 0)
            numbers.append(number.value)
        return f"{name.value.decode()}, compute capability {numbers[0]}.{numbers[1]}"

    def driver_version(self) -> str:
        """Return the newest CUDA version that the driver supports."""
        number = ctypes.c_int()
        self._call("cuDriverGetVersion", ctypes.byref(number))
        return f"{number.value // 1000}.{number.value % 1000 // 10}"

    def copy(self, source: int, target: int, size: int) -> None:
        """Queue a copy from device to device."""
        self._call(
            "cuMemcpyDtoDAsync_v2",
            ctypes.c_uint64(target),
            ctypes.c_uint64(source),
            ctypes.c_size_t(size),
            ctypes.c_void_p(self.stream),
        )

    def seconds(self, queue: Callable[[], None], times: int) -> float:
        """Return the device's time for what `queue` puts on the stream, the mean of a few."""
        stream = ctypes.c_void_p(self.stream)
        events = [ctypes.c_void_p(), ctypes.c_void_p()]
        for event in events:
            self._call("cuEventCreate", ctypes.byref(event), 0)
        self._call("cuEventRecord", events[0], stream)
        for _ in range(times):
            queue()
        self._call("cuEventRecord", events[1], stream)
        self._call("cuEventSynchronize", events[1])
        milliseconds = ctypes.c_float()
        self._call("cuEventElapsedTime", ctypes.byref(milliseconds), *events)
        for event in events:
            self._call("cuEventDestroy_v2", event)
        return 1e-3 * milliseconds.value / times
