"""The command from end to end: files, exit codes, one table of faults, and what a second run redoes."""

import json
import os
import signal
import subprocess
import sys
import time

import msgspec
import numpy as np
import pytest

from tests.helpers.raw_dataset import DESCRIPTION, GEOMETRY, make_case, write_case, write_dataset
from unetrpp.core.files import read_json, write_json
from unetrpp.core.leftovers import temporary_name
from unetrpp.core.workspace import Workspace
from unetrpp.dataset.splits import Splits, make_splits
from unetrpp.io.geometry import Geometry, same_grid
from unetrpp.io.images import read_label, write_segmentation
from unetrpp.planners.plan_and_preprocess import main
from unetrpp.plans.plans import read_plans
from unetrpp.preprocessing.store import Store
from unetrpp.trainers.folds import train


@pytest.fixture
def workspace(tmp_path):
    write_dataset(tmp_path / "raw" / "Blocks")
    return tmp_path


def command(workspace, *arguments):
    return main(["Blocks", "--workspace", str(workspace), "--processes", "1", *arguments])


def test_everything_is_written_and_a_second_run_redoes_only_what_changed(workspace, capsys):
    assert command(workspace, "--batch-size", "2", "--width", "0.5") == 0
    home = workspace / "preprocessed" / "Blocks"
    assert {p.name for p in home.glob("*.json")} == {"dataset.json", "fingerprint.json", "splits.json", "unetrpp.json"}
    configuration = read_plans(home / "unetrpp.json").configuration("3d_fullres")
    assert configuration.batch_size == 2
    assert len(read_json(home / "splits.json", Splits).folds) == 4
    store = Store(home / "unetrpp_3d_fullres")
    assert store.cases() == [f"case_{i}" for i in range(4)]
    _, label = make_case(1)
    np.testing.assert_array_equal(store.open("case_1").read((0, 0, 0), GEOMETRY.shape_zyx)[1], label)

    stamps = {p.name: p.stat().st_mtime_ns for p in store.folder.glob("*.json")}
    (store.folder / "case_2.json").unlink()  # as a kill leaves it
    write_case(workspace / "raw" / "Blocks", "case_3", *make_case(33))
    assert command(workspace, "--batch-size", "2", "--width", "0.5") == 0
    again = {p.name: p.stat().st_mtime_ns for p in store.folder.glob("*.json")}
    assert {name for name in again if again[name] != stamps[name]} == {"case_2.json", "case_3.json"}


def test_a_network_that_is_planned_by_nnunets_rule_is_trained(workspace, capsys):
    assert command(workspace, "--preset", "resenc-l") == 0
    assert "plans 'resenc-l' for Blocks" in capsys.readouterr().out
    plans = read_plans(workspace / "preprocessed" / "Blocks" / "resenc-l.json")
    assert (plans.name, plans.planner, plans.options) == ("resenc-l", "resunet", {"preset": "resenc-l"})
    trained = train(
        "Blocks", "3d_fullres", "0", workspace=workspace, plans_name="resenc-l", epochs=1, iterations=2, device="cpu"
    )
    assert trained.path.name == "resenc-l__3d_fullres"
    assert (trained.path / "fold_0" / "validation" / "summary.json").exists()
    assert command(workspace, "--preset", "resenc-m", "-p", "resenc-l") == 2
    assert "was made with planner resunet, preset resenc-l" in capsys.readouterr().err


def test_another_description_is_measured_and_verified_again(workspace, capsys, caplog):
    """Otherwise plans of another name would follow a fingerprint of other labels and channels."""
    path = workspace / "raw" / "Blocks" / "dataset.json"
    assert command(workspace, "--planner", "unet", "--plan-only") == 0
    path.write_text(json.dumps(DESCRIPTION | {"labels": {"background": 0, "body": 1, "lesion": 2}}))
    assert command(workspace, "--planner", "unet", "--plan-only", "--plans-name", "renamed") == 0
    assert "body" in (workspace / "preprocessed" / "Blocks" / "fingerprint.json").read_text()
    path.write_text(json.dumps(DESCRIPTION | {"labels": {"background": 0, "organ": 1}}))
    assert command(workspace, "--planner", "unet", "--plan-only", "--plans-name", "fewer") == 2
    assert "label 2 is not in dataset.json" in capsys.readouterr().err
    path.write_text(json.dumps(DESCRIPTION | {"channel_names": {"0": "CT"}}))
    assert command(workspace, "--planner", "unet", "--plan-only", "--plans-name", "ct") == 0
    assert "channel 'CT' has no value below 0" in caplog.text


def test_every_fold_learns_a_class_that_two_cases_have(tmp_path):
    write_dataset(tmp_path / "raw" / "Blocks", cases=10)
    held = make_splits([f"case_{i}" for i in range(10)]).folds[0].validation
    for case in range(10):
        image, label = make_case(case)
        label[label == 2] = 2 if f"case_{case}" in held else 1
        write_case(tmp_path / "raw" / "Blocks", f"case_{case}", image, label)
    assert command(tmp_path, "--planner", "unet", "--plan-only") == 0
    splits = read_json(tmp_path / "preprocessed" / "Blocks" / "splits.json", Splits)
    assert "hold out every case of lesion" in splits.why
    assert all(set(held) & set(fold.train) for fold in splits.folds)


def test_labels_of_another_ending_become_references_of_the_datasets(workspace):
    """Folds are validated against CASE + file_ending."""
    raw, files = workspace / "raw" / "Blocks", {}
    for i in range(4):
        write_segmentation(raw / "drawn" / f"{i}.nrrd", make_case(i)[1] * (i > 0), GEOMETRY)
        files[f"case_{i}"] = {"images": [f"imagesTr/case_{i}_0000.nii.gz"], "label": f"drawn/{i}.nrrd"}
    (raw / "dataset.json").write_text(json.dumps(DESCRIPTION | {"dataset": files}))
    assert command(workspace, "--planner", "unet") == 0
    references = workspace / "preprocessed" / "Blocks" / "labels"
    assert sorted(path.name for path in references.iterdir()) == [f"case_{i}.nii.gz" for i in range(4)]
    for i in range(4):
        drawn = read_label(raw / "drawn" / f"{i}.nrrd")
        reference = read_label(references / f"case_{i}.nii.gz")
        np.testing.assert_array_equal(reference.array, drawn.array)
        assert same_grid(reference.geometry, drawn.geometry, 1e-3) == []


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_killed_run_leaves_nothing_half_written_and_the_same_command_finishes(tmp_path):
    write_dataset(tmp_path / "raw" / "Blocks", cases=30)
    store = Store(tmp_path / "preprocessed" / "Blocks" / "unet_3d_fullres")
    line = [sys.executable, "-m", "unetrpp.planners.plan_and_preprocess", "Blocks", "--planner", "unet"]
    with subprocess.Popen([*line, "--workspace", str(tmp_path), "--processes", "2"], stderr=subprocess.DEVNULL) as run:
        while not store.cases() and run.poll() is None:
            time.sleep(0.005)
        run.send_signal(signal.SIGKILL)
    done = {case: (store.folder / f"{case}.json").stat().st_mtime_ns for case in store.cases()}
    for case in done:
        store.open(case).read((0, 0, 0), (1, 1, 1))
    (store.folder / temporary_name("case_9.label.b2nd").replace(str(os.getpid()), str(run.pid))).touch()
    assert command(tmp_path, "--planner", "unet") == 0
    assert len(store.cases()) == 30
    assert all((store.folder / f"{case}.json").stat().st_mtime_ns == stamp for case, stamp in done.items())
    assert not list(store.folder.glob(".*"))


def test_half_precision_is_read_as_float32_and_close(workspace):
    home = workspace / "preprocessed" / "Blocks"
    for kind in ("float32", "float16"):
        assert command(workspace, "--planner", "unet", "--store", kind, "--plans-name", kind) == 0
    whole, half = (Store(home / f"{kind}_3d_fullres").open("case_0") for kind in ("float32", "float16"))
    expected, found = (case.read((0, 0, 0), case.shape)[0] for case in (whole, half))
    assert found.dtype == np.float32
    assert (found != expected).any()
    np.testing.assert_allclose(found, expected, rtol=2**-11, atol=1e-7)


def test_other_options_do_not_replace_plans_silently(workspace, capsys):
    assert command(workspace) == 0
    assert command(workspace, "--batch-size", "3") == 2
    assert "--overwrite replaces it, --plans-name makes other plans" in capsys.readouterr().err
    assert command(workspace, "--batch-size", "3", "--overwrite") == 0
    plans = read_plans(workspace / "preprocessed" / "Blocks" / "unetrpp.json")
    assert plans.configuration("3d_fullres").batch_size == 3


def test_configurations_are_added_and_edits_survive(workspace):
    assert command(workspace, "--planner", "unet") == 0
    path = workspace / "preprocessed" / "Blocks" / "unet.json"
    path.write_text(path.read_text().replace('"batch_size": 2', '"batch_size": 5'))
    assert command(workspace, "--planner", "unet", "-c", "2d") == 0
    plans = read_plans(path)
    assert set(plans.configurations) == {"3d_fullres", "2d"}
    assert plans.configuration("3d_fullres").batch_size == 5
    store = Store(path.parent / "unet_2d")
    assert len(store.cases()) == 4
    assert read_plans(path).configuration("2d").architecture.dimensions == 2


def test_all_errors_of_all_cases_are_listed_in_one_table(workspace, capsys, caplog):
    raw = workspace / "raw" / "Blocks"
    image, label = make_case(0)
    damaged = {
        "empty": lambda: (raw / "imagesTr" / "empty_0000.nii.gz").write_bytes(b""),
        "cut": lambda: _truncate(raw / "imagesTr" / "cut_0000.nii.gz"),
        "gone": lambda: (raw / "imagesTr" / "gone_0000.nii.gz").unlink(),
        "unlabelled": lambda: (raw / "labelsTr" / "unlabelled.nii.gz").unlink(),
        "foreign": lambda: write_segmentation(raw / "labelsTr" / "foreign.nii.gz", label * 4, GEOMETRY),
        "small": lambda: write_segmentation(
            raw / "labelsTr" / "small.nii.gz",
            label[1:],
            Geometry(shape_zyx=(11, 20, 16), spacing_zyx_mm=(2.0, 1.0, 1.0)),
        ),
    }
    for case, damage in damaged.items():
        write_case(raw, case, *make_case(len(case) + 50))
        damage()
    holed = image.copy()
    holed[0, 0, :3] = np.nan
    write_case(raw, "holed", holed, label)
    assert command(workspace) == 2
    error = capsys.readouterr().err
    assert "Traceback" not in error
    (table,) = [
        record.getMessage() for record in caplog.records if record.name == "unetrpp.planners.measure.fingerprint"
    ]
    rows = [line for line in table.splitlines() if line.startswith("error")]
    assert {row.split()[1] for row in rows} == {*damaged, "holed"}
    by_case = {row.split()[1]: row for row in rows}
    assert "is empty (0 bytes); copy it again" in by_case["empty"]
    assert "truncated" in by_case["cut"]
    assert "does not exist" in by_case["gone"]
    assert "does not exist" in by_case["unlabelled"]
    assert "labels 4, 8 are not in dataset.json (0, 1, 2)" in by_case["foreign"]
    assert "the same shape, found (11, 20, 16) and (12, 20, 16)" in by_case["small"]
    assert "NaN" in by_case["holed"]
    last = error.splitlines()[-1]
    assert last.startswith("unetrpp_plan_and_preprocess: error: ")
    assert "nothing was started; 6 more in the table above" in last
    assert not (workspace / "preprocessed" / "Blocks" / "fingerprint.json").exists()


def _truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "dataset.json"),
        ("[1]", "dataset.json"),
        (json.dumps({**DESCRIPTION, "labels": {"organ": 1}}), "has no background"),
        (json.dumps({k: v for k, v in DESCRIPTION.items() if k != "file_ending"}), "'file_ending' is missing"),
        (json.dumps({**DESCRIPTION, "channel_names": {"0": "c.t."}}), "looks like 'ct'"),
    ],
)
def test_a_broken_description_is_refused(workspace, capsys, content, message):
    (workspace / "raw" / "Blocks" / "dataset.json").write_text(content)
    assert command(workspace) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_an_unknown_dataset_and_an_unknown_configuration(workspace, capsys):
    assert main(["Nowhere", "--workspace", str(workspace)]) == 2
    assert "'Nowhere' is not in the workspace" in capsys.readouterr().err
    assert command(workspace, "-c", "3d") == 2
    assert "unknown configuration '3d'" in capsys.readouterr().err


def test_a_raw_folder_by_path(workspace, tmp_path):
    folder = write_dataset(tmp_path / "elsewhere" / "Dataset007_Cubes")
    assert main([str(folder), "--workspace", str(workspace), "--processes", "1"]) == 0
    assert (workspace / "preprocessed" / "Dataset007_Cubes" / "unetrpp.json").exists()
    assert {Workspace(workspace).find_dataset(name) for name in ("7", "Cubes")} == {"Dataset007_Cubes"}


def test_one_case_and_groups(tmp_path):
    write_dataset(tmp_path / "raw" / "Blocks", cases=1)
    assert command(tmp_path, "--planner", "unet") == 0
    splits = tmp_path / "preprocessed" / "Blocks" / "splits.json"
    assert read_json(splits, Splits).folds == ()
    splits.unlink()
    write_dataset(tmp_path / "raw" / "Blocks", cases=6)
    assert command(tmp_path, "--planner", "unet", "--group-by", "case_([0-2])|([3-5])") == 2
    for case in range(3, 6):
        write_case(tmp_path / "raw" / "Blocks", f"case_{case - 3}b", *make_case(case + 50))
    assert command(tmp_path, "--planner", "unet", "--group-by", r"case_(\d)") == 0
    for fold in read_json(splits, Splits).folds:
        assert not {case[5] for case in fold.train} & {case[5] for case in fold.validation}


def test_the_fingerprint_does_not_depend_on_the_number_of_processes(tmp_path):
    for processes in ("1", "3"):
        write_dataset(tmp_path / processes / "raw" / "Blocks")
        assert (
            main(["Blocks", "--workspace", str(tmp_path / processes), "--planner", "unet", "--processes", processes])
            == 0
        )
    one, three = (tmp_path / p / "preprocessed" / "Blocks" / "fingerprint.json" for p in ("1", "3"))
    assert json.loads(one.read_text()) == {**json.loads(three.read_text())}


def decided(workspace, plans_name: str) -> dict[str, str]:
    plans = read_plans(workspace / "preprocessed" / "Blocks" / f"{plans_name}.json")
    return {d.about: d.value for d in plans.configuration("3d_fullres").decisions}


def test_attention_is_placed_once_by_the_labels_or_as_requested(workspace):
    assert command(workspace, "--width", "0.5", "--attention", "focal", "--plans-name", "focal") == 0
    assert decided(workspace, "focal")["attention"].startswith("pooled EPA at stride ")
    assert "skip at stride 1 x 1 x 1" in decided(workspace, "focal")
    path = workspace / "preprocessed" / "Blocks" / "focal.json"
    before = path.read_bytes()
    assert command(workspace, "--width", "0.5", "--attention", "focal", "--plans-name", "focal") == 0
    assert path.read_bytes() == before
    assert command(workspace, "--width", "0.5", "--place", "gate@1=1.5", "--plans-name", "asked") == 0
    architecture = (
        read_plans(workspace / "preprocessed" / "Blocks" / "asked.json").configuration("3d_fullres").architecture
    )
    assert [level.gate for level in architecture.levels[:2]] == [None, 1.5]
    assert decided(workspace, "asked")["gate at level 1"] == "gamma 1.5"


@pytest.mark.parametrize("planner", [[], ["--planner", "unet"], ["--planner", "resunet", "-c", "2d"]])
def test_loss_and_attention_are_chosen_apart(workspace, capsys, planner):
    """--loss with every planner, planned again with the same and with another loss."""
    given = [*planner, "--plans-name", "mine"]
    path = workspace / "preprocessed" / "Blocks" / "mine.json"
    assert command(workspace, *given, "--loss", "unified_focal") == 0
    (configuration,) = read_plans(path).configurations.values()
    assert configuration.loss.name == "unified_focal"
    decisions = {d.about: d for d in configuration.decisions}
    assert decisions["attention"].value.startswith("as published" if planner else "pooled EPA at stride ")
    assert decisions["loss"].why.startswith("asked for with --loss unified_focal; ")
    before = path.read_bytes()
    assert command(workspace, *given, "--loss", "unified_focal") == 0
    for other in ([], ["--loss", "auto"], ["--loss", "unified_focal", "--attention", "focal"]):
        assert command(workspace, *given, *other) == 2
        error = capsys.readouterr().err
        assert "loss unified_focal, not " in error
        assert "--overwrite replaces it" in error
    assert path.read_bytes() == before
    assert command(workspace, *given, "--loss", "unified_focal_distance", "--overwrite") == 0
    (configuration,) = read_plans(path).configurations.values()
    assert configuration.loss.name == "unified_focal_distance"
    assert command(workspace, *given, "--attention", "focal", "--overwrite") == 0
    (configuration,) = read_plans(path).configurations.values()
    assert configuration.loss.name == "dice_ce"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--loss", "auto", "--plan-only"], "cannot go with --plan-only"),
        (["--place", "gate1"], "not an attention override"),
        (["--attention", "focal", "--plan-only"], "cannot go with --plan-only"),
        (["--attention", "auto", "--planner", "unet"], "about EPA blocks, of which unet has none; leave it out, or "),
    ],
)
def test_impossible_attention_is_refused_before_anything_starts(workspace, capsys, arguments, words):
    assert command(workspace, *arguments) == 2
    assert words in capsys.readouterr().err
    assert not (workspace / "preprocessed").exists()


def test_a_cascade_is_planned_with_its_first_stage(workspace):
    assert command(workspace, "--planner", "unet", "--plan-only") == 0
    path = workspace / "preprocessed" / "Blocks" / "unet.json"
    plans = read_plans(path)
    full = plans.configuration("3d_fullres")
    coarse = msgspec.structs.replace(full.preprocessing, spacing_mm=(4.0, 4.0, 4.0))
    stages = {
        "3d_cascade": msgspec.structs.replace(full, first_stage="3d_lowres"),
        "3d_lowres": msgspec.structs.replace(full, preprocessing=coarse),
    }
    write_json(path, msgspec.structs.replace(plans, configurations=stages))
    assert command(workspace, "--planner", "unet", "-c", "3d_cascade") == 0
    for name in stages:
        assert len(Store(path.with_name(f"unet_{name}")).cases()) == 4


def test_both_stages_of_a_cascade_get_the_loss(workspace):
    assert command(workspace, "--planner", "unet", "--plan-only") == 0
    path = workspace / "preprocessed" / "Blocks" / "unet.json"
    plans = read_plans(path)
    full = plans.configuration("3d_fullres")
    undecided = tuple(decision for decision in full.decisions if decision.about != "attention")
    full = msgspec.structs.replace(full, decisions=undecided)
    stages = {"3d_cascade": msgspec.structs.replace(full, first_stage="3d_lowres"), "3d_lowres": full}
    asked = plans.options | {"loss": "unified_focal"}
    write_json(path, msgspec.structs.replace(plans, configurations=stages, options=asked))
    assert command(workspace, "--planner", "unet", "-c", "3d_cascade", "--loss", "unified_focal") == 0
    assert {c.loss.name for c in read_plans(path).configurations.values()} == {"unified_focal"}


def test_overwriting_leaves_other_plans_alone_and_a_refusal_leaves_everything(workspace):
    assert command(workspace, "--planner", "unet", "--plans-name", "unet_big") == 0
    assert command(workspace, "--planner", "unet") == 0
    assert command(workspace, "--planner", "unet", "--overwrite") == 0
    home = workspace / "preprocessed" / "Blocks"
    assert len(Store(home / "unet_big_3d_fullres").cases()) == len(Store(home / "unet_3d_fullres").cases()) == 4
    before = {p: p.read_bytes() for p in home.rglob("*.json")}
    assert command(workspace, "--planner", "unet", "--overwrite", "-c", "3d_lowres") == 2
    assert {p: p.read_bytes() for p in home.rglob("*.json") if "fingerprint" not in p.name} == {
        p: content for p, content in before.items() if "fingerprint" not in p.name
    }


def test_plans_that_preprocess_alike_share_their_cases(workspace, caplog):
    rules = ("--batch-size", "2", "--width", "0.5")
    assert command(workspace, *rules) == 0
    first = workspace / "preprocessed" / "Blocks" / "unetrpp_3d_fullres"
    (first / "case_3.label.b2nd").write_bytes(b"")  # damaged, so it is preprocessed again
    caplog.set_level("INFO")
    assert command(workspace, "--planner", "unet", *rules) == 0
    second = first.with_name("unet_3d_fullres")
    assert "unet_3d_fullres: 3 of 4 cases are shared with another store" in caplog.text
    linked = {path.name for path in second.glob("*.b2nd") if path.samefile(first / path.name)}
    assert linked == {f"case_{i}.{part}.b2nd" for i in range(3) for part in ("image", "label", "foreground")}
    label = Store(second).open("case_3").read((0, 0, 0), GEOMETRY.shape_zyx)[1]
    np.testing.assert_array_equal(label, make_case(3)[1])
    assert command(workspace, "--planner", "unet", "--spacing", "2", "2", "2", "--plans-name", "coarse", *rules) == 0
    assert "coarse" not in caplog.text.replace("plans 'coarse'", "")
