"""Which folds a command trains, and what it needs for them."""

import json

import pytest

from tests.helpers.tiny import workspace_of_balls
from unetrpp.core.errors import UserError
from unetrpp.core.files import write_json
from unetrpp.trainers.job import TrainingRequest, folds_of, read_job


@pytest.mark.parametrize("text", ["5", "x", "3-1", "0-9", "-1"])
def test_folds_that_do_not_exist(text):
    with pytest.raises(UserError, match="does not exist"):
        folds_of(text, 5)


def test_without_folds_only_all_can_be_trained():
    assert folds_of("all", 0) == ["all"]
    with pytest.raises(UserError, match="train the fold all"):
        folds_of(None, 0)


def request(workspace, **changed) -> TrainingRequest:
    fields = {
        "workspace": workspace,
        "dataset": "Dataset012_balls",
        "configuration": "3d_fullres",
        "fold": "1-2",
        "plans_name": "unet",
        "overrides": {},
        "pretrained": None,
        "trackers": (),
        "mirroring": False,
        "continue_training": False,
        "overwrite": False,
    }
    return TrainingRequest(**(fields | changed))


def test_reading_a_job_finds_the_dataset_and_writes_nothing(tmp_path):
    workspace = workspace_of_balls(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    job = read_job(request(workspace))
    assert sorted(tmp_path.rglob("*")) == before
    assert (job.request.dataset, job.folds) == ("balls", [1, 2])
    assert job.model == workspace.model("balls", "unet", "3d_fullres")
    assert set(job.cases_of("all").train) == set(job.store.cases())
    assert job.cases_of(1) == job.splits.folds[1]
    assert {path.name.removesuffix(".nii.gz") for path in job.references.iterdir()} == set(job.store.cases())
    assert (job.replaced, read_job(request(workspace, overwrite=True)).replaced) == (set(), {"fold_1", "fold_2"})


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"dataset": "cubes"}, "'cubes' is not in the workspace"),
        ({"configuration": "2d"}, "2d"),
        ({"overrides": {"trainer": "unknown"}}, "trainer 'unknown' is not one of standard"),
    ],
)
def test_what_does_not_exist_is_refused(tmp_path, changed, message):
    with pytest.raises(UserError, match=message):
        read_job(request(workspace_of_balls(tmp_path), **changed))


@pytest.mark.parametrize(
    ("folds", "message"),
    [
        ([{"train": ["ball_0", "ball_1"], "val": []}], "fold 0 has no validation case"),
        ([{"train": [], "val": ["ball_0"]}], "fold 0 has no training case"),
        ([{"train": ["ball_0", "ball_1"], "val": ["ball_1"]}], "fold 0 trains and validates on 'ball_1'"),
        ([{"train": ["ball_9"], "val": ["ball_1"]}], r"1 of 2 cases is not preprocessed \(ball_9\)"),
        ([], "it lists no fold"),
    ],
)
def test_folds_that_cannot_be_trained_are_refused_before_anything_is_written(tmp_path, folds, message):
    workspace = workspace_of_balls(tmp_path)
    write_json(workspace.preprocessed("balls") / "splits.json", folds)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=message):
        read_job(request(workspace, fold="0"))
    assert sorted(tmp_path.rglob("*")) == before


def test_no_fold_trains_on_a_patient_that_it_validates(tmp_path):
    workspace = workspace_of_balls(tmp_path)
    path = workspace.preprocessed("balls") / "dataset.json"
    write_json(path, json.loads(path.read_text()) | {"groups": dict.fromkeys(("ball_0", "ball_1", "ball_2"), "p")})
    with pytest.raises(UserError, match="train and validate on cases of one group, such as p"):
        read_job(request(workspace))


def test_nnunets_folds_are_trained_as_they_are(tmp_path):
    workspace = workspace_of_balls(tmp_path)
    folds = [{"train": ["ball_0"], "val": ["ball_1", "ball_2"]}, {"train": ["ball_3"], "val": ["ball_1"]}]
    write_json(workspace.preprocessed("balls") / "splits.json", folds)
    job = read_job(request(workspace, fold=None))
    assert [(f.train, f.validation) for f in job.splits.folds] == [(tuple(f["train"]), tuple(f["val"])) for f in folds]
    assert job.folds == [0, 1]
