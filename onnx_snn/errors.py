"""Every error that a user can cause. One root, one line of text: what, where, what to do."""


class OnnxSnnError(Exception):
    """Root of all errors raised on purpose by onnx_snn."""


class ModelError(OnnxSnnError):
    """The file is missing, is not ONNX, is damaged, or breaks the ONNX specification."""


class UnsupportedModelError(ModelError):
    """A valid ONNX model with something in it that cannot be converted (yet)."""


class DataError(OnnxSnnError):
    """Data of the wrong shape, type or name, empty data, or NaN and infinity in it."""


class CalibrationError(OnnxSnnError):
    """Activation statistics that cannot be gathered, read, or used for the model at hand."""


class OptionError(OnnxSnnError, ValueError):
    """An option outside its range, unknown, or contradicting another one."""


class OutputError(OnnxSnnError):
    """A result that cannot be written where the user asked for it."""


class RuntimeUnavailableError(OnnxSnnError, ImportError):
    """A library needed for this request is not installed."""


def one_line(error: Exception) -> str:
    """What another library's error says, as part of a message of ours."""
    return " ".join(str(error).split())
