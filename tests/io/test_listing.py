"""Which entries of a folder are images, which cannot be used, and what lies beside the slices of a series."""

import os

import numpy as np
import pytest

from tests.helpers.dicom_files import write_series
from tests.helpers.folder_defects import OTHERS, SYSTEM
from unetrpp.io import listing

ARRAY = np.zeros((2, 4, 4), np.uint16)


@pytest.mark.parametrize("name", [*SYSTEM, *OTHERS])
def test_system_files_and_texts_are_no_images(tmp_path, name):
    (tmp_path / name).write_bytes(b"text" * 50)
    assert not listing.is_image(tmp_path / name)
    assert listing.folder_with_images(tmp_path) is None


def test_an_image_is_known_by_its_name_or_its_first_bytes(tmp_path):
    write_series(tmp_path / "series", ARRAY)
    bare = (tmp_path / "series" / "IM0000.dcm").rename(tmp_path / "IM1")
    (tmp_path / "scan.PNG").touch()
    (tmp_path / "slice.IMA").touch()
    assert all(listing.is_image(path) for path in (bare, tmp_path / "scan.PNG", tmp_path / "slice.IMA"))
    assert not listing.is_image(tmp_path / "series")
    assert listing.holds_series(tmp_path / "series")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("a.mgz", "a format that is not supported"),
        ("a.img", "a format that is not supported"),
        ("a.nii.bz2", "is compressed in a way that is not supported (.bz2)"),
        ("a.nii.gz.part", "is an unfinished copy or download"),
        ("a.dcm.gz", "a format that is not supported"),
    ],
)
def test_what_is_known_against_a_name(tmp_path, name, words):
    (tmp_path / name).touch()
    reason = listing.unreadable(tmp_path / name)
    assert reason is not None
    assert words in reason
    assert listing.is_image(tmp_path / name)


def test_the_data_of_a_header_and_other_archives_are_no_images(tmp_path):
    for name in ("a.hdr", "a.img", "code.tar.gz", "table.csv.gz"):
        (tmp_path / name).touch()
    found = [path.name for path in listing.entries(tmp_path) if listing.is_image(path)]
    assert found == ["a.hdr"]


def test_what_may_not_be_read_is_named(tmp_path, monkeypatch):
    """Root may read everything, so the answer of the system is replaced."""
    (tmp_path / "closed").mkdir()
    for name in ("closed.nii.gz", "IM1", "closed.txt"):
        (tmp_path / name).write_bytes(b"x" * 200)
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: "closed" not in str(path) and access(path, mode))
    for name in ("closed", "closed.nii.gz"):
        reason = listing.unreadable(tmp_path / name)
        assert reason == "cannot be read (permission denied); ask for the permission, or remove it"
    assert listing.unreadable(tmp_path / "closed.txt") is None
    assert listing.unreadable(tmp_path / "IM1") is None


def test_what_lies_beside_slices(tmp_path):
    write_series(tmp_path / "s", ARRAY)
    write_series(tmp_path / "s" / "scout", ARRAY)
    (tmp_path / "s" / "texts").mkdir()
    for name in ("preview.JPG", "scan.nii.gz", "report.txt", ".x.png", "Thumbs.db"):
        (tmp_path / "s" / name).touch()
    found = listing.beside_slices(tmp_path / "s")
    assert {path.name for path in found} == {"preview.JPG", "scan.nii.gz", "scout"}
    assert found[tmp_path / "s" / "scan.nii.gz"] == "is not a slice of the series s; move it elsewhere"
