"""unetrpp_convert over every defect of a folder: it is refused before the start, or named while the others are converted."""

import json
import shutil

import numpy as np
import pytest
import SimpleITK as sitk

from tests.helpers.folder_defects import DEFECTS, add_what_does_not_count
from unetrpp.core.files import read_json
from unetrpp.dataset_conversion.convert import main
from unetrpp.dataset_conversion.folder import convert_folder

RNG = np.random.default_rng(3)
OPTIONS = ("--channel", "MR", "--label", "organ=1", "--processes", "1")


def write(path, kind=np.int16):
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(RNG.integers(0, 2, (3, 8, 8)).astype(kind)), str(path))


@pytest.fixture
def source(tmp_path):
    for case in "ab":
        write(tmp_path / "src" / "images" / f"{case}.nii.gz")
        write(tmp_path / "src" / "labels" / f"{case}.nii.gz", np.uint8)
    return tmp_path / "src"


def run(source, *more, layout="folder"):
    where = ("--images", "images", "--labels", "labels", *OPTIONS) if layout == "folder" else ()
    return main([layout, str(source), *where, "--workspace", str(source.parent / "w"), "--name", "Made", *more])


def converted(source):
    return {path.name for path in (source.parent / "w" / "raw" / "Made" / "imagesTr").glob("*")}


def test_what_does_not_count_changes_nothing(source, capsys):
    for part in ("images", "labels"):
        add_what_does_not_count(source / part)
    assert run(source) == 0
    assert capsys.readouterr().err == ""
    assert converted(source) == {"a_0000.nii.gz", "b_0000.nii.gz"}


@pytest.mark.parametrize("part", ["images", "labels"])
@pytest.mark.parametrize("kind", DEFECTS)
def test_every_defect_is_refused_or_named_while_the_others_are_converted(source, capsys, kind, part):
    make, name = DEFECTS[kind]
    shutil.copyfile(source / "images" / "b.nii.gz", source / "spare.nii.gz")
    make(source / part, source / "spare.nii.gz")
    (source / "spare.nii.gz").unlink()
    code = run(source)
    rows = [line.removeprefix(f"{part}/") for line in capsys.readouterr().err.splitlines()]
    assert any(row.startswith(name) for row in rows)
    assert code in (1, 2)
    assert converted(source) == ({"a_0000.nii.gz", "b_0000.nii.gz"} if code == 1 else set())
    shutil.rmtree(source.parent / "w", ignore_errors=True)
    assert run(source, "--skip-unreadable") == 0
    rows = [line.removeprefix(f"{part}/") for line in capsys.readouterr().err.splitlines()]
    assert any(row.startswith(name) for row in rows)
    assert converted(source) == {"a_0000.nii.gz", "b_0000.nii.gz"}


@pytest.mark.parametrize("part", ["test_images", "test_labels", "masks"])
@pytest.mark.parametrize("kind", DEFECTS)
def test_every_defect_of_test_cases_and_masks_is_refused_or_named(source, capsys, kind, part):
    make, name = DEFECTS[kind]
    for case in "ab":
        for folder, number in (("test_images", np.int16), ("test_labels", np.uint8), ("masks", np.uint8)):
            write(source / folder / (f"{case}.nii.gz" if folder == "masks" else f"t{case}.nii.gz"), number)
    shutil.copyfile(source / part / ("b.nii.gz" if part == "masks" else "tb.nii.gz"), source / "spare.nii.gz")
    make(source / part, source / "spare.nii.gz")
    (source / "spare.nii.gz").unlink()
    tests = ("--test-images", "test_images", "--test-labels", "test_labels")
    layout = (
        ("--masks", "organ=masks", "--channel", "MR") if part == "masks" else ("--labels", "labels", *OPTIONS, *tests)
    )
    home = ("--workspace", str(source.parent / "w"), "--name", "Made", "--processes", "1")
    for more, codes in (((), (1, 2)), (("--skip-unreadable",), (0,))):
        shutil.rmtree(source.parent / "w", ignore_errors=True)
        assert main(["folder", str(source), "--images", "images", *layout, *home, *more]) in codes
        rows = [line.removeprefix(f"{part}/") for line in capsys.readouterr().err.splitlines()]
        assert any(row.startswith(name) for row in rows)


def test_nothing_that_can_be_used_is_no_success(source):
    for case in "ab":
        (source / "images" / f"{case}.nii.gz").write_bytes(b"")
    assert run(source, "--skip-unreadable") == 1
    (source / "images" / "a.nii.gz").unlink()
    (source / "labels" / "b.nii.gz").unlink()
    assert run(source, "--skip-unreadable") == 2


def test_two_files_of_one_case_are_refused_or_left_out(source, capsys):
    write(source / "images" / "a.nii")
    assert run(source) == 2
    assert "a     a.nii and a.nii.gz both match 'images'" in capsys.readouterr().err
    done = convert_folder(
        source,
        images=["images"],
        labels="labels",
        channel=["MR"],
        label={"organ": 1},
        name="Made",
        workspace=source.parent / "w",
        processes=1,
        skip_unreadable=True,
    )
    assert done.cases == ("b",)
    assert done.errors == ()
    assert "both match" in done.left_out["a"]


def test_images_that_a_decathlon_does_not_list_are_named(source, capsys):
    pairs = [{"image": f"./images/{case}.nii.gz", "label": f"./labels/{case}.nii.gz"} for case in "ab"]
    content = {"modality": {"0": "MR"}, "labels": {"0": "background", "1": "organ"}, "training": pairs}
    (source / "dataset.json").write_text(json.dumps(content))
    add_what_does_not_count(source / "images")
    assert run(source, layout="msd") == 0
    write(source / "images" / "c.nii.gz")
    write(source / "validation" / "d.nii.gz")
    assert run(source, layout="msd") == 1
    error = capsys.readouterr().err
    for name in ("images/c.nii.gz", "validation/d.nii.gz"):
        assert any(line.split()[0] == name for line in error.splitlines())
    assert run(source, "--skip-unreadable", layout="msd") == 0
    assert read_json(source.parent / "w/raw/Made/dataset.json", dict)["numTraining"] == 2


@pytest.mark.parametrize("layout", ["folder", "msd"])
def test_a_workspace_in_the_source_does_not_count(source, layout):
    """As it is where the command runs in the folder of the data."""
    pairs = [{"image": f"images/{case}.nii.gz", "label": f"labels/{case}.nii.gz"} for case in "ab"]
    content = {"modality": {"0": "MR"}, "labels": {"0": "background", "1": "organ"}, "training": pairs}
    (source / "dataset.json").write_text(json.dumps(content))
    for case in "ab":
        write(source / case / "t1.nii.gz")
        write(source / case / "seg.nii.gz", np.uint8)
    where = ("--images", "{case}/t1.nii.gz", "--labels", "{case}/seg.nii.gz", *OPTIONS)
    line = [
        layout,
        str(source),
        *(where if layout == "folder" else ()),
        "--workspace",
        str(source / "work"),
        "--name",
        "M",
    ]
    if layout == "msd":
        for case in "ab":
            shutil.rmtree(source / case)
    else:
        for part in ("images", "labels"):
            shutil.rmtree(source / part)
    for _ in range(2):
        assert main(line) == 0


def test_an_archive_of_two_decathlon_datasets_is_refused(source, capsys):
    for name in ("one", "two"):
        (source / name).mkdir()
        (source / name / "dataset.json").write_text("{}")
    assert run(source, layout="msd") == 2
    assert "holds several such datasets (one and two)" in capsys.readouterr().err
