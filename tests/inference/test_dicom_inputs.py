"""Folders as hospitals fill them: series in folders, an index beside them, stray files, series deeper down."""

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest

from tests.helpers.dicom_files import write_series
from unetrpp.core.errors import UserError
from unetrpp.dataset.description import DatasetDescription
from unetrpp.dataset.labels import LabelScheme
from unetrpp.inference.inputs import find_cases, require_series
from unetrpp.inference.left_out import left_out

LABELS = LabelScheme(names=("background", "ball"), values=(0, 1))
DESCRIPTION = DatasetDescription(name="x", channel_names=("MR",), labels=LABELS, file_ending=".nii.gz")
ARRAY = np.zeros((3, 4, 4), np.uint16)
DICOMDIR = Path(pydicom.__path__[0]) / "data/test_files/dicomdirtests/DICOMDIR"


def test_an_index_next_to_folders_of_series_is_no_series(tmp_path):
    for name in ("A", "B"):
        write_series(tmp_path / name, ARRAY)
    shutil.copy(DICOMDIR, tmp_path / "DICOMDIR")
    assert find_cases([tmp_path], DESCRIPTION) == {"A": (tmp_path / "A",), "B": (tmp_path / "B",)}


def test_stray_files_next_to_folders_of_series_are_named(tmp_path):
    write_series(tmp_path, ARRAY[:1])
    write_series(tmp_path / "A", ARRAY)
    cases = find_cases([tmp_path], DESCRIPTION)
    assert set(cases) == {"A"}
    reason = "is a DICOM file next to the cases; move the files of its series into a folder of their own"
    assert left_out(tmp_path, cases, DESCRIPTION) == {"IM0000.dcm": reason}


def test_folders_without_a_series_in_them_are_named(tmp_path):
    write_series(tmp_path / "A", ARRAY)
    write_series(tmp_path / "B" / "STUDY1" / "SERIES1", ARRAY)
    (tmp_path / "C").mkdir()
    write_series(tmp_path / "D", ARRAY[:1])
    (tmp_path / "D" / "IM0000.dcm").write_bytes(bytes(500))
    (tmp_path / "E").symlink_to("nowhere")
    cases = find_cases([tmp_path], DESCRIPTION)
    assert set(cases) == {"A"}
    reasons = left_out(tmp_path, cases, DESCRIPTION)
    assert reasons.keys() == {"B", "C", "D", "E"}
    assert "its images are in B/STUDY1/SERIES1: give that folder" in reasons["B"]
    assert "holds no DICOM series" in reasons["C"]
    assert "holds no readable file of a DICOM series" in reasons["D"]
    assert "is a link to something that is not there" in reasons["E"]
    shutil.rmtree(tmp_path / "A")
    shutil.rmtree(tmp_path / "D")
    with pytest.raises(UserError, match=r"no folder with a DICOM series, but B/STUDY1/SERIES1 holds images; give that"):
        find_cases([tmp_path], DESCRIPTION)


def test_one_series_is_one_case(tmp_path):
    write_series(tmp_path / "A", ARRAY)
    cases = find_cases([tmp_path / "A"], DESCRIPTION)
    assert cases == {"A": (tmp_path / "A",)}
    assert left_out(tmp_path / "A", cases, DESCRIPTION) == {}
    write_series(tmp_path / "A" / "scout", ARRAY)
    assert left_out(tmp_path / "A", cases, DESCRIPTION).keys() == {"scout"}


def test_two_folders_of_one_case_name_are_not_one_case(tmp_path):
    for name in ("A", "A_0000"):
        write_series(tmp_path / name, ARRAY)
    cases = find_cases([tmp_path], DESCRIPTION)
    assert cases == {"A": (tmp_path / "A",)}
    reasons = left_out(tmp_path, cases, DESCRIPTION)
    assert reasons == {"A_0000": "would be the case A, as another folder already is; rename one of them"}


def test_series_without_a_channel_number_are_named_where_there_are_several_channels(tmp_path):
    two = DatasetDescription(name="x", channel_names=("T1", "T2"), labels=LABELS, file_ending=".nii.gz")
    for name in ("A_0000", "A_0001", "A_0002", "B"):
        write_series(tmp_path / name, ARRAY)
    cases = find_cases([tmp_path], two)
    assert set(cases) == {"A"}
    assert left_out(tmp_path, cases, two).keys() == {"A_0002", "B"}


def test_a_multi_frame_file_may_get_a_dicom_seg(tmp_path):
    write_series(tmp_path / "A", ARRAY)
    require_series({"A": (tmp_path / "A" / "IM0000.dcm",)}, "--dicom-seg")
    (tmp_path / "b.nii").write_bytes(bytes(200))
    with pytest.raises(UserError, match="--dicom-seg is for DICOM series, but b came as other files"):
        require_series({"b": (tmp_path / "b.nii",)}, "--dicom-seg")
