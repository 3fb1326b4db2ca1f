"""What a converted network is written for."""

from enum import StrEnum


class Target(StrEnum):
    """What it shall run fast on. It runs everywhere, whatever the target.

    - ``any``: neurons between ONNX's own operators.
    - ``cpu``: layers that read events; see ``onnx_snn.passes.use_events``.
    - ``cuda``: maxima of spikes in one operator, see ``onnx_snn.passes.pool_spikes``; all of it
      runs on a GPU, best with ``precision="fp16"``.
    """

    ANY = "any"
    CPU = "cpu"
    CUDA = "cuda"
