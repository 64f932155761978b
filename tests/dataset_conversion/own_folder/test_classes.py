"""Classes that are not typed: from a file, from the values of the label files, and what contradicts that."""

import json

import numpy as np
import pytest
import SimpleITK as sitk

from tests.helpers.source_folder import convert, make_source, write
from unetrpp.dataset_conversion.folder import convert_folder


@pytest.fixture
def root(tmp_path):
    return tmp_path / "src"


def labels_of(root):
    return json.loads((root.parent / "w/raw/Made/dataset.json").read_text())["labels"]


def test_all_values_are_taken_from_the_files_also_of_test_cases(root):
    make_source(root, 2, highest=3)
    write(root / "testimages/t.nii.gz", np.zeros((2, 3, 4), np.float32))
    write(root / "testlabels/t.nii.gz", np.full((2, 3, 4), 300, np.uint16))
    tests = ("--test-images", "testimages", "--test-labels", "testlabels")
    assert convert(root, "--labels-from-files", *tests) == 0
    assert labels_of(root) == {"background": 0, "label_1": 1, "label_2": 2, "label_3": 3, "label_300": 300}


def segments(path, names):
    image = sitk.GetImageFromArray(np.array([[[0, *names]]], np.uint8))
    for i, (value, name) in enumerate(names.items()):
        image.SetMetaData(f"Segment{i}_LabelValue", str(value))
        image.SetMetaData(f"Segment{i}_Name", name)
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
    write(path.parents[1] / "images" / path.name, np.zeros((1, 1, 1 + len(names)), np.float32))


def test_names_of_segments_are_taken_and_must_agree(root, capsys):
    segments(root / "labels/a.nrrd", {1: "Liver", 4: "Tumour"})
    segments(root / "labels/b.nrrd", {1: "Liver"})
    assert convert(root, "--labels-from-files") == 0
    assert labels_of(root) == {"background": 0, "Liver": 1, "Tumour": 4}
    segments(root / "labels/c.nrrd", {1: "Spleen"})
    assert convert(root, "--labels-from-files") == 2
    assert "the value 1 is 'Liver' in a and 'Spleen' in c" in capsys.readouterr().err


def test_a_file_lists_the_classes_or_only_names_those_that_are_found(root, tmp_path, capsys):
    make_source(root, 2, highest=2)
    (tmp_path / "atlas.csv").write_text("value,name\n1,liver\n2,tumour\n99,nowhere\n")
    assert convert(root, "--label-file", tmp_path / "atlas.csv") == 0
    assert labels_of(root) == {"background": 0, "liver": 1, "tumour": 2, "nowhere": 99}
    assert convert(root, "--label-file", tmp_path / "atlas.csv", "--labels-from-files", "--overwrite") == 0
    assert labels_of(root) == {"background": 0, "liver": 1, "tumour": 2}
    (tmp_path / "atlas.csv").write_text("value,name\n1,liver\n")
    assert convert(root, "--label-file", tmp_path / "atlas.csv", "--labels-from-files") == 2
    assert "has no name for 2, which the label files hold" in capsys.readouterr().err


def test_a_changed_file_of_classes_is_another_conversion(root, tmp_path, capsys):
    make_source(root, 1)
    (tmp_path / "atlas.json").write_text('{"liver": 1}')
    assert convert(root, "--label-file", tmp_path / "atlas.json") == 0
    (tmp_path / "atlas.json").write_text('{"spleen": 1}')
    assert convert(root, "--label-file", tmp_path / "atlas.json") == 2
    assert "with other options" in capsys.readouterr().err


def test_regions_of_a_dataset_json(root, tmp_path):
    make_source(root, 1, highest=2)
    content = {"labels": {"background": 0, "whole": [1, 2], "core": [2]}, "regions_class_order": [1, 2]}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    assert convert(root, "--label-file", tmp_path / "dataset.json") == 0
    made = json.loads((root.parent / "w/raw/Made/dataset.json").read_text())
    assert made["regions_class_order"] == [1, 2]
    assert made["labels"]["whole"] == [1, 2]


def test_undeclared_values_are_counted_and_the_options_named(root, capsys):
    make_source(root, 1, highest=1)
    write(root / "labels/c0.nii.gz", np.arange(3 * 8 * 9, dtype=np.uint16).reshape(3, 8, 9))
    assert convert(root, "--label", "a=1", "b=2") == 1
    error = capsys.readouterr().err
    assert "holds the labels 3, 4, 5, 6, 7, ... (213 values), but only 0, 1, 2 are declared" in error
    assert "--labels-from-files" in error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "which classes do the label files hold"),
        (("--label", "a=1", "--label-file", "x"), "--label and --label-file contradict"),
        (("--label", "a=1", "--labels-from-files"), "--label and --labels-from-files contradict"),
        (("--labels-from-files", "--foreground-from-instances"), "contradict each other"),
        (("--label", "a=1", "b=2", "--foreground-from-instances"), "makes one class, but 2 are named"),
        (("--label-file", "nowhere.csv"), "nowhere.csv does not exist"),
        (("--label", "a=1", "--masks", "b=labels"), "give either --labels"),
    ],
)
def test_contradictory_options_are_refused(root, capsys, options, message):
    make_source(root, 1)
    assert convert(root, *options) == 2
    assert message in capsys.readouterr().err
    assert not (root.parent / "w").exists()


def test_python_takes_the_same_options(root, tmp_path):
    labels = make_source(root, 3)
    (tmp_path / "atlas.json").write_text('{"organ": 1}')
    done = convert_folder(
        root,
        images=["images"],
        labels="labels",
        channel=["MR"],
        label_file=tmp_path / "atlas.json",
        hold_out=1,
        workspace=tmp_path / "v",
        processes=1,
    )
    assert set(done.cases) == set(labels)
    assert len(done.test_cases) == 1


def test_a_region_on_the_command_line_is_led_to_the_label_file(tmp_path, capsys):
    make_source(tmp_path / "src", highest=3)
    with pytest.raises(SystemExit):
        convert(tmp_path / "src", "--label", "whole=1,2", "core=2")
    assert "a region of several labels is written in a JSON file and given as --label-file" in capsys.readouterr().err
    regions = {"labels": {"background": 0, "whole": [1, 2, 3], "core": [2, 3]}, "regions_class_order": [1, 2]}
    (tmp_path / "regions.json").write_text(json.dumps(regions))
    assert convert(tmp_path / "src", "--label-file", tmp_path / "regions.json") == 0
    assert labels_of(tmp_path / "src") == regions["labels"]
