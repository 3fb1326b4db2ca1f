"""In which type the numbers of a converted network are."""

from enum import StrEnum


class Precision(StrEnum):
    """Of weights, currents and spikes; inputs and outputs keep their type.

    - ``model``: that of the trained network.
    - ``fp16``: half precision; see ``onnx_snn.passes.to_half``.
    """

    MODEL = "model"
    FP16 = "fp16"
