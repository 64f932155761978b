"""What converters of fixed layouts share: parts of a download, folders of cases, and images below a folder."""

import os
from pathlib import Path

import pytest

from unetrpp.core.errors import UserError
from unetrpp.dataset_conversion.finding import (
    by_case,
    by_name,
    case_folders,
    child,
    folder_with,
    images_in_tree,
    listed_folder,
    not_used,
    part_of,
    together,
)

IMAGE, LABEL = r"img(?P<case>\d+)\.nii(\.gz)?", r"label(?P<case>\d+)\.nii(\.gz)?"


@pytest.fixture
def folder(tmp_path):
    for name in (
        "img1.nii.gz",
        "label1.nii.gz",
        "img2.nii.gz",
        "label3.nii.gz",
        "img4.nii",
        "img4.nii.gz",
        "label4.nii",
    ):
        (tmp_path / name).write_bytes(b"x")
    return tmp_path


def test_a_part_has_its_pairs_and_says_what_the_others_lack(folder):
    part = part_of(folder.iterdir(), folder.iterdir(), image=IMAGE, label=LABEL, name="c{}")
    assert [(case.id, case.images, case.label) for case in part.cases] == [
        ("c1", (folder / "img1.nii.gz",), folder / "label1.nii.gz")
    ]
    assert part.left_out == {
        "c2": "has no label; complete the download, or remove its image",
        "c3": "has no image; complete the download, or remove its label",
        "c4": "has several files for one (img4.nii and img4.nii.gz); keep one",
    }
    names = {path.name for path, why in part.known.items() if why is None}
    assert names == {"img2.nii.gz", "label3.nii.gz", "img4.nii", "img4.nii.gz", "label4.nii"}


def test_a_test_part_needs_no_labels(folder):
    part = part_of(folder.iterdir(), folder.iterdir(), image=IMAGE, label=LABEL, test=True)
    assert [(case.id, case.test, case.labelled) for case in part.cases] == [("1", True, True), ("2", True, False)]
    assert sorted(part.left_out) == ["3", "4"]


def test_a_case_of_two_parts_is_in_none(folder):
    one = part_of(folder.iterdir(), folder.iterdir(), image=IMAGE, label=LABEL)
    both = together(one, one)
    assert both.cases == ()
    assert both.left_out["1"] == "is in two parts of the dataset; remove one of them"
    assert both.known[folder / "img1.nii.gz"] is None
    assert together(one) == one


def test_folders_of_cases_are_found_below_others(tmp_path):
    for path in ("a/data/case_1", "a/data/CASE_2", "a/data/case_1/case_9", "a/.case_3", "b/c/d/e/case_4"):
        (tmp_path / path).mkdir(parents=True)
    found = case_folders(tmp_path, r"case_\d", "case_1")
    assert found == {"case_1": tmp_path / "a/data/case_1", "CASE_2": tmp_path / "a/data/CASE_2"}
    (tmp_path / "b/case_1").mkdir()
    with pytest.raises(UserError, match=r"two folders of one case \(b/case_1 and a/data/case_1\)"):
        case_folders(tmp_path, r"case_\d", "case_1")


def test_raw_datasets_below_a_download_are_no_part_of_it(tmp_path):
    made = ("w/raw/D/labelsTr/img1.nii", "w/preprocessed/D/fixed/img1.nii")
    for name in ("img1.nii", *made, "._img2.nii", "a/img3.nii", "w/img4.nii"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "w/raw/D/conversion.json").write_text("{}")
    assert images_in_tree(tmp_path) == [tmp_path / name for name in ("a/img3.nii", "img1.nii", "w/img4.nii")]
    assert [*not_used(tmp_path, (), "x")] == images_in_tree(tmp_path)


@pytest.mark.parametrize("given", ["raw/D", "raw", "elsewhere"])
@pytest.mark.parametrize("relative", [False, True])
def test_a_record_of_the_download_itself_hides_nothing(tmp_path, monkeypatch, given, relative):
    """A raw dataset of a colleague is a source as well, and other programs have files of this name, too."""
    for folder in ("raw/D", "elsewhere/annotations"):
        (tmp_path / folder / "imagesTr").mkdir(parents=True)
        (tmp_path / folder / "imagesTr" / "stray.nii").write_bytes(b"x")
        (tmp_path / folder / "conversion.json").write_text("{}")
    monkeypatch.chdir(tmp_path / given)
    root = Path() if relative else tmp_path / given
    assert [path.name for path in images_in_tree(root)] == ["stray.nii"]
    assert [path.name for path in not_used(root, (), "x")] == ["stray.nii"]


def test_names_and_folders_in_any_capitals(tmp_path):
    (tmp_path / "ImagesTr").mkdir()
    (tmp_path / "ImagesTr/CT.nii.gz").write_bytes(b"x")
    files = listed_folder(tmp_path, "imagesTr")
    assert by_name(files, r"(?P<case>ct)\.nii(\.gz)?") == ({"ct": tmp_path / "ImagesTr/CT.nii.gz"}, {})
    assert listed_folder(tmp_path, "imagesVa") == []


def test_a_folder_that_may_not_be_opened_is_named_and_ends_nothing(folder, monkeypatch):
    """Root may open all, so that the system's answers are given here."""
    locked = folder / "locked"
    (locked / "inside").mkdir(parents=True)
    iterdir, access = Path.iterdir, os.access

    def opened(path):
        if path == locked:
            raise PermissionError(13, "Permission denied", str(path))
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", opened)
    monkeypatch.setattr(os, "access", lambda path, mode: path != locked and access(path, mode))
    assert listed_folder(folder, "locked") == []
    assert child(folder, "locked/inside") is None
    with pytest.raises(UserError, match="has no folders of cases"):
        case_folders(folder, r"inside", "inside")
    with pytest.raises(UserError, match="has no folder with inside"):
        folder_with(folder, "inside")
    assert "permission denied" in not_used(folder, (), "x")[locked]


def test_doubles_of_one_name_are_told_apart_by_their_folders():
    found, several = by_case([Path(f"d/{a}/p1/x1.nii") for a in ("training", "testing")], r"(?P<case>x\d)\.nii")
    assert found == {}
    assert set(several.values()) == {
        "is one of several files of this case (testing/p1/x1.nii and training/p1/x1.nii); keep one"
    }
