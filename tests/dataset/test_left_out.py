"""Every file of a folder of images, and of a raw dataset, is used by a case, named, or does not count."""

import tempfile
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.tiny import LABELS
from unetrpp.core.errors import UserError
from unetrpp.core.files import write_json
from unetrpp.dataset.cases import read_dataset
from unetrpp.dataset.description import DatasetDescription, nnunet_json
from unetrpp.dataset.verification import strays
from unetrpp.inference.inputs import find_cases
from unetrpp.inference.left_out import left_out

NAMES = st.sampled_from(["a", "b", "a_0000", "a_0001", "a_0002", "b_0001", "c_0000", "._a_0000", "Thumbs"])
ENDINGS = st.sampled_from([".nii.gz", ".nii", ".NII.GZ", ".mha", ".txt", ".json", ".png", ".mgz", ".dcm", ".db", ""])
FOLDERS = st.sampled_from([".", ".", "deep", "more/deep", "__MACOSX", "texts"])
FILES = st.sets(st.tuples(FOLDERS, NAMES, ENDINGS), max_size=12)
LINKS = st.sets(st.sampled_from(["gone.nii.gz", "a_0001.nii.gz", "folder"]), max_size=2)


def described(channels):
    return DatasetDescription(name="x", channel_names=channels, labels=LABELS, file_ending=".nii.gz")


def fill(folder, files, links):
    for place, name, ending in files:
        (folder / place).mkdir(parents=True, exist_ok=True)
        (folder / place / f"{name}{ending}").touch()
    for link in links:
        if not (folder / link).exists():
            (folder / link).symlink_to("nowhere")


def does_not_count(path):
    """Written anew: hidden, of the system, or no image."""
    endings = ("*.nii.gz", "*.nii", "*.mha", "*.png", "*.mgz", "*.dcm")
    is_image = any(fnmatchcase(path.name.lower(), ending) for ending in endings)
    return path.name.startswith(".") or "__MACOSX" in path.parts or not is_image


def check(folder, used, named):
    for path in (path for path in folder.rglob("*") if path.is_file() or path.is_symlink()):
        relative = path.relative_to(folder)
        is_named = bool({parent.as_posix() for parent in (relative, *relative.parents)} & named)
        if does_not_count(relative) and not path.is_symlink():
            assert path not in used
        else:
            assert (path in used) != is_named, (relative, used, named)


@settings(max_examples=150, deadline=None)
@given(FILES, LINKS, st.sampled_from([("MR",), ("T1", "T2")]), st.sampled_from([".nii.gz", ".mha", ".NII.GZ"]))
def test_a_folder_to_predict(files, links, channels, ending):
    with tempfile.TemporaryDirectory() as temporary:
        folder, description = Path(temporary), described(channels)
        (folder / f"case_0000{ending}").touch()
        fill(folder, files, links)
        cases = find_cases([folder], description)
        used = {path for paths in cases.values() for path in paths}
        check(folder, used, left_out(folder, cases, description).keys())


@settings(max_examples=150, deadline=None)
@given(FILES, FILES, LINKS, st.sampled_from([("MR",), ("T1", "T2")]))
def test_a_raw_dataset(images, labels, links, channels):
    with tempfile.TemporaryDirectory() as temporary:
        folder, description = Path(temporary), described(channels)
        write_json(folder / "dataset.json", nnunet_json(description, 1))
        for part, files in (("imagesTr", images), ("labelsTr", labels)):
            (folder / part).mkdir()
            fill(folder / part, files, links)
        (folder / "imagesTr" / "case_0000.nii.gz").touch()
        dataset = read_dataset(folder, "x")
        named = {problem.case for problem in strays(dataset)}
        used = {path for case in dataset.cases for path in (*case.images, case.label)}
        for part in ("imagesTr", "labelsTr"):
            check(folder / part, used, {name.removeprefix(f"{part}/") for name in named if name.startswith(part)})


@pytest.mark.parametrize("names", [[], ["notes.txt"], ["._a_0000.nii.gz", ".DS_Store"]])
def test_a_folder_without_images_is_refused(tmp_path, names):
    for name in names:
        (tmp_path / name).touch()
    with pytest.raises(UserError, match="has no image named CASE_0000"):
        find_cases([tmp_path], described(("MR",)))


def test_all_that_a_folder_without_cases_holds_is_named(tmp_path):
    for name in ("PT/s/a_0000.nii.gz", "CT/b_0000.nii.gz"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"but CT and PT/s hold images; give one of these folders"):
        find_cases([tmp_path], described(("MR",)))
    for name in ("a.nii.gz", "b.nii.gz", "c.nii.gz"):
        (tmp_path / name).touch()
    with pytest.raises(UserError, match=r"but a\.nii\.gz and 2 more; rename it to a_0000\.nii\.gz"):
        find_cases([tmp_path], described(("MR",)))
