"""Volumes of 4D files and label maps with other values."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from unetrpp.core.errors import UserError
from unetrpp.dataset.labels import LabelScheme
from unetrpp.dataset_conversion.case_files import write_label
from unetrpp.dataset_conversion.made import Frame, Straight
from unetrpp.dataset_conversion.source import SourceCase
from unetrpp.io.images import read_label

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


@pytest.mark.parametrize("make", [Straight, lambda file: Frame(file, 0)])
def test_labels_that_a_scale_rounds_down_keep_their_values(tmp_path, make):
    """As those of plain files do: 1.9999998 is 2."""
    true = RNG.integers(0, 4, (5, 6, 7)).astype(np.float32)
    file = tmp_path / "label.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.nextafter(true, np.float32(0)), np.eye(4)), file)
    labels = LabelScheme(names=("background", "a", "b", "c"), values=(0, 1, 2, 3))

    def written(source: Straight | Frame | Path) -> np.ndarray:
        case = SourceCase("x", (file,), source)
        write_label(case, tmp_path / "out.nii.gz", labels, one_class=False)
        return read_label(tmp_path / "out.nii.gz").array

    np.testing.assert_array_equal(written(make(file)), true.transpose(2, 1, 0)[None])
    np.testing.assert_array_equal(written(make(file)), written(file))
    nibabel.save(nibabel.Nifti1Image(true + np.float32(0.3), np.eye(4)), file)
    with pytest.raises(UserError, match="values that are not whole numbers"):
        written(make(file))
