"""Which folds a command trains, and what it needs for them."""

import pytest

from tests.helpers.tiny import workspace_of_balls
from unetrpp.core.errors import UserError
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
        "tensorboard": False,
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
