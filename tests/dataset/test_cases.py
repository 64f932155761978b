"""The cases of a raw dataset and their files."""

from unicodedata import normalize

import pytest

from unetrpp.core.errors import UserError
from unetrpp.core.files import write_json
from unetrpp.dataset.cases import read_dataset
from unetrpp.dataset.description import nnunet_json, read_description
from unetrpp.dataset.verification import strays

PLAIN = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1}, "file_ending": ".nii.gz"}


def test_cases_are_listed_even_when_a_file_is_missing(tmp_path):
    write_json(tmp_path / "dataset.json", {**PLAIN, "channel_names": {"0": "CT", "1": "PET"}})
    for name in (
        "imagesTr/b_0000.nii.gz",
        "imagesTr/b_0001.nii.gz",
        "imagesTr/c_0000.nii.gz",
        "labelsTr/a.nii.gz",
        "imagesTr/._x_0000.nii.gz",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    cases = read_dataset(tmp_path, "Made").cases
    assert [case.id for case in cases] == ["a", "b", "c"]
    assert len(cases[1].images) == 2
    assert len(cases[2].images) == 1  # one file may hold both channels


def test_paths_in_the_file(tmp_path):
    entries = {"x": {"images": ["some/where.nii.gz"], "label": "else.nii.gz", "site": "B"}}
    write_json(tmp_path / "dataset.json", {**PLAIN, "dataset": entries})
    description = read_description(tmp_path / "dataset.json", "Made")
    (case,) = read_dataset(tmp_path, "Made").cases
    assert case.images == (tmp_path / "some" / "where.nii.gz",)
    write_json(tmp_path / "dataset.json", nnunet_json(description, 1))
    assert read_description(tmp_path / "dataset.json", "Made").files == description.files


def test_a_folder_without_cases(tmp_path):
    write_json(tmp_path / "dataset.json", PLAIN)
    with pytest.raises(UserError, match="has no training case"):
        read_dataset(tmp_path, "Made")


def test_a_folder_whose_images_have_another_ending_is_refused(tmp_path):
    (tmp_path / "imagesTr").mkdir()
    (tmp_path / "imagesTr" / "a_0000.NII.GZ").touch()
    write_json(tmp_path / "dataset.json", PLAIN)
    with pytest.raises(UserError, match=r"imagesTr has a_0000\.NII\.GZ"):
        read_dataset(tmp_path, "Made")


def test_files_that_belong_to_no_case_are_listed(tmp_path):
    """Another ending, no channel number, or a channel that dataset.json does not know."""
    for name in ("a_0000.nii.gz", "a_0001.nii.gz", "b_0000.NII.GZ", "c.nii.gz", "notes.txt", ".hidden_0000.nii.gz"):
        (tmp_path / "imagesTr").mkdir(exist_ok=True)
        (tmp_path / "imagesTr" / name).touch()
    for name in ("a.nii.gz", "b.NII.GZ"):
        (tmp_path / "labelsTr").mkdir(exist_ok=True)
        (tmp_path / "labelsTr" / name).touch()
    write_json(tmp_path / "dataset.json", PLAIN)
    found = [problem.case for problem in strays(read_dataset(tmp_path, "Made"))]
    names = ("imagesTr/a_0001.nii.gz", "imagesTr/b_0000.NII.GZ", "imagesTr/c.nii.gz", "labelsTr/b.NII.GZ")
    assert found == list(names)


def test_image_and_label_whose_names_differ_in_unicode_form_are_one_case(tmp_path):
    """macOS may have written one of the folders with letters and accents apart."""
    composed, decomposed = (normalize(form, "Müller") for form in ("NFC", "NFD"))
    for name in (f"imagesTr/{decomposed}_0000.nii.gz", f"labelsTr/{composed}.nii.gz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    write_json(tmp_path / "dataset.json", PLAIN)
    dataset = read_dataset(tmp_path, "Made")
    (case,) = dataset.cases
    assert case.id == decomposed  # as its images
    assert case.images[0].exists()
    assert case.label is not None
    assert case.label.exists()
    assert strays(dataset) == []


def test_numbered_images_of_one_channel_belong_to_no_case(tmp_path):
    for i in (1, 2):
        (tmp_path / "imagesTr").mkdir(exist_ok=True)
        (tmp_path / "imagesTr" / f"scan_{i:04d}.nii.gz").touch()
    write_json(tmp_path / "dataset.json", PLAIN)
    with pytest.raises(UserError, match=r"imagesTr has scan_0001\.nii\.gz"):
        read_dataset(tmp_path, "Made")
