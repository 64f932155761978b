"""Published protocols: their facts are consistent, and the metrics of published tables equal closed forms."""

import json
import math
import re

import numpy as np
import pytest

from unetrpp.cli.evaluate import main
from unetrpp.core.errors import UserError
from unetrpp.evaluation.metrics import scored_classes
from unetrpp.evaluation.protocol import read_protocol
from unetrpp.evaluation.protocol_metrics import published_scores
from unetrpp.io.geometry import Geometry
from unetrpp.io.images import write_segmentation

GEOMETRY = Geometry(shape_zyx=(3, 8, 8), spacing_zyx_mm=(5.0, 2.0, 2.0))
PROTOCOL = {
    "source": "a table",
    "labels": {"rim": 1, "core": 2, "spot": 3},
    "regions": {"whole": [1, 2], "spot": [3]},
    "scored": ["whole", "spot"],
    "metrics": ["Dice", "HD95"],
    "train": ["t"],
    "test": ["a", "b"],
    "published": {"theirs": {"Dice": 80.5}},
}


@pytest.mark.parametrize(
    ("name", "cases", "classes", "tumour"),
    [
        ("synapse", 12, 8, None),
        ("btcv", 6, 13, None),
        ("acdc", 40, 3, None),
        ("brats", 73, 3, (2, 3)),
        ("lung", 13, 1, None),
    ],
)
def test_the_protocols_of_the_package(name, cases, classes, tumour):
    protocol = read_protocol(name)
    scored = scored_classes(protocol.scheme())
    assert (len(protocol.test), len(scored)) == (cases, classes)
    assert [c.name for c in scored] == list(protocol.scored)
    assert tumour is None or scored[1].values == tumour
    assert bool(protocol.published) == bool(protocol.published_in)  # no figure without its source


def test_lists_are_those_of_the_published_code(test_data):
    """UNETR++'s trainers (parsed into JSON), nnFormer's dataset.json, TransUNet's lists and MONAI's datalist."""
    samples = test_data / "samples"
    for name, file in (("synapse", "synapse"), ("acdc", "acdc"), ("brats", "tumor"), ("lung", "lung")):
        lists = json.loads((samples / f"splits/splits_unetrpp/{file}.json").read_text())
        protocol = read_protocol(name)
        assert (set(protocol.train), set(protocol.test)) == (set(lists["train"]), set(lists["val"]))
    tumor = json.loads((samples / "splits/splits_nnformer/nnformer/dataset_json/tumor_dataset.json").read_text())
    assert {path.split("/")[-1][:9] for path in tumor["test"]} == set(read_protocol("brats").validation)
    transunet = (samples / "splits/transunet_synapse/lists/lists_Synapse/test_vol.txt").read_text().split()
    assert {f"img{case[4:]}" for case in transunet} == set(read_protocol("synapse").test)
    place = "msd_dataset_json/self_supervised_pretraining/vit_unetr_ssl/datalists/btcv/dataset_0.json"
    monai, btcv = json.loads((samples / place).read_text()), read_protocol("btcv")
    for ours, theirs in ((btcv.train, "training"), (btcv.test, "validation")):
        assert {f"imagesTr/{case}.nii.gz" for case in ours} == {pair["image"] for pair in monai[theirs]}


def test_scored_labels_keep_their_values():
    pancreas = scored_classes(read_protocol("synapse").scheme())[-1]
    assert (pancreas.name, pancreas.values) == ("pancreas", (11,))


def test_absent_and_missed_classes_count_as_in_the_tables():
    empty, full = np.zeros((3, 4, 5), bool), np.ones((3, 4, 5), bool)
    assert published_scores(empty, empty, distances=True) == {"Dice_published": 1, "HD95_published": 0}
    assert published_scores(empty, full, distances=True) == {"Dice_published": 0, "HD95_published": 0}
    assert published_scores(full, full) == {"Dice_published": 1}


def test_distances_are_in_voxels_and_pooled():
    """Rods of 10 and 20 voxels: 10 of 30 distances are 1..10, so the 95th percentile is at rank 27.55: 8.55."""
    short, long = np.zeros((3, 3, 30), bool), np.zeros((3, 3, 30), bool)
    short[1, 1, 2:12], long[1, 1, 2:22] = True, True
    assert published_scores(short, long, distances=True) == pytest.approx(
        {"Dice_published": 2 / 3, "HD95_published": 8.55}
    )


def write(folder, case, **boxes):
    array = np.zeros(GEOMETRY.shape_zyx, np.uint8)
    for value, columns in boxes.items():
        array[:, :, slice(*columns)] = int(value[1:])
    write_segmentation(folder / f"{case}.nii.gz", array, GEOMETRY)


@pytest.fixture
def folders(tmp_path):
    """Case a: whole is exact, spot absent. Case b: whole covers 2 of 4 columns, the spot is missed. Case t trains."""
    predictions, references = tmp_path / "predictions", tmp_path / "raw" / "labelsTr"
    write(references, "a", _1=(0, 2), _2=(2, 4))
    write(predictions, "a", _2=(0, 2), _1=(2, 4))
    write(references, "b", _1=(0, 4), _3=(7, 8))
    write(predictions, "b", _1=(0, 2))
    write(references, "t", _1=(0, 4))
    labels = {"background": 0, "one": 1, "two": 2, "three": 3}
    content = {"channel_names": {"0": "MRI"}, "labels": labels, "file_ending": ".nii.gz"}
    (references.parent / "dataset.json").write_text(json.dumps(content))
    (tmp_path / "protocol.json").write_text(json.dumps(PROTOCOL))
    return tmp_path


def evaluate(root, protocol):
    arguments = [root / "predictions", root / "raw" / "labelsTr", "--processes", 1, "--protocol", protocol]
    return main([str(a) for a in arguments])


def test_published_metrics_are_added_to_ours(folders, capsys):
    assert evaluate(folders, folders / "protocol.json") == 0
    lines = capsys.readouterr().out.splitlines()
    mean = json.loads((folders / "predictions" / "summary.json").read_text())["mean"]
    whole, spot = mean["(1, 2)"], mean["3"]
    assert (spot["Dice"], spot["Dice_published"]) == (0, 0.5)
    assert (spot["HD95"], spot["HD95_published"]) == (None, 0)
    assert spot["HD95_or_diagonal"] == pytest.approx(math.dist((0, 0, 0), (15, 16, 16)))
    assert whole["Dice_published"] == whole["Dice"] == pytest.approx((1 + 2 / 3) / 2)
    # In b the reference goes on for two columns: two voxels, or 4 mm.
    assert (whole["HD95"], whole["HD95_published"]) == pytest.approx((2, 1))
    assert lines[-3].split() == ["as", "published", "Dice", "[%]", "HD95", "[voxels]"]
    assert lines[-2].split() == ["these", "predictions", f"{100 * (5 / 6 + 0.5) / 2:.2f}", "0.50"]
    assert lines[-1].split() == ["theirs", "80.50", "-"]


def test_what_is_refused(folders, capsys):
    for changes, message in (
        ({"test": ["a", "c"]}, "c: .* lacks a reference of a test case"),
        ({"test": ["a", "t"]}, "t is both a training and a test case"),
        ({"validation": ["b"]}, "b is both a validation and a test case"),
        ({"labels": {"rim": 1, "core": 2, "spot": 4}, "regions": {"whole": [1], "spot": [4]}}, "renumber the labels"),
        ({"scored": ["everything"]}, "scored must name"),
        ({"regions": {"whole": [9], "spot": [3]}}, "label 9"),
    ):
        (folders / "other.json").write_text(json.dumps(PROTOCOL | changes))
        assert evaluate(folders, folders / "other.json") == 2
        assert re.search(message, capsys.readouterr().err)
    with pytest.raises(UserError, match="one of acdc, brats, btcv, lung, synapse"):
        read_protocol("nowhere")
