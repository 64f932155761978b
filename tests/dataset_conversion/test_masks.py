"""Several masks of a case as one label map, against the same painting by numpy."""

import json

import numpy as np
import pytest

from tests.helpers.source_folder import convert, read, write

SHAPE = (3, 8, 9)


def mask(seed, value=1):
    return (np.random.default_rng(seed).random(SHAPE) < 0.3).astype(np.uint8) * np.uint8(value)


@pytest.fixture
def root(tmp_path):
    for i, case in enumerate("ab"):
        write(tmp_path / "src" / case / "ct.nii.gz", np.random.default_rng(i).normal(size=SHAPE).astype(np.float32))
        for j, name in enumerate(("liver", "tumour", "aorta")):
            write(tmp_path / "src" / case / "segmentations" / f"{name}.nii.gz", mask([i, j], 255 if i else 1))
    return tmp_path / "src"


def run(root, *more):
    return convert(root, *more, images="{case}/ct.nii.gz", labels=None)


def expected(root, case, names):
    label = np.zeros(SHAPE, int)
    for value, name in enumerate(names, 1):
        label[read(root / case / "segmentations" / f"{name}.nii.gz") > 0] = value
    return label


def test_named_masks_are_painted_in_their_order_and_overlaps_are_said_once(root, capsys, caplog):
    names = ("liver", "tumour")
    assert run(root, "--masks", *(f"{name}={{case}}/segmentations/{name}.nii.gz" for name in names)) == 0
    raw = root.parent / "w/raw/Made"
    for case in "ab":
        np.testing.assert_array_equal(read(raw / "labelsTr" / f"{case}.nii.gz"), expected(root, case, names))
    assert json.loads((raw / "dataset.json").read_text())["labels"] == {"background": 0, "liver": 1, "tumour": 2}
    assert [record.getMessage() for record in caplog.records if "overlap" in record.getMessage()] == [
        "warning: masks overlap, and the later one counts there: liver and tumour (2 cases)"
    ]
    assert (
        run(root, "--masks", "tumour={case}/segmentations/tumour.nii.gz", "liver={case}/segmentations/liver.nii.gz")
        == 2
    )
    assert "with other options" in capsys.readouterr().err


def test_a_class_that_is_painted_over_is_named(root, caplog):
    write(root / "b/segmentations/liver.nii.gz", np.ones(SHAPE, np.uint8))
    paths = (f"{name}={{case}}/segmentations/{name}.nii.gz" for name in ("tumour", "liver"))
    assert run(root, "--masks", *paths) == 0
    said = [record.getMessage() for record in caplog.records]
    assert (
        "warning: later masks leave nothing of tumour (1 case); name such a class after the one that it lies in" in said
    )


def test_a_folder_of_one_mask_a_structure(root):
    assert run(root, "--masks", "{case}/segmentations/{label}.nii.gz", "--hold-out", 1) == 0
    raw = root.parent / "w/raw/Made"
    assert json.loads((raw / "dataset.json").read_text())["labels"] == {
        "background": 0,
        "aorta": 1,
        "liver": 2,
        "tumour": 3,
    }
    for part in ("labelsTr", "labelsTs"):
        (path,) = (raw / part).iterdir()
        np.testing.assert_array_equal(read(path), expected(root, path.name[0], ("aorta", "liver", "tumour")))


def test_more_than_255_classes(root):
    for case in "ab":
        for i in range(300):
            write(root / case / "many" / f"s{i:03}.nii.gz", np.eye(1, 300, i, np.uint8).reshape(1, 15, 20))
    assert run(root, "--masks", "{case}/many/{label}.nii.gz") == 0
    written = read(root.parent / "w/raw/Made/labelsTr/a.nii.gz")
    np.testing.assert_array_equal(written.ravel(), np.arange(1, 301))


def test_an_absent_mask_is_refused_unless_the_option_says_what_it_means(root, capsys):
    (root / "b/segmentations/tumour.nii.gz").unlink()
    masks = ("--masks", "{case}/segmentations/{label}.nii.gz")
    assert run(root, *masks) == 2
    error = capsys.readouterr().err
    assert "b     b/segmentations/tumour.nii.gz is missing; add it, or give --allow-missing-masks" in error
    assert run(root, *masks, "--allow-missing-masks") == 0
    label = read(root.parent / "w/raw/Made/labelsTr/b.nii.gz")
    assert set(np.unique(label)) <= {0, 1, 2}
    before = (root.parent / "w/raw/Made/imagesTr/b_0000.nii.gz").stat().st_ino
    (root / "b/segmentations/aorta.nii.gz").unlink()  # the newest file of the case stays
    assert run(root, *masks, "--allow-missing-masks") == 0
    assert set(np.unique(read(root.parent / "w/raw/Made/labelsTr/b.nii.gz"))) == {0, 2}
    assert (root.parent / "w/raw/Made/imagesTr/b_0000.nii.gz").stat().st_ino == before
    for path in (root / "b/segmentations").iterdir():
        path.unlink()
    assert run(root, *masks, "--allow-missing-masks") == 2
    assert "has no mask at all" in capsys.readouterr().err


def test_masks_that_cannot_be_one_label_map(root, capsys):
    write(root / "a/segmentations/tumour.nii.gz", np.arange(3 * 8 * 9).reshape(SHAPE).astype(np.uint8))
    write(root / "b/segmentations/tumour.nii.gz", np.ones((3, 8, 8), np.uint8))
    assert run(root, "--masks", "{case}/segmentations/{label}.nii.gz") == 1
    error = capsys.readouterr().err
    assert (
        "tumour.nii.gz holds the values 1, 2, 3, 4, 5, ... (215 values), but a mask is 0 and one other value" in error
    )
    assert "tumour.nii.gz and aorta.nii.gz are on different grids" in error


def test_images_beside_the_masks_are_accounted_for(root, capsys):
    (root / "c/deep").mkdir(parents=True)
    (root / "a/ct.nii.gz").rename(root / "c/deep/ct.nii.gz")
    assert run(root, "--masks", "liver={case}/segmentations/liver.nii.gz", "--skip-unreadable") == 0
    error = capsys.readouterr().err
    assert "a       a/ct.nii.gz is missing" in error
    assert "c/deep" in error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--masks", "liver"), "--masks 'liver' names no class"),
        (("--masks", "a=x", "a=y"), "names one class twice"),
        (("--masks", "a={case}/{label}.nii.gz"), "both a NAME and {label}"),
        (("--masks", "background={case}/segmentations/liver.nii.gz"), "background"),
        (("--masks", "a=x", "--label", "a=1"), "--masks names the classes itself; leave --label out"),
        (("--allow-missing-masks",), "give either --labels"),
    ],
)
def test_contradictory_options_are_refused(root, capsys, options, message):
    assert run(root, *options) == 2
    assert message in capsys.readouterr().err
