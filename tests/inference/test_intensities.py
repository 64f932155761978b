"""Mean and sd per class against one mask after the other."""

import numpy as np
import pytest

from unetrpp.inference.intensities import intensities_of


@pytest.mark.parametrize("offset", [0.0, 1e5])
def test_they_are_those_of_the_voxels_in_a_mask(offset):
    rng = np.random.default_rng(0)
    array = rng.choice([0, 3, 700, 12], (4, 9, 8)).astype(np.uint16)
    image = (rng.normal(size=(2, 4, 9, 8)) + offset).astype(np.float32)
    segments = {"whole": (3, 700), "core": (700,), "other": (12,), "missing": (5,)}
    found = intensities_of(image, array, segments, ("CT", "PET"))
    for name, values in segments.items():
        for k, channel in enumerate(("CT", "PET")):
            voxels = image[k].astype(float)[np.isin(array, values)]
            got = found[name][channel]
            if name == "missing":
                assert (got.mean, got.sd) == (None, None)
            else:
                assert (got.mean, got.sd) == pytest.approx((voxels.mean(), voxels.std()), rel=1e-6)


def test_a_segmentation_without_any_class():
    found = intensities_of(np.ones((1, 2, 2, 2)), np.zeros((2, 2, 2), np.uint8), {"a": (1,)}, ("CT",))
    assert (found["a"]["CT"].mean, found["a"]["CT"].sd) == (None, None)
