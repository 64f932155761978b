"""Every file of a folder is a slice, ignored for a stated reason, or named in the refusal."""

import logging
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

from tests.helpers.dicom_files import save, write_series
from unetrpp.core.errors import UserError
from unetrpp.io.dicom import is_series
from unetrpp.io.images import read_file
from unetrpp.io.readers import dicom

ARRAY = np.random.default_rng(0).integers(0, 4000, (5, 16, 16)).astype(np.uint16)


@pytest.fixture
def folder(tmp_path):
    write_series(tmp_path / "s", ARRAY)
    return tmp_path / "s"


@pytest.mark.parametrize("name", ["IM0000.dcm", "IM0002.dcm", "IM0004.dcm"])
@pytest.mark.parametrize("damage", ["truncated", "empty", "zeroed", "text", "header only"])
def test_a_damaged_slice_is_named_wherever_it_lies(folder, name, damage):
    whole = (folder / name).read_bytes()
    content = {
        "truncated": whole[:-100],
        "empty": b"",
        "zeroed": bytes(len(whole)),
        "text": b"<html>404</html>",
        "header only": whole[:600],
    }
    (folder / name).write_bytes(content[damage])
    with pytest.raises(UserError, match=name):
        dicom.read(folder)


def test_a_slice_is_named_wherever_it_is_cut(folder):
    whole = (folder / "IM0003.dcm").read_bytes()
    for end in range(0, len(whole), 23):
        (folder / "IM0003.dcm").write_bytes(whole[:end])
        with pytest.raises(UserError, match=r"IM0003.dcm"):
            dicom.read(folder)


def test_files_that_are_no_slices_are_passed_over_with_a_word(folder, caplog):
    shutil.copy(Path(pydicom.__path__[0]) / "data/test_files/dicomdirtests/DICOMDIR", folder / "DICOMDIR")
    (folder / ".DS_Store").write_bytes(b"")
    (folder / "Thumbs.db").write_bytes(b"x")
    (folder / "report.pdf").write_bytes(b"%PDF-1.7")
    (folder / "older").mkdir()
    with caplog.at_level(logging.WARNING):
        array, _ = dicom.read(folder)
    np.testing.assert_array_equal(array[0], ARRAY)
    assert "report.pdf" in caplog.text
    assert "Thumbs" not in caplog.text


def test_names_without_an_ending_and_names_that_are_uids(tmp_path):
    write_series(tmp_path / "s", ARRAY)
    for k, path in enumerate(sorted((tmp_path / "s").iterdir())):
        path.rename(path.with_name(f"1.2.840.{k}"))
    np.testing.assert_array_equal(dicom.read(tmp_path / "s")[0][0], ARRAY)
    (tmp_path / "s" / "1.2.840.9").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(UserError, match=r"1\.2\.840\.9 is not a DICOM file, though its name is that of a slice"):
        dicom.read(tmp_path / "s")


def test_a_link_to_nothing_is_named(folder):
    (folder / "IM0009.dcm").symlink_to(folder / "gone.dcm")
    with pytest.raises(UserError, match=r"IM0009.dcm links to a missing file"):
        dicom.read(folder)


@pytest.mark.parametrize("preamble", [bytes(128), None])
@pytest.mark.parametrize("has_meta", [True, False])
def test_old_files_without_preamble_or_file_meta_are_read(folder, preamble, has_meta):
    for path in sorted(folder.iterdir()):
        dataset = pydicom.dcmread(path)
        dataset.preamble = preamble
        if has_meta:
            dataset.save_as(path)
        else:
            del dataset.file_meta
            dataset.save_as(path, implicit_vr=True, little_endian=True)
    np.testing.assert_array_equal(read_file(folder).array[0], ARRAY)
    assert is_series(folder)


def test_several_series_are_named(folder):
    write_series(folder / "other", ARRAY[:2], SeriesInstanceUID="1.2.9", SeriesNumber=7, SeriesDescription="T2 ax")
    for path in (folder / "other").iterdir():
        path.rename(folder / f"T2_{path.name}")
    with pytest.raises(UserError, match=r"2 DICOM series \(1 MR Image: 5 files.*7 T2 ax MR Image: 2 files, T2_IM0000"):
        dicom.read(folder)


def test_contours_beside_the_slices_are_named(folder):
    contours = Dataset()
    contours.file_meta = FileMetaDataset()
    contours.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    contours.SOPClassUID = contours.file_meta.MediaStorageSOPClassUID = RTStructureSetStorage
    contours.SOPInstanceUID = contours.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    contours.SeriesInstanceUID, contours.Modality = "1.2.4", "RTSTRUCT"
    save(contours, folder / "RS.dcm")
    with pytest.raises(UserError, match=r"2 DICOM series .*RT Structure Set: 1 file, RS.dcm"):
        dicom.read(folder)


def test_folders_without_a_series(tmp_path, folder):
    (tmp_path / "none").mkdir()
    with pytest.raises(UserError, match=r"none holds no DICOM series; give a folder with exactly one"):
        dicom.read(tmp_path / "none")
    shutil.copy(Path(pydicom.__path__[0]) / "data/test_files/dicomdirtests/DICOMDIR", tmp_path / "none" / "DICOMDIR")
    assert not is_series(tmp_path / "none")
    assert is_series(folder)
    assert not is_series(folder / "IM0000.dcm")
    with pytest.raises(UserError, match="no DICOM series"):
        dicom.read(tmp_path / "none")
    with pytest.raises(UserError, match=r"DICOMDIR is the index of a medium"):
        dicom.read(tmp_path / "none" / "DICOMDIR")


def test_slices_of_several_kinds_in_one_series_are_named(folder):
    path = sorted(folder.iterdir())[1]
    dataset = pydicom.dcmread(path)
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    dataset.save_as(path)
    with pytest.raises(
        UserError, match=rf"mixes 2 kinds of DICOM objects in one series .*CT Image: 1 file, {path.name}"
    ):
        dicom.read(folder)
