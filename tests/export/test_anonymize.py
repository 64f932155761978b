"""An exported model names no training case, and is otherwise unchanged."""

import json
import zipfile

import msgspec
import numpy as np
import pytest

from tests.helpers.model import PLAN, fingerprint, make_model
from tests.helpers.tiny import LABELS
from unetrpp.core.files import read_json, write_json
from unetrpp.dataset.description import CaseFiles, DatasetDescription, nnunet_json
from unetrpp.evaluation.cross_validation import CrossValidation, FoldScores, write_cross_validation
from unetrpp.evaluation.metrics import score_case
from unetrpp.evaluation.summary import CaseScores, summarize
from unetrpp.export.anonymize import Pseudonyms, shared_records
from unetrpp.export.model_zip import export_model, import_model
from unetrpp.inference.guards import check_input
from unetrpp.io.geometry import Geometry
from unetrpp.io.images import Volume
from unetrpp.model.folder import ModelFolder
from unetrpp.plans.fingerprint import Fingerprint, LeftOut
from unetrpp.plans.plans import Decision, Plans, read_plans

IDS = ("mueller_19631224", "mueller_19631224_b", "0047112", "7")
PATIENTS = {"mueller_19631224": "Hans M", "mueller_19631224_b": "Hans M", "0047112": "P0815", "7": "P7"}
UNUSED = "schmidt_19610304"  # was left out of the training
PRIVATE = (*IDS[:3], UNUSED, "Hans", "P0815", "hospital")


def name_cases(model):
    """Fill every record of the model folder with ids, as plans, verification and validation may."""
    measured = fingerprint()
    cases = tuple(
        msgspec.structs.replace(measured.cases[0], case=case, inputs_digest=f"hash {i}") for i, case in enumerate(IDS)
    )
    warnings = (f"{IDS[0]}: {IDS[0]}, {IDS[1]} have the same image; remove the copies",)
    unused = {UNUSED: LeftOut(reason=f"{UNUSED}_0000.nii.gz is empty (0 bytes); copy it again", inputs_digest="x")}
    write_json(
        model / "fingerprint.json", msgspec.structs.replace(measured, cases=cases, warnings=warnings, left_out=unused)
    )
    files = {case: CaseFiles((f"hospital/{case}.nii.gz",), f"hospital/l_{case}.nii.gz") for case in IDS}
    description = DatasetDescription(
        name="balls", channel_names=("MRI",), labels=LABELS, file_ending=".nii.gz", groups=PATIENTS, files=files
    )
    write_json(model / "dataset.json", nnunet_json(description, 4))
    plans = read_plans(model / "plans.json")
    decision = Decision(
        about="patch", value="small", why=f"7 of 9 cases are thinner than {IDS[2]}, the median; {UNUSED} is not"
    )
    configurations = {
        name: msgspec.structs.replace(configuration, decisions=(decision,))
        for name, configuration in plans.configurations.items()
    }
    warning = f"7 cases have fewer than 4 voxels along an axis, such as {IDS[1]} (3 x 9 x 9): remove them"
    write_json(
        model / "plans.json",
        msgspec.structs.replace(
            plans, configurations=configurations, warnings=(warning,), decisions=(decision,), options={"mirror": IDS[2]}
        ),
    )
    validate(model, "/home/hospital")


def validate(model, home):
    mask = np.ones((2, 2, 2), np.uint8)
    metrics = score_case(mask, mask, Geometry(shape_zyx=(2, 2, 2), spacing_zyx_mm=(1.0, 1.0, 1.0)), LABELS)
    scores = [
        CaseScores(
            case=case,
            fold=0,
            prediction_file=f"{home}/results/{case}.nii.gz",
            reference_file=f"{home}/labels/{case}.nii.gz",
            metrics=metrics,
        )
        for case in IDS
    ]
    summary = summarize(scores, LABELS)
    fold = FoldScores(fold=0, cases=4, mean=summary.mean, foreground_mean=summary.foreground_mean)
    write_cross_validation(
        model, CrossValidation(folds=(fold,), mean_over_folds=summary.foreground_mean, summary=summary)
    )


@pytest.fixture
def model(tmp_path):
    """A cascade's second stage with its first inside, all records of both full of names."""
    second = msgspec.structs.replace(PLAN, first_stage="3d_lowres")
    model = make_model(tmp_path / "trained", 1, second, "3d_cascade")
    first = make_model(tmp_path / "first", 1, name="3d_lowres")
    first.rename(model / "previous_stage")
    for folder in (model, model / "previous_stage"):
        name_cases(folder)
    return model


def test_no_case_is_named_anywhere_in_the_zip(model, tmp_path):
    export_model(model, tmp_path / "model.zip")
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    assert {"crossval_summary.json", "previous_stage/crossval_summary.json"} < contents.keys()
    texts = {name: content.decode() for name, content in contents.items() if not name.endswith(".pt")}
    assert not [(name, word) for name, text in texts.items() for word in PRIVATE if word in text]
    assert not [(name, word) for name, content in contents.items() for word in PRIVATE if word.encode() in content]
    assert '"case": "7"' not in texts["fingerprint.json"]  # a plain number stays in sentences only
    assert "running numbers" in texts["MODEL_CARD.md"]
    copy = import_model(tmp_path / "model.zip", workspace=tmp_path)  # every hash matches
    assert "such as case_0004 (3 x 9 x 9)" in read_plans(copy / "plans.json").warnings[0]
    assert (
        read_plans(copy / "plans.json").decisions[0].why
        == "7 of 9 cases are thinner than case_0001, the median; case_0005 is not"
    )


def test_measurements_and_scores_stay_and_fit_each_other(model):
    opened = ModelFolder.open(model)
    records = shared_records(opened, Pseudonyms.of(opened))
    copy, original = msgspec.json.decode(records["fingerprint.json"], type=Fingerprint), opened.fingerprint
    names = {case.case: twin.case for case, twin in zip(original.cases, copy.cases, strict=True)}
    assert sorted(names.values()) == ["case_0001", "case_0002", "case_0003", "case_0004"]
    assert [c.inputs_digest for c in copy.cases] == [c.inputs_digest for c in original.cases]
    assert [c.classes for c in copy.cases] == [c.classes for c in original.cases]
    image = Volume(
        np.random.default_rng(0).normal(size=(1, 4, 4, 4)), Geometry(shape_zyx=(4,) * 3, spacing_zyx_mm=(9.0,) * 3)
    )
    assert check_input(image, ("MRI",), copy) == check_input(image, ("MRI",), original) != []
    ours = read_json(model / "crossval_summary.json", CrossValidation).summary
    theirs = msgspec.json.decode(records["crossval_summary.json"], type=CrossValidation).summary
    assert theirs.mean == ours.mean
    assert [case.case for case in theirs.metric_per_case] == [names[case.case] for case in ours.metric_per_case]
    assert theirs.metric_per_case[0].prediction_file == f"{theirs.metric_per_case[0].case}.nii.gz"
    assert "groups" not in json.loads(records["dataset.json"])


def test_plans_that_name_no_case_keep_their_bytes(tmp_path):
    model = ModelFolder.open(make_model(tmp_path, 1))
    assert shared_records(model, Pseudonyms.of(model))["plans.json"] == (model.path / "plans.json").read_bytes()
    assert (
        msgspec.json.decode(shared_records(model, Pseudonyms({"ball_0": "case_0001"}))["plans.json"], type=Plans)
        == model.plans
    )


def test_ids_are_replaced_as_whole_words():
    names = Pseudonyms({"ann": "case_0001", "ann_2": "case_0002", "7": "case_0003", "c+": "case_0004"})
    assert names.in_text("7 cannot scan ann_2, ann: c+.") == "7 cannot scan case_0002, case_0001: case_0004."
    assert Pseudonyms({}).in_text("unchanged") == "unchanged"
