"""Published protocols applied to a dataset: who is trained, validated and tested on, and what is refused."""

import json
import shutil
from typing import Any

import pytest

from tests.helpers.downloads import convert, label, scan
from unetrpp.cli.evaluate import main as evaluate
from unetrpp.core.errors import UserError
from unetrpp.dataset.splits_file import read_splits
from unetrpp.dataset_conversion.convert import main
from unetrpp.dataset_conversion.datasets import msd
from unetrpp.evaluation.protocol import read_protocol
from unetrpp.planners.pipeline import plan_and_preprocess
from unetrpp.trainers.folds import train

CASES = ("a", "b", "c", "d", "e")
PROTOCOL = {
    "source": "a table",
    "labels": {"tumour": 1},
    "scored": ["tumour"],
    "train": ["a", "b"],
    "validation": ["c"],
    "test": ["d"],
}


@pytest.fixture
def download(tmp_path):
    """A task of the decathlon with five labelled cases and one without a label."""
    root = tmp_path / "Task06_Lung"
    for i, case in enumerate(CASES):
        scan(root / f"imagesTr/{case}.nii.gz", seed=i)
        label(root / f"labelsTr/{case}.nii.gz", [1], seed=i)
    scan(root / "imagesTs/f.nii.gz")
    write_lists(root, CASES)
    return root


def write_lists(root, cases):
    content = {
        "modality": {"0": "MR"},
        "labels": {"0": "background", "1": "cancer"},
        "training": [{"image": f"imagesTr/{case}.nii.gz", "label": f"labelsTr/{case}.nii.gz"} for case in cases],
        "test": ["imagesTs/f.nii.gz"],
    }
    (root / "dataset.json").write_text(json.dumps(content))


@pytest.fixture
def lung(tmp_path, monkeypatch):
    """A small protocol in place of the published one."""
    path = tmp_path / "protocols"
    path.mkdir()
    monkeypatch.setattr("unetrpp.evaluation.protocol.FOLDER", path)

    def write(**changes):
        (path / "lung.json").write_text(json.dumps(PROTOCOL | changes))

    write()
    return write


def divided(converted, workspace):
    """Training cases, test cases, and the folds that are written."""
    training = tuple(case for case in converted.cases if case not in converted.test_cases)
    path = workspace / "preprocessed/Lung/splits.json"
    folds = read_splits(path).folds if path.exists() else ()
    return training, converted.test_cases, [(fold.train, fold.validation) for fold in folds]


def test_cases_of_the_table_are_test_cases_and_others_of_no_list_stay_out(download, lung, tmp_path, caplog):
    caplog.set_level("INFO")
    converted = convert("msd", download, tmp_path / "w", protocol="lung")
    assert divided(converted, tmp_path / "w") == (("a", "b", "c"), ("d",), [(("a", "b"), ("c",))])
    assert "2 cases are in none of its lists and not converted" in caplog.text
    assert (converted.folder / "labelsTs/d.nii.gz").is_file()
    before = (tmp_path / "w/preprocessed/Lung/splits.json").stat().st_mtime_ns
    convert("msd", download, tmp_path / "w", protocol="lung")
    assert (tmp_path / "w/preprocessed/Lung/splits.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(("validate_on_test", "validated"), [(False, "c"), (True, "d")])
def test_fold_0_trains_on_the_published_list(download, lung, tmp_path, capsys, validate_on_test, validated):
    home = tmp_path / "w"
    folder = convert("msd", download, home, protocol="lung", validate_on_test=validate_on_test).folder
    small: dict[str, Any] = {"planner": "unet", "width": 0.25, "batch_size": 2, "processes": 1}
    plan_and_preprocess("Lung", workspace=home, configurations=["3d_fullres"], **small)
    short: dict[str, Any] = {"plans_name": "unet", "epochs": 1, "iterations": 1, "device": "cpu"}
    model = train("Lung", "3d_fullres", 0, workspace=home, **short)
    validation = model.path / "fold_0/validation"
    summary = json.loads((validation / "summary.json").read_text())
    assert [case["case"] for case in summary["metric_per_case"]] == [validated]
    with pytest.raises(UserError, match="fold"):
        train("Lung", "3d_fullres", 1, workspace=home, **short)
    if validate_on_test:  # the table's cases are those that are validated
        shutil.copytree(validation, tmp_path / "copy")
        arguments = [str(tmp_path / "copy"), str(folder / "labelsTr"), "--protocol", "lung", "--processes", "1"]
        assert evaluate(arguments) == 0
        assert "these predictions" in capsys.readouterr().out


def test_without_validation_cases_planning_draws_the_folds(download, lung, tmp_path):
    lung(validation=[], train=["a", "b", "c"])
    converted = convert("msd", download, tmp_path / "w", protocol="lung")
    assert divided(converted, tmp_path / "w") == (("a", "b", "c"), ("d",), [])


def test_the_published_validation_is_on_the_test_cases_when_asked_for(download, lung, tmp_path, caplog):
    caplog.set_level("INFO")
    converted = convert("msd", download, tmp_path / "w", protocol="lung", validate_on_test=True)
    assert divided(converted, tmp_path / "w") == (("a", "b", "d"), ("c",), [(("a", "b"), ("d",))])
    assert "is chosen on the cases that the table scores" in caplog.text


def test_other_folds_are_never_overwritten(download, lung, tmp_path):
    path = tmp_path / "w/preprocessed/Lung/splits.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps([{"train": ["a"], "val": ["b"]}]))
    with pytest.raises(
        UserError, match=r"splits.json has other folds than the published lists.*remove the file, or give"
    ):
        convert("msd", download, tmp_path / "w", protocol="lung")
    assert json.loads(path.read_text()) == [{"train": ["a"], "val": ["b"]}]
    assert not (tmp_path / "w/raw").exists()
    path.write_text(json.dumps([{"train": ["a", "b"], "val": ["c"]}]))
    assert convert("msd", download, tmp_path / "w", protocol="lung").errors == ()


def test_a_case_that_cannot_be_converted_leaves_the_folds_unwritten(download, lung, tmp_path, caplog):
    (download / "imagesTr/b.nii.gz").write_bytes(b"no image")
    assert len(convert("msd", download, tmp_path / "w", protocol="lung").errors) == 1
    assert "not written, because 1 case (b) was not converted" in caplog.text
    assert not (tmp_path / "w/preprocessed/Lung/splits.json").exists()


def test_missing_cases_are_named_at_once(download, lung, tmp_path):
    lung(train=["a", "b", "x"], test=["d", "f", "y"])
    with pytest.raises(UserError) as caught:
        convert("msd", download, tmp_path / "w", protocol="lung")
    assert str(caught.value).splitlines() == [
        "protocol lung has 3 errors:",
        *(f"- {case} is not there with its label; complete the download" for case in ("f", "x", "y")),
    ]
    assert not (tmp_path / "w/raw").exists()


def test_protocols_of_other_datasets_are_refused(download, lung, tmp_path, capsys):
    with pytest.raises(UserError, match="protocol 'acdc' is not of this dataset; take one of brats, lung"):
        convert("msd", download, tmp_path / "w", protocol="acdc")
    lung(train=["x"], validation=[], test=["y"])
    with pytest.raises(UserError, match=r"no case of the protocol lung \(such as x\) is there"):
        convert("msd", download, tmp_path / "w", protocol="lung")
    lung(labels={"tumour": 2})
    with pytest.raises(UserError, match=r"the protocol has the labels \[2\], dataset.json has \[1\]"):
        convert("msd", download, tmp_path / "w", protocol="lung")
    with pytest.raises(UserError, match="--validate-on-test is for the cases of a --protocol"):
        convert("msd", download, tmp_path / "w", validate_on_test=True)
    with pytest.raises(SystemExit):
        main(["msd", str(download), "--protocol", "acdc"])
    assert "invalid choice: 'acdc'" in capsys.readouterr().err


def test_published_lists_divide_all_cases_of_the_decathlon(test_data):
    """Real dataset.json of the lung and brain tasks; images are not needed to divide them."""
    for task, name, parts in (("Task06_Lung", "lung", (50, 13)), ("Task01_BrainTumour", "brats", (411, 73))):
        protocol = read_protocol(name)
        found = msd.read(test_data / "samples/msd_dataset_json/derived" / task, protocol=name)
        tests = [case.id for case in found.cases if case.test]
        assert (len(found.cases) - len(tests), len(tests)) == parts
        assert set(tests) == set(protocol.test)
        assert len(found.cases) == len({*protocol.train, *protocol.validation, *protocol.test})


def test_folds_of_an_earlier_protocol_do_not_stay_unsaid(download, lung, tmp_path):
    convert("msd", download, tmp_path / "w", protocol="lung")
    path = tmp_path / "w/preprocessed/Lung/splits.json"
    for choices in ({}, {"protocol": "lung"}):
        lung(validation=[])
        with pytest.raises(UserError, match="still has the folds of an earlier --protocol, which training would take"):
            convert("msd", download, tmp_path / "w", overwrite=True, **choices)
    path.write_text("no JSON")
    assert convert("msd", download, tmp_path / "w", overwrite=True).errors == ()
