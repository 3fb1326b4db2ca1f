import inspect

import pytest

import onnx_snn
from onnx_snn import errors

CLASSES = [cls for _, cls in inspect.getmembers(errors, inspect.isclass)]


@pytest.mark.parametrize("cls", CLASSES)
def test_one_root(cls):
    assert issubclass(cls, onnx_snn.OnnxSnnError)
    assert cls.__doc__


@pytest.mark.parametrize(
    ("cls", "base"),
    [
        (errors.UnsupportedModelError, errors.ModelError),
        (errors.OptionError, ValueError),
        (errors.RuntimeUnavailableError, ImportError),
    ],
)
def test_what_else_catches_them(cls, base):
    with pytest.raises(base, match="why"):
        raise cls("why")
