"""Fixtures from torch's exporter of today, which is built on ``torch.export``."""

import torch
import torch_nets
from fixture import save


def export(name: str, net: str, *, batch: int | None = None) -> None:
    """Export one network, for batches of any size or of the size ``batch``."""
    module, images, outputs = torch_nets.load(net)
    program = torch.onnx.export(
        module,
        (images[: batch or 2],),
        dynamo=True,
        input_names=["x"],
        output_names=["y"],
        dynamic_shapes=None if batch else ({0: torch.export.Dim("batch")},),
    )
    save(name, program.model_proto, [images.numpy()], [outputs.numpy()], ["torch", "onnxscript"])


if __name__ == "__main__":
    for net in torch_nets.NETS:
        export(f"torch_dynamo_{net}", net)
    export("torch_dynamo_residual_batch1", "residual", batch=1)
