"""DICOM SEG: every frame lies where ITK puts the slice of the segmentation, and holds its voxels."""

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from tests.helpers.dicom import frames, write_series
from tests.helpers.dicom_files import write_enhanced
from unetrpp.core.errors import UserError
from unetrpp.dataset.labels import LabelScheme, Region
from unetrpp.io.dicom_seg import require_dicom_seg, write_dicom_seg
from unetrpp.io.images import read_file, to_sitk
from unetrpp.io.rtstruct import write_rtstruct

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


NAMES = {
    "ascii": (None, "Doe^Jane"),
    "default by name": ("ISO_IR 6", "Doe^Jane"),
    "default with extensions": ("ISO 2022 IR 6", "Doe^Jane"),
    "Latin": ("ISO_IR 100", "Müller^Jörg"),
    "Cyrillic": ("ISO_IR 144", "Иванов^Иван"),
    "Greek": ("ISO_IR 126", "Διονύσιος^Άννα"),
    "Arabic": ("ISO_IR 127", "قباني^لنزار"),
    "Hebrew": ("ISO_IR 138", "שרון^דבורה"),
    "Thai": ("ISO_IR 166", "นามสกุล^ชื่อ"),
    "Japanese": (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
    "Japanese with half-width kana": (["ISO 2022 IR 13", "ISO 2022 IR 87"], "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう"),
    "Korean": (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
    "Chinese": ("GB18030", "Wang^XiaoDong=王^小东"),
    "UTF-8": ("ISO_IR 192", "Wang^XiaoDong=王^小东"),
}


@pytest.mark.parametrize("language", NAMES)
def test_patients_of_every_character_set_keep_their_names(tmp_path, language):
    charset, name = NAMES[language]
    write_series(tmp_path / "series", np.zeros(SHAPE), **({"SpecificCharacterSet": charset} if charset else {}))
    for path in (tmp_path / "series").iterdir():
        slice_ = pydicom.dcmread(path)
        slice_.PatientName = name
        slice_.save_as(path)
    write_dicom_seg(
        tmp_path / "case.dcm", np.ones(SHAPE, np.uint8), {"肝臓": (1,)}, series=tmp_path / "series", note="a model"
    )
    segmentation = pydicom.dcmread(tmp_path / "case.dcm")
    assert segmentation.PatientName == name
    assert segmentation.SpecificCharacterSet == "ISO_IR 192"
    assert [s.SegmentLabel for s in segmentation.SegmentSequence] == ["肝臓"]


def test_a_chinese_name_with_escape_sequences_is_written_without_them(tmp_path):
    """ISO 2022 IR 58 as the standard's part 5, annex K.2 writes it; pydicom cannot write it, and leaves its escapes."""
    write_series(tmp_path / "series", np.zeros(SHAPE), SpecificCharacterSet=["", "ISO 2022 IR 58"])
    name = b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab "
    for path in (tmp_path / "series").iterdir():
        before = b"PN\x08\x00Doe^Jane"
        content = path.read_bytes()
        assert content.count(before) == 1
        path.write_bytes(content.replace(before, b"PN" + len(name).to_bytes(2, "little") + name))
    write_dicom_seg(
        tmp_path / "case.dcm", np.ones(SHAPE, np.uint8), LABELS.segments(), series=tmp_path / "series", note="a model"
    )
    assert pydicom.dcmread(tmp_path / "case.dcm").PatientName == "Zhang^XiaoDong=张^小东"


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


def test_frames_of_a_multi_frame_image_keep_their_masks(tmp_path):
    rng = np.random.default_rng(0)
    order = rng.permutation(SHAPE[0])
    image = rng.integers(0, 4000, SHAPE).astype(np.uint16)
    write_enhanced(tmp_path / "series" / "a.dcm", image[order], [(3.0, 4.0, 2.0 * k) for k in order])
    array = rng.choice([0, 3, 7], SHAPE).astype(np.uint8)
    write_dicom_seg(tmp_path / "case.dcm", array, LABELS.segments(), series=tmp_path / "series", note="a model")
    volume = read_file(tmp_path / "series")
    np.testing.assert_array_equal(volume.array[0], image)
    _, found = frames(tmp_path / "case.dcm", to_sitk(array, volume.geometry))
    np.testing.assert_array_equal(found[1], array == 3)
    np.testing.assert_array_equal(found[2], array == 7)


def test_odd_texts_of_the_source_are_kept_without_a_warning_of_the_libraries(tmp_path):
    """Warnings are errors in tests: of an id longer than the standard allows, and of a name of one part."""
    write_series(tmp_path / "series", np.zeros(SHAPE))
    for path in (tmp_path / "series").iterdir():
        slice_ = pydicom.dcmread(path)
        slice_.PatientName = "STS_003"
        with pytest.warns(UserWarning, match="exceeds the maximum length of 16"):
            slice_.AccessionNumber = "281919993637276540"
        slice_.save_as(path)
    array, options = np.ones(SHAPE, np.uint8), {"series": tmp_path / "series", "note": "a model"}
    write_dicom_seg(tmp_path / "case.dcm", array, {"liver": (1,)}, **options)
    write_rtstruct(tmp_path / "rs.dcm", array, read_file(tmp_path / "series").geometry, {"liver": (1,)}, **options)
    for name in ("case.dcm", "rs.dcm"):
        found = pydicom.dcmread(tmp_path / name)
        assert (found.PatientName, found.PatientID) == ("STS_003", "p1")
