import json
import os
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.helpers.downloads import convert, label, scan
from unetrpp.dataset_conversion import raw
from unetrpp.dataset_conversion.folder import convert_folder
from unetrpp.io.images import read_label

FOLDER: dict[str, Any] = {"images": ["images/{case}.nii.gz"], "channel": ["MR"], "processes": 1}


def annotate(folder, name, what):
    """A photograph with one object, as labelme writes it."""
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (12, 12), np.uint8)).save(folder / f"{name}.png")
    shape = {"label": what, "points": [[2, 2], [9, 2], [9, 9]], "shape_type": "polygon"}
    content = {"shapes": [shape], "imagePath": f"{name}.png", "imageHeight": 12, "imageWidth": 12}
    (folder / f"{name}.json").write_text(json.dumps(content))


def values(folder, case, ending):
    return np.unique(read_label(folder / "labelsTr" / f"{case}{ending}").array).tolist()


def test_labels_are_made_again_when_a_class_gets_another_value(tmp_path):
    source = tmp_path / "cells"
    source.mkdir()
    annotate(source, "a", "cell")
    annotate(source, "b", "cell")
    first = convert("labelme", source, tmp_path / "w")
    assert values(first.folder, "a", ".png") == [0, 1]

    annotate(source, "c", "apoptosis")  # comes before cell in the alphabet
    second = convert("labelme", source, tmp_path / "w")

    assert json.loads((second.folder / "dataset.json").read_text())["labels"] == {
        "background": 0,
        "apoptosis": 1,
        "cell": 2,
    }
    assert values(second.folder, "a", ".png") == [0, 2]
    assert values(second.folder, "c", ".png") == [0, 1]


def test_a_label_that_an_older_file_replaced_is_converted_again(tmp_path):
    scan(tmp_path / "src/images/a.nii.gz")
    made = label(tmp_path / "src/a_seg.nii.gz", [1])
    options = {**FOLDER, "labels": "{case}_seg.nii.gz", "label": {"x": 1, "y": 2}, "workspace": tmp_path / "w"}
    first = convert_folder(tmp_path / "src", **options)
    kept = (first.folder / "labelsTr/a.nii.gz").stat().st_mtime
    label(made, [1, 2])
    os.utime(made, (kept - 5000, kept - 5000))

    second = convert_folder(tmp_path / "src", **options)

    assert values(second.folder, "a", ".nii.gz") == [0, 1, 2]


def test_current_cases_are_left_alone_and_those_whose_source_went_away_are_kept(tmp_path):
    scan(tmp_path / "src/images/a.nii.gz")
    made = label(tmp_path / "src/a_seg.nii.gz", [1])
    options = {**FOLDER, "labels": "{case}_seg.nii.gz", "label": {"x": 1}, "workspace": tmp_path / "w"}
    folder = convert_folder(tmp_path / "src", **options).folder
    before = {path: path.stat().st_ino for path in folder.rglob("*.nii.gz")}

    convert_folder(tmp_path / "src", **options)
    assert {path: path.stat().st_ino for path in folder.rglob("*.nii.gz")} == before

    made.unlink()
    made.symlink_to("gone.nii.gz")
    assert convert_folder(tmp_path / "src", **options).errors
    assert {path: path.stat().st_ino for path in folder.rglob("*.nii.gz")} == before


def test_an_interrupted_overwrite_leaves_no_label_of_the_earlier_options(tmp_path, monkeypatch):
    for case in "ab":
        scan(tmp_path / f"src/images/{case}.nii.gz")
        for number, name in enumerate(("cord", "lesion"), 1):
            label(tmp_path / f"src/{case}_{name}.nii.gz", [1], seed=number)
    cord = {"cord": "{case}_cord.nii.gz"}
    lesion = {"lesion": "{case}_lesion.nii.gz"}
    convert_folder(tmp_path / "src", **FOLDER, masks={**cord, **lesion}, workspace=tmp_path / "w")

    def killed(*_):
        raise KeyboardInterrupt

    swapped = {**FOLDER, "masks": {**lesion, **cord}, "workspace": tmp_path / "w"}
    monkeypatch.setattr(raw, "run_cases", killed)
    with pytest.raises(KeyboardInterrupt):
        convert_folder(tmp_path / "src", **swapped, overwrite=True)
    monkeypatch.undo()
    resumed = convert_folder(tmp_path / "src", **swapped)

    for case in "ab":
        drawn = read_label(resumed.folder / f"labelsTr/{case}.nii.gz").array[0]
        expected = read_label(tmp_path / f"src/{case}_cord.nii.gz").array[0] > 0  # the later one
        np.testing.assert_array_equal(drawn == 2, expected)


def test_a_label_that_is_drawn_follows_an_image_that_an_older_file_replaced(tmp_path):
    source = tmp_path / "cells"
    source.mkdir()
    annotate(source, "a", "cell")
    content = json.loads((source / "a.json").read_text()) | {"imageHeight": None, "imageWidth": None}
    (source / "a.json").write_text(json.dumps(content))
    convert("labelme", source, tmp_path / "w")

    Image.fromarray(np.zeros((20, 30), np.uint8)).save(source / "a.png")
    os.utime(source / "a.png", (1e9, 1e9))
    second = convert("labelme", source, tmp_path / "w")

    assert second.errors == ()
    assert read_label(second.folder / "labelsTr/a.png").array.shape[-2:] == (20, 30)
