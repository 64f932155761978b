"""Segments of 3D Slicer, against its sample files read by ITK, and against files written here."""

import re

import numpy as np
import pytest
import SimpleITK as sitk

from tests.helpers.slicer import SEGMENTS, write_segments
from unetrpp.core.errors import UserError
from unetrpp.io.geometry import Geometry
from unetrpp.io.images import read_geometry
from unetrpp.io.slicer_segments import Segment, draw, read_segments

ANATOMY = [
    "ribs",
    "cervical vertebral column",
    "thoracic vertebral column",
    "lumbar vertebral column",
    "right lung",
    "left lung",
    "tissue",
]
GRID = Geometry(shape_zyx=(3, 4, 5), spacing_zyx_mm=(2.0, 1.0, 1.0))


@pytest.mark.parametrize("name", ["Segmentation", "SegmentationOverlapping"])
def test_the_sample_of_slicer(test_data, name):
    folder = test_data / "samples/slicer_nrrd/slicerio/data"
    path = folder / f"{name}.seg.nrrd"
    segments = read_segments(path)
    expected = [Segment(anatomy, 0, value) for value, anatomy in enumerate(ANATOMY, 1)]
    overlapping = [Segment("overlapping sphere", 1, 1)] if name == "SegmentationOverlapping" else []
    assert segments == expected + overlapping
    image = sitk.ReadImage(path)  # layers are the components of ITK's voxels
    voxels = sitk.GetArrayFromImage(image).reshape(34, 128, 128, -1)
    masks = list(draw(path, segments, read_geometry(folder / "CTChest4.nrrd")))
    for segment, mask in zip(segments, masks, strict=True):
        assert mask.any()
        np.testing.assert_array_equal(mask, voxels[..., segment.layer] == segment.value)
    if overlapping:
        assert _extent(masks[-1]) == _stated_extent(path, 7)


def _extent(mask):
    found = np.argwhere(mask)[:, ::-1]
    return [int(v) for pair in zip(found.min(0), found.max(0), strict=True) for v in pair]


def _stated_extent(path, number):
    """x, y and z from and to, as the file states them."""
    text = path.read_bytes()[:20000].decode("latin-1")
    (found,) = re.findall(rf"Segment{number}_Extent:=(.*)", text)
    return [int(v) for v in found.split()]


def layers(shape=GRID.shape_zyx, seed=0):
    return np.random.default_rng(seed).integers(0, 3, (2, *shape))


def test_values_repeat_in_every_layer(tmp_path):
    array = layers()
    path = write_segments(tmp_path / "a.seg.nrrd", array)
    segments = read_segments(path)
    assert segments == [Segment(*each) for each in SEGMENTS]
    for (_, layer, value), mask in zip(SEGMENTS, draw(path, segments, GRID), strict=True):
        np.testing.assert_array_equal(mask, array[layer] == value)


def test_files_without_values_have_a_volume_for_every_segment(tmp_path):
    array = layers() > 1
    path = write_segments(tmp_path / "a.seg.nrrd", array, fields=("ID", "Name"), segments=SEGMENTS[:2])
    for k, mask in enumerate(draw(path, read_segments(path), GRID)):
        np.testing.assert_array_equal(mask, array[k])


def test_a_cropped_segmentation_lands_at_its_position(tmp_path):
    array = layers((2, 3, 3))
    path = write_segments(tmp_path / "a.seg.nrrd", array, origin=(1, 1, 2), ReferenceImageExtentOffset="1 1 1")
    (mask, *_) = draw(path, read_segments(path), GRID)
    expected = np.zeros(GRID.shape_zyx, bool)
    expected[1:, 1:, 1:4] = array[0] == 1
    np.testing.assert_array_equal(mask, expected)
    path = write_segments(tmp_path / "b.seg.nrrd", array, origin=(1.5, 1, 2))
    with pytest.raises(UserError, match=r"b\.seg\.nrrd is not on the image's grid"):
        list(draw(path, read_segments(path), GRID))


def test_a_single_voxel_stands_for_no_voxels(tmp_path):
    path = write_segments(tmp_path / "a.seg.nrrd", np.zeros((1, 1, 1, 1)), segments=SEGMENTS[:2], origin=(500, 0, 0))
    assert [mask.sum() for mask in draw(path, read_segments(path), GRID)] == [0, 0]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"SourceRepresentation": "Fractional labelmap"}, "holds the representation 'Fractional labelmap'"),
        ({"MasterRepresentation": "Closed surface"}, "holds the representation 'Closed surface'"),
        ({"segments": []}, "lists no segments, so it is no segmentation of 3D Slicer"),
        ({"segments": [("a", "x", 1)]}, "has a segment in the layer 'x' with the value '1', which are no numbers"),
    ],
)
def test_what_is_no_segmentation_is_refused(tmp_path, how, message):
    with pytest.raises(UserError, match=rf"a\.seg\.nrrd {message}"):
        read_segments(write_segments(tmp_path / "a.seg.nrrd", layers(), **how))


def test_a_missing_layer_is_named(tmp_path):
    path = write_segments(tmp_path / "a.seg.nrrd", layers(), segments=[("a", 2, 1)])
    with pytest.raises(UserError, match="has 2 layers, but its segment 'a' is in layer 2, from 0"):
        list(draw(path, read_segments(path), GRID))
