"""The way to the network's grid and back: labels follow the image, and results return to their voxels."""

import itertools

import msgspec
import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from tests.helpers.tiny import STATISTICS, configuration
from unetrpp.dataset.labels import LabelScheme, Region
from unetrpp.io.geometry import Geometry, to_canonical
from unetrpp.io.images import Volume, to_sitk
from unetrpp.plans.plans import Normalization
from unetrpp.preprocessing.case import preprocess
from unetrpp.preprocessing.grid import CaseGrid, orientation_in
from unetrpp.preprocessing.resample import separate_axis

LABELS = LabelScheme(names=("background", "a", "b"), values=(0, 4, 2), ignore_value=9)
AXES = list(itertools.permutations(np.eye(3)))


def case(seed: int) -> tuple[Volume, np.ndarray]:
    """A rotated and flipped grid, an image with a border to crop, and blocks of the user's label values."""
    rng = np.random.default_rng(seed)
    z, y, x = (int(n) for n in rng.integers(10, 16, 3))
    shape = (z, y, x)
    direction = np.array(AXES[seed % 6]) * rng.choice([-1, 1], 3)
    geometry = Geometry(
        shape_zyx=shape,
        spacing_zyx_mm=tuple(rng.uniform(0.7, 4.0, 3)),
        direction=tuple(direction.ravel()),
    )
    image = np.zeros((1, *shape), np.float32)
    image[:, 2:-1, 1:-2, 1:-1] = rng.normal(100, 10, (1, shape[0] - 3, shape[1] - 3, shape[2] - 2))
    blocks = np.kron(rng.choice([0, 4, 2], [n // 3 + 1 for n in shape]), np.ones((3, 3, 3), np.uint8))
    return Volume(image, geometry), blocks[: shape[0], : shape[1], : shape[2]].astype(np.uint8)


@pytest.mark.parametrize("seed", range(8))
def test_a_segmentation_is_moved_like_a_label(seed):
    volume, segmentation = case(seed)
    plan = msgspec.structs.replace(configuration().preprocessing, transpose=(2, 0, 1), labels=LABELS)
    label = Volume(segmentation[None], volume.geometry)
    prepared = preprocess(volume, label, plan, "case")
    found = CaseGrid(prepared.properties, plan).to_network(segmentation)
    np.testing.assert_array_equal(found, prepared.label)
    assert found.shape == prepared.properties.shape


def test_regions_become_the_labels_they_are_written_as():
    scheme = LabelScheme(
        names=("background", "edema", "core"),
        values=(0, 1, 2),
        regions=(Region(name="whole", members=(1, 2), value=1), Region(name="core", members=(2,), value=2)),
    )
    normalization = (Normalization(channel="MRI", scheme="none", statistics=STATISTICS),)
    plan = msgspec.structs.replace(configuration().preprocessing, labels=scheme, normalization=normalization)
    geometry = Geometry(shape_zyx=(2, 3, 4), spacing_zyx_mm=(1.0, 1.0, 1.0))
    volume = Volume(np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4) + 1, geometry)
    written = scheme.decode(np.arange(24).reshape(2, 3, 4) % 3)
    properties = preprocess(volume, None, plan, "case").properties
    np.testing.assert_array_equal(CaseGrid(properties, plan).to_network(written), np.arange(24).reshape(2, 3, 4) % 3)


@pytest.mark.parametrize("seed", range(8))
def test_back_on_the_input_every_voxel_is_in_its_place(seed):
    """Voxels inside the crop are unchanged, ``outside`` is around them; here the box is found on the input's grid."""
    volume, _ = case(seed)
    plan = msgspec.structs.replace(configuration().preprocessing, transpose=(2, 0, 1))
    grid = CaseGrid.of_image(volume.array, volume.geometry, plan, "case")
    inside = np.zeros(volume.array.shape[1:], bool)
    inside[tuple(slice(axis.min(), axis.max() + 1) for axis in np.nonzero(volume.array[0]))] = True
    found = grid.to_input(grid.crop(volume.array)[0], outside=7)
    np.testing.assert_array_equal(found, np.where(inside, volume.array[0], 7))
    assert grid.crop(volume.array).shape[1:] == grid.properties.cropped_shape
    assert grid.to_plan_order(volume.array).shape[1:] == tuple(
        np.array(volume.geometry.shape_zyx)[list(grid.properties.orientation.axes)][[2, 0, 1]]
    )


def test_the_shape_follows_the_target_spacing():
    """10 slices of 3 mm become 20 of 1.5 mm; None keeps the case's own spacing."""
    geometry = Geometry(shape_zyx=(10, 8, 6), spacing_zyx_mm=(3.0, 1.0, 0.5))
    image = np.random.default_rng(0).random((1, 10, 8, 6), np.float32) + 1
    plan = msgspec.structs.replace(configuration().preprocessing, spacing_mm=(1.5, None, 1.0))
    assert plan.target_spacing((3.0, 1.0, 0.5)) == (1.5, 1.0, 1.0)
    grid = CaseGrid.of_image(image, geometry, plan, "case")
    assert grid.properties.shape == (20, 8, 3)
    assert grid.resample(image).shape == (1, 20, 8, 3)
    assert grid.nearest_axis == 0  # 3 mm is more than three times 0.5 mm
    finer = msgspec.structs.replace(plan, separate_axis_ratio=6.0)
    assert CaseGrid(grid.properties, finer).nearest_axis is None


@pytest.mark.parametrize("frame", ["LPS", "RAS"])
@pytest.mark.parametrize("seed", range(12))
def test_frames_are_those_of_itk(seed, frame):
    volume, segmentation = case(seed)
    turned = sitk.DICOMOrient(to_sitk(segmentation, volume.geometry), frame)
    found = to_canonical(segmentation, orientation_in(frame, volume.geometry))
    np.testing.assert_array_equal(found, sitk.GetArrayFromImage(turned))


def test_the_files_own_axes_stay():
    volume, segmentation = case(5)
    np.testing.assert_array_equal(to_canonical(segmentation, orientation_in("file", volume.geometry)), segmentation)


def nnunet_plan(**changes):
    return msgspec.structs.replace(configuration().preprocessing, rules="nnunet", orientation="file", **changes)


@pytest.mark.parametrize("frame", ["LPS", "RAS", "file"])
@pytest.mark.parametrize("seed", range(6))
def test_the_kept_box_is_the_crop_in_the_files_own_axes(seed, frame):
    volume, _ = case(seed)
    plan = msgspec.structs.replace(nnunet_plan(transpose=(1, 2, 0), labels=LABELS), orientation=frame)
    grid = CaseGrid.of_image(volume.array, volume.geometry, plan, "case")
    inside = np.argwhere(volume.array[0] != 0)
    expected = tuple((int(a), int(b) + 1) for a, b in zip(inside.min(axis=0), inside.max(axis=0), strict=True))
    assert grid.kept == expected
    np.testing.assert_array_equal(grid.uncropped().to_input(grid.uncropped().crop(volume.array[0])), volume.array[0])


def test_background_is_zero_by_the_rules_of_nnunet():
    image = np.full((1, 6, 7, 8), -1000.0, np.float32)
    image[0, 2:4, 2:5, 3:6] = 5.0
    geometry = Geometry(shape_zyx=(6, 7, 8), spacing_zyx_mm=(1.0, 1.0, 1.0))
    assert CaseGrid.of_image(image, geometry, nnunet_plan(), "case").properties.crop == ((0, 6), (0, 7), (0, 8))
    ours = msgspec.structs.replace(nnunet_plan(), rules="unetrpp")
    assert CaseGrid.of_image(image, geometry, ours, "case").properties.crop == ((2, 4), (2, 5), (3, 6))


def test_sizes_are_rounded_from_the_ratio_of_the_spacings():
    """35 * 0.7 / 1 is 24.5, and 0.7 / 1 * 35 is a little less."""
    geometry = Geometry(shape_zyx=(35, 4, 4), spacing_zyx_mm=(0.7, 1.0, 1.0))
    image = np.ones((1, 35, 4, 4), np.float32)
    plan = nnunet_plan(spacing_mm=(1.0, 1.0, 1.0))
    expected = round(0.7 / 1.0 * 35)
    assert CaseGrid.of_image(image, geometry, plan, "case").properties.shape[0] == expected


def test_the_way_back_looks_at_the_networks_spacing_first():
    geometry = Geometry(shape_zyx=(4, 8, 8), spacing_zyx_mm=(5.0, 1.0, 1.0))
    plan = nnunet_plan(spacing_mm=(1.0, 4.0, 1.0), separate_axis_ratio=3.0)
    grid = CaseGrid.of_image(np.ones((1, 4, 8, 8), np.float32), geometry, plan, "case")
    assert (grid.nearest_axis, grid.nearest_axis_back) == (0, 1)
    assert separate_axis((3.00001, 1, 1), (1, 1, 1), 3.0) is None
    assert separate_axis((3.00001, 1, 1), (1, 1, 1), 3.0, rounding=0.0) == 0


def test_labels_of_a_first_stage_need_half_a_voxel():
    """Three classes that share voxels: none has a half, so nnU-Net leaves background, the arg-max does not."""
    labels = LabelScheme(names=("background", "a", "b"), values=(0, 4, 2))
    segmentation = np.tile(np.array([4, 2, 0], np.uint8), (2, 2, 4))
    geometry = Geometry(shape_zyx=segmentation.shape, spacing_zyx_mm=(1.0, 1.0, 1.0))
    image = np.ones((1, *segmentation.shape), np.float32)
    plan = nnunet_plan(spacing_mm=(1.0, 1.0, 0.75), labels=labels)
    found = CaseGrid.of_image(image, geometry, plan, "case").to_network(segmentation)
    indices = labels.encode(segmentation)
    expected = np.zeros(found.shape, int)
    for k in (1, 2):
        share = ndimage.zoom((indices == k).astype(float), (1, 1, 16 / 12), order=1, mode="nearest", grid_mode=True)
        expected[share >= 0.5] = k
    np.testing.assert_array_equal(found, expected)
