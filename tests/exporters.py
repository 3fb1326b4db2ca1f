"""The fixtures of ``tests/data/exporters``: models that real exporters wrote.

@pytest.mark.parametrize("name", exporters.names())
def test_of_every_file(name):
    fixture = exporters.load(name)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

Array = npt.NDArray[Any]

FOLDER = Path(__file__).resolve().parent / "data" / "exporters"


@dataclass(frozen=True)
class Fixture:
    """A model as its exporter wrote it, and what it computes.

    Attributes:
        name: file name without suffix, EXPORTER_NET or EXPORTER_NET_VARIANT.
        model: the model.
        inputs: 8 samples for every input.
        outputs: what onnxruntime computes for them, checked against the framework.
        batch: size of the batch that the model is fixed to, or None.
    """

    name: str
    model: onnx.ModelProto
    inputs: dict[str, Array]
    outputs: dict[str, Array]
    batch: int | None

    def batches(self) -> list[dict[str, Array]]:
        """The inputs in batches of the size that the model takes."""
        samples = len(next(iter(self.inputs.values())))
        size = self.batch or samples
        return [
            {name: value[start : start + size] for name, value in self.inputs.items()}
            for start in range(0, samples, size)
        ]


def path(name: str) -> Path:
    return FOLDER / f"{name}.onnx"


def names(contains: str = "") -> list[str]:
    """Names of all fixtures, or of those with ``contains`` in their name."""
    return sorted(file.stem for file in FOLDER.glob("*.onnx") if contains in file.stem)


def load(name: str) -> Fixture:
    model = onnx.load(path(name))
    with np.load(path(name).with_suffix(".npz")) as file:
        inputs, outputs = (
            {key.removeprefix(role): file[key] for key in file.files if key.startswith(role)}
            for role in ("input/", "output/")
        )
    batch = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value or None
    return Fixture(name, model, inputs, outputs, batch)
