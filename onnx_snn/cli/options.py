"""Options that several commands share, and how their text is read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from onnx_snn.data import ImagePreprocessing
from onnx_snn.errors import OptionError

DATA_HELP = (
    "an .npz (arrays named as the model's inputs, or x, and labels y), an .npy, or a folder of "
    "images (a folder per class gives the labels)"
)
_IMAGES = "Images from a folder"

ModelArgument = Annotated[Path, typer.Argument(metavar="MODEL", help="The trained .onnx file.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
TargetOption = Annotated[
    str | None,
    typer.Option(
        help=(
            "any; cpu: layers that only touch active inputs, so that time falls with the firing "
            "rate; or cuda: fewer passes over memory, all of it on a GPU."
        ),
    ),
]
SizeOption = Annotated[
    str | None,
    typer.Option(
        metavar="H,W",
        help="Resize images to this height and width (default: that of the model's input).",
        rich_help_panel=_IMAGES,
    ),
]
MeanOption = Annotated[
    str,
    typer.Option(
        metavar="R,G,B",
        help="Subtract this from pixels in 0 … 1; one number or one per channel.",
        rich_help_panel=_IMAGES,
    ),
]
StdOption = Annotated[
    str,
    typer.Option(metavar="R,G,B", help="Then divide by this.", rich_help_panel=_IMAGES),
]


def image_preprocessing(size: str | None, mean: str, std: str) -> ImagePreprocessing:
    """The options --size, --mean and --std together.

    Raises:
        OptionError: one is not a list of numbers, or the size is not two whole numbers.
    """
    height_width = None
    if size is not None:
        numbers = _numbers(size, "--size")
        if len(numbers) != 2 or any(n != int(n) or n < 1 for n in numbers):
            raise OptionError(f"--size must be two whole numbers, as 224,224, not '{size}'")
        height_width = (int(numbers[0]), int(numbers[1]))
    return ImagePreprocessing(height_width, _numbers(mean, "--mean"), _numbers(std, "--std"))


def _numbers(text: str, option: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise OptionError(f"{option} must be numbers separated by commas, not '{text}'") from None
