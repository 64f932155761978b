"""Images of several files: a TIFF and its sidecar, a .mhd and its voxels."""

import json
import sys

import numpy as np
import pytest
import SimpleITK as sitk

from unetrpp.dataset.synthetic import SCHEME
from unetrpp.evaluation.evaluate import score_files
from unetrpp.evaluation.metrics import MetricOptions
from unetrpp.io.formats import copy_image, files_of_image
from unetrpp.io.geometry import Geometry
from unetrpp.io.images import read_geometry, read_label, write_segmentation

SPACING = (5.0, 0.5, 0.6)


@pytest.fixture
def stack(tmp_path):
    """A label in a TIFF, with the sidecar that gives the distance of its slices."""
    array = np.zeros((4, 20, 20), np.uint8)
    array[1:3, 5:9, 5:9] = 1
    (tmp_path / "raw").mkdir()
    sitk.WriteImage(sitk.GetImageFromArray(array), f"{tmp_path / 'raw' / 'a.tif'}")
    (tmp_path / "raw" / "a.json").write_text(json.dumps({"spacing": SPACING, "stain": "x"}))
    return tmp_path / "raw" / "a.tif"


def test_a_prediction_of_a_stack_lies_on_the_grid_of_the_copied_reference(tmp_path, stack):
    """A TIFF cannot store the distance of its slices."""
    label = read_label(stack)
    assert label.geometry.spacing_zyx_mm == SPACING == read_geometry(stack).spacing_zyx_mm
    prediction, reference = tmp_path / "validation" / "a.tif", tmp_path / "labels" / "a.tif"
    write_segmentation(prediction, label.array[0], label.geometry)
    copy_image(stack, reference)
    scores = score_files("a", (prediction, reference), SCHEME, MetricOptions(distances=True)).metrics
    assert scores["1"]["Dice"] == 1
    assert scores["1"]["volume_ref_ml"] == pytest.approx(32 * 5 * 0.5 * 0.6 / 1000)


def test_a_photograph_gets_no_sidecar(tmp_path):
    image = sitk.GetImageFromArray(np.zeros((4, 5), np.uint8))
    sitk.WriteImage(image, f"{tmp_path / 'a.tif'}")
    label = read_label(tmp_path / "a.tif")
    write_segmentation(tmp_path / "b.tif", label.array[0], label.geometry)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tif", "b.tif"]


def test_a_metaimage_is_copied_with_its_voxels(tmp_path):
    array = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    sitk.WriteImage(sitk.GetImageFromArray(array), f"{tmp_path / 'a.mhd'}")
    assert [path.name for path in files_of_image(tmp_path / "a.mhd")] == ["a.mhd", "a.raw"]
    copy_image(tmp_path / "a.mhd", tmp_path / "copies" / "b.mhd")
    assert files_of_image(tmp_path / "copies" / "b.mhd") == [tmp_path / "copies" / "b.mhd"]
    assert np.array_equal(read_label(tmp_path / "copies" / "b.mhd").array[0], array)


def test_any_other_file_is_copied_as_it_is(tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(b"whatever it holds")
    (tmp_path / "a.json").write_text('{"spacing": "of no concern"}')
    copy_image(tmp_path / "a.nii.gz", tmp_path / "copies" / "b.nii.gz")
    assert [path.read_bytes() for path in (tmp_path / "copies").iterdir()] == [b"whatever it holds"]


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", ".tif", ".png", ".bmp"])
def test_a_file_that_cannot_be_written_to_its_end_is_an_error(tmp_path, ending):
    """ITK's own writers cut off the end of such files, and report success."""
    import resource

    flat = ending in (".png", ".bmp")
    geometry = Geometry(
        shape_zyx=(1, 60, 70) if flat else (6, 20, 30), spacing_zyx_mm=(1.0, 1.0, 1.0), dimensions=2 if flat else 3
    )
    array = np.random.default_rng(0).integers(0, 3, geometry.shape_zyx).astype(np.uint8)
    path = tmp_path / f"case{ending}"
    write_segmentation(path, array, geometry)
    whole = path.read_bytes()
    names = sorted(file.name for file in tmp_path.iterdir())
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    for most in sorted({0, 1, *range(0, len(whole), len(whole) // 20), len(whole) - 1}):
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
        try:
            with pytest.raises(OSError, match="File too large"):
                write_segmentation(path, array, geometry)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert path.read_bytes() == whole
        assert sorted(file.name for file in tmp_path.iterdir()) == names
