"""Run converted models: an onnxruntime session with the native kernels registered."""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

import onnx_snn
from onnx_snn.errors import ModelError, RuntimeUnavailableError, one_line
from onnx_snn.model_io import ModelSource, read_model
from onnx_snn.onnxruntime_api import onnxruntime
from onnx_snn.open_session import open_session

if TYPE_CHECKING:
    import onnxruntime as ort

_SUFFIX = {"win32": ".dll", "darwin": ".dylib"}.get(sys.platform, ".so")
LIBRARY_NAME = f"libonnx_snn_ops{_SUFFIX}"

_CUDA, _CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
_ERRORS_ONLY = 3  # onnxruntime warns about every input that has a default, as T has


def get_library_path() -> str:
    """Path of the native operator library, for ``RegisterCustomOps`` from any language.

    Raises:
        RuntimeUnavailableError: this installation was built without it.
    """
    # An editable installation has more than one folder: sources, and what was built.
    for folder in onnx_snn.__path__:
        path = Path(folder) / LIBRARY_NAME
        if path.is_file():
            return str(path)
    raise RuntimeUnavailableError(
        f"the native library {LIBRARY_NAME} is not installed; models still run through their "
        "portable bodies, slower. Build it by installing onnx-snn with a C++ compiler present"
    )


def create_session(
    model: ModelSource,
    providers: Sequence[Any] | None = None,
    sess_options: ort.SessionOptions | None = None,
    *,
    use_native: bool = True,
) -> ort.InferenceSession:
    """Open a converted model.

    Args:
        model: path, bytes or ``ModelProto``.
        providers: as onnxruntime takes them; None: CUDA where available, then the CPU. A warning
            names those that are not at work, and what is in their place.
        sess_options: as onnxruntime takes them. The library is registered with them and stays so.
        use_native: False does not register it, so that the portable bodies run.

    Returns:
        A plain ``onnxruntime.InferenceSession``.

    Raises:
        ModelError: the file is missing, damaged, or onnxruntime cannot load it.
        RuntimeUnavailableError: onnxruntime is not installed, or the library is there and
            cannot be loaded.
    """
    api = onnxruntime()
    options = sess_options
    if options is None:
        options = api.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
    if use_native:
        _register(options)
    available = api.get_available_providers()
    if providers is None:
        chosen: list[Any] = [name for name in (_CUDA, _CPU) if name in available]
    else:
        chosen = [provider for provider in providers if _name_of(provider) in available] or [_CPU]
    source = _source(model)
    try:
        session = open_session(source, options, chosen)
    except Exception as error:  # onnxruntime's exceptions have no common base
        raise ModelError(f"onnxruntime cannot load the model: {one_line(error)}") from error
    _tell_fallback(session, providers or chosen, available)
    return session


def _name_of(provider: Any) -> str:
    """Of a provider as onnxruntime takes them: a name, or a name and options."""
    return str(provider if isinstance(provider, str) else provider[0])


def _tell_fallback(
    session: ort.InferenceSession, wanted: Sequence[Any], available: Sequence[str]
) -> None:
    """Warn of a provider that is not at work, once for each."""
    at_work = session.get_providers()
    for name in map(_name_of, wanted):
        if name in at_work:
            continue
        reason = "could not be loaded; onnxruntime's log has the reason"
        if name not in available:
            reason = f"is not part of this onnxruntime, which has {', '.join(available)}"
            if name == _CUDA:
                reason += "; install onnxruntime-gpu in its place"
        _warn_once(f"{name} {reason}. The model runs on {at_work[0]}")


def _register(options: ort.SessionOptions) -> None:
    try:
        library = get_library_path()
    except RuntimeUnavailableError as error:
        _warn_once(str(error))
        return
    try:
        options.register_custom_ops_library(library)
    except Exception as error:  # onnxruntime's exceptions have no common base
        raise RuntimeUnavailableError(
            f"onnxruntime cannot load the native library: {one_line(error)}; "
            "install onnx-snn again, or pass use_native=False"
        ) from error


@functools.cache
def _warn_once(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=4)


def _source(model: ModelSource) -> onnx.ModelProto | bytes | str:
    if isinstance(model, bytes):
        return model
    if isinstance(model, str | Path) and Path(model).is_file():
        return str(model)
    return read_model(model)
