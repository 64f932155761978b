"""Conversion of both layouts, by command and from Python, to raw datasets that the pipeline reads."""

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from unetrpp.dataset.cases import read_dataset
from unetrpp.dataset_conversion.conversion import convert_dataset
from unetrpp.dataset_conversion.convert import main
from unetrpp.dataset_conversion.folder import convert_folder
from unetrpp.dataset_conversion.raw import ConversionResult
from unetrpp.io.images import read_image, read_label

RNG = np.random.default_rng(5)


def write(path, array, spacing=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array, isVector=array.ndim == 3 and array.shape[-1] == 3)
    if spacing:
        image.SetSpacing(spacing)
    sitk.WriteImage(image, str(path))


@pytest.fixture
def decathlon(tmp_path):
    """Three training cases of two channels in 4D files, and a test case."""
    root = tmp_path / "Task02_Pair"
    for case in ("p_1", "p_2", "p_3"):
        write(root / "imagesTr" / f"{case}.nii.gz", RNG.normal(size=(2, 4, 5, 6)).astype(np.float32), (1, 2, 3, 1))
        write(root / "labelsTr" / f"{case}.nii.gz", RNG.integers(0, 3, (4, 5, 6)).astype(np.uint8), (1, 2, 3))
    write(root / "imagesTs" / "p_9.nii.gz", RNG.normal(size=(2, 4, 5, 6)).astype(np.float32), (1, 2, 3, 1))
    (root / "imagesTr" / "._p_1.nii.gz").write_bytes(b"junk")
    training = [{"image": f"./imagesTr/p_{i}.nii.gz", "label": f"./labelsTr/p_{i}.nii.gz"} for i in (1, 2, 3)]
    content = {
        "name": "Pair",
        "modality": {"0": "T2", "1": "ADC"},
        "labels": {"0": "background", "1": "PZ", "2": "TZ"},
        "training": training,
        "test": ["./imagesTs/p_9.nii.gz"],
    }
    (root / "dataset.json").write_text(json.dumps(content))
    return root


def convert(workspace, *arguments):
    return main([*map(str, arguments), "--workspace", str(workspace), "--processes", "1"])


def test_four_dimensions_become_one_file_per_channel(decathlon, tmp_path, capsys):
    assert convert(tmp_path / "w", "msd", decathlon) == 0
    assert "3 training and 1 test case converted\n" in capsys.readouterr().out
    folder = tmp_path / "w/raw/Pair"
    dataset = read_dataset(folder, "Pair")
    assert [c.id for c in dataset.cases] == ["p_1", "p_2", "p_3"]
    assert sorted(p.name for p in (folder / "imagesTs").iterdir()) == ["p_9_0000.nii.gz", "p_9_0001.nii.gz"]
    assert dataset.description.channel_names == ("T2", "ADC")
    assert dataset.description.labels.names == ("background", "PZ", "TZ")
    for case in dataset.cases:
        assert len(case.images) == 2
        got = read_image(case.images)
        source = sitk.ReadImage(str(decathlon / "imagesTr" / f"{case.id}.nii.gz"))
        np.testing.assert_array_equal(got.array, sitk.GetArrayFromImage(source))
        assert got.geometry.spacing_zyx_mm == (3, 2, 1)
        assert case.label is not None
        assert case.label.read_bytes() == (decathlon / "labelsTr" / f"{case.id}.nii.gz").read_bytes()


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_gives_what_its_folder_gives(decathlon, tmp_path, mode):
    path = tmp_path / ("Task02_Pair.tar" + mode[1:].replace(":", "."))
    with tarfile.open(path, mode) as tar:
        tar.add(decathlon, "Task02_Pair")
    assert convert(tmp_path / "a", "msd", decathlon) == convert(tmp_path / "b", "msd", path) == 0
    for file in (p for p in (tmp_path / "a/raw").rglob("*") if p.is_file() and p.name != "conversion.json"):
        other = tmp_path / "b" / file.relative_to(tmp_path / "a")
        if "_000" in file.name:
            np.testing.assert_array_equal(read_image(file).array, read_image(other).array)
        else:
            assert file.read_bytes() == other.read_bytes()
    assert not any((tmp_path / "b").glob("unpacked/*"))


def test_a_second_run_converts_only_changed_cases(decathlon, tmp_path):
    convert(tmp_path / "w", "msd", decathlon)
    files = sorted((tmp_path / "w/raw/Pair/imagesTr").iterdir())
    before = [f.stat().st_ino for f in files]
    os.utime(decathlon / "labelsTr/p_2.nii.gz", (2e9, 2e9))
    assert convert(tmp_path / "w", "msd", decathlon) == 0
    redone = [f.name for f, inode in zip(files, before, strict=True) if f.stat().st_ino != inode]
    assert redone == ["p_2_0000.nii.gz", "p_2_0001.nii.gz"]


def test_a_case_that_is_no_longer_in_the_source_is_refused(decathlon, tmp_path, capsys):
    convert(tmp_path / "w", "msd", decathlon)
    content = json.loads((decathlon / "dataset.json").read_text())
    content["training"].pop()
    (decathlon / "dataset.json").write_text(json.dumps(content))
    assert convert(tmp_path / "w", "msd", decathlon, "--overwrite") == 2
    assert "1 case (p_3) that the source does not have" in capsys.readouterr().err
    for path in (tmp_path / "w/raw/Pair").glob("*Tr/p_3*"):
        path.unlink()
    capsys.readouterr()
    assert convert(tmp_path / "w", "msd", decathlon) == 1  # its files are still in the download
    assert "labelsTr/p_3.nii.gz  is not listed in dataset.json" in capsys.readouterr().err
    assert convert(tmp_path / "w", "msd", decathlon, "--skip-unreadable") == 0


def test_damaged_cases_are_listed_and_the_others_converted(decathlon, tmp_path, capsys):
    (decathlon / "imagesTr/p_1.nii.gz").write_bytes(b"")
    whole = (decathlon / "imagesTr/p_3.nii.gz").read_bytes()
    (decathlon / "imagesTr/p_3.nii.gz").write_bytes(whole[: len(whole) // 2])
    assert convert(tmp_path / "w", "msd", decathlon) == 1
    table = capsys.readouterr().err
    assert "p_1   p_1.nii.gz is empty (0 bytes)" in table
    assert "p_3   p_3.nii.gz is damaged or truncated" in table
    assert [c.id for c in read_dataset(tmp_path / "w/raw/Pair", "Pair").cases] == ["p_2"]
    assert not any(p.name.startswith(".") for p in (tmp_path / "w").rglob("*"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"modality": ["T2"]}, "is not a dataset.json of the decathlon"),
        ({"training": [{"image": "../../x.nii.gz", "label": "a.nii.gz"}]}, "outside of its folder"),
        ({"labels": {"1": "PZ"}}, "no background"),
        ({"test": ["./imagesTs/p_1.nii.gz"]}, "p_1 twice"),
    ],
)
def test_a_bad_dataset_json_is_refused_before_anything_starts(decathlon, tmp_path, capsys, change, message):
    path = decathlon / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert convert(tmp_path / "w", "msd", decathlon) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
    assert not (tmp_path / "w").exists()


def test_photographs_stay_in_colour_and_instances_become_one_class(tmp_path):
    root = tmp_path / "cells"
    for i in (1, 2):
        write(root / "pictures" / f"c{i}.png", RNG.integers(0, 255, (7, 8, 3)).astype(np.uint8))
        write(root / "objects" / f"c{i}.png", RNG.integers(0, 900, (7, 8)).astype(np.uint16))
    where = ("--images", "pictures", "--labels", "objects", "--channel", "R,G,B", "--label", "cell=1")
    assert convert(tmp_path / "w", "folder", root, *where, "--foreground-from-instances") == 0
    case = read_dataset(tmp_path / "w/raw/cells", "cells").cases[1]
    assert [p.name for p in case.images] == ["c2_0000.png"]
    assert case.images[0].read_bytes() == (root / "pictures/c2.png").read_bytes()
    assert case.label is not None
    objects = sitk.GetArrayFromImage(sitk.ReadImage(str(root / "objects/c2.png")))
    np.testing.assert_array_equal(read_label(case.label).array[0, 0], objects > 0)


def test_python_and_the_command_do_the_same(decathlon, tmp_path):
    assert convert(tmp_path / "a", "msd", decathlon, "--name", "pair") == 0
    converted = convert_dataset("msd", str(decathlon), name="pair", workspace=str(tmp_path / "b"), processes=1)
    assert converted == ConversionResult(tmp_path / "b/raw/pair", ("p_1", "p_2", "p_3", "p_9"), (), test_cases=("p_9",))
    source, images, labels = tmp_path / "b/raw/pair", "{case}_0000.nii.gz", "labelsTr"
    options = ("--images", f"imagesTr/{images}", "--test-images", f"imagesTs/{images}", "--labels", labels)
    more = ("--channel", "T2", "--label", "PZ=1", "TZ=2", "--name", "t2")
    assert convert(tmp_path / "a", "folder", source, *options, *more) == 0
    convert_folder(
        source,
        images=[f"imagesTr/{images}"],
        labels=labels,
        channel=["T2"],
        label={"PZ": 1, "TZ": 2},
        test_images=[f"imagesTs/{images}"],
        name="t2",
        workspace=tmp_path / "b",
        processes=1,
    )
    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(files) == 2 + 2 * 3 + 3 + 2 + 2 + 3 + 3 + 1
    for file in files:
        assert (tmp_path / "b" / file).read_bytes() == (tmp_path / "a" / file).read_bytes()


def test_other_options_for_one_dataset_are_refused(tmp_path, capsys):
    root = tmp_path / "cells"
    write(root / "a/c1.png", np.zeros((4, 4), np.uint8))
    write(root / "b/c1.png", np.ones((4, 4), np.uint8))
    where = ("--images", "a", "--labels", "b", "--channel", "grey", "--label")
    assert convert(tmp_path / "w", "folder", root, *where, "cell=1") == 0
    assert convert(tmp_path / "w", "folder", root, *where, "nucleus=1") == 2
    assert "--overwrite" in capsys.readouterr().err
    assert convert(tmp_path / "w", "folder", root, *where, "nucleus=1", "--overwrite") == 0


def test_patterns_find_nested_layouts_and_mixed_formats_are_rewritten(tmp_path):
    root = tmp_path / "glioma"
    arrays = {}
    for case in ("a", "b"):
        for channel in ("t1", "flair"):
            arrays[case, channel] = RNG.normal(size=(3, 4, 5)).astype(np.float32)
            write(root / case / f"{case}_{channel}.nii.gz", arrays[case, channel], (1, 1, 2))
        write(root / case / "truth.nrrd", RNG.integers(0, 2, (3, 4, 5)).astype(np.int32), (1, 1, 2))
    images = ("--images", "{case}/{case}_t1.nii.gz", "{case}/{case}_flair.nii.gz", "--labels", "{case}/truth.nrrd")
    assert convert(tmp_path / "w", "folder", root, *images, "--channel", "T1,FLAIR", "--label", "tumour=1") == 0
    first = read_dataset(tmp_path / "w/raw/glioma", "glioma").cases[0]
    np.testing.assert_array_equal(read_image(first.images).array, np.stack([arrays["a", "t1"], arrays["a", "flair"]]))
    assert first.label is not None
    assert first.label.name == "a.nii.gz"


def test_unpaired_files_are_named_and_nothing_is_started(tmp_path, capsys):
    root = tmp_path / "ct"
    for case in ("a", "b"):
        write(root / "images" / f"{case}.nii.gz", np.zeros((2, 3, 4), np.float32))
    for case in ("b", "c"):
        write(root / "labels" / f"{case}.nii.gz", np.zeros((2, 3, 4), np.uint8))
    arguments = ("--images", "images", "--labels", "labels", "--channel", "CT", "--label", "x=1")
    assert convert(tmp_path / "w", "folder", root, *arguments) == 2
    error = capsys.readouterr().err
    assert "a     labels/a.* is missing" in error
    assert "c     images/c.* is missing" in error
    assert not (tmp_path / "w").exists()


def test_a_missing_channel_is_named_by_its_file(tmp_path, capsys):
    root = tmp_path / "glioma"
    for name in ("a/a_t1", "a/a_flair", "b/b_t1"):
        write(root / f"{name}.nii.gz", np.zeros((2, 3, 4), np.float32))
    for case in ("a", "b"):
        write(root / case / f"{case}_seg.nii.gz", np.zeros((2, 3, 4), np.uint8))
    patterns = (
        "--images",
        "{case}/{case}_t1.nii.gz",
        "{case}/{case}_flair.nii.gz",
        "--labels",
        "{case}/{case}_seg.nii.gz",
    )
    assert convert(tmp_path / "w", "folder", root, *patterns, "--channel", "T1,FLAIR", "--label", "edema=2") == 2
    assert "b     b/b_flair.nii.gz is missing" in capsys.readouterr().err


def test_undeclared_labels_are_named_with_their_file(tmp_path, capsys):
    root = tmp_path / "ct"
    for case, value in (("a", 1), ("b", 3)):
        write(root / "images" / f"{case}.nii.gz", np.zeros((2, 3, 4), np.float32))
        write(root / "labels" / f"{case}.nii.gz", np.full((2, 3, 4), value, np.uint8))
    arguments = ("--images", "images", "--labels", "labels", "--channel", "CT", "--label", "x=1")
    assert convert(tmp_path / "w", "folder", root, *arguments) == 1
    said = capsys.readouterr().err
    assert "b.nii.gz holds the label 3, but only 0, 1 are declared;" in said
    assert "or give --label x=3 in place of x=1, or give --foreground-from-instances if the values number" in said
    assert not (tmp_path / "w/raw/ct/labelsTr/b.nii.gz").exists()


@pytest.mark.parametrize(
    "arguments", [["list", "--help"], ["folder", "--help"], ["--help"], ["folder", ".", "--imges", "x"]]
)
def test_help_and_usage_errors_import_neither_torch_nor_numpy(arguments):
    code = (
        "import sys\nfrom unetrpp.dataset_conversion.convert import main\n"
        f"try: main({arguments!r})\nexcept SystemExit as e: print(e.code)\n"
        "assert not {'torch', 'numpy', 'msgspec'} & set(sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    if "--imges" in arguments:
        assert "did you mean --images" in result.stderr
    else:
        assert "examples:" in result.stdout


@pytest.mark.slow
def test_the_hippocampus_download(tmp_path):
    data = os.environ.get("UNETRPP_TEST_DATA")
    if not data:
        pytest.skip("UNETRPP_TEST_DATA is not set")
    assert convert(tmp_path, "msd", Path(data) / "Task04_Hippocampus") == 0
    dataset = read_dataset(tmp_path / "raw/Hippocampus", "Hippocampus")
    assert len(dataset.cases) == 200
    assert len(list((tmp_path / "raw/Hippocampus/imagesTs").iterdir())) == 20
    assert dataset.description.labels.names == ("background", "Anterior", "Posterior")


def test_a_misspelt_dataset_is_refused_with_the_nearest_one(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["synpase", "Abdomen"])
    assert stop.value.code == 2
    assert "there is no dataset 'synpase'; did you mean synapse?" in capsys.readouterr().err
