"""What a segmentation shows of itself; its files are tested with the commands that write them."""

import subprocess
import sys

import matplotlib.image
import numpy as np
import pytest

from tests.helpers.model import make_model, write_images
from unetrpp.core.errors import UserError
from unetrpp.inference.predictor import Predictor
from unetrpp.inference.segmentation import Segmentation
from unetrpp.io.geometry import Geometry
from unetrpp.plotting.colors import color


def test_a_prediction_is_shown_on_its_image(tmp_path):
    (volume,) = write_images(tmp_path / "images", 1)
    path = tmp_path / "images" / "case_0_0000.nii.gz"
    segmentation = Predictor(make_model(tmp_path, 1), device="cpu")(path)
    assert segmentation.names == {1: "ball"}
    for image in (volume, path, str(path)):
        (axes,) = segmentation.show(image, index=5).axes
        painted = np.asarray(axes.images[1].get_array())
        np.testing.assert_array_equal(painted[..., 3] > 0, segmentation.array[5] == 1)
        assert axes.get_title() == "slice 5 of 0 to 11"
    (axes,) = segmentation.show(volume, axis=2).axes
    assert np.asarray(axes.images[0].get_array()).shape == volume.array.shape[1:3]
    with pytest.raises(UserError, match="no slice 12"):
        segmentation.show(index=12)


SCRIPT = """
import sys
import numpy as np
from unetrpp import Geometry, Segmentation

assert "matplotlib" not in sys.modules
geometry = Geometry(shape_zyx=(3, 20, 20), spacing_zyx_mm=(2, 1, 1))
array = np.ones((3, 20, 20), np.uint8)
Segmentation(array, geometry, names={1: "organ"}).show().savefig(sys.argv[1])
assert "matplotlib.pyplot" not in sys.modules
"""


def test_a_plain_script_saves_the_picture(tmp_path):
    """Without a display, a notebook or pyplot."""
    subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path / "a.png")], check=True)
    pixels = matplotlib.image.imread(tmp_path / "a.png")[..., :3]
    painted = 0.4 * np.array(color(0))  # on black
    assert (np.abs(pixels - painted).max(-1) < 0.02).mean() > 0.2


def test_one_made_by_hand_needs_no_names():
    array = np.zeros((3, 8, 8), np.uint8)
    array[1, 2:4, 2:4] = 7
    made = Segmentation(array, Geometry(shape_zyx=array.shape, spacing_zyx_mm=(1, 1, 1)))
    assert made.names == {}
    assert [text.get_text() for text in made.show().legends[0].get_texts()] == ["label 7"]
