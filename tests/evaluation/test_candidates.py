"""Which models are compared: every way in which one of two can be unfit, its reason, and which set is chosen."""

import itertools
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.model import change_plans, make_model
from tests.helpers.tiny import LABELS
from tests.helpers.validated import validated_workspace
from unetrpp.cli.evaluate import main as evaluate_main
from unetrpp.cli.find_best import main
from unetrpp.core.errors import UserError
from unetrpp.core.files import read_json
from unetrpp.dataset.cases import read_dataset
from unetrpp.dataset.labels import LabelScheme, Region
from unetrpp.evaluation.candidates import Validated, choose_comparable, find_validated, read_validated
from unetrpp.evaluation.cross_validation import CrossValidation, FoldScores
from unetrpp.evaluation.evaluate import evaluate
from unetrpp.evaluation.find_best import comparable_models
from unetrpp.evaluation.metrics import overlap_scores
from unetrpp.evaluation.summary import CaseScores, remove_outlived, summarize
from unetrpp.inference.selection import read_selection
from unetrpp.io.images import read_label, write_segmentation
from unetrpp.model.folder import ModelFolder
from unetrpp.plans.plans import Plans

FIT, UNFIT = "unetrpp__3d_fullres", "unet__3d_fullres"


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    return validated_workspace(tmp_path_factory.mktemp("workspace"))


@pytest.fixture
def home(workspace, tmp_path):
    """A copy of the workspace, to be changed."""
    shutil.copytree(workspace, tmp_path / "home")
    return tmp_path / "home"


def validation(model: Path, fold: int) -> Path:
    return model / f"fold_{fold}" / "validation"


def rewrite(path: Path, before: str, after: str) -> None:
    content = path.read_text()
    assert before in content
    path.write_text(content.replace(before, after))


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def only_fold_all(model: Path) -> None:
    shutil.rmtree(model / "fold_1")
    shutil.rmtree(validation(model, 0))
    (model / "fold_0").rename(model / "fold_all")


def no_fold(model: Path) -> None:
    for fold in (0, 1):
        shutil.rmtree(model / f"fold_{fold}")


def mirrored(model: Path, *folds: int) -> None:
    for fold in folds:
        rewrite(validation(model, fold) / "predictions.json", '"mirroring": false', '"mirroring": true')


def second_stage(model: Path) -> None:
    (name, planned), *_ = read_json(model / "plans.json", Plans).configurations.items()
    change_plans(model, configurations={name: msgspec.structs.replace(planned, first_stage="3d_lowres")})


def relabel(model: Path, scheme: LabelScheme) -> None:
    """As if trained with these labels: plans and scores have them."""
    (name, planned), *_ = read_json(model / "plans.json", Plans).configurations.items()
    preprocessing = msgspec.structs.replace(planned.preprocessing, labels=scheme)
    planned = msgspec.structs.replace(planned, preprocessing=preprocessing)
    change_plans(model, labels=scheme, configurations={name: planned})
    for fold in (0, 1):
        rewrite(validation(model, fold) / "summary.json", '"ball"', f'"{scheme.targets[0].name}"')


def another_region(model: Path) -> None:
    relabel(model, msgspec.structs.replace(LABELS, regions=(Region(name="whole", members=(1,), value=1),)))


def another_name(model: Path) -> None:
    relabel(model, msgspec.structs.replace(LABELS, names=("background", "organ")))


KINDS: dict[str, tuple[Callable[[Path], object], str]] = {
    "only fold 0 was tried": (
        lambda model: shutil.rmtree(model / "fold_1"),
        "only fold 0 is validated, and unetrpp__3d_fullres has 0-1; run unetrpp_train balls 3d_fullres 1 -p unet",
    ),
    "a fold without its checkpoint": (
        lambda model: (model / "fold_1/checkpoint_final.pt").unlink(),
        "fold 1 is not trained to the end; run unetrpp_train balls 3d_fullres 1 -p unet",
    ),
    "a fold without validation": (
        lambda model: shutil.rmtree(validation(model, 1)),
        "fold 1 is not validated; run unetrpp_train balls 3d_fullres 1 -p unet",
    ),
    "an empty fold": (lambda model: (model / "fold_4").mkdir(), "fold 4 is not trained to the end"),
    "fold_all only": (only_fold_all, r"only fold_all is trained.*unetrpp_predict -m .*unet__3d_fullres\), or train"),
    "no fold": (
        no_fold,
        "no fold is trained; run unetrpp_train balls 3d_fullres -p unet",
    ),
    "damaged scores": (
        lambda model: truncate(validation(model, 0) / "summary.json"),
        "fold_0/validation/summary.json: .*delete it and run unetrpp_train again",
    ),
    "a prediction is gone": (
        lambda model: (validation(model, 0) / "case_0.nii.gz").unlink(),
        "case_0: .*case_0.nii.gz does not exist",
    ),
    "a prediction is damaged": (
        lambda model: truncate(validation(model, 0) / "case_0.nii.gz"),
        "case_0: it could not be scored",
    ),
    "damaged plans": (lambda model: truncate(model / "plans.json"), "plans.json: .*run unetrpp_plan_and_preprocess"),
    "no plans": (lambda model: (model / "plans.json").unlink(), "it has no plans.json"),
    "plans of a newer release": (
        lambda model: change_plans(model, format=99),
        "has format 99, .*install a newer unetrpp",
    ),
    "plans with fields of another release": (
        lambda model: rewrite(model / "plans.json", '"planner"', '"strange": 1, "planner"'),
        "plans.json: .*strange",
    ),
    "a network that is not installed": (
        lambda model: rewrite(model / "plans.json", '"network": "unet"', '"network": "theirs"'),
        "theirs",
    ),
    "an empty checkpoint": (
        lambda model: (model / "fold_1/checkpoint_final.pt").write_bytes(b""),
        "checkpoint_final.pt cannot be read as a checkpoint",
    ),
    "half a checkpoint": (
        lambda model: truncate(model / "fold_0/checkpoint_final.pt"),
        "checkpoint_final.pt cannot be read as a checkpoint",
    ),
    "a checkpoint without a network": (
        lambda model: torch.save({"format": 1}, model / "fold_0/checkpoint_final.pt"),
        "is a checkpoint without weights",
    ),
    "a checkpoint of a newer release": (
        lambda model: torch.save({"format": 2}, model / "fold_0/checkpoint_final.pt"),
        "has checkpoint format 2, this release reads 1; install the matching unetrpp",
    ),
    "a checkpoint of another network": (
        lambda model: shutil.copy(other_network(model) / "fold_0/checkpoint_final.pt", model / "fold_1"),
        "does not fit its fold's architecture",
    ),
    "no record of the validation": (
        lambda model: (validation(model, 1) / "predictions.json").unlink(),
        "has no predictions.json; run unetrpp_train again to repeat the validation",
    ),
    "a damaged record of the validation": (
        lambda model: (validation(model, 1) / "predictions.json").write_bytes(b"{"),
        "cannot be read; delete the folder and run unetrpp_train again",
    ),
    "one fold with mirroring": (
        lambda model: mirrored(model, 1),
        "fold 1 was validated with mirroring and fold 0 without; run unetrpp_train balls 3d_fullres -p unet",
    ),
    "a case that is no more": (
        lambda model: rewrite(validation(model, 1) / "summary.json", '"case": "case_1"', '"case": "case_7"'),
        "case_7: was validated, but the raw dataset has no such label",
    ),
    "a second stage without its first": (second_stage, "is a cascade's second stage without previous_stage/"),
    "regions beside classes": (another_region, "has the classes whole = 1, and the compared models have ball = 1"),
    "a class of another name": (another_name, "has the classes organ = 1, and the compared models have ball = 1"),
    "scores of other classes": (
        lambda model: rewrite(validation(model, 0) / "summary.json", '"ball"', '"organ"'),
        "has the classes organ, but the model has ball",
    ),
}


def other_network(model: Path) -> Path:
    planned = read_json(model / "plans.json", Plans).configurations["3d_fullres"]
    wider = msgspec.structs.replace(planned.architecture, out_channels=3)
    return make_model(model.parents[2] / "other", 1, msgspec.structs.replace(planned, architecture=wider))


@pytest.mark.parametrize("kind", KINDS)
def test_one_unfit_model_is_left_out_with_its_reason(home, kind, caplog):
    damage, why = KINDS[kind]
    results = home / "results" / "balls"
    damage(results / UNFIT)
    compared, left_out = comparable_models(results, read_dataset(home / "raw" / "balls", "balls"))
    assert [model.name for model in compared] == [FIT]
    assert list(left_out) == [UNFIT]
    assert re.search(why, left_out[UNFIT])
    assert caplog.messages == [f"{UNFIT} is left out: {left_out[UNFIT]}"]
    assert "\n" not in left_out[UNFIT]


def test_a_model_of_a_single_case_is_only_to_be_predicted_with(home):
    only_fold_all(home / "results" / "balls" / UNFIT)
    raw = read_dataset(home / "raw" / "balls", "balls")
    with pytest.raises(UserError, match=rf"only fold_all is trained.*unetrpp_predict -m .*{UNFIT}\)$"):
        read_validated(home / "results" / "balls" / UNFIT, replace(raw, cases=raw.cases[:1]))


def test_of_many_unfit_models_the_first_ten_are_logged_and_all_returned(home, caplog):
    results = home / "results" / "balls"
    for i in range(25):
        (results / f"empty_{i:02}" / "fold_0").mkdir(parents=True)
    _, left_out = comparable_models(results, read_dataset(home / "raw" / "balls", "balls"))
    assert list(left_out) == [f"empty_{i:02}" for i in range(25)]
    assert [message.split(" is left out: ")[0] for message in caplog.messages[:-1]] == list(left_out)[:10]
    assert caplog.messages[-1] == "15 more are left out; inference.json gives the reasons"


@pytest.mark.parametrize("with_it", [UNFIT, FIT])
def test_of_two_models_of_other_mirroring_one_is_compared(home, with_it):
    results = home / "results" / "balls"
    mirrored(results / with_it, 0, 1)
    (compared,), left_out = comparable_models(results, read_dataset(home / "raw" / "balls", "balls"))
    ((other, why),) = left_out.items()
    assert {compared.name, other} == {FIT, UNFIT}
    plain, option = (
        ("with mirroring, and the compared models without", f"-p unetrpp --workspace {home} --no-mirroring"),
        ("without mirroring, and the compared models with it", f"-p unetrpp --workspace {home},"),
    )
    expected, command = plain if other == with_it else option
    assert expected in why
    assert command in why


def test_the_others_are_chosen_from_and_the_left_out_are_recorded(home):
    results = home / "results" / "balls"
    shutil.rmtree(results / UNFIT / "fold_1")
    assert main(["balls", "--workspace", str(home), "--device", "cpu"]) == 0
    selection = read_selection(results)
    assert [candidate.members for candidate in selection.candidates] == [(FIT,)]
    assert list(selection.left_out) == [UNFIT]


def test_where_no_model_is_left_each_is_listed_with_its_reason(home, capsys):
    results = home / "results" / "balls"
    only_fold_all(results / FIT)
    truncate(results / UNFIT / "plans.json")
    before = sorted(results.rglob("*"))
    assert main(["balls", "--workspace", str(home), "--device", "cpu"]) == 2
    first, *lines = capsys.readouterr().err.splitlines()
    assert "has no model whose folds are all validated and can be loaded:" in first
    assert [line.split(":")[0].strip() for line in lines] == [UNFIT, FIT]
    assert "only fold_all is trained" in lines[1]
    assert sorted(results.rglob("*")) == before


def test_folders_that_are_no_models_are_not_mentioned(home):
    results = home / "results" / "balls"
    (results / "notes").mkdir()
    (results / "ensembles" / "a+b" / "fold_0").mkdir(parents=True)
    found, unfit = find_validated(results, read_dataset(home / "raw" / "balls", "balls"))
    assert ([model.name for model in found], unfit) == ([UNFIT, FIT], {})


def test_distances_that_were_asked_for_stay_in_the_scores(home):
    results, raw = home / "results" / "balls", read_dataset(home / "raw" / "balls", "balls")
    for fold in (0, 1):
        folder = validation(results / FIT, fold)
        evaluate(folder, home / "raw/balls/labelsTr", distances=True, predicted_only=True, processes=1)
    label = raw.cases[0].label
    assert label is not None
    volume = read_label(label)
    write_segmentation(label, np.roll(volume.array[0], 2, axis=1), volume.geometry)
    found, _ = find_validated(results, raw)
    assert ["HD95" in model.scores.summary.foreground_mean for model in found] == [False, True]
    written = json.loads((validation(results / FIT, 0) / "summary.json").read_text())
    assert written["made_from"]
    assert "HD95" in written["foreground_mean"]


SCHEMES = {name: LabelScheme(names=("background", name), values=(0, 1)) for name in ("ball", "organ")}
NOTHING = overlap_scores(np.zeros((1, 1, 1), bool), np.zeros((1, 1, 1), bool))


def model_of(name: str, label: str, mirroring: bool, fold_of: dict[str, int]) -> Validated:
    """A model as the choice sees it; nothing of it is on disk."""
    plans = Plans(
        dataset="balls",
        name=name,
        planner="tests",
        channel_names=("MRI",),
        labels=SCHEMES[label],
        file_ending=".nii.gz",
        configurations={},
        decisions=(),
    )
    cases = [
        CaseScores(case=case, fold=fold, prediction_file="p", reference_file="r", metrics={"1": NOTHING})
        for case, fold in fold_of.items()
    ]
    folds = tuple(FoldScores(fold=k, cases=1, mean={}, foreground_mean={}) for k in sorted(set(fold_of.values())))
    scores = CrossValidation(folds=folds, mean_over_folds={}, summary=summarize(cases, SCHEMES[label]))
    return Validated(ModelFolder(Path(f"{name}__3d_fullres"), plans, "3d_fullres"), mirroring, scores)


def folds(*held_out: str) -> dict[str, int]:
    """``folds("ab", "c")``: fold 0 held out the cases a and b, fold 1 the case c."""
    return {case: number for number, cases in enumerate(held_out) for case in cases}


SPLITS = [folds("ab", "cd", "ef"), folds("ab"), folds("ab", "cd"), folds("fe", "dc", "ba"), folds("abg", "cd", "ef")]


@given(
    st.lists(
        st.tuples(st.sampled_from(["ball", "organ"]), st.booleans(), st.sampled_from(SPLITS)), min_size=1, max_size=6
    )
)
@settings(max_examples=200, deadline=None)
def test_every_model_is_compared_or_left_out_and_the_compared_ones_are_alike(drawn):
    found = [model_of(f"m{i}", *one) for i, one in enumerate(drawn)]
    chosen, left_out = choose_comparable(found, SCHEMES["ball"])
    assert sorted([model.name for model in chosen] + list(left_out)) == [model.name for model in found]
    assert chosen
    alike = {(model.labels, model.mirroring, frozenset(model.fold_of)) for model in chosen}
    assert len(alike) == 1
    # No larger set is alike, among the models that lack no fold of another one.
    whole = [m for m in found if not any(m.fold_of.items() < o.fold_of.items() and m.folds != o.folds for o in found)]
    keys = sorted((m.labels.names, m.mirroring, tuple(sorted(m.fold_of))) for m in whole)
    assert len(chosen) == max(len(list(group)) for _, group in itertools.groupby(keys))


def test_two_tried_models_do_not_outvote_a_finished_one():
    found = [
        model_of("a", "ball", False, folds("ab")),
        model_of("b", "ball", False, folds("ab")),
        model_of("c", "ball", False, folds("ab", "cd")),
    ]
    chosen, left_out = choose_comparable(found, LABELS)
    assert [model.name for model in chosen] == ["c__3d_fullres"]
    assert left_out["a__3d_fullres"].endswith("run unetrpp_train balls 3d_fullres 1 -p a")
    assert [model.name for model in choose_comparable(found[:2], LABELS)[0]] == ["a__3d_fullres", "b__3d_fullres"]


def test_of_equal_sets_the_one_with_the_labels_of_dataset_json_is_taken():
    found = [model_of("a", "ball", False, folds("ab")), model_of("b", "organ", False, folds("ab"))]
    for name, expected in (("ball", "a"), ("organ", "b")):
        chosen, _ = choose_comparable(found, SCHEMES[name])
        assert [model.name for model in chosen] == [f"{expected}__3d_fullres"]


def test_models_of_other_splits_are_counted():
    more = folds("abg", "cd")
    found = [model_of(name, "ball", False, more if name == "c" else folds("ab", "cd")) for name in "abc"]
    chosen, left_out = choose_comparable(found, LABELS)
    assert [model.name for model in chosen] == ["a__3d_fullres", "b__3d_fullres"]
    assert "other cases than the compared models (5, not 4; g is in only one of the two)" in left_out["c__3d_fullres"]


def test_folds_that_were_scored_on_windows_are_read_anywhere(home):
    model = home / "results" / "balls" / FIT
    shutil.copytree(home / "raw" / "balls" / "labelsTr", home / "preprocessed" / "balls" / "labels")
    for fold in (0, 1):
        path = validation(model, fold) / "summary.json"
        scores = json.loads(path.read_text())
        for case in scores["metric_per_case"]:
            for which in ("prediction_file", "reference_file"):
                case[which] = "D:\\study\\" + case[which].replace("/", "\\")
        path.write_text(json.dumps(scores))
    assert ModelFolder.open(model).workspace() == ModelFolder.open(model).workspace(home)
    assert evaluate_main(["--model", str(model), "--distances"]) == 0
    assert main(["balls", "--workspace", str(home), "--device", "cpu"]) == 0
    remove_outlived(validation(model, 0))
    assert (validation(model, 0) / "summary.json").is_file()
