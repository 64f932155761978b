"""Folders as hospitals fill them: series in folders, an index beside them, stray files, series deeper down."""

import logging
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

LABELS = LabelScheme(names=("background", "ball"), values=(0, 1))
DESCRIPTION = DatasetDescription(name="x", channel_names=("MR",), labels=LABELS, file_ending=".nii.gz")
ARRAY = np.zeros((3, 4, 4), np.uint16)
DICOMDIR = Path(pydicom.__path__[0]) / "data/test_files/dicomdirtests/DICOMDIR"


def test_an_index_next_to_folders_of_series_is_no_series(tmp_path):
    for name in ("A", "B"):
        write_series(tmp_path / name, ARRAY)
    shutil.copy(DICOMDIR, tmp_path / "DICOMDIR")
    assert find_cases([tmp_path], DESCRIPTION) == {"A": (tmp_path / "A",), "B": (tmp_path / "B",)}


def test_stray_files_next_to_folders_of_series_are_named(tmp_path, caplog):
    write_series(tmp_path, ARRAY[:1])
    write_series(tmp_path / "A", ARRAY)
    with caplog.at_level(logging.WARNING):
        assert set(find_cases([tmp_path], DESCRIPTION)) == {"A"}
    assert "next to the folders of series are ignored: IM0000.dcm" in caplog.text


def test_a_series_deeper_down_is_named(tmp_path, caplog):
    write_series(tmp_path / "A", ARRAY)
    write_series(tmp_path / "B" / "STUDY1" / "SERIES1", ARRAY)
    (tmp_path / "C").mkdir()
    with caplog.at_level(logging.WARNING):
        assert set(find_cases([tmp_path], DESCRIPTION)) == {"A"}
    assert (
        "B holds no DICOM series itself and is ignored, but B/STUDY1/SERIES1 holds one; give that folder" in caplog.text
    )
    assert "C holds no DICOM series itself and is ignored" in caplog.text
    shutil.rmtree(tmp_path / "A")
    with pytest.raises(UserError, match=r"no folder with a DICOM series, but B/STUDY1/SERIES1 holds one; give that"):
        find_cases([tmp_path], DESCRIPTION)


def test_one_series_is_one_case(tmp_path):
    write_series(tmp_path / "A", ARRAY)
    assert find_cases([tmp_path / "A"], DESCRIPTION) == {"A": (tmp_path / "A",)}


def test_a_multi_frame_file_may_get_a_dicom_seg(tmp_path):
    write_series(tmp_path / "A", ARRAY)
    require_series({"A": (tmp_path / "A" / "IM0000.dcm",)})
    (tmp_path / "b.nii").write_bytes(bytes(200))
    with pytest.raises(UserError, match="--dicom-seg is for DICOM series, but b came as files"):
        require_series({"b": (tmp_path / "b.nii",)})
