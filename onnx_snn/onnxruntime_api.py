"""The one place that imports onnxruntime, which is an extra: [cpu] or [gpu]."""

from __future__ import annotations

from types import ModuleType

from onnx_snn.errors import RuntimeUnavailableError


def onnxruntime() -> ModuleType:
    """The onnxruntime module.

    Raises:
        RuntimeUnavailableError: neither onnxruntime nor onnxruntime-gpu is installed.
    """
    try:
        import onnxruntime as module
    except ImportError as error:
        raise RuntimeUnavailableError(
            "onnxruntime is not installed; install onnx-snn[cpu], or onnx-snn[gpu] for CUDA"
        ) from error
    return module  # type: ignore[no-any-return]
