"""The way to the network's grid and back: labels follow the image, and results return to their voxels."""

import itertools

import msgspec
import numpy as np
import pytest

from tests.helpers.tiny import STATISTICS, configuration
from unetrpp.dataset.labels import LabelScheme, Region
from unetrpp.io.geometry import Geometry
from unetrpp.io.images import Volume
from unetrpp.plans.plans import Normalization
from unetrpp.preprocessing.case import preprocess
from unetrpp.preprocessing.grid import CaseGrid

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
