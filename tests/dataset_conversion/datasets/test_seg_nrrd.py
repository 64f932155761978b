"""Segmentations of 3D Slicer beside their images: the ways in which pairs lie, from files to training."""

import json
import shutil
import unicodedata

import numpy as np
import pytest
import SimpleITK as sitk

from tests.helpers.downloads import SHAPE, convert, scan, train_two_steps
from tests.helpers.slicer import write_segments
from unetrpp.core.errors import UserError

ANATOMY = ["a=first", "b=second", "c=third"]


def layers(seed=0, shape=SHAPE):
    return np.random.default_rng(seed).integers(0, 3, (2, *shape))


def pair(image, segmentation, seed=0):
    lower = image.with_name(image.name.lower())  # ITK writes no other ending
    scan(lower, ct=True, seed=seed, spacing=(1.0, 1.0, 2.0)).rename(image)
    write_segments(segmentation, layers(seed))


def expected(seed=0):
    array = layers(seed)
    label = array[0].copy()
    label[array[1] == 1] = 3
    return label


def written(converted, case):
    (path,) = converted.folder.glob(f"labelsTr/{case}.n*")
    return sitk.GetArrayFromImage(sitk.ReadImage(path))


@pytest.fixture
def root(tmp_path):
    """Two folders of one pair each, and one with two pairs by name, of which one has another format."""
    root = tmp_path / "Slicer scenes"
    pair(root / "Müller/CT chest.nrrd", root / "Müller/Segmentation.seg.nrrd", 1)
    pair(root / "b/image.NII.GZ", root / "b/Segmentation_1.SEG.NRRD", 2)
    pair(root / "c/c1.nrrd", root / "c/C1.seg.nrrd", 3)
    pair(root / "c/c2.mha", root / "c/c2.seg.nrrd", 4)
    return root


def test_pairs_go_from_slicer_to_training(root, tmp_path, caplog):
    caplog.set_level("INFO")
    converted = convert("seg-nrrd", root, tmp_path / "w", channel="CT", segment=ANATOMY)
    assert converted.errors == ()
    assert sorted(converted.cases) == ["Müller", "b", "c1", "c2"]
    for seed, case in enumerate(("Müller", "b", "c1", "c2"), 1):
        np.testing.assert_array_equal(written(converted, case), expected(seed))
    content = json.loads((converted.folder / "dataset.json").read_text())
    assert content["labels"] == {"background": 0, "first": 1, "second": 2, "third": 3}
    assert content["channel_names"] == {"0": "CT"}
    assert "terminology, colours and tags stay in the .seg.nrrd files" in caplog.text
    assert (
        "masks overlap, and the later one counts there: first and third (4 cases) and second and third (4 cases)"
        in caplog.text
    )
    assert train_two_steps(converted, tmp_path / "w").is_file()


def test_images_are_linked_or_copied_as_they_are(tmp_path):
    for seed, case in enumerate("ab"):
        pair(tmp_path / f"src/{case}/ct.nrrd", tmp_path / f"src/{case}/s.seg.nrrd", seed)
    converted = convert("seg-nrrd", tmp_path / "src", tmp_path / "w", channel="MR", segment=ANATOMY, link=True)
    assert (converted.folder / "imagesTr/b_0000.nrrd").resolve() == tmp_path / "src/b/ct.nrrd"
    np.testing.assert_array_equal(written(converted, "b"), expected(1))


def test_what_is_in_no_pair_is_named(root, tmp_path):
    scan(root / "alone/ct.nrrd")
    pair(root / "two/x.nrrd", root / "two/s1.seg.nrrd")
    shutil.copy(root / "two/s1.seg.nrrd", root / "two/s2.seg.nrrd")
    pair(root / "both/y.nii.gz", root / "both/y.seg.nrrd")
    scan(root / "both/y.nii")
    pair(root / "bad/z.nrrd", root / "bad/z.seg.nrrd")
    (root / "bad/z.seg.nrrd").write_bytes(b"NRRD0004\ntype: uchar\n\n")
    pair(root / "broken/k.nrrd", root / "broken/k.seg.nrrd")
    (root / "broken/k.seg.nrrd").write_bytes((root / "broken/k.seg.nrrd").read_bytes()[:-100])
    (root / "c/._c1.nrrd").write_bytes(b"x")
    converted = convert("seg-nrrd", root, tmp_path / "w", channel="CT", segment=ANATOMY)
    found = {error.case: error.message for error in converted.errors}
    assert sorted(converted.cases) == ["Müller", "b", "c1", "c2"]
    assert "k.seg.nrrd is damaged or truncated" in found.pop("k")
    assert found.pop("z").startswith("z.seg.nrrd lists no segments")
    lone = "has no segmentation; save one beside it as NAME.seg.nrrd, or remove the image"
    several = "is one of several images of one segmentation, or that segmentation; keep one image"
    unnamed = "has no image of its name, and its folder holds 1 other image; give it its image's name, or one folder to each case"
    assert found == {
        "alone/ct.nrrd": lone,
        "two/x.nrrd": lone,
        "two/s1.seg.nrrd": unnamed,
        "two/s2.seg.nrrd": unnamed,
        "both/y.nii": several,
        "both/y.nii.gz": several,
        "both/y.seg.nrrd": several,
    }


def test_folders_above_tell_apart_cases_of_one_name(tmp_path):
    for seed, patient in enumerate(("p1", "p2")):
        pair(tmp_path / f"src/{patient}/CT.nrrd", tmp_path / f"src/{patient}/CT.seg.nrrd", seed)
    name = unicodedata.normalize("NFD", "ü")
    pair(tmp_path / "src/top.nrrd", tmp_path / "src/top.seg.nrrd", 2)
    pair(tmp_path / f"src/q/{name}.nrrd", tmp_path / f"src/q/{unicodedata.normalize('NFC', 'ü')}.seg.nrrd", 3)
    converted = convert("seg-nrrd", tmp_path / "src", tmp_path / "w", channel="CT", segment=ANATOMY)
    assert sorted(converted.cases) == sorted(["p1_CT", "p2_CT", "top", name])
    np.testing.assert_array_equal(written(converted, "p2_CT"), expected(1))
    pair(tmp_path / "src/p1_CT.nrrd", tmp_path / "src/p1_CT.seg.nrrd")
    with pytest.raises(UserError, match=r"two cases in .* would be called p1_ct; rename a folder or a file"):
        convert("seg-nrrd", tmp_path / "src", tmp_path / "w2", channel="CT", segment=ANATOMY)


def test_classes_that_a_case_lacks_can_be_allowed(root, tmp_path):
    write_segments(root / "b/Segmentation_1.SEG.NRRD", layers(2), segments=[("A", 0, 2)])
    converted = convert("seg-nrrd", root, tmp_path / "w", channel="CT", segment=ANATOMY)
    assert {error.case: error.message for error in converted.errors} == {
        "b": "has no segment for second or third, only 'A'; add the name to --segment, or leave the case out"
    }
    converted = convert("seg-nrrd", root, tmp_path / "w2", channel="CT", segment=ANATOMY, allow_missing_segments=True)
    assert converted.errors == ()
    np.testing.assert_array_equal(written(converted, "b"), layers(2)[0] == 2)


def test_the_channel_and_the_segments_are_asked_for(root, tmp_path):
    with pytest.raises(UserError, match=r"what are the images\? give --channel NAME, such as CT"):
        convert("seg-nrrd", root, tmp_path / "w", segment=ANATOMY)
    with pytest.raises(UserError, match=r"give --segment NAME\[=CLASS\] .* there are 'a' \(4 cases\), 'b' \(4 cases\)"):
        convert("seg-nrrd", root, tmp_path / "w", channel="CT")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"holds no \.seg\.nrrd file with its image beside it"):
        convert("seg-nrrd", tmp_path / "empty", tmp_path / "w", channel="CT")
    for name in ("one", "two"):
        shutil.copy(root / "Müller/Segmentation.seg.nrrd", tmp_path / f"empty/{name}.seg.nrrd")
    with pytest.raises(
        UserError, match=r"beside it: one\.seg\.nrrd has no image of its name, and its folder holds 0 other"
    ):
        convert("seg-nrrd", tmp_path / "empty", tmp_path / "w", channel="CT")


def test_a_segmentation_on_another_grid_costs_its_case(root, tmp_path):
    scan(root / "c/c1.nrrd", ct=True, spacing=(1.5, 1.0, 2.0))
    converted = convert("seg-nrrd", root, tmp_path / "w", channel="CT", segment=ANATOMY)
    (error,) = converted.errors
    assert error.case == "c1"
    assert "C1.seg.nrrd is not on the image's grid" in error.message


def test_the_samples_of_slicer(test_data, tmp_path):
    """All segments in the order of the file: the label map is Slicer's own where nothing overlaps."""
    folder = test_data / "samples/slicer_nrrd/slicerio/data"
    names = ["ribs", "cervical *", "thoracic *", "lumbar *", "right lung", "left lung", "tissue"]
    for case in ("Segmentation", "SegmentationOverlapping"):
        (tmp_path / "src" / case).mkdir(parents=True)
        shutil.copy(folder / "CTChest4.nrrd", tmp_path / "src" / case)
        shutil.copy(folder / f"{case}.seg.nrrd", tmp_path / "src" / case)
    choice = [f"{name}={name.rstrip(' *')}" for name in names] + ["overlapping sphere=sphere"]
    converted = convert(
        "seg-nrrd", tmp_path / "src", tmp_path / "w", channel="CT", segment=choice, allow_missing_segments=True
    )
    assert converted.errors == ()
    plain, overlapping = (
        sitk.GetArrayFromImage(sitk.ReadImage(folder / f"{case}.seg.nrrd"))
        for case in ("Segmentation", "SegmentationOverlapping")
    )
    np.testing.assert_array_equal(written(converted, "Segmentation"), plain)
    sphere = np.where(overlapping[..., 1] == 1, 8, overlapping[..., 0])
    np.testing.assert_array_equal(written(converted, "SegmentationOverlapping"), sphere)
