"""Names that ITK cannot take, and its messages, which do not reach the user."""

import os
import subprocess
import sys

import numpy as np
import pytest
import SimpleITK as sitk

from unetrpp.core.errors import UserError
from unetrpp.io.images import read_file, read_geometry, write_image

ARRAY = np.arange(24, dtype=np.int16).reshape(2, 3, 4)


@pytest.mark.parametrize("ending", [".mha", ".mhd", ".nrrd", ".nhdr", ".tif", ".nii.gz", ".png"])
@pytest.mark.parametrize("stem", [b"M\xfcller", b"-dash", b"new\nline", "é".encode(), b"a b%s", b"x.nii_0000"])
def test_any_name_is_read_and_written(tmp_path, ending, stem):
    array = ARRAY[0].astype(np.uint8) if ending == ".png" else ARRAY
    sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / f"plain{ending}"))
    folder = tmp_path / os.fsdecode(stem)  # the folder may have such a name, too
    folder.mkdir()
    path = folder / os.fsdecode(stem + ending.encode())
    (tmp_path / f"plain{ending}").rename(path)
    for data in tmp_path.glob("plain.*"):
        data.rename(folder / data.name)
    if (ending, stem) == (".nhdr", b"M\xfcller"):  # with its voxels in a second file, for which ITK looks by this name
        with pytest.raises(UserError, match=r"M\\xfcller.nhdr cannot be read under a name that is not UTF-8"):
            read_file(path)
        return
    volume = read_file(path)
    np.testing.assert_array_equal(volume.array[0].reshape(array.shape), array)
    assert read_geometry(path) == volume.geometry
    again = path.with_name("again" + path.name)
    write_image(again, volume)
    np.testing.assert_array_equal(read_file(again).array, volume.array)


def test_a_refusal_is_one_printable_line(tmp_path):
    path = tmp_path / "Müller\n.nrrd"
    path.write_bytes(b"NRRD0004\nnonsense\n\n")
    with pytest.raises(UserError) as caught:
        read_file(path)
    assert str(caught.value).startswith("Müller\\n.nrrd cannot be read as an image")


def test_what_itk_prints_goes_to_the_debug_log(tmp_path):
    """In a new process: where C++ could not print once, such as behind a limit of files, it prints no more."""
    path = tmp_path / "a.mha"
    header = "ObjectType = Image\nNDims = 3\nBinaryData = True\nCompressedData = True\nDimSize = 4 3 2\n"
    path.write_bytes((header + "ElementType = MET_SHORT\nElementDataFile = LOCAL\n").encode() + b"no zlib data")
    script = (
        "import logging, pathlib, sys; logging.basicConfig(level='DEBUG'); from unetrpp.io.readers import itk; "
        "itk.read_voxels(pathlib.Path(sys.argv[1]), 'MetaImageIO')"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert "Uncompress failed" in done.stderr
    assert all(line.startswith("DEBUG:unetrpp.io.readers.itk:ITK on ") for line in done.stderr.splitlines())
