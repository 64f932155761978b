"""Label statistics of shapes whose measures are known."""

import numpy as np
import pytest

from unetrpp.dataset.labels import LabelScheme
from unetrpp.planners.measure.structures import class_statistics

SCHEME = LabelScheme(names=("background", "box", "dots", "absent"), values=(0, 1, 2, 3))
SPACING = (2.0, 1.0, 0.5)


@pytest.fixture
def statistics():
    label = np.zeros((20, 30, 40), np.uint8)
    label[2:6, 3:9, 10:20] = 1
    label[10, 10, 10] = label[11, 11, 11] = 2  # touch at a corner: one component
    label[15, 20, 30] = 2
    return class_statistics(label, SCHEME, SPACING)


def test_a_box(statistics):
    box = statistics["box"]
    assert box.voxels == 4 * 6 * 10
    assert box.volume_mm3 == 240.0
    assert box.components == 1
    assert box.smallest_extent_voxels == (4, 6, 10)
    surface = 2 * (6 * 10 * 0.5 + 4 * 10 * 1.0 + 4 * 6 * 2.0)
    assert box.surface_to_volume_per_mm == pytest.approx(surface / 240)
    assert box.component_radii_mm == pytest.approx((np.cbrt(240 * 3 / 4 / np.pi),))
    # Centre of the box against the image's centre, in mm, x first.
    assert box.center_lps_mm == pytest.approx(((14.5 - 19.5) * 0.5, (5.5 - 14.5) * 1.0, (3.5 - 9.5) * 2.0))


def test_components_touch_at_corners(statistics):
    assert statistics["dots"].components == 2
    assert statistics["dots"].component_radii_mm[0] > statistics["dots"].component_radii_mm[1]


def test_an_absent_class(statistics):
    assert statistics["absent"].voxels == 0
    assert statistics["absent"].surface_to_volume_per_mm is None


def test_the_images_border_and_the_ignore_label_are_no_surface():
    label = np.ones((4, 4, 4), np.uint8)
    scheme = LabelScheme(names=("background", "all"), values=(0, 1), ignore_value=2)
    assert class_statistics(label, scheme, SPACING)["all"].surface_to_volume_per_mm == 0
    label[2:] = 2
    assert class_statistics(label, scheme, SPACING)["all"].surface_to_volume_per_mm == 0
