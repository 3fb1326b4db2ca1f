from enum import StrEnum

import numpy as np
import pytest

from onnx_snn.errors import OptionError
from onnx_snn.options import check_positive, parse_choice


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


def test_a_choice():
    assert parse_choice(Colour, "red", "colour") is Colour.RED
    assert parse_choice(Colour, Colour.BLUE, "colour") is Colour.BLUE


@pytest.mark.parametrize("value", ["green", "RED", "", None, 3, ["red"]])
def test_not_a_choice(value):
    with pytest.raises(OptionError) as caught:
        parse_choice(Colour, value, "colour")
    assert str(caught.value) == f"colour must be one of red, blue, not {value!r}"


@pytest.mark.parametrize("value", [1, 2, 10**12])
def test_positive(value):
    check_positive(value, "steps")


@pytest.mark.parametrize("value", [0, -1, 1.0, 2.5, True, "3", None, float("nan"), np.float32(2)])
def test_not_positive(value):
    with pytest.raises(OptionError) as caught:
        check_positive(value, "steps")
    assert str(caught.value) == f"steps must be a whole number of at least 1, not {value!r}"
