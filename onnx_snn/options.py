"""Options as users write them."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from onnx_snn.errors import OptionError


def parse_choice(kind: type[StrEnum], value: str, option: str) -> Any:
    """``value`` as a member of an enumeration of option values.

    Raises:
        OptionError: it is none of them.
    """
    try:
        return kind(value)
    except ValueError:
        choices = ", ".join(member.value for member in kind)
        raise OptionError(f"{option} must be one of {choices}, not {value!r}") from None


def check_positive(value: Any, option: str) -> None:
    """Let only whole numbers of at least 1 pass.

    Raises:
        OptionError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise OptionError(f"{option} must be a whole number of at least 1, not {value!r}")
