"""What a converted network is written for."""

from enum import StrEnum


class Target(StrEnum):
    """What it shall run fast on. It runs everywhere, whatever the target.

    - ``any``: neurons between ONNX's own operators.
    - ``cpu``: layers that read events; see ``onnx_snn.passes.use_events``.
    - ``cuda``: less crosses the memory of a GPU: neurons add up shortcuts themselves, and maxima of
      spikes are one operator; see ``onnx_snn.passes.fuse_shortcuts`` and
      ``onnx_snn.passes.pool_spikes``. Best with ``precision="fp16"``.
    """

    ANY = "any"
    CPU = "cpu"
    CUDA = "cuda"
