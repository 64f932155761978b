"""Volumes of 4D files and label maps with other values."""

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from unetrpp.core.errors import UserError
from unetrpp.dataset_conversion.made import Frame, Remapped, remapped
from unetrpp.io.images import read_image

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


def test_values_of_a_file_are_replaced_and_unknown_ones_named(tmp_path):
    label = RNG.choice([0, 63, 126], size=(4, 5, 6)).astype(np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(label), str(tmp_path / "a.nii.gz"))
    made = Remapped(tmp_path / "a.nii.gz", ((63, 1), (126, 2)))
    assert made.files == (tmp_path / "a.nii.gz",)
    np.testing.assert_array_equal(made.read().array[0], label // 63)
    assert made.read().geometry == read_image(tmp_path / "a.nii.gz").geometry
    with pytest.raises(UserError, match=r"a.nii.gz holds 126, but only 0, 63 are expected"):
        Remapped(tmp_path / "a.nii.gz", ((63, 1),)).read()


@given(arrays(np.int16, (3, 4), elements=st.integers(-3, 3)), st.lists(st.integers(0, 300), min_size=7, max_size=7))
def test_remapping_equals_a_loop(label, targets):
    values = dict(zip(range(-3, 4), targets, strict=True))
    expected = [[values[value] for value in row] for row in label.tolist()]
    np.testing.assert_array_equal(remapped(label, values, Path("a.nii.gz")), expected)
