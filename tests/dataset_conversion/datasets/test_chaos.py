"""CHAOS in miniature: PNG labels that follow the names of DICOM files, whatever the order of the slices."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydicom.uid import CTImageStorage

from tests.helpers.dicom_files import write_series
from tests.helpers.downloads import convert, train_two_steps
from unetrpp.core.errors import UserError
from unetrpp.dataset.cases import read_dataset
from unetrpp.dataset_conversion.datasets import chaos
from unetrpp.io.images import read_image, read_label

SHAPE = (12, 16, 16)
GRAYS = np.array([0, 63, 126, 189, 252], np.uint8)


def series(folder, seed, *, reverse=False, ct=False, name="IMG-0004-{:05d}", first=0, step=1):
    """A series whose file names run along the body, or against it; returns its slices in the order of the names."""
    noise = np.random.default_rng(seed).normal(size=SHAPE)
    array = (np.clip(400 * noise, -1000, 2000) if ct else 100 + 20 * noise).astype(np.int16)
    places = [(0.0, 0.0, (-2.0 if reverse else 2.0) * k) for k in range(len(array))]
    kind = {"sop": CTImageStorage, "Modality": "CT"} if ct else {}
    write_series(folder, array, places, PhotometricInterpretation="MONOCHROME2", **kind)
    for k in range(len(array)):
        (folder / f"IM{k:04d}.dcm").rename(folder / f"{name.format(first + step * k)}.dcm")
    return array


def ground(folder, seed, *, values, name, first=0, step=1):
    folder.mkdir(parents=True)
    label = np.random.default_rng(seed).integers(0, len(values), SHAPE)
    for k, plane in enumerate(label):
        Image.fromarray(np.asarray(values)[plane]).save(folder / f"{name.format(first + step * k)}.png")
    return label


@pytest.fixture
def source(tmp_path):
    """Two CT and two MR patients, and one of each for testing; the second of each has its slices in reverse."""
    root = tmp_path / "CHAOS"
    for i in (1, 2, 3):
        part = root / ("Test_Sets" if i == 3 else "Train_Sets")
        reverse = i == 2
        series(part / f"CT/{i}/DICOM_anon", i, reverse=reverse, ct=True, name="i{:04d},0000b")
        mr = part / f"MR/{i}"
        series(mr / "T1DUAL/DICOM_anon/InPhase", i + 10, reverse=reverse, first=2, step=2)
        series(mr / "T1DUAL/DICOM_anon/OutPhase", i + 20, reverse=reverse, first=1, step=2)
        series(mr / "T2SPIR/DICOM_anon", i + 30, reverse=reverse, name="IMG-0006-{:05d}")
        if i != 3:
            inside = (False, True) if i == 1 else np.array((0, 255), np.uint8)  # of one bit, and of eight
            ground(part / f"CT/{i}/Ground", i, values=inside, name="liver_GT_{:03d}")
            ground(mr / "T1DUAL/Ground", i + 10, values=GRAYS, name="IMG-0004-{:05d}", first=2, step=2)
            ground(mr / "T2SPIR/Ground", i + 30, values=GRAYS, name="IMG-0006-{:05d}")
    return root


def pairs(array, label):
    """The values of the image and the label, voxel by voxel: they do not depend on the order of slices."""
    return sorted(zip(array.reshape(-1).tolist(), label.reshape(-1).tolist(), strict=True))


@pytest.mark.parametrize("case", [1, 2])
def test_labels_of_ct_follow_the_names_of_the_slices(source, tmp_path, case):
    converted = convert("chaos", source, tmp_path / "w", scans="ct")
    assert converted.errors == ()
    assert sorted(converted.cases) == ["CT_1", "CT_2", "CT_3"]
    assert converted.test_cases == ("CT_3",)
    image = read_image(converted.folder / f"imagesTr/CT_{case}_0000.nii.gz").array
    drawn = read_label(converted.folder / f"labelsTr/CT_{case}.nii.gz").array
    noise = np.random.default_rng(case).normal(size=SHAPE)
    before = np.clip(400 * noise, -1000, 2000).astype(np.int16)
    assert pairs(image, drawn) == pairs(before, np.random.default_rng(case).integers(0, 2, SHAPE))


def test_mr_goes_to_training(source, tmp_path):
    converted = convert("chaos", source, tmp_path / "w", scans="t1dual")
    assert converted.errors == ()
    description = read_dataset(converted.folder, "x").description
    assert description.channel_names == ("T1 in phase", "T1 out of phase")
    assert description.labels.names == ("background", "liver", "right kidney", "left kidney", "spleen")
    for case in (1, 2):
        drawn = read_label(converted.folder / f"labelsTr/MR_{case}.nii.gz").array
        expected = np.random.default_rng(case + 10).integers(0, 5, SHAPE)
        for channel in (0, 1):
            image = read_image(converted.folder / f"imagesTr/MR_{case}_{channel:04d}.nii.gz").array
            noise = np.random.default_rng(case + 10 * (channel + 1)).normal(size=SHAPE)
            assert pairs(image, drawn) == pairs((100 + 20 * noise).astype(np.int16), expected)
    assert train_two_steps(converted, tmp_path / "w").is_file()


def test_pictures_with_the_names_of_slices_belong_to_them(source, tmp_path):
    """Here the names are those of the out-of-phase series, whose numbers run against those of the other."""
    folder, last = source / "Train_Sets/MR/1/T1DUAL", SHAPE[0] - 1
    for k in range(SHAPE[0]):
        for old in (
            folder / f"Ground/IMG-0004-{2 + 2 * k:05d}.png",
            folder / f"DICOM_anon/OutPhase/IMG-0004-{1 + 2 * k:05d}.dcm",
        ):
            old.rename(old.with_name(f"IMG-0003-{last - k:05d}{old.suffix}"))
    converted = convert("chaos", source, tmp_path / "w", scans="t1dual")
    image = read_image(converted.folder / "imagesTr/MR_1_0000.nii.gz").array
    drawn = read_label(converted.folder / "labelsTr/MR_1.nii.gz").array
    noise = np.random.default_rng(11).normal(size=SHAPE)
    assert pairs(image, drawn) == pairs(
        (100 + 20 * noise).astype(np.int16), np.random.default_rng(11).integers(0, 5, SHAPE)
    )


def test_the_kind_has_to_be_given(source, tmp_path):
    with pytest.raises(UserError, match="three kinds of scans; give --scans ct, t1dual or t2spir"):
        convert("chaos", source, tmp_path / "w")
    assert len(chaos.read(source / "Train_Sets", scans="ct").cases) == 2  # the folder of one part alone
    with pytest.raises(UserError, match="such as Train_Sets"):
        chaos.read(source / "Train_Sets/CT", scans="ct")


def test_what_makes_no_case_is_named(source, tmp_path):
    training = source / "Train_Sets/CT"
    (training / "1/Ground/liver_GT_003.png").unlink()
    Image.fromarray(np.full(SHAPE[1:], 90, np.uint8)).save(source / "Train_Sets/MR/2/T2SPIR/Ground/IMG-0006-00001.png")
    (source / "Train_Sets/MR/1/T2SPIR/Ground").rename(source / "ground")
    series(source / "Train_Sets/MR/4/T1DUAL/DICOM_anon/InPhase", 4)
    errors = {error.case: error.message for error in convert("chaos", source, tmp_path / "w", scans="ct").errors}
    assert "12 slices" in errors["CT_1"]
    assert "11 PNG files; download it again" in errors["CT_1"]
    assert "ground/IMG-0006-00000.png" in errors
    errors = {error.case: error.message for error in convert("chaos", source, tmp_path / "v", scans="t2spir").errors}
    assert errors["MR_1"] == "has no PNG files in T2SPIR/Ground; complete the download"
    assert "has the gray 90, but only 0 and 55 to 70, 110 to 135, 175 to 200, 240 to 255 are classes" in errors["MR_2"]
    assert errors["MR_4"] == "has no T2SPIR/DICOM_anon; complete the download"


def test_a_patient_of_both_sets_is_in_none(source):
    (source / "Test_Sets/CT/3").rename(source / "Test_Sets/CT/1")
    found = chaos.read(source, scans="ct")
    assert [case.id for case in found.cases] == ["CT_2"]
    assert found.left_out == {"CT_1": "is in two parts of the dataset; remove one of them"}


def test_the_folder_one_is_in_may_be_a_set(source, tmp_path, monkeypatch):
    monkeypatch.chdir(source / "Train_Sets")
    assert convert("chaos", Path(), tmp_path / "w", scans="ct").errors == ()
