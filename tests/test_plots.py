import numpy as np
import pytest
from PIL import Image

from onnx_snn.errors import OutputError
from onnx_snn.plots import draw_share_against_time, new_figure, save_figure

pytest.importorskip("matplotlib")


def test_curves_are_drawn_in_percent_from_step_1(tmp_path):
    figure = new_figure()
    axes = figure.subplots()
    draw_share_against_time(axes, {"a": [0.25, 0.5]}, ylabel="accuracy", ann=0.75)
    curve, ann = axes.get_lines()
    np.testing.assert_array_equal(curve.get_xdata(), [1, 2])
    np.testing.assert_array_equal(curve.get_ydata(), [25, 50])
    np.testing.assert_array_equal(ann.get_ydata(), [75, 75])
    assert axes.get_xlabel()
    assert axes.get_ylabel() == "accuracy (%)"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["a", "ANN (75.00 %)"]

    save_figure(figure, tmp_path / "curve.png")
    with Image.open(tmp_path / "curve.png") as image:
        assert image.width > 600
    assert [path.name for path in tmp_path.iterdir()] == ["curve.png"]


@pytest.mark.parametrize("name", ["curve.xyz", "no/such/folder.png"])
def test_a_file_that_cannot_be_written(tmp_path, name):
    with pytest.raises(OutputError):
        save_figure(new_figure(), tmp_path / name)
    assert not list(tmp_path.iterdir())
