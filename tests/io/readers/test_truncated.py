"""Complete files pass; truncated files and files with a wrong bit do not, even where ITK reads them."""

import numpy as np
import pytest
import SimpleITK as sitk

from unetrpp.core.errors import UserError
from unetrpp.io.images import read_file

RNG = np.random.default_rng(3)
VOLUMES = ("nii.gz", "nii", "nrrd", "mha", "tif")
PHOTOGRAPHS = ("png", "bmp", "jpg", "tif")


def write(path, photograph, compressed=True):
    array = (
        RNG.integers(0, 255, (60, 70)).astype(np.uint8)
        if photograph
        else RNG.normal(size=(9, 10, 11)).astype(np.float32)
    )
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path), compressed)
    return path


@pytest.mark.parametrize(("ending", "photograph"), [(e, False) for e in VOLUMES] + [(e, True) for e in PHOTOGRAPHS])
@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
def test_a_truncated_file_is_never_read(tmp_path, ending, photograph, compressed, share):
    path = write(tmp_path / f"a.{ending}", photograph, compressed)
    read_file(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: max(1, int(len(whole) * share))])
    with pytest.raises(UserError, match="copy it again"):
        read_file(path)


def test_an_uncompressed_nifti_called_gz_is_refused(tmp_path):
    path = write(tmp_path / "a.nii", False).rename(tmp_path / "a.nii.gz")
    with pytest.raises(UserError, match="is not compressed"):
        read_file(path)


def test_one_wrong_bit_in_a_gzip_is_found(tmp_path):
    path = write(tmp_path / "a.nii.gz", False)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    with pytest.raises(UserError, match="checksum"):
        read_file(path)


@pytest.mark.parametrize("ending", ["nii.gz", "nii"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_nan_in_a_nifti_is_refused_and_not_read_as_zero(tmp_path, ending, bad, kind):
    array = np.ones((9, 10, 11), kind)
    array[8, 9, 10] = bad
    path = tmp_path / f"a.{ending}"
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))
    with pytest.raises(UserError, match="NaN or infinite"):
        read_file(path)
