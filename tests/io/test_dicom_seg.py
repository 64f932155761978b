"""DICOM SEG: every frame lies where ITK puts the slice of the segmentation, and holds its voxels."""

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from tests.helpers.dicom import frames, write_series
from unetrpp.core.errors import UserError
from unetrpp.dataset.labels import LabelScheme, Region
from unetrpp.io.dicom_seg import require_dicom_seg, write_dicom_seg
from unetrpp.io.images import read_file

SHAPE = (5, 8, 6)
LABELS = LabelScheme(names=("background", "liver", "tumour"), values=(0, 3, 7))


@pytest.mark.parametrize("regions", [False, True])
def test_frames_are_on_their_slices(tmp_path, regions):
    rng = np.random.default_rng(0)
    write_series(tmp_path / "series", rng.integers(-100, 100, SHAPE))
    labels = (
        LabelScheme(
            names=LABELS.names,
            values=(0, 1, 2),
            regions=(Region(name="whole", members=(1, 2), value=3), Region(name="core", members=(2,), value=7)),
        )
        if regions
        else LABELS
    )
    array = rng.choice([0, 3, 7], SHAPE).astype(np.uint8)
    array[2] = 0  # a slice without any label
    write_dicom_seg(tmp_path / "out" / "case.dcm", array, labels.segments(), series=tmp_path / "series", note="a model")
    slices = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path / "series")))
    segmentation, found = frames(tmp_path / "out" / "case.dcm", slices)
    names = ["whole", "core"] if regions else ["liver", "tumour"]
    assert [s.SegmentLabel for s in segmentation.SegmentSequence] == names
    # The core lies inside the whole, so a voxel with the core's value belongs to both.
    np.testing.assert_array_equal(found[1], (array == 3) | (array == 7) if regions else array == 3)
    np.testing.assert_array_equal(found[2], array == 7)
    assert segmentation.PatientID == "p1"
    referenced = {
        i.ReferencedSOPInstanceUID for i in segmentation.ReferencedSeriesSequence[0].ReferencedInstanceSequence
    }
    assert referenced <= {pydicom.dcmread(path).SOPInstanceUID for path in (tmp_path / "series").glob("*.dcm")}


def test_long_names_and_names_in_any_language_are_written(tmp_path):
    write_series(tmp_path / "series", np.zeros(SHAPE), PatientName="Müller^Jörg", SpecificCharacterSet="ISO_IR 100")
    labels = LabelScheme(names=("background", "肝臓\\Läsion", "tumour " * 20), values=(0, 3, 7))
    note = f"unetrpp Dataset501_{'Prostate' * 10}"
    write_dicom_seg(
        tmp_path / "case.dcm", np.full(SHAPE, 3, np.uint8), labels.segments(), series=tmp_path / "series", note=note
    )
    segmentation = pydicom.dcmread(tmp_path / "case.dcm")
    assert [s.SegmentLabel for s in segmentation.SegmentSequence] == ["肝臓/Läsion", ("tumour " * 20)[:64].strip()]
    assert segmentation.PatientName == "Müller^Jörg"
    assert segmentation.SeriesDescription.startswith("Segmentation for research use by unetrpp Dataset501_Prostate")


def test_an_empty_segmentation_is_written(tmp_path):
    write_series(tmp_path / "series", np.zeros(SHAPE))
    write_dicom_seg(
        tmp_path / "case.dcm", np.zeros(SHAPE, np.uint8), LABELS.segments(), series=tmp_path / "series", note="a model"
    )
    assert not pydicom.dcmread(tmp_path / "case.dcm").pixel_array.any()


def test_a_series_without_its_tags_is_refused(tmp_path):
    write_series(tmp_path / "series", np.zeros(SHAPE), FrameOfReferenceUID=None)
    assert read_file(tmp_path / "series").array.shape == (1, *SHAPE)
    with pytest.raises(UserError, match=r"refer to series .*Frame Of Reference UID.*export the series again"):
        write_dicom_seg(
            tmp_path / "case.dcm",
            np.ones(SHAPE, np.uint8),
            LABELS.segments(),
            series=tmp_path / "series",
            note="a model",
        )
    assert not (tmp_path / "case.dcm").exists()


def test_the_missing_package_is_named(monkeypatch):
    require_dicom_seg()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"unetrpp\[dicom\]"):
        require_dicom_seg()
