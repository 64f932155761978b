"""What all public datasets share: links, known broken cases, groups, notes, options, the list."""

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from unetrpp.core.errors import UserError
from unetrpp.dataset.cases import read_dataset
from unetrpp.dataset_conversion.conversion import convert_dataset
from unetrpp.dataset_conversion.convert import main
from unetrpp.dataset_conversion.datasets import layout, layout_names, msd
from unetrpp.dataset_conversion.finding import by_case, child, folder_with
from unetrpp.dataset_conversion.folder import convert_folder
from unetrpp.io.images import Volume, read_image

RNG = np.random.default_rng(8)


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(path))


@pytest.fixture
def source(tmp_path):
    """Two scans of one patient and one of another, in the decathlon's layout."""
    root = tmp_path / "Task03_Three"
    cases = ("a_1", "a_2", "b_1")
    for case in cases:
        write(root / "imagesTr" / f"{case}.nii.gz", RNG.normal(size=(4, 5, 6)).astype(np.float32))
        write(root / "labelsTr" / f"{case}.nii.gz", RNG.integers(0, 2, (4, 5, 6)).astype(np.uint8))
    pairs = [{"image": f"imagesTr/{case}.nii.gz", "label": f"labelsTr/{case}.nii.gz"} for case in cases]
    content = {"modality": {"0": "MR"}, "labels": {"0": "background", "1": "x"}, "training": pairs}
    (root / "dataset.json").write_text(json.dumps(content))
    return root


def convert(source, tmp_path, **choices):
    return convert_dataset("msd", source, workspace=tmp_path / "w", processes=1, **choices)


def changed(monkeypatch, **fields):
    """The decathlon's reader, with other fields in what it finds."""
    read = msd.read
    monkeypatch.setattr(msd, "read", lambda folder: replace(read(folder), **fields))


def test_links_stand_for_files_that_can_stay_as_they_are(source, tmp_path):
    converted = convert(source, tmp_path, link=True)
    files = [path for part in ("imagesTr", "labelsTr") for path in sorted((converted.folder / part).iterdir())]
    assert len(files) == 6
    for path in files:
        assert path.is_symlink()
        assert path.resolve().is_relative_to(source)
    image = read_image(converted.folder / "imagesTr/a_1_0000.nii.gz").array
    np.testing.assert_array_equal(image, read_image(source / "imagesTr/a_1.nii.gz").array)
    before = [path.lstat().st_ino for path in files]
    convert(source, tmp_path, link=True)
    assert [path.lstat().st_ino for path in files] == before
    with pytest.raises(UserError, match="with other options; give --name or --overwrite"):
        convert(source, tmp_path)
    convert(source, tmp_path, overwrite=True)
    assert not any(path.is_symlink() for path in files)
    assert read_image(source / "imagesTr/a_1.nii.gz").array.shape == image.shape  # the sources are still there


def test_images_that_have_to_be_changed_cannot_be_links(source, tmp_path):
    write(source / "imagesTr/a_1.nrrd", RNG.normal(size=(4, 5, 6)).astype(np.float32))
    (source / "imagesTr/a_1.nii.gz").unlink()
    content = json.loads((source / "dataset.json").read_text())
    content["training"][0]["image"] = "imagesTr/a_1.nrrd"
    (source / "dataset.json").write_text(json.dumps(content))
    converted = convert(source, tmp_path, link=True)
    assert converted.cases == ("a_2", "b_1")
    [error] = converted.errors
    assert error.case == "a_1"
    assert (
        "a_1.nrrd cannot be a link, because the raw dataset has one .nii.gz file a channel; leave out --link"
        in error.message
    )


@dataclass(frozen=True)
class Doubled:
    """An image with twice the values of a file."""

    file: Path

    @property
    def files(self):
        return (self.file,)

    def read(self):
        volume = read_image(self.file)
        return Volume(2 * volume.array, volume.geometry)


def test_images_and_labels_may_be_made(source, tmp_path, monkeypatch):
    found = msd.read(source)
    cases = [replace(case, images=(Doubled(case.files[0]),)) for case in found.cases]
    changed(monkeypatch, cases=tuple(cases))
    folder = convert(source, tmp_path).folder
    array = read_image(folder / "imagesTr/a_1_0000.nii.gz").array
    np.testing.assert_array_equal(array, 2 * read_image(source / "imagesTr/a_1.nii.gz").array)
    stamp = (folder / "imagesTr/a_1_0000.nii.gz").stat()
    convert(source, tmp_path)
    assert (folder / "imagesTr/a_1_0000.nii.gz").stat().st_ino == stamp.st_ino
    result = convert(source, tmp_path, name="links", link=True)
    assert len(result.errors) == 3
    assert "a_1.nii.gz cannot be a link, because the raw dataset needs it changed" in result.errors[0].message
    changed(monkeypatch, cases=(replace(found.cases[0], label=Doubled(found.cases[0].files[1])), *found.cases[1:]))
    result = convert(source, tmp_path, name="labels")
    assert [error.case for error in result.errors] == ["a_1"]
    assert "a_1.nii.gz holds the label 2, but only 0, 1 are declared" in result.errors[0].message


def test_sheared_images_and_labels_are_set_at_right_angles_and_named(source, tmp_path, caplog):
    """Also where every file is, so that none tells the format of the others; voxels stay as they are."""
    for path in source.rglob("*.nii.gz"):
        image = nibabel.Nifti1Image.from_filename(path)
        sheared = image.affine.copy()
        sheared[0, 1] = sheared[1, 1] * np.tan(np.radians(0.5))
        nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), sheared), path)
    converted = convert(source, tmp_path)
    assert (converted.cases, converted.errors) == (("a_1", "a_2", "b_1"), ())
    for case in converted.cases:
        assert f"the axes of {case}.nii.gz were sheared; they were set at right angles" in caplog.text
    for before, after in (("imagesTr/a_1", "imagesTr/a_1_0000"), ("labelsTr/b_1", "labelsTr/b_1")):
        written = nibabel.Nifti1Image.from_filename(converted.folder / f"{after}.nii.gz")
        np.testing.assert_array_equal(
            written.dataobj, nibabel.Nifti1Image.from_filename(source / f"{before}.nii.gz").dataobj
        )
        assert abs(written.affine[:3, 0] @ written.affine[:3, 1]) < 1e-5
    assert len(convert(source, tmp_path, name="links", link=True).errors) == 3


def test_known_broken_cases_are_named_and_left_out_on_request(source, tmp_path, monkeypatch, caplog):
    changed(monkeypatch, known_broken={"a_2": "its label is of another scan", "z": "is in no download"})
    assert convert(source, tmp_path).cases == ("a_1", "a_2", "b_1")
    assert "1 case is known to be broken; --skip-known-broken leaves them out" in caplog.text
    assert "its label is of another scan" in caplog.text
    assert "is in no download" not in caplog.text
    without = convert(source, tmp_path, name="without", skip_known_broken=True)
    assert without.cases == ("a_1", "b_1")
    assert without.errors == ()
    assert without.left_out == {"a_2": "its label is of another scan"}


def test_groups_of_the_source_are_written_and_those_of_the_user_kept(source, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    changed(monkeypatch, groups={"a_1": "a", "a_2": "a", "b_1": "b"}, notes=("a and b are two patients",))
    folder = convert(source, tmp_path).folder
    assert read_dataset(folder, folder.name).description.groups == {"a_1": "a", "a_2": "a", "b_1": "b"}
    assert "a and b are two patients" in caplog.text
    content = json.loads((folder / "dataset.json").read_text())
    content["groups"]["b_1"] = "a"
    (folder / "dataset.json").write_text(json.dumps(content))
    convert(source, tmp_path)
    assert read_dataset(folder, folder.name).description.groups == {"a_1": "a", "a_2": "a", "b_1": "a"}


def test_what_planning_would_refuse_is_said_at_once(source, tmp_path, monkeypatch, caplog):
    other = sitk.ReadImage(str(source / "labelsTr/a_1.nii.gz"))
    other.SetOrigin((30, 0, 0))
    sitk.WriteImage(other, str(source / "labelsTr/a_1.nii.gz"))
    assert convert(source, tmp_path).errors == ()
    assert "planning will refuse these cases" in caplog.text
    assert "a_1   label and image must be on the same grid, but their corners lie 30 mm apart" in caplog.text
    caplog.clear()
    changed(monkeypatch, channel_names=("CT",))
    convert(source, tmp_path, name="ct")
    assert caplog.text.count("are not Hounsfield units") == 3


def test_unknown_datasets_and_options_are_refused_with_the_known_ones(source, tmp_path):
    with pytest.raises(UserError, match=r"'acdcc' is no dataset that can be converted; take one of .*msd"):
        convert_dataset("acdcc", source)
    with pytest.raises(UserError, match="msd has no option 'year'; its options are protocol and validate_on_test"):
        convert(source, tmp_path, year=2021)
    with pytest.raises(UserError, match="neither a folder nor"):
        convert(tmp_path / "absent", tmp_path)


def test_the_list_names_every_dataset_with_its_facts(capsys):
    assert main(["list"]) == 0
    text = capsys.readouterr().out
    for name in layout_names():
        about = layout(name).ABOUT
        assert f"\n{name} " in f"\n{text}"
        assert all(
            fact in text for fact in (about.title, about.modality, about.cases, about.size, about.origin, about.licence)
        )
        assert layout(name).__doc__


def test_the_folder_meant_is_found_whatever_a_download_adds_above_it(tmp_path):
    (tmp_path / "x/Abdomen/RawData/Training/IMG").mkdir(parents=True)
    assert folder_with(tmp_path, "training/img") == tmp_path / "x/Abdomen/RawData"
    assert child(tmp_path / "x/Abdomen", "rawdata/TRAINING") == tmp_path / "x/Abdomen/RawData/Training"
    assert child(tmp_path, "y") is None
    with pytest.raises(UserError, match="has no folder with Testing"):
        folder_with(tmp_path, "Testing")
    (tmp_path / "x/RawData/Training/img").mkdir(parents=True)
    (tmp_path / "x/Other/Training/img").mkdir(parents=True)
    with pytest.raises(UserError, match=r"holds several such datasets \(x/Other and x/RawData\)"):
        folder_with(tmp_path, "training/img")


def test_files_are_paired_by_case_and_doubles_are_named():
    paths = [Path(name) for name in ("IMG1.nii.gz", "img2.nii", "img2.nii.gz", "._img1.nii.gz", "other.nii.gz")]
    found, several = by_case(paths, r"img(?P<case>\d)\.nii(\.gz)?")
    assert found == {"1": Path("IMG1.nii.gz")}
    assert sorted(several) == [Path("img2.nii"), Path("img2.nii.gz")]
    assert "keep one" in several[Path("img2.nii")]


def test_a_link_is_checked_again_when_its_source_changed(source, tmp_path):
    assert convert(source, tmp_path, link=True).errors == ()
    path = source / "labelsTr/a_1.nii.gz"
    write(path, np.full((4, 5, 6), 7, np.uint8))
    later = path.stat().st_mtime + 60
    os.utime(path, (later, later))
    [error] = convert(source, tmp_path, link=True).errors
    assert error.message.startswith("a_1.nii.gz holds the label 7")
    assert not (tmp_path / "w/raw/Three/labelsTr/a_1.nii.gz").is_symlink()
    assert int(sitk.GetArrayFromImage(sitk.ReadImage(str(path))).min()) == 7


def test_copies_after_links_leave_the_source_as_it_is(source, tmp_path):
    before = {path: path.read_bytes() for path in source.rglob("*.nii.gz")}
    convert(source, tmp_path, link=True)
    copied = convert(source, tmp_path, overwrite=True)
    assert copied.errors == ()
    assert not any(path.is_symlink() for path in copied.folder.rglob("*"))
    assert {path: path.read_bytes() for path in source.rglob("*.nii.gz")} == before


def test_a_moved_source_is_said_to_be_another_one(source, tmp_path):
    convert(source, tmp_path)
    moved = source.rename(tmp_path / "moved")
    with pytest.raises(UserError, match=r"was converted from .*Task03_Three; give --name"):
        convert(moved, tmp_path, name="Three")


@pytest.mark.parametrize("name", ["{mine}", "../mine", "a/b", ".", "..", ".hidden"])
def test_a_name_that_leads_to_another_folder_is_refused(source, tmp_path, name):
    mine = tmp_path / "w/mine"
    mine.mkdir(parents=True)
    (tmp_path / "w/unpacked").mkdir()
    (mine / "x.txt").write_text("mine")
    with pytest.raises(UserError, match=r"a dataset cannot be called .* give a --name without /"):
        convert(source, tmp_path, name=name.format(mine=mine))
    with pytest.raises(UserError, match="a dataset cannot be called"):
        convert_folder(
            source,
            images=["imagesTr"],
            labels="labelsTr",
            channel=["MR"],
            label={"x": 1},
            name=name.format(mine=mine),
            workspace=tmp_path / "w",
        )
    assert sorted(path.name for path in (tmp_path / "w").rglob("*")) == ["mine", "unpacked", "x.txt"]


def test_a_source_in_the_workspace_stays(source, tmp_path):
    """What an archive with an error left is completed by hand, and given as a folder."""
    place = tmp_path / "w/unpacked/Three"
    place.parent.mkdir(parents=True)
    source.rename(place)
    assert convert(place, tmp_path).errors == ()
    assert (place / "dataset.json").is_file()


def test_an_archive_is_not_unpacked_over_itself(tmp_path):
    place = tmp_path / "w/unpacked/Three/a.zip"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"PK")
    with pytest.raises(UserError, match="lies in the folder that it is unpacked to; move it out"):
        convert(place, tmp_path, name="Three")
    assert place.is_file()


def test_a_folder_is_not_converted_onto_itself(source, tmp_path):
    """As `--overwrite` would replace and remove the user's files."""
    raw = tmp_path / "w" / "raw"
    raw.mkdir(parents=True)
    place = raw / "Three"
    source.rename(place)
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    for choices in ({"overwrite": True}, {"overwrite": True, "link": True}, {}):
        with pytest.raises(
            UserError, match="which the conversion fills: it would replace your files; give another --name"
        ):
            convert(place, tmp_path, name="Three", **choices)
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before


def test_an_earlier_spacing_of_a_tiff_does_not_stay(tmp_path):
    """The first files had a wrong spacing beside them; the new ones have none."""
    root = tmp_path / "src"
    for part, high in (("images", 255), ("labels", 2)):
        write(root / part / "a.tif", RNG.integers(0, high, (3, 8, 9)).astype(np.uint8))
        (root / part / "a.json").write_text('{"spacing": [99, 9, 9]}')

    def spacing(**choices):
        raw = convert_folder(
            root,
            images=["images"],
            labels="labels",
            channel=["CT"],
            label={"x": 1},
            workspace=tmp_path / "w",
            **choices,
        ).folder
        files = (raw / "imagesTr" / "a_0000.tif", raw / "labelsTr" / "a.tif")
        return [read_image(file).geometry.spacing_zyx_mm for file in files]

    assert spacing() == [(99, 9, 9)] * 2
    for part in ("images", "labels"):
        (root / part / "a.json").unlink()
    assert spacing(overwrite=True) == [(1, 1, 1)] * 2


def test_a_patient_keeps_the_name_of_the_group(source, tmp_path, monkeypatch):
    """Named after its earliest scan, which is another one now; a case that is gone has no group."""
    changed(monkeypatch, groups={"a_1": "a_1", "a_2": "a_1"})
    folder = convert(source, tmp_path).folder
    changed_again = {"a_1": "a_0", "a_2": "a_0", "b_1": "a_0"}
    monkeypatch.undo()
    content = json.loads((folder / "dataset.json").read_text())
    content["groups"]["gone"] = "a_1"
    (folder / "dataset.json").write_text(json.dumps(content))
    changed(monkeypatch, groups=changed_again)
    convert(source, tmp_path, overwrite=True)
    groups = read_dataset(folder, "Three").description.groups
    assert groups == dict.fromkeys(("a_1", "a_2", "b_1"), "a_1")


@pytest.mark.parametrize(
    "first", [{"a_1": "P1", "a_2": "P01", "b_1": "B"}, {"a_1": "P1", "a_2": "P1", "b_1": "P1"}, {}]
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_groups_that_the_source_corrects_are_corrected(source, tmp_path, monkeypatch, first, overwrite):
    changed(monkeypatch, groups=first)
    convert(source, tmp_path)
    monkeypatch.undo()
    changed(monkeypatch, groups={"a_1": "P1", "a_2": "P1", "b_1": "P2"})
    folder = convert(source, tmp_path, overwrite=overwrite).folder
    groups = read_dataset(folder, folder.name).description.groups
    assert groups is not None
    assert groups["a_1"] == groups["a_2"] != groups["b_1"]


def test_groups_that_the_source_no_longer_gives_are_gone(source, tmp_path, monkeypatch):
    changed(monkeypatch, groups={"a_1": "sub", "a_2": "sub", "b_1": "sub"})
    folder = convert(source, tmp_path).folder
    content = json.loads((folder / "dataset.json").read_text())
    content["groups"]["b_1"] = "mine"
    (folder / "dataset.json").write_text(json.dumps(content))
    monkeypatch.undo()
    changed(monkeypatch, groups={})
    for _ in range(2):
        convert(source, tmp_path)
        assert read_dataset(folder, folder.name).description.groups == {"b_1": "mine"}


def test_groups_of_a_conversion_that_did_not_record_them_are_the_users(source, tmp_path, monkeypatch):
    changed(monkeypatch, groups={"a_1": "a", "a_2": "a"})
    folder = convert(source, tmp_path).folder
    content = json.loads((folder / "conversion.json").read_text())
    assert content.pop("groups") == {"a_1": "a", "a_2": "a"}
    (folder / "conversion.json").write_text(json.dumps(content))
    changed(monkeypatch, groups={"a_1": "x", "a_2": "y", "b_1": "x"})
    convert(source, tmp_path)
    assert read_dataset(folder, folder.name).description.groups == {"a_1": "a", "a_2": "a", "b_1": "a"}


def test_a_case_whose_source_is_gone_keeps_its_files_and_is_counted(source, tmp_path, caplog):
    folder = convert(source, tmp_path).folder
    assert "could not be converted" not in caplog.text
    label = source / "labelsTr" / "a_2.nii.gz"
    label.unlink()
    label.symlink_to("not_fetched.nii.gz")
    result = convert(source, tmp_path, skip_unreadable=True)
    assert list(result.left_out) == ["a_2"]
    assert {path.name for path in folder.rglob("a_2*")} == {"a_2_0000.nii.gz", "a_2.nii.gz"}
    assert "the dataset has files of 1 case that could not be converted now (a_2)" in caplog.text
    assert (
        json.loads((folder / "dataset.json").read_text())["numTraining"]
        == 3
        == len(read_dataset(folder, "Three").cases)
    )


def test_no_image_stays_without_its_label(source, tmp_path, caplog):
    folder = convert(source, tmp_path).folder
    (source / "labelsTr" / "a_2.nii.gz").write_bytes(b"")
    convert(source, tmp_path, skip_unreadable=True)
    assert not list(folder.rglob("a_2*"))
    assert "planning takes them" not in caplog.text
    assert json.loads((folder / "dataset.json").read_text())["numTraining"] == 2


@pytest.mark.parametrize(
    ("given", "moved", "later", "expected"),
    [
        ({"a_1": "s", "a_2": "s", "b_1": "s"}, {"a_1": "mine"}, {}, {"a_1": "mine", "a_2": "s", "b_1": "s"}),
        ({"a_1": "a", "a_2": "b", "b_1": "b"}, {"a_2": "a"}, {}, {"a_1": "a", "a_2": "a", "b_1": "b"}),
        ({"a_1": "a", "a_2": "b", "b_1": "b"}, {"a_2": "a"}, {"a_1": "x"}, {"a_1": "a", "a_2": "a", "b_1": "b"}),
        ({"a_1": "a", "b_1": "b"}, {"b_1": "a"}, {"a_2": "b"}, {"a_1": "a", "a_2": "a", "b_1": "a"}),
    ],
)
def test_a_case_that_a_user_moved_moves_no_other(source, tmp_path, monkeypatch, given, moved, later, expected):
    changed(monkeypatch, groups=given)
    folder = convert(source, tmp_path).folder
    content = json.loads((folder / "dataset.json").read_text())
    content["groups"] |= moved
    (folder / "dataset.json").write_text(json.dumps(content))
    changed(monkeypatch, groups=given | later)
    for _ in range(2):
        convert(source, tmp_path)
        assert read_dataset(folder, folder.name).description.groups == expected
