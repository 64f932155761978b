"""Images of several files: a TIFF and its sidecar, a .mhd and its voxels."""

import json
import sys

import msgspec
import numpy as np
import pytest
import SimpleITK as sitk

from tests.helpers.dicom import write_series
from unetrpp.core.errors import UserError
from unetrpp.dataset.synthetic import SCHEME
from unetrpp.evaluation.evaluate import score_files
from unetrpp.evaluation.metrics import MetricOptions
from unetrpp.io.formats import FILE_ENDINGS, ONLY_READ, copy_image, files_of_image, holds_volumes, is_picture
from unetrpp.io.geometry import Geometry, same_grid
from unetrpp.io.images import Volume, read_file, read_geometry, read_label, write_colours, write_segmentation

SPACING = (5.0, 0.5, 0.6)
WRITTEN = [ending for ending in FILE_ENDINGS if ending not in ONLY_READ]


PHOTOGRAPHS = [ending for ending in WRITTEN if not holds_volumes(ending)]
PICTURES = [
    ending for ending in WRITTEN if is_picture(ending)
]  # whose files have no place, and one slice is a photograph
SHAPES = [((1, 6, 5), 2), ((4, 6, 5), 3), ((1, 6, 5), 3)]  # and dimensions


def geometry_for(ending, shape, dimensions):
    """One with all that files of this ending can say."""
    spacing = (1.0, 0.5, 0.6) if dimensions == 2 else SPACING
    if ending in PHOTOGRAPHS:
        spacing = (1.0, 1.0, 1.0)
    turned = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)
    plain = Geometry(shape_zyx=shape, spacing_zyx_mm=spacing, dimensions=dimensions)
    if ending in PICTURES:
        return plain
    return msgspec.structs.replace(plain, origin_xyz_mm=(3.0, -4.0, 0.0), direction=turned)


@pytest.mark.parametrize(
    ("ending", "shape", "dimensions"),
    [(e, shape, n) for e in WRITTEN for shape, n in SHAPES if shape[0] == 1 or holds_volumes(e)],
)
def test_what_is_written_reads_back_on_the_same_grid(tmp_path, ending, shape, dimensions):
    geometry, path = geometry_for(ending, shape, dimensions), tmp_path / f"a{ending}"
    array = np.random.default_rng(0).integers(0, 5, shape).astype(np.uint8)
    write_segmentation(path, array, geometry)
    found = read_label(path)
    np.testing.assert_array_equal(found.array[0], array)
    for read in (found.geometry, read_geometry(path)):
        assert same_grid(read, geometry, 1e-5) == []
        np.testing.assert_allclose(read.spacing_zyx_mm, geometry.spacing_zyx_mm, rtol=1e-6)
        assert read.dimensions == (2 if ending in PICTURES and shape[0] == 1 else dimensions)


@pytest.mark.parametrize("ending", PHOTOGRAPHS)
def test_a_volume_in_a_file_of_a_photograph_is_refused(tmp_path, ending):
    array, geometry = np.zeros((4, 6, 5), np.uint8), Geometry(shape_zyx=(4, 6, 5), spacing_zyx_mm=SPACING)
    with pytest.raises(
        UserError, match=f"a{ending}: {ending} holds a single slice, but the image has 4; choose another"
    ):
        write_segmentation(tmp_path / f"a{ending}", array, geometry)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", ONLY_READ)
def test_formats_that_would_change_labels_or_are_folders_are_not_written(tmp_path, ending):
    geometry = Geometry(shape_zyx=(1, 6, 5), spacing_zyx_mm=(1.0, 1.0, 1.0), dimensions=2)
    with pytest.raises(UserError, match=f"a{ending}: {ending} is read, but not written; choose another ending"):
        write_segmentation(tmp_path / f"a{ending}", np.zeros((1, 6, 5), np.uint8), geometry)
    assert list(tmp_path.iterdir()) == []


def test_colours_keep_their_spacing(tmp_path):
    geometry = geometry_for(".tif", (1, 6, 5), 2)
    array = np.random.default_rng(0).integers(0, 255, (3, 1, 6, 5)).astype(np.uint8)
    write_colours(tmp_path / "a.tif", Volume(array, geometry))
    found = read_file(tmp_path / "a.tif")
    np.testing.assert_array_equal(found.array, array)
    assert found.geometry == geometry


def test_a_tiff_of_spacing_1_does_not_take_that_of_the_file_it_replaces(tmp_path):
    array, path = np.zeros((1, 6, 5), np.uint8), tmp_path / "a_0000.tif"
    plain = Geometry(shape_zyx=(1, 6, 5), spacing_zyx_mm=(1.0, 1.0, 1.0), dimensions=2)
    for beside in ("a_0000.json", "a.json"):
        (tmp_path / beside).write_text(json.dumps({"spacing": SPACING}))
        write_segmentation(path, array, plain)
        assert read_label(path).geometry == plain
        (tmp_path / "a_0000.json").unlink()


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


def test_what_systems_put_into_a_series_is_no_part_of_it(tmp_path):
    write_series(tmp_path / "s", np.zeros((3, 4, 5)))
    files = files_of_image(tmp_path / "s")
    assert len(files) == 3
    for name in (".DS_Store", "Thumbs.db", "._0.dcm", "desktop.ini"):
        (tmp_path / "s" / name).write_bytes(b"x")
    assert files_of_image(tmp_path / "s") == files
    assert read_file(tmp_path / "s").array.shape == (1, 3, 4, 5)
