"""TotalSegmentator in miniature and on the 117 masks of its own tests."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest

from tests.helpers.downloads import convert, label, scan, train_two_steps
from unetrpp.core.errors import UserError
from unetrpp.dataset.cases import read_dataset
from unetrpp.dataset_conversion.datasets import totalsegmentator
from unetrpp.dataset_conversion.datasets.totalsegmentator import VERSIONS
from unetrpp.io.images import read_label

SMALL = ("spleen", "liver", "pancreas", "heart", "aorta")  # heart is of version 2 only
SHAPE = (12, 16, 16)


def write(root, case, names=SMALL, *, image="ct", seed=0):
    folder = root / case
    scan(folder / f"{image}.nii.gz", ct=image == "ct", seed=seed)
    for i, name in enumerate(names):
        array = np.zeros(SHAPE, np.uint8)
        if 2 * i < len(array):  # further masks are empty, as most of a real case are
            array[2 * i : 2 * i + 2] = np.random.default_rng(seed).integers(0, 2, (2, *SHAPE[1:]))
        path = folder / f"segmentations/{name}.nii.gz"
        path.parent.mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(array.T, np.diag([-1, -1, 1, 1])), path)  # the grid of ``scan``


@pytest.fixture
def source(tmp_path):
    root = tmp_path / "Totalsegmentator_dataset_v201"
    for i in range(4):
        write(root, f"s{i:04d}", VERSIONS["version 2"] if i == 3 else SMALL, seed=i)
    (root / "s0003/segmentations/notes.txt").write_text("x")
    rows = [f"s{i:04d};{40 + i};m;{split}" for i, split in enumerate(("train", "val", "test", "train"))]
    (root / "meta.csv").write_text("\ufeffimage_id;age;gender;split\n" + "\n".join(rows))
    return root


def test_chosen_classes_go_to_training(source, tmp_path, caplog):
    caplog.set_level("INFO")
    converted = convert("totalsegmentator", source, tmp_path / "w", classes=["heart", "liver"])
    assert converted.errors == ()
    assert converted.cases == ("s0000", "s0001", "s0002", "s0003")
    assert converted.test_cases == ("s0002",)
    labels = read_dataset(converted.folder, "x").description.labels
    assert (labels.names, labels.values) == (("background", "heart", "liver"), (0, 1, 2))
    drawn = read_label(converted.folder / "labelsTr/s0001.nii.gz").array[0]
    expected = np.zeros(SHAPE, np.uint8)
    for value, name in ((1, "heart"), (2, "liver")):
        mask = np.asarray(nib.Nifti1Image.from_filename(source / f"s0001/segmentations/{name}.nii.gz").dataobj).T
        expected[mask == 1] = value
    np.testing.assert_array_equal(drawn, expected)
    assert "this is version 2 with 117 classes; 2 of them are converted" in caplog.text
    assert train_two_steps(converted, tmp_path / "w").is_file()


def test_without_a_choice_every_class_is_needed(source, tmp_path):
    converted = convert("totalsegmentator", source, tmp_path / "w")
    assert converted.cases == ("s0003",)
    assert [error.case for error in converted.errors] == ["s0000", "s0001", "s0002"]
    assert converted.errors[0].message.startswith(
        "lacks 112 masks (kidney_right, kidney_left, gallbladder and 109 more)"
    )
    content = json.loads((converted.folder / "dataset.json").read_text())
    assert (content["labels"]["costal_cartilages"], len(content["labels"])) == (117, 118)


def test_unknown_classes_are_refused_with_the_nearest(source, tmp_path):
    with pytest.raises(UserError, match="there is no class 'livr' here; take liver"):
        convert("totalsegmentator", source, tmp_path / "w", classes=["livr"])
    with pytest.raises(UserError, match="there is no class 'face' here"):  # of version 1
        convert("totalsegmentator", source, tmp_path / "w", classes=["face"])
    with pytest.raises(UserError, match="names a class twice"):
        convert("totalsegmentator", source, tmp_path / "w", classes=["liver", "liver"])


def test_versions_are_told_by_their_classes(source, tmp_path):
    assert [len(names) for names in VERSIONS.values()] == [104, 117]
    assert all(len(set(names)) == len(names) for names in VERSIONS.values())
    one, two = VERSIONS.values()
    assert [i for i, (a, b) in enumerate(zip(one, two, strict=False), 1) if a == b] == [1, 2, 3, 4, 5, 6]
    root = tmp_path / "v1"
    write(root, "s0864", ("spleen", "face", "liver"))
    found = totalsegmentator.read(root, classes=["face"])
    assert found.known_broken["s0864"] == "ct.nii.gz is damaged (issue 92)"
    assert "all cases are training cases, because there is no meta.csv" in found.notes
    write(root, "s0001", SMALL)
    with pytest.raises(UserError, match="has classes of versions 1 and 2; give the folder of one version"):
        totalsegmentator.read(root)
    write(tmp_path / "shared", "s0000", ("spleen", "liver"))
    with pytest.raises(UserError, match="has no class that only version 1 or 2 has"):
        totalsegmentator.read(tmp_path / "shared")
    assert len(totalsegmentator.read(tmp_path / "shared", classes=["liver"]).cases) == 1


def test_mr_takes_the_masks_that_its_cases_have(tmp_path):
    for i in range(3):
        write(tmp_path / "mr", f"s{i:04d}", ("vertebrae", "fibula"), image="mri", seed=i)
    label(tmp_path / "mr/s0000/segmentations/mine.nii.gz", [1])
    converted = convert("totalsegmentator", tmp_path / "mr", tmp_path / "w")
    description = read_dataset(converted.folder, "x").description
    assert description.channel_names == ("MR",)
    assert description.labels.names == ("background", "fibula", "vertebrae")
    assert [error.case for error in converted.errors] == ["s0000/segmentations/mine.nii.gz"]
    write(tmp_path / "mr", "s0009")
    with pytest.raises(UserError, match=r"have both ct\.nii\.gz and mri\.nii\.gz"):
        totalsegmentator.read(tmp_path / "mr")


def test_what_makes_no_case_is_named(source, tmp_path):
    (source / "s0000/ct.nii.gz").unlink()
    label(source / "s0001/segmentations/liver.nii", [1])
    label(source / "s0002/segmentations/liver_tumour.nii.gz", [1])
    with (source / "meta.csv").open("a") as file:
        file.write("\ns0007;50;f;train\n")
    converted = convert("totalsegmentator", source, tmp_path / "w", classes=["liver"])
    errors = {error.case: error.message for error in converted.errors}
    assert errors["s0000"] == "has no ct.nii.gz; complete the download"
    assert errors["s0001"] == "has several files for one (liver.nii and liver.nii.gz); keep one"
    assert errors["s0007"] == "is in meta.csv, but has no folder; complete the download"
    assert "is no image or mask of a case" in errors["s0002/segmentations/liver_tumour.nii.gz"]
    assert len(errors) == 4
    (source / "meta.csv").write_text("image_id;age\ns0000;4\n")
    with pytest.raises(UserError, match="has no column 'split'"):
        totalsegmentator.read(source, classes=["liver"])


@pytest.mark.slow
def test_117_masks_become_the_label_map_that_they_were_made_from(test_data, tmp_path):
    """The tool's own reference files: a label map, and the masks that it writes of it."""
    reference = test_data / "samples/totalsegmentator_ref/tests/reference_files"
    folder = tmp_path / "d/s0000"
    shutil.copytree(reference / "example_seg_fast", folder / "segmentations")
    shutil.copy(reference / "example_ct_sm.nii.gz", folder / "ct.nii.gz")
    converted = convert("totalsegmentator", tmp_path / "d", tmp_path / "w")
    written = nib.Nifti1Image.from_filename(converted.folder / "labelsTr/s0000.nii.gz")
    label_map = nib.Nifti1Image.from_filename(reference / "example_seg_fast.nii.gz")
    np.testing.assert_allclose(written.affine, label_map.affine, atol=1e-4)
    np.testing.assert_array_equal(np.asarray(written.dataobj), np.asarray(label_map.dataobj))
    assert written.get_data_dtype() == np.uint8


def test_cases_with_sheared_axes_are_set_at_right_angles(tmp_path, caplog):
    """About 140 of the dataset are sheared: https://github.com/wasserth/TotalSegmentator/issues/461."""
    for i in range(3):
        write(tmp_path / "d", f"s{i:04d}", seed=i)
    sheared = np.diag([-1.5, -1.5, 1.5, 1.0])
    sheared[0, 1] = 1.5 * np.tan(np.radians(0.3))
    for path in (tmp_path / "d/s0001").rglob("*.nii.gz"):
        image = nib.Nifti1Image.from_filename(path)
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), sheared), path)
    converted = convert("totalsegmentator", tmp_path / "d", tmp_path / "w", classes=["liver"])
    assert (converted.cases, converted.errors) == (("s0000", "s0001", "s0002"), ())
    assert "the axes of ct.nii.gz were sheared; they were set at right angles" in caplog.text
    assert "planning will refuse" not in caplog.text
    image = nib.Nifti1Image.from_filename(converted.folder / "imagesTr/s0001_0000.nii.gz")
    drawn = nib.Nifti1Image.from_filename(converted.folder / "labelsTr/s0001.nii.gz")
    np.testing.assert_allclose(image.affine, drawn.affine, atol=1e-5)
    cosines = image.affine[:3, :3].T @ image.affine[:3, :3]
    np.testing.assert_allclose(cosines, np.diag(np.diag(cosines)), atol=1e-5)
    for written, name in ((image, "ct"), (drawn, "segmentations/liver")):
        before = nib.Nifti1Image.from_filename(tmp_path / f"d/s0001/{name}.nii.gz")
        np.testing.assert_array_equal(np.asarray(written.dataobj), np.asarray(before.dataobj))
        middle = [(n - 1) / 2 for n in before.shape]
        center = nib.affines.apply_affine(before.affine, middle)
        np.testing.assert_allclose(nib.affines.apply_affine(written.affine, middle), center, atol=1e-4)
