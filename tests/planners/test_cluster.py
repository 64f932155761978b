"""Planning and preprocessing through a cluster's executor: the same files, and a failure costs one case."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.helpers.cluster import dask_executor
from tests.helpers.raw_dataset import write_dataset
from unetrpp.core.parallel import error_table
from unetrpp.core.workspace import Workspace
from unetrpp.dataset.cases import read_dataset
from unetrpp.dataset.verification import inputs_digest
from unetrpp.planners.pipeline import plan_and_preprocess
from unetrpp.planners.preprocess import preprocess_dataset
from unetrpp.plans.plans import read_plans
from unetrpp.preprocessing.store import Store


@pytest.fixture(scope="module")
def executor(tmp_path_factory):
    with dask_executor(tmp_path_factory.mktemp("workers")) as executor:
        yield executor


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_cluster_writes_what_this_process_writes(tmp_path, monkeypatch, executor):
    write_dataset(tmp_path / "Blocks")
    monkeypatch.chdir(tmp_path)  # not the current folder of the workers, so relative paths would fail there
    with ThreadPoolExecutor(1) as here:
        for folder, workers in (("one", here), ("cluster", executor)):
            done = plan_and_preprocess(
                "Blocks", workspace=folder, planner="unet", batch_size=2, store="float16", executor=workers
            )
            assert not done.errors
    one, cluster = (contents(tmp_path / folder / "preprocessed") for folder in ("one", "cluster"))
    assert len(Store(tmp_path / "cluster" / "preprocessed" / "Blocks" / "unet_3d_fullres").cases()) == 4
    assert cluster == one
    assert executor.submit(len, "open").result() == 4


def test_a_case_that_fails_on_the_cluster_is_named_and_the_others_are_done(tmp_path, executor):
    folder = write_dataset(tmp_path / "raw" / "Blocks")
    workspace = Workspace(tmp_path)
    plan_and_preprocess("Blocks", workspace=tmp_path, planner="unet", plan_only=True, executor=executor)
    raw = read_dataset(folder, "Blocks")
    digests = {case.id: inputs_digest(case) for case in raw.cases}
    raw.cases[2].images[0].unlink()
    plan = read_plans(workspace.plans("Blocks", "unet")).configuration("3d_fullres").preprocessing
    store = workspace.store("Blocks", "unet", "3d_fullres")
    errors = preprocess_dataset(raw, plan, store, digests=digests, stage="3d_fullres", executor=executor)
    assert [error.case for error in errors] == ["case_2"]
    assert "case_2_0000.nii.gz" in error_table(errors)
    assert Store(store).cases() == ["case_0", "case_1", "case_3"]
