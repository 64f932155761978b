"""The steps of planning as calls: the command's options, what is taken from disk, what is made and what is refused."""

import argparse
import inspect
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.helpers.fingerprints import case_fingerprint, class_statistics, description, fingerprint
from tests.helpers.raw_dataset import make_case, write_case, write_dataset
from tests.helpers.tiny import store_balls, workspace_of_balls
from unetrpp.core.errors import UserError
from unetrpp.core.files import write_json
from unetrpp.dataset.cases import RawDataset
from unetrpp.dataset.labels import LabelScheme
from unetrpp.planners.attention_and_loss import plan_attention
from unetrpp.planners.options import Options
from unetrpp.planners.pipeline import load_or_make_plans, plan_and_preprocess, with_first_stages, write_plans
from unetrpp.planners.plan_and_preprocess import build_parser
from unetrpp.planners.planner import UNetPlanner
from unetrpp.plans.plans import read_plans
from unetrpp.preprocessing.store import Store

MEASURED = fingerprint([case_fingerprint(shape=(36, 50, 35))] * 6)
RAW = RawDataset(Path("raw"), description(), ())


def test_the_call_has_the_options_of_the_command():
    """Under their long names, keyword-only, with the same defaults."""
    options = {
        action.option_strings[-1].removeprefix("--").replace("-", "_"): action.default
        for action in build_parser()._actions
        if action.option_strings and action.default is not argparse.SUPPRESS
    }
    del options["debug"], options["json"]
    assert options.pop("executor") is None  # its text, of which the command makes one
    first, *others = inspect.signature(plan_and_preprocess).parameters.values()
    assert first.name == "dataset"
    assert {parameter.kind for parameter in others} == {inspect.Parameter.KEYWORD_ONLY}
    defaults = {p.name: p.default or None for p in others}
    assert defaults.pop("executor") is None
    assert defaults == {name: default or None for name, default in options.items()}


def test_the_result_says_what_was_planned_and_where(tmp_path):
    write_dataset(tmp_path / "raw" / "Blocks")
    with ThreadPoolExecutor(1) as here:
        done = plan_and_preprocess("Blocks", workspace=str(tmp_path), planner="unet", batch_size=2, executor=here)
    assert done.errors == ()
    assert done.folder == tmp_path / "preprocessed" / "Blocks"
    assert done.plans == read_plans(done.folder / "unet.json")
    assert len(Store(done.folder / "unet_3d_fullres").cases()) == 4
    first, second = done.summary.splitlines()
    assert first == f"plans 'unet' for Blocks in {done.folder}"
    assert second.startswith("  3d_fullres: patch ")
    assert ", batch 2, about " in second


def test_whole_numbers_are_recorded_as_the_command_records_them(tmp_path):
    write_dataset(tmp_path / "raw" / "Blocks")
    with ThreadPoolExecutor(1) as here:
        done = plan_and_preprocess(
            "Blocks",
            workspace=tmp_path,
            spacing=[2, 1, 1],
            width=2,
            gpu_memory_gb=8,
            patch=[8, 16, 16],
            plan_only=True,
            executor=here,
        )
    assert done.plans.options == {
        "spacing": "(2.0, 1.0, 1.0)",
        "width": "2.0",
        "gpu_memory_gb": "8.0",
        "patch": "(8, 16, 16)",
    }


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"spacing": [1.0, 1.0]}, "spacing has 2 values; give three"),
        ({"attention": "focal", "plan_only": True}, "cannot go with --plan-only"),
        ({"place": ["gate1"]}, "'gate1' is not an attention override"),
        ({"preset": "heart"}, "preset 'heart' is not one of"),
        ({"plans_name": "splits"}, "plans cannot be called 'splits'"),
    ],
)
def test_impossible_options_are_refused_before_anything_is_written(tmp_path, options, words):
    write_dataset(tmp_path / "raw" / "Blocks")
    with pytest.raises(UserError, match=words):
        plan_and_preprocess("Blocks", workspace=tmp_path, **options)
    assert not (tmp_path / "preprocessed").exists()


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def contents(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


UNKNOWN_CASE = '[{"train": ["case_0"], "val": ["case_9"]}]'


@pytest.mark.parametrize(
    ("changed", "options", "words"),
    [
        ({"labels": {"background": 0, "organ": 1, "tumour": 2}}, {}, "was made for other labels or channels"),
        ({}, {"batch_size": 3}, "was made with"),
        ({"name": "renamed"}, {"plans_name": "mine", "place": ["gate@9=1"]}, "the network has the levels"),
        (
            {"name": "renamed"},
            {"plans_name": "mine", "attention": "pooled"},
            "is about EPA blocks, of which unet has none",
        ),
        ({"name": "renamed"}, {"plans_name": "mine", "configurations": ["3d_lowres"]}, "3d_lowres is of no use"),
        ({"name": "renamed"}, {"splits": UNKNOWN_CASE}, "case_9.*not a case"),
    ],
    ids=["labels", "options", "attention", "pooled", "configuration", "splits"],
)
def test_planning_that_is_refused_writes_nothing(tmp_path, changed, options, words):
    raw, home = write_dataset(tmp_path / "raw" / "Blocks"), tmp_path / "preprocessed" / "Blocks"
    given = {"workspace": tmp_path, "planner": "unet", "batch_size": 2}
    with ThreadPoolExecutor(1) as here:
        plan_and_preprocess("Blocks", **given, executor=here)
        edit(raw / "dataset.json", **changed)
        write_case(raw, "case_1", *make_case(50))
        if "splits" in options:
            (home / "splits.json").write_text(options.pop("splits"))
        before = contents(home)
        with pytest.raises(UserError, match=words):
            plan_and_preprocess("Blocks", **(given | options), executor=here)
    assert contents(home) == before


def test_nothing_is_measured_for_plans_of_other_labels(tmp_path, monkeypatch):
    raw = write_dataset(tmp_path / "raw" / "Blocks")
    with ThreadPoolExecutor(1) as here:
        plan_and_preprocess("Blocks", workspace=tmp_path, planner="unet", plan_only=True, executor=here)
        edit(raw / "dataset.json", labels={"background": 0, "organ": 1, "tumour": 2})
        monkeypatch.setattr("unetrpp.planners.pipeline.load_or_measure", None)
        with pytest.raises(UserError, match="other labels or channels"):
            plan_and_preprocess("Blocks", workspace=tmp_path, planner="unet", executor=here)


def test_a_warning_about_many_classes_is_logged_once_and_recorded_for_each(tmp_path, caplog, monkeypatch):
    write_dataset(tmp_path / "raw" / "Blocks")
    warnings = [f"'region_{i}' may vanish: 0.{i} mm" for i in range(1, 38)]
    monkeypatch.setattr("unetrpp.planners.planner.dataset_warnings", lambda fingerprint, grid, groups: iter(warnings))
    with ThreadPoolExecutor(1) as here:
        done = plan_and_preprocess("Blocks", workspace=tmp_path, planner="unet", plan_only=True, executor=here)
    assert set(warnings) <= set(done.plans.warnings)
    (line,) = [message for message in caplog.messages if "may vanish" in message]
    assert line == "warning: 'region_1' may vanish: 0.1 mm (likewise 'region_2', 'region_3', 'region_4' and 33 more)"


def test_plans_of_a_dataset_that_has_changed_are_kept_with_a_warning(tmp_path, caplog):
    raw, home = write_dataset(tmp_path / "raw" / "Blocks"), tmp_path / "preprocessed" / "Blocks"
    options = {"workspace": tmp_path, "planner": "unet", "batch_size": 2, "plan_only": True}
    with ThreadPoolExecutor(1) as here:
        for _ in range(2):
            plan_and_preprocess("Blocks", **options, executor=here)
        assert "has changed since" not in caplog.text
        plans = (home / "unet.json").read_bytes()
        write_case(raw, "case_1", *make_case(50))
        for _ in range(2):  # the first run renews fingerprint.json, and the plans are still of the earlier one
            caplog.clear()
            plan_and_preprocess("Blocks", **options, executor=here)
            assert "the dataset has changed since" in caplog.text
        assert (home / "unet.json").read_bytes() == plans
        caplog.clear()
        plan_and_preprocess("Blocks", **options, executor=here, overwrite=True)
        plan_and_preprocess("Blocks", **options, executor=here)
    assert "has changed since" not in caplog.text


def test_nothing_stays_of_a_case_that_is_no_longer_in_the_dataset(tmp_path, caplog):
    raw, home = write_dataset(tmp_path / "raw" / "Blocks"), tmp_path / "preprocessed" / "Blocks"
    with ThreadPoolExecutor(1) as here:
        for name in ("first", "second"):
            plan_and_preprocess("Blocks", workspace=tmp_path, planner="unet", plans_name=name, executor=here)
        of_the_case = {path for path in home.rglob("case_1*") if path.is_file()}
        others = {path for path in home.rglob("case_*") if path.is_file()} - of_the_case
        assert len(of_the_case) == 4 + 4 + 1
        for path in raw.rglob("case_1*"):
            path.unlink()
        with pytest.raises(UserError, match=r"case_1.*not a case of the dataset"):
            plan_and_preprocess("Blocks", workspace=tmp_path, planner="unet", plans_name="first", executor=here)
        assert all(path.exists() for path in of_the_case)
        (home / "splits.json").unlink()
        caplog.set_level("INFO")
        plan_and_preprocess("Blocks", workspace=tmp_path, planner="unet", plans_name="first", executor=here)
    assert {path for path in home.rglob("case_*") if path.is_file()} == others
    assert "cases that are no longer in the dataset: case_1" in caplog.text


def test_plans_on_disk_are_taken_as_they_are_and_missing_configurations_added(tmp_path):
    path, planner = tmp_path / "mine.json", UNetPlanner(Options(batch_size=2))
    made = load_or_make_plans(path, planner, MEASURED, RAW)
    assert not path.exists()
    assert list(made.configurations) == ["3d_fullres"]
    assert made.name == "mine"
    edited = msgspec.structs.replace(made.configuration("3d_fullres"), batch_size=9)
    write_json(path, msgspec.structs.replace(made, configurations={"3d_fullres": edited}))
    both = load_or_make_plans(path, planner, MEASURED, RAW, names=["2d", "3d_fullres"])
    assert both.configuration("3d_fullres") == edited
    assert both.configuration("2d").architecture.dimensions == 2
    write_plans(path, both)
    assert read_plans(path) == both


def test_plans_made_otherwise_are_refused(tmp_path):
    path = tmp_path / "mine.json"
    write_plans(path, load_or_make_plans(path, UNetPlanner(Options(batch_size=2)), MEASURED, RAW))
    with pytest.raises(UserError, match=r"was made with planner unet, batch_size 2, not planner unet, width 0\.5"):
        load_or_make_plans(path, UNetPlanner(Options(width=0.5)), MEASURED, RAW)
    labels = LabelScheme(names=("background", "tumour"), values=(0, 1))
    other = replace(RAW, description=msgspec.structs.replace(RAW.description, labels=labels))
    with pytest.raises(UserError, match="was made for other labels or channels"):
        load_or_make_plans(path, UNetPlanner(Options(batch_size=2)), MEASURED, other)
    other = replace(RAW, description=msgspec.structs.replace(RAW.description, file_ending=".nrrd"))
    with pytest.raises(UserError, match="was made for other file ending"):
        load_or_make_plans(path, UNetPlanner(Options(batch_size=2)), MEASURED, other)


def test_overwriting_removes_the_stores_of_these_plans_once_new_ones_are_made(tmp_path):
    path = tmp_path / "mine.json"
    write_plans(path, load_or_make_plans(path, UNetPlanner(), MEASURED, RAW))
    mine, others = tmp_path / "mine_3d_fullres", tmp_path / "mine_too_3d_fullres"
    for folder in (mine, others):
        folder.mkdir()
    with pytest.raises(UserError, match="3d_lowres is of no use"):
        load_or_make_plans(path, UNetPlanner(), MEASURED, RAW, names=["3d_lowres"], overwrite=True)
    assert mine.exists()
    plans = load_or_make_plans(path, UNetPlanner(Options(batch_size=5)), MEASURED, RAW, overwrite=True)
    assert plans.configuration("3d_fullres").batch_size == 5
    assert mine.exists()
    write_plans(path, plans, overwrite=True)
    assert read_plans(path) == plans
    assert not mine.exists()
    assert others.exists()


def test_a_first_stage_comes_before_its_cascade_and_once():
    large = fingerprint([case_fingerprint(shape=(300, 512, 512), spacing=(1.0, 0.8, 0.8))] * 6)
    plans = UNetPlanner().plan(large, description(), "unet", ("3d_cascade", "2d"))
    assert with_first_stages(plans, ["2d", "3d_cascade"]) == ["2d", "3d_lowres", "3d_cascade"]
    assert with_first_stages(plans, ["3d_cascade", "3d_lowres"]) == ["3d_lowres", "3d_cascade"]
    with pytest.raises(UserError, match="is not in the plans"):
        with_first_stages(plans, ["3d_fullres"])


def test_attention_by_labels_is_planned_once_and_where_cases_are_preprocessed(tmp_path):
    workspace = workspace_of_balls(tmp_path)
    path = workspace.plans("balls", "unet")
    plans = read_plans(path)
    both = msgspec.structs.replace(
        plans, configurations=plans.configurations | {"2d": plans.configuration("3d_fullres")}
    )
    options = Options(attention="focal", place=("gate@0=1.5",))
    decided = plan_attention(both, path, MEASURED, workspace=workspace, options=options)
    full = decided.configuration("3d_fullres")
    assert full.architecture.levels[0].gate == 1.5
    assert [full.decisions[i].about for i in (0, -1)] == ["attention", "gate at level 0"]
    assert full.training_memory_bytes > 0
    assert decided.configuration("2d") == both.configuration("2d")
    assert read_plans(path) == decided
    stamp = path.stat().st_mtime_ns
    by_labels = Options(attention="focal")
    assert plan_attention(decided, path, MEASURED, workspace=workspace, options=by_labels) == decided
    assert path.stat().st_mtime_ns == stamp
    assert plan_attention(decided, path, MEASURED, workspace=workspace, options=Options()) == decided
    as_published = plan_attention(decided, path, MEASURED, workspace=workspace, options=Options(), unprepared=True)
    assert as_published.configuration("2d").decisions[0].value == "as published"  # which takes no labels
    write_json(path, decided)
    store_balls(workspace.store("balls", "unet", "2d"), 1)
    later = plan_attention(decided, path, MEASURED, workspace=workspace, options=by_labels)
    assert later.configuration("2d").decisions[0].value == "no EPA"
    assert later.configuration("3d_fullres") == full


def edit_description(root, **change):
    path = root / "raw" / "Blocks" / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))


def test_the_name_in_the_file_is_a_title_and_changes_nothing(tmp_path):
    write_dataset(tmp_path / "raw" / "Blocks")
    plain = plan_and_preprocess("Blocks", workspace=tmp_path, plan_only=True, processes=1)
    edit_description(tmp_path, name="Blocks 2023 (../kidney)")
    titled = plan_and_preprocess("Blocks", workspace=tmp_path, plan_only=True, processes=1, overwrite=True)
    assert titled == plain
    assert titled.plans.dataset == "Blocks"
    assert json.loads((plain.folder / "fingerprint.json").read_text())["dataset"] == "Blocks"
    assert json.loads((plain.folder / "dataset.json").read_text())["name"] == "Blocks 2023 (../kidney)"


def test_what_dataset_json_says_is_checked_again_although_no_file_changed(tmp_path, caplog):
    write_dataset(tmp_path / "raw" / "Blocks")
    plan_and_preprocess("Blocks", workspace=tmp_path, plan_only=True, processes=1)
    assert "numTraining" not in caplog.text
    edit_description(tmp_path, numTraining=7)
    plan_and_preprocess("Blocks", workspace=tmp_path, plan_only=True, processes=1)
    assert "'numTraining' in dataset.json is 7, but the folder has 4 training cases" in caplog.text


@pytest.mark.parametrize("given", ["dataset.json", "CSV"])
def test_groups_of_files_are_refused_before_folds_are_drawn(tmp_path, given):
    write_dataset(tmp_path / "raw" / "Blocks")
    groups = {f"case_{i}.nii.gz": f"patient_{i // 2}" for i in range(4)}
    group_by = None
    if given == "CSV":
        table = tmp_path / "patients.csv"
        table.write_text("".join(f"{case},{group}\n{case[:6]},{group}\n" for case, group in groups.items()))
        group_by = str(table)
    else:
        edit_description(tmp_path, groups=groups)
    with pytest.raises(UserError, match=r"4 names that are not cases .*'case_0.nii.gz' \(did you mean case_0\?\)"):
        plan_and_preprocess("Blocks", workspace=tmp_path, plan_only=True, processes=1, group_by=group_by)
    assert not [*tmp_path.glob("preprocessed/*/splits.json")]


def test_attention_that_needs_no_labels_is_planned_without_preprocessing(tmp_path):
    write_dataset(tmp_path / "raw" / "Blocks")
    options: dict[str, Any] = {
        "workspace": tmp_path,
        "processes": 1,
        "attention": "pooled",
        "width": 0.25,
        "gpu_memory_gb": 2,
    }
    planned = plan_and_preprocess("Blocks", plan_only=True, **options).plans
    (network,) = {configuration.architecture for configuration in planned.configurations.values()}
    assert any(level.cell for level in network.levels)
    assert plan_and_preprocess("Blocks", **options).plans == planned


def test_all_that_was_preprocessed_follows_the_data(tmp_path):
    raw, home = write_dataset(tmp_path / "raw" / "Blocks"), tmp_path / "preprocessed" / "Blocks"
    options: dict[str, Any] = {"workspace": tmp_path, "planner": "unet", "batch_size": 2}
    with ThreadPoolExecutor(1) as here:
        plan_and_preprocess("Blocks", **options, executor=here)
        plan_and_preprocess("Blocks", **options, configurations=["2d"], executor=here)
        stores = [Store(home / f"unet_{name}") for name in ("3d_fullres", "2d")]
        before = [store.open("case_1").inputs_digest for store in stores]
        write_case(raw, "case_1", *make_case(50))
        plan_and_preprocess("Blocks", **options, executor=here)
    after = [store.open("case_1").inputs_digest for store in stores]
    assert before[0] == before[1] != after[0] == after[1]


def test_patients_are_not_forgotten(tmp_path):
    write_dataset(tmp_path / "raw" / "Blocks")
    options: dict[str, Any] = {"workspace": tmp_path, "planner": "unet", "plan_only": True}
    with ThreadPoolExecutor(1) as here:
        plan_and_preprocess("Blocks", **options, group_by=r"case_(\d)", executor=here)
        plan_and_preprocess("Blocks", **options, executor=here)
        planned = tmp_path / "preprocessed" / "Blocks" / "dataset.json"
        assert json.loads(planned.read_text())["groups"]["case_1"] == "1"
        write_case(tmp_path / "raw" / "Blocks", "case_9", *make_case(9))
        with pytest.raises(UserError, match=r"nothing tells that of 1 new case \(case_9\); give --group-by again"):
            plan_and_preprocess("Blocks", **options, executor=here)
        (planned.parent / "splits.json").unlink()
        plan_and_preprocess("Blocks", **options, overwrite=True, executor=here)
    assert "groups" not in json.loads(planned.read_text())


def test_warnings_of_a_configuration_that_is_added_are_logged_and_kept(tmp_path, caplog):
    """The batch leaves room for a small patch in 3D alone."""
    path, planner = tmp_path / "mine.json", UNetPlanner(Options(batch_size=2000))
    classes = {"organ": class_statistics(extent=(16, 20, 16))}
    measured = fingerprint([case_fingerprint(shape=(36, 50, 35), classes=classes)] * 6)
    made = load_or_make_plans(path, planner, measured, RAW, names=["2d"])
    write_plans(path, made)
    caplog.clear()
    both = load_or_make_plans(path, planner, measured, RAW, names=["3d_fullres"])
    assert list(both.configurations) == ["2d", "3d_fullres"]
    (new,) = set(both.warnings) - set(made.warnings)
    assert new.startswith("3d_fullres: 'organ' never lies whole inside a patch")
    assert caplog.messages == [f"warning: {new}"]


def test_plans_without_a_digest_are_compared_with_what_was_measured_last(tmp_path, caplog):
    """Release 0.1.0 wrote none."""
    raw, home = write_dataset(tmp_path / "raw" / "Blocks"), tmp_path / "preprocessed" / "Blocks"
    options = {"workspace": tmp_path, "planner": "unet", "batch_size": 2, "plan_only": True}
    with ThreadPoolExecutor(1) as here:
        plan_and_preprocess("Blocks", **options, executor=here)
        plans = json.loads((home / "unet.json").read_text())
        del plans["made_from"]
        (home / "unet.json").write_text(json.dumps(plans))
        plan_and_preprocess("Blocks", **options, executor=here)
        assert "has changed since" not in caplog.text
        write_case(raw, "case_1", *make_case(50))
        plan_and_preprocess("Blocks", **options, executor=here)
        assert "has changed since" in caplog.text


def test_measuring_again_alone_is_no_change_of_the_dataset(tmp_path, caplog, monkeypatch):
    """Another release may word its warnings otherwise, and another machine round a measurement otherwise."""
    write_dataset(tmp_path / "raw" / "Blocks")
    options = {"workspace": tmp_path, "planner": "unet", "plan_only": True}
    with ThreadPoolExecutor(1) as here:
        plan_and_preprocess("Blocks", **options, executor=here)
        monkeypatch.setattr("unetrpp.dataset.verification.place_warnings", lambda name, geometry: [f"{name} is odd"])
        plan_and_preprocess("Blocks", **options, plans_name="other", overwrite=True, executor=here)
        plan_and_preprocess("Blocks", **options, executor=here)
    assert "is odd" in caplog.text
    assert "has changed since" not in caplog.text
