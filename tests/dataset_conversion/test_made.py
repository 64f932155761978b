"""Volumes of 4D files and label maps with other values."""

import numpy as np
import pytest
import SimpleITK as sitk

from unetrpp.core.errors import UserError
from unetrpp.dataset_conversion.made import Frame

RNG = np.random.default_rng(2)


def test_a_frame_is_one_volume_of_a_series_on_its_grid(tmp_path):
    series = RNG.normal(size=(3, 4, 5, 6)).astype(np.float32)
    image = sitk.GetImageFromArray(series, isVector=False)
    image.SetSpacing((0.5, 0.6, 2.0, 1.0))
    sitk.WriteImage(image, str(tmp_path / "cine.nii.gz"))
    volume = Frame(tmp_path / "cine.nii.gz", 2).read()
    np.testing.assert_array_equal(volume.array, series[2:])
    assert volume.geometry.spacing_zyx_mm == pytest.approx((2.0, 0.6, 0.5))
    with pytest.raises(UserError, match=r"cine.nii.gz holds 3 volumes, so there is none of number 3, from 0"):
        Frame(tmp_path / "cine.nii.gz", 3).read()
