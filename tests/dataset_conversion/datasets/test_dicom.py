"""A hospital's folder tree in miniature: series, segmentations and what else lies about, from DICOM to training."""

import gzip
import json
import shutil

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.uid import CTImageStorage, SurfaceSegmentationStorage, generate_uid

from tests.helpers.dicom_files import write_series
from tests.helpers.dicom_labels import write_segmentation, write_structures
from tests.helpers.downloads import convert, train_two_steps
from unetrpp.core.errors import UserError
from unetrpp.dataset_conversion.convert import main
from unetrpp.dataset_conversion.dicom.tree import scan
from unetrpp.io.images import read_file

SHAPE = (12, 16, 16)


def series(folder, *, patient, modality="CT", seed=0, **tags):
    """A series with noise, 2 mm from slice to slice, of a study of its own."""
    values = np.clip(400 * np.random.default_rng(seed).normal(size=SHAPE), -1000, 2000).astype(np.int16)
    uids = {
        "SeriesInstanceUID": generate_uid(),
        "StudyInstanceUID": generate_uid(),
        "FrameOfReferenceUID": generate_uid(),
    }
    kind = {"sop": CTImageStorage} if modality == "CT" else {}
    write_series(folder, values, **kind, **({"Modality": modality, "PatientID": patient} | uids | tags))
    return values


def block(z, y, x):
    """The contours around a block of voxels, given as (from, to) in voxels, on slices of 2 mm."""
    (y0, y1), (x0, x1) = np.add(y, (-0.5, 0.5)), np.add(x, (-0.5, 0.5))
    return [[(x0, y0, 2 * k), (x1, y0, 2 * k), (x1, y1, 2 * k), (x0, y1, 2 * k)] for k in range(z[0], z[1] + 1)]


def filled(*blocks):
    label = np.zeros(SHAPE, int)
    for value, (z, y, x) in enumerate(blocks, 1):
        label[z[0] : z[1] + 1, y[0] : y[1] + 1, x[0] : x[1] + 1] = value
    return label


LIVER, TUMOUR = ((2, 9), (2, 12), (3, 13)), ((4, 6), (4, 7), (5, 9))
ROIS = ["liver", "GTV*=tumour"]


@pytest.fixture
def tree(tmp_path):
    """Four labelled CTs of three patients and much else."""
    root = tmp_path / "Häuser & Klinik"
    series(root / "A/CT Abdomen", patient="10", seed=1, StudyDate="20200101")
    write_structures(
        root / "A/rs.dcm", root / "A/CT Abdomen", {"LIVER": block(*LIVER), "GTV-1": block(*TUMOUR), "unused": []}
    )
    series(root / "B/1/2/3", patient="10", seed=2, StudyDate="20240101")
    write_segmentation(
        root / "elsewhere/seg", root / "B/1/2/3", filled(LIVER, TUMOUR).astype(np.uint8), ["Liver", "gtv"]
    )
    series(root / "C", patient="20", seed=3)
    write_structures(root / "Z/RS.1.2.3", root / "C", {"Liver": block(*LIVER), "GTV": block(*TUMOUR)})
    series(root / "D", patient="30", seed=4)
    write_segmentation(
        root / "D/seg.dcm", root / "D", np.stack([filled(LIVER), filled(TUMOUR)], -1).astype(np.uint8), ["Liver", "GTV"]
    )
    return root


def ids(root):
    """Folder -> the id of the case whose first slice lies there."""
    return {each.files[0].parent.relative_to(root).as_posix(): each.case for each in scan(root).series.values()}


def label_of(converted, case):
    (path,) = converted.folder.glob(f"labelsT*/{case}.nii.gz")
    return sitk.GetArrayFromImage(sitk.ReadImage(path))


def test_a_tree_goes_from_dicom_to_training(tree, tmp_path, caplog):
    caplog.set_level("INFO")
    converted = convert("dicom", tree, tmp_path / "w", roi=ROIS)
    names = ids(tree)
    assert converted.errors == ()
    assert sorted(converted.cases) == sorted(names[place] for place in ("A/CT Abdomen", "B/1/2/3", "C", "D"))
    for case in converted.cases:
        np.testing.assert_array_equal(label_of(converted, case), filled(LIVER, TUMOUR))
    image = sitk.GetArrayFromImage(sitk.ReadImage(converted.folder / f"imagesTr/{names['C']}_0000.nii.gz"))
    np.testing.assert_array_equal(image, read_file(tree / "C").array[0])
    content = json.loads((converted.folder / "dataset.json").read_text())
    assert content["labels"] == {"background": 0, "liver": 1, "tumour": 2}
    assert content["channel_names"] == {"0": "CT"}
    assert content["groups"] == {
        names["A/CT Abdomen"]: names["A/CT Abdomen"],
        names["B/1/2/3"]: names["A/CT Abdomen"],
        names["C"]: names["C"],
        names["D"]: names["D"],
    }
    assert "1 patient has several scans, which stay in one fold" in caplog.text
    assert "masks overlap, and the later one counts there: liver and tumour (3 cases)" in caplog.text
    assert train_two_steps(converted, tmp_path / "w").is_file()


def test_no_name_and_no_id_of_a_patient_is_written(tmp_path):
    for number in (1, 2):
        series(tmp_path / f"src/Doe^Jane/{number}", patient="SECRET-4711", seed=number, PatientBirthDate="19700102")
        write_structures(tmp_path / f"src/rs{number}", tmp_path / f"src/Doe^Jane/{number}", {"x": block(*LIVER)})
    series(tmp_path / "src/other", patient="SECRET-4712", seed=3)
    write_structures(tmp_path / "src/rs3", tmp_path / "src/other", {"x": block(*LIVER)})
    converted = convert("dicom", tmp_path / "src", tmp_path / "w", roi=["x"])
    assert len(converted.cases) == 3
    for path in converted.folder.rglob("*"):
        if path.is_file():
            content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
            for secret in (b"Doe", b"Jane", b"4711", b"4712", b"19700102"):
                assert secret not in content
                assert secret.decode() not in path.name


def test_what_is_not_converted_is_named_with_its_reason(tree, tmp_path):
    series(tree / "E", patient="40", seed=5)  # without labels
    series(tree / "F", patient="50", seed=6)
    write_structures(tree / "rs_f", tree / "F", {"Liver": block(*LIVER), "Kidney": block(*TUMOUR)})
    series(tree / "MR", patient="10", modality="MR", seed=7)
    series(tmp_path / "lost", patient="60", seed=8)
    write_structures(tree / "rs_lost", tmp_path / "lost", {"Liver": block(*LIVER), "GTV": block(*TUMOUR)})
    shutil.copy(tree / "C/IM0003.dcm", tree / "again.dcm")
    (tree / "C/._IM0003.dcm").write_bytes(b"x")
    (tree / "broken.dcm").write_bytes((tree / "C/IM0003.dcm").read_bytes()[:300])
    (tree / "DICOMDIR").write_bytes((tree / "C/IM0003.dcm").read_bytes())
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros(SHAPE, np.uint8)), tree / "extra.nii.gz")
    report = pydicom.dcmread(tree / "rs_f")
    report.SOPClassUID, report.Modality, report.SOPInstanceUID = pydicom.uid.EnhancedSRStorage, "SR", generate_uid()
    report.save_as(tree / "report")
    report.SOPClassUID, report.Modality, report.SOPInstanceUID = SurfaceSegmentationStorage, "SEG", generate_uid()
    report.save_as(tree / "surface")
    converted = convert("dicom", tree, tmp_path / "w", roi=ROIS, modality="ct")
    names = ids(tree)
    assert len(converted.cases) == 4
    assert {error.case: error.message for error in converted.errors} == {
        f"{names['E']} (in E)": "has no DICOM SEG or RTSTRUCT that refers to it; add one, or remove the series",
        f"{names['F']} (in F)": "has no segment for tumour, only 'Liver' and 'Kidney'; add the name to --roi, or leave the case out",
        "rs_lost": "is of a series that this folder does not have; add the series, or remove the file",
        "again.dcm": "is there twice (another file has its SOP Instance UID); remove one of them",
        "surface": "is a segmentation that is not read (Surface Segmentation); save it as DICOM SEG",
        "extra.nii.gz": "is no DICOM file; convert it with `unetrpp_convert folder`, or remove it",
        "broken.dcm": next(error.message for error in converted.errors if error.case == "broken.dcm"),
    }
    assert "broken.dcm" in next(error.message for error in converted.errors if error.case == "broken.dcm")


def test_classes_that_a_case_lacks_can_be_allowed(tree, tmp_path):
    series(tree / "F", patient="50", seed=6)
    write_structures(tree / "rs_f", tree / "F", {"Liver": block(*LIVER)})
    converted = convert("dicom", tree, tmp_path / "w", roi=ROIS, allow_missing_rois=True)
    assert converted.errors == ()
    assert len(converted.cases) == 5
    np.testing.assert_array_equal(label_of(converted, ids(tree)["F"]), filled(LIVER))


def test_the_modality_is_asked_for_where_several_have_labels(tree, tmp_path):
    series(tree / "MR", patient="10", modality="MR", seed=7)
    write_structures(tree / "rs_mr", tree / "MR", {"Prostate": block(*LIVER)})
    with pytest.raises(UserError, match="series of CT and MR have labels; give one of them as --modality"):
        convert("dicom", tree, tmp_path / "w", roi=ROIS)
    converted = convert("dicom", tree, tmp_path / "w", roi=["prostate"], modality="MR")
    assert converted.cases == (ids(tree)["MR"],)
    with pytest.raises(
        UserError, match=r"the folder holds no series of PT \(there are CT \(4 series\) and MR \(1 series\)\)"
    ):
        convert("dicom", tree, tmp_path / "w", roi=ROIS, modality="PT")


def test_a_modality_without_labels_is_refused(tree, tmp_path):
    series(tree / "MR", patient="10", modality="MR", seed=7)
    with pytest.raises(
        UserError, match="no DICOM SEG or RTSTRUCT refers to a series of MR; there are some of CT; give"
    ):
        convert("dicom", tree, tmp_path / "w", modality="MR")


def test_without_rois_all_names_are_listed(tree, tmp_path, capsys):
    assert main(["dicom", str(tree), "--workspace", str(tmp_path / "w")]) == 2
    said = capsys.readouterr().err
    assert "give --roi NAME[=CLASS] ..., such as --roi 'Liver'" in said
    assert "there are 'Liver' (3 cases), 'GTV' (2 cases), 'gtv' (1 case), 'GTV-1' (1 case) and 'LIVER' (1 case)" in said
    assert "unused" not in said  # it was never drawn
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no DICOM SEG or RTSTRUCT that refers to a series \(there are no images\)"):
        convert("dicom", tmp_path / "empty", tmp_path / "w")


def test_a_tree_without_a_usable_case_is_refused_with_the_reasons(tree, tmp_path):
    wanted = ["LIVER", "GTV", "spleen"]
    write_structures(tree / "spleen", tree / "D", {"Spleen": block(*TUMOUR), "GTV": block(*TUMOUR)})
    with pytest.raises(
        UserError, match=r"no case can be converted: ct_\w+ \(in .*has no segment for spleen"
    ) as refused:
        convert("dicom", tree, tmp_path / "w", roi=wanted)
    assert "and 1 more" in str(refused.value)


def test_a_segment_that_two_files_have_is_ambiguous(tree, tmp_path):
    write_structures(tree / "second reader", tree / "C", {"Liver": block(*LIVER)})
    write_structures(tree / "spleen", tree / "D", {"Spleen": block(*TUMOUR)})
    converted = convert("dicom", tree, tmp_path / "w", roi=[*ROIS, "spleen=spleen"], allow_missing_rois=True)
    (error,) = converted.errors
    assert error.case == f"{ids(tree)['C']} (in C)"
    assert error.message == "has the segment 'Liver' in RS.1.2.3 and in second reader; keep one of them"
    both = label_of(converted, ids(tree)["D"])  # segments of two files in one label map
    np.testing.assert_array_equal(both, np.where(filled(TUMOUR), 3, filled(LIVER)))


def renamed(folder, **uids):
    """Give the slices of a folder other UIDs, each as far as ``None`` stands for a new one a slice."""
    for file in folder.iterdir():
        slice_ = pydicom.dcmread(file)
        for tag, value in uids.items():
            setattr(slice_, tag, value or generate_uid())
        slice_.file_meta.MediaStorageSOPInstanceUID = slice_.SOPInstanceUID
        slice_.save_as(file)


@pytest.mark.parametrize("write", [write_structures, write_segmentation])
def test_images_and_the_frame_of_reference_find_a_series_whose_uid_changed(tree, tmp_path, write):
    frame = generate_uid()
    series(tree / "F", patient="50", seed=6, FrameOfReferenceUID=frame)
    if write is write_structures:
        path = write(tree / "seg_f", tree / "F", {"Liver": block(*LIVER), "GTV": block(*TUMOUR)})
    else:
        path = write(tree / "seg_f", tree / "F", filled(LIVER, TUMOUR).astype(np.uint8), ["Liver", "GTV"])
    series(tree / "G", patient="50", seed=7, FrameOfReferenceUID=frame)
    renamed(tree / "F", SeriesInstanceUID="1.2.3.4")
    (alone,) = convert("dicom", tree, tmp_path / "w", roi=ROIS).errors  # found by the UIDs of its images
    assert alone.case == f"{ids(tree)['G']} (in G)"
    renamed(tree / "F", SOPInstanceUID=None)
    (one, other, lost) = convert("dicom", tree, tmp_path / "w2", roi=ROIS).errors
    unlabelled = "has no DICOM SEG or RTSTRUCT that refers to it; add one, or remove the series"
    assert {one.message, other.message} == {unlabelled}
    assert lost.case == path.name
    assert lost.message.startswith("names no series of this folder, and 2 have its frame of reference")
    shutil.rmtree(tree / "G")
    converted = convert("dicom", tree, tmp_path / "w3", roi=ROIS)  # found by the frame of reference
    assert converted.errors == ()
    np.testing.assert_array_equal(label_of(converted, ids(tree)["F"]), filled(LIVER, TUMOUR))


def test_remarks_on_contours_are_said_once(tmp_path, caplog):
    series(tmp_path / "src/a", patient="1")
    contours = [contour for k in (-5, 2, 4, 6) for contour in block((k, k), *LIVER[1:])]
    tiny = [[(3.2, 3.2, 4), (3.4, 3.2, 4), (3.4, 3.4, 4)]]
    write_structures(tmp_path / "src/rs", tmp_path / "src/a", {"liver": contours, "dot": tiny})
    convert("dicom", tmp_path / "src", tmp_path / "w", roi=["liver", "dot"])
    assert "'liver' has contours beyond the slices of the image, which are cut off (1 case)" in caplog.text
    assert "'liver' has contours on every other slice at most" in caplog.text
    assert "'dot' has contours around no voxel's centre (1 case)" in caplog.text


def test_one_patient_id_for_all_makes_no_groups_and_fractions_are_mentioned(tmp_path, caplog):
    caplog.set_level("INFO")
    for name in "ab":
        series(tmp_path / f"src/{name}", patient="ANON", seed=ord(name))
        write_segmentation(
            tmp_path / f"src/seg_{name}",
            tmp_path / f"src/{name}",
            filled(LIVER)[..., None].astype(np.uint8),
            ["x"],
            kind="FRACTIONAL",
        )
    converted = convert("dicom", tmp_path / "src", tmp_path / "w", roi=["x"])
    assert "groups" not in json.loads((converted.folder / "dataset.json").read_text())
    assert "all 2 cases have one Patient ID, so no groups are written" in caplog.text
    assert "2 segmentations are FRACTIONAL: a voxel is in a segment from half of the largest value on" in caplog.text


def test_files_of_a_series_may_lie_anywhere(tree, tmp_path):
    before = {case: place for place, case in ids(tree).items()}
    expected = {case: read_file(tree / place).array for case, place in before.items() if case != ids(tree)["D"]}
    files = [file for place in ("A/CT Abdomen", "B/1/2/3", "C") for file in sorted((tree / place).iterdir())]
    for number, file in enumerate(files):
        target = tree / f"media {number % 3}" / f"1.2.{97 * number % 101}"
        target.parent.mkdir(exist_ok=True)
        file.rename(target)
    converted = convert("dicom", tree, tmp_path / "w", roi=ROIS)
    assert sorted(converted.cases) == sorted(before)
    for case, array in expected.items():
        image = sitk.ReadImage(converted.folder / f"imagesTr/{case}_0000.nii.gz")
        np.testing.assert_array_equal(sitk.GetArrayFromImage(image), array[0])
        np.testing.assert_array_equal(label_of(converted, case), filled(LIVER, TUMOUR))


def test_one_damaged_series_costs_one_case(tree, tmp_path):
    (tree / "C/IM0005.dcm").unlink()
    converted = convert("dicom", tree, tmp_path / "w", roi=ROIS)
    (error,) = converted.errors
    assert error.case == ids(tree)["C"]
    assert "missing or uneven slices" in error.message
    assert len(converted.cases) == 3


@pytest.mark.slow
@pytest.mark.parametrize(("modality", "folder"), [("CT", "CT"), ("MR", "MR_T1"), ("PT", "PET")])
def test_the_sarcomas_are_those_of_the_published_files(test_data, tmp_path, modality, folder):
    """The tree of the Image Biomarker Standardisation Initiative: three series and three RTSTRUCTs a patient."""
    samples = test_data / "samples/rtstruct"
    converted = convert("dicom", samples / "dicom", tmp_path / "w", roi=["GTV*=tumour"], modality=modality)
    assert converted.errors == ()
    names = ids(samples / "dicom")
    for patient in ("STS_002", "STS_003"):
        case = names[f"{patient}/{folder}/image"]
        mask, image = (
            sitk.ReadImage(samples / f"nifti/{patient}/{folder}_{what}.nii.gz") for what in ("mask", "image")
        )
        np.testing.assert_array_equal(label_of(converted, case), sitk.GetArrayFromImage(mask))
        written = sitk.ReadImage(converted.folder / f"imagesTr/{case}_0000.nii.gz")
        np.testing.assert_allclose(sitk.GetArrayFromImage(written), sitk.GetArrayFromImage(image), rtol=2e-7)
        np.testing.assert_allclose(written.GetOrigin(), image.GetOrigin(), rtol=1e-6)
