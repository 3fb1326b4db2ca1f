"""The exporters' fixtures are what their README says, on any supported stack."""

import numpy as np
import pytest

import exporters
import nets

SHARED_NETS = ("cnn", "residual", "depthwise")
# onnxruntime releases sum in different orders; the values are of the order of 1 to 10.
TOLERANCE = {"rtol": 1e-5, "atol": 1e-4}


@pytest.mark.parametrize("name", exporters.names())
def test_stored_outputs_are_what_the_model_computes(name):
    fixture = exporters.load(name)
    runs = [nets.run(fixture.model, batch) for batch in fixture.batches()]
    assert list(fixture.outputs) == [output.name for output in fixture.model.graph.output]
    for expected, parts in zip(fixture.outputs.values(), zip(*runs, strict=True), strict=True):
        computed = np.concatenate([as_array(part) for part in parts])
        np.testing.assert_allclose(computed, expected, **TOLERANCE)


def as_array(output):
    """A tensor as it is; the values of the maps that ZipMap makes, one for each sample."""
    if isinstance(output, np.ndarray):
        return output
    return np.asarray([list(entry.values()) for entry in output])


@pytest.mark.parametrize("net", SHARED_NETS)
def test_every_exporter_wrote_the_same_function(net):
    fixtures = [exporters.load(name) for name in exporters.names(f"_{net}")]
    makers = {fixture.name.partition(f"_{net}")[0] for fixture in fixtures}
    assert makers == {"torch_script", "torch_dynamo", "keras", "tf2onnx", "flax", "paddle"}
    (first,) = fixtures[0].outputs.values()
    for fixture in fixtures[1:]:
        (output,) = fixture.outputs.values()
        np.testing.assert_allclose(output, first, err_msg=fixture.name, **TOLERANCE)


@pytest.mark.parametrize("net", SHARED_NETS)
def test_images_do_not_all_fall_into_one_class(net):
    (output,) = exporters.load(f"torch_script_{net}").outputs.values()
    assert len(set(output.argmax(axis=1))) > 1


def test_all_files_together_are_small():
    assert sum(file.stat().st_size for file in exporters.FOLDER.iterdir()) < 1_000_000
