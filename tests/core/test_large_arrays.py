"""Arrays in files hold the same as those in memory, and a full disk leaves them there."""

import errno
import logging
import os

import numpy as np
import pytest

from tests.helpers.reading import is_mapped
from unetrpp.core import large_arrays
from unetrpp.core.large_arrays import as_float32, is_finite, new_array, read_or_map


@pytest.fixture(params=[False, True], ids=["small", "large"])
def large(request, monkeypatch):
    if request.param:
        monkeypatch.setattr(large_arrays, "LARGE_BYTES", 0)
    return request.param


def test_a_new_array_is_like_that_of_numpy(large):
    array = new_array((2, 3, 4), np.int16)
    array[...] = np.arange(24).reshape(2, 3, 4)
    assert (array.shape, array.dtype, type(array)) == ((2, 3, 4), np.dtype(np.int16), np.ndarray)
    assert array.flags.c_contiguous
    assert is_mapped(array) == large
    assert array.sum() == 276
    assert new_array((0, 3), np.float32).shape == (0, 3)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the system reserves no room in files")
def test_without_room_on_the_disk_it_is_in_memory(monkeypatch, caplog):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(large_arrays, "LARGE_BYTES", 0)
    monkeypatch.setattr(os, "posix_fallocate", full)
    with caplog.at_level(logging.INFO):
        array = new_array((5,), np.uint8)
    assert not is_mapped(array)
    assert array.flags.writeable
    assert "No space left on device" in caplog.text


def test_bytes_of_a_file_are_read_or_mapped_and_never_changed(large, tmp_path):
    path = tmp_path / "a.raw"
    path.write_bytes(bytes(range(200)))
    for start, size, expected in [
        (0, None, range(200)),
        (7, 5, range(7, 12)),
        (190, 50, range(190, 200)),
        (300, 5, ()),
    ]:
        array = read_or_map(path, start, size)
        assert array.tolist() == list(expected)
        assert is_mapped(array) == (large and len(expected) > 0)
        array += 1
    assert path.read_bytes() == bytes(range(200))


def test_single_precision_and_finite_values(large):
    doubles = np.array([[[[1 / 3, 2.0]]]])
    assert as_float32(doubles).dtype == np.float32
    assert as_float32(doubles)[0, 0, 0, 0] == np.float32(1 / 3)
    singles = doubles.astype(np.float32)
    assert as_float32(singles) is singles
    assert is_finite(doubles)
    for bad in (np.nan, np.inf):
        doubles[0, 0, 0, 1] = bad
        assert not is_finite(doubles)
