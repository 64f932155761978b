"""What the system refuses is named as such, by every reader: the file is not to blame."""

import errno
import gzip
import itertools
import os
import sys
from contextlib import contextmanager

import numpy as np
import pytest
import SimpleITK as sitk

from tests.helpers.dicom import write_series
from unetrpp.core.errors import UserError, in_words
from unetrpp.io.images import read_file
from unetrpp.io.readers.content import unreadable

resource = pytest.importorskip("resource", reason="limits of Unix")


def is_open(number):
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


@contextmanager
def no_more_files_than(count):
    """At most ``count`` files can be opened beside those that are open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = (number for number in itertools.count() if not is_open(number))
    above = next(itertools.islice(free, count, None))  # numbers of files may have gaps
    resource.setrlimit(resource.RLIMIT_NOFILE, (above, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def write(path):
    if path.suffix == "":
        write_series(path, np.arange(60).reshape(3, 4, 5).astype(np.int16))
    else:
        flat = path.suffix in (".png", ".jpg", ".bmp")
        array = np.arange(60, dtype=np.uint8).reshape((6, 10) if flat else (3, 4, 5))
        sitk.WriteImage(sitk.GetImageFromArray(array), str(path), True)
    return path


@pytest.mark.skipif(sys.platform == "win32", reason="limits of Unix")
@pytest.mark.parametrize(
    "name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha", "a.mhd", "a.png", "a.jpg", "a.bmp", "a.tif", "series"]
)
def test_too_many_open_files_are_no_damage(tmp_path, name):
    path = write(tmp_path / name)
    expected, refusals = read_file(path).array, []
    for count in range(12):
        with no_more_files_than(count):
            try:
                assert np.array_equal(read_file(path).array, expected)
            except OSError as error:
                refusals.append(in_words(error))
    assert 0 < len(refusals) < 12
    assert all("Too many open files; raise the limit (ulimit -n)" in said for said in refusals)


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (
            PermissionError(errno.EACCES, "?"),
            UserError,
            r"a.png cannot be read (Permission denied); check its permissions",
        ),
        (
            OSError(errno.EIO, "?"),
            UserError,
            "a.png cannot be read (Input/output error); check its permissions and the",
        ),
        (OSError(errno.EMFILE, "?"), OSError, "a.png: Too many open files; raise the limit (ulimit -n)"),
        (MemoryError(), OSError, "a.png: memory ran out; end other programs"),
        (gzip.BadGzipFile("CRC"), UserError, "a.png is damaged or truncated (CRC); copy it again"),
        (ValueError("odd"), UserError, "a.png is damaged or truncated (odd); copy it again"),
        (KeyError(), UserError, "a.png is damaged or truncated (KeyError); copy it again"),
    ],
)
def test_only_damage_is_called_damage(tmp_path, error, kind, words):
    raised = unreadable(tmp_path / "a.png", error)
    assert isinstance(raised, kind)
    assert in_words(raised).startswith(words)
