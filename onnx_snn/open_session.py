"""Open an onnxruntime session for a model of any size."""

from __future__ import annotations

import gc
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

from onnx_snn.external_data import detach, save_with_external_data
from onnx_snn.onnxruntime_api import onnxruntime

if TYPE_CHECKING:
    import onnxruntime as ort


def open_session(
    model: onnx.ModelProto | bytes | str,
    options: ort.SessionOptions | None,
    providers: Sequence[Any],
) -> ort.InferenceSession:
    """A session for a model, its bytes, or the path of its file; onnxruntime's errors pass through.

    A ``ModelProto`` that is too large for protobuf goes through a temporary folder.
    """
    session = onnxruntime().InferenceSession
    if not isinstance(model, onnx.ModelProto):
        return session(model, options, providers=list(providers))
    detached = detach(model)
    if detached.fits_message:
        return session(model.SerializeToString(), options, providers=list(providers))
    gc.collect()  # the graphs of earlier passes are cycles, and hold as many weights again
    # onnxruntime may keep the data mapped; Windows then deletes no file.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        path, data = Path(folder) / "model.onnx", Path(folder) / "model.onnx.data"
        save_with_external_data(detached, path, data, data.name)
        return session(str(path), options, providers=list(providers))
