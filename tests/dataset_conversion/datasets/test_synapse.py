"""Synapse in miniature: 13 organs under the names of RawData, the traps, and the benchmark's division."""

import json
import shutil

import numpy as np
import pytest

from tests.helpers.downloads import convert, label, scan, train_two_steps
from unetrpp.cli.evaluate import main as evaluate
from unetrpp.core.errors import UserError
from unetrpp.dataset.cases import read_dataset
from unetrpp.dataset_conversion.datasets import synapse
from unetrpp.evaluation.protocol import read_protocol
from unetrpp.io.images import read_label

ORGANS = range(1, 14)


def download(root, numbers=(1, 2, 3), values=ORGANS):
    for number in numbers:
        scan(root / f"Training/img/img{number:04d}.nii.gz", ct=True, seed=number)
        label(root / f"Training/label/label{number:04d}.nii.gz", values, seed=number)
    scan(root / "Testing/img/img0061.nii.gz", ct=True, seed=61)
    return root


def test_a_download_goes_to_training(tmp_path):
    """With a space and an umlaut in a folder's name, and files of macOS."""
    root = download(tmp_path / "Bäuche CT/Abdomen/RawData")
    (root / "Training/img/._img0001.nii.gz").write_bytes(b"\0")
    converted = convert("synapse", tmp_path / "Bäuche CT", tmp_path / "w")
    assert (converted.errors, converted.cases, converted.test_cases) == ((), ("img0001", "img0002", "img0003"), ())
    assert converted.folder.name == "Synapse"
    description = read_dataset(converted.folder, "Synapse").description
    assert description.channel_names == ("CT",)
    assert (description.labels.names[4], description.labels.values[4]) == ("gallbladder", 4)
    assert (description.labels.names[11], description.labels.values[11]) == ("pancreas", 11)
    written, original = (
        read_label(path)
        for path in (converted.folder / "labelsTr/img0002.nii.gz", root / "Training/label/label0002.nii.gz")
    )
    np.testing.assert_array_equal(written.array, original.array)
    assert train_two_steps(converted, tmp_path / "w").is_file()


def test_what_is_odd_in_a_download_is_named_and_the_rest_converted(tmp_path):
    root = download(tmp_path / "RawData", (1, 2, 3, 4, 5))
    (root / "Training/label/label0002.nii.gz").unlink()
    (root / "Training/img/img0003.nii.gz").rename(root / "Training/img/IMG0003.NII.GZ")
    scan(root / "Training/img/img0004.nii", ct=True)
    scan(root / "Training/img/average.nii.gz", ct=True)
    (root / "Training/img/img0005.nii.gz").write_bytes(b"no image")
    converted = convert("synapse", tmp_path, tmp_path / "w")
    assert converted.cases == ("img0001", "img0003")
    errors = {error.case: error.message for error in converted.errors}
    assert errors.keys() == {
        "img0002",
        "img0004",
        "img0005",
        *(f"RawData/Training/img/{name}" for name in ("img0004.nii", "img0004.nii.gz", "average.nii.gz")),
    }
    assert "has no label; complete the download" in errors["img0002"]
    assert "img0004.nii and img0004.nii.gz); keep one" in errors["RawData/Training/img/img0004.nii"]
    assert "is neither imgNNNN" in errors["RawData/Training/img/average.nii.gz"]


def test_slices_and_other_numberings_are_refused_with_the_reason(tmp_path):
    (tmp_path / "TransUNet/data/Synapse/train_npz").mkdir(parents=True)
    with pytest.raises(UserError, match=r"train_npz holds slices preprocessed for 2D networks: windowed to 0-1"):
        synapse.read(tmp_path / "TransUNet")
    with pytest.raises(UserError, match="train_npz holds slices"):
        synapse.read(tmp_path / "TransUNet/data/Synapse/train_npz")
    root = download(tmp_path / "eight", values=range(1, 9))
    with pytest.raises(
        UserError,
        match=r"label0001.nii.gz \(0, 1, .*8\).*number at most 8 organs.*has aorta, gallbladder, .*CASCADE's spleen",
    ):
        synapse.read(root)
    label(root / "Training/label/label0002.nii.gz", ORGANS)
    assert len(synapse.read(root).cases) == 3
    with pytest.raises(UserError, match="has no folder with Training/img and Training/label"):
        synapse.read(root / "Testing")


def test_the_benchmark_keeps_its_12_cases_from_training(tmp_path, caplog, capsys):
    caplog.set_level("INFO")
    protocol = read_protocol("synapse")
    numbers = [int(case[3:]) for case in (*protocol.train, *protocol.test)]
    assert sorted(numbers) == [*range(1, 11), *range(21, 41)]
    root = download(tmp_path / "RawData", numbers)
    converted = convert("synapse", root, tmp_path / "w", protocol="synapse")
    assert converted.errors == ()
    assert sorted(converted.test_cases) == sorted(protocol.test)
    assert sorted(case.id for case in read_dataset(converted.folder, "Synapse").cases) == sorted(protocol.train)
    assert {path.name[:7] for path in (converted.folder / "labelsTs").iterdir()} == set(protocol.test)
    assert not (tmp_path / "w/preprocessed").exists()
    assert "fold_all trains on its 18 training cases" in caplog.text
    options = json.loads((converted.folder / "conversion.json").read_text())["options"]
    assert options == {"layout": "synapse", "protocol": "synapse"}
    references = converted.folder / "labelsTs"
    shutil.copytree(references, tmp_path / "predictions")
    assert evaluate([str(tmp_path / "predictions"), str(references), "--protocol", "synapse", "--processes", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    table = lines[next(i for i, line in enumerate(lines) if line.startswith("as published")) + 1 :]
    assert [line.split()[-2:] for line in table[:2]] == [["100.00", "0.00"], ["87.22", "7.53"]]
    assert table[-1].startswith("published in: the UNETR++ paper (arXiv 2212.04497)")
