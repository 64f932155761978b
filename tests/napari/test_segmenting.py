"""Opening a model for the panel, and what is said about a result; napari is not needed."""

from dataclasses import replace

import numpy as np
import pytest

from tests.helpers.model import make_model, make_model_2d, write_images
from unetrpp.core.errors import UserError
from unetrpp.export.model_zip import export_model
from unetrpp.inference.expected_dice import ExpectedDice
from unetrpp.inference.predictor import Predictor
from unetrpp.io.geometry import Geometry
from unetrpp.io.images import Volume
from unetrpp.napari.segmenting import about, open_model, segment


def nothing(done, total):
    pass


def test_a_model_is_a_folder_its_plans_or_a_zip(tmp_path):
    model = make_model(tmp_path)
    assert open_model(model, tmp_path / "unpacked").path == model
    assert open_model(model / "plans.json", tmp_path / "unpacked").path == model
    assert not (tmp_path / "unpacked").exists()
    zipped = export_model(model, tmp_path / "model.zip")
    for _ in range(2):  # opening it again unpacks it again
        opened = open_model(zipped, tmp_path / "unpacked")
        assert opened.path.is_relative_to(tmp_path / "unpacked")
        assert opened.folds() == ["0", "1"]


def test_what_is_no_model_is_refused(tmp_path):
    with pytest.raises(UserError, match="is not a model folder"):
        open_model(tmp_path, tmp_path / "unpacked")
    (tmp_path / "model.zip").write_bytes(b"no zip")
    with pytest.raises(UserError, match="is damaged or not a zip file"):
        open_model(tmp_path / "model.zip", tmp_path / "unpacked")


def test_volumes_the_reason_for_no_expected_dice_and_warnings(tmp_path):
    predictor = Predictor(make_model(tmp_path), device="cpu", mirroring=False)
    (volume,) = write_images(tmp_path / "images", 1)
    result = segment(predictor, volume, "case", uncertainty=True, on_progress=nothing)
    voxels = int((predictor(volume).array == 1).sum())
    assert result.lines[0] == f"ball: {voxels * 1.5 * 0.9 * 0.9 / 1000:.3g} ml"
    assert result.lines[1:] == ("no expected Dice: the model was not calibrated",)
    assert result.segmentation.entropy is not None
    far = Volume(volume.array, Geometry(shape_zyx=(12, 24, 24), spacing_zyx_mm=(9.0, 1.0, 1.0)))
    expected = ExpectedDice(expected=0.912, low=0.85, high=0.949)
    lines = about(predictor, far, replace(result.segmentation, expected_dice={"ball": expected, "cube": None}))
    assert lines[1:3] == ("ball: expected Dice 0.91 (0.85 to 0.95)", "cube: expected Dice unknown")
    assert lines[3] == "warning: spacing along z is 9 mm, training cases had 1 mm"


def test_photographs_have_pixels(tmp_path):
    predictor = Predictor(make_model_2d(tmp_path), device="cpu")
    pixels = np.random.default_rng(0).integers(0, 255, (3, 1, 20, 30)).astype(np.float32)
    flat = Geometry(shape_zyx=(1, 20, 30), spacing_zyx_mm=(1.0, 1.0, 1.0), dimensions=2)
    result = segment(predictor, Volume(pixels, flat), "photo", uncertainty=False, on_progress=nothing)
    assert result.lines[0] == f"ball: {(result.segmentation.array == 1).sum()} pixels"
