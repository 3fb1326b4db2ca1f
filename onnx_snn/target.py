"""What a converted network is written for."""

from enum import StrEnum


class Target(StrEnum):
    """What it shall run fast on. It runs everywhere, whatever the target.

    - ``any``: neurons between ONNX's own operators.
    - ``cpu``: layers that read events; see ``onnx_snn.passes.use_events``.
    - ``cuda``: neurons that add up shortcuts themselves, so that less crosses the memory of a GPU;
      see ``onnx_snn.passes.fuse_shortcuts``. Best with ``precision="fp16"``.
    """

    ANY = "any"
    CPU = "cpu"
    CUDA = "cuda"
