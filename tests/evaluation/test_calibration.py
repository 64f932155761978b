"""A trained model is calibrated on its cross-validation, from the command to the maps of a prediction."""

import json
import re
import shutil
from typing import Any

import msgspec
import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy.optimize import minimize_scalar

from tests.helpers.model import fingerprint
from tests.helpers.tiny import ball, workspace_of_balls
from unetrpp.cli.evaluate import main as evaluate
from unetrpp.cli.predict import main as predict
from unetrpp.core.errors import UserError
from unetrpp.core.files import read_json, write_json
from unetrpp.dataset.splits import Fold, Splits
from unetrpp.evaluation import calibration
from unetrpp.evaluation.calibration import SAMPLE, calibrate_model
from unetrpp.evaluation.lesion_points import THRESHOLDS
from unetrpp.evaluation.lesions import lesion_scores
from unetrpp.evaluation.operating_points import choose_thresholds
from unetrpp.export.model_zip import export_model, import_model
from unetrpp.inference.calibration import FILE, Calibration, calibration_basis
from unetrpp.inference.ensemble import Ensemble
from unetrpp.inference.expected_dice import to_scale
from unetrpp.inference.predictor import Predictor
from unetrpp.io.geometry import Geometry
from unetrpp.io.images import Volume, read_image, write_image
from unetrpp.model.folder import ModelFolder
from unetrpp.report.model_report import write_report
from unetrpp.trainers.folds import train

BALLS = ("ball_0", "ball_1", "ball_2", "ball_3")
SPLITS = Splits(folds=(Fold(train=BALLS[2:], validation=BALLS[:2]), Fold(train=BALLS[:2], validation=BALLS[2:])))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A workspace with two trained folds, and an image; calibrated."""
    workspace = workspace_of_balls(tmp_path_factory.mktemp("calibrated"))
    write_json(workspace.preprocessed("balls") / "splits.json", SPLITS)
    write_json(workspace.preprocessed("balls") / "fingerprint.json", fingerprint())
    options: dict[str, Any] = {"epochs": 1, "iterations": 15, "mirroring": False, "plans_name": "unet", "device": "cpu"}
    train("balls", "3d_fullres", [0, 1], workspace=workspace.root, **options)
    volume = Volume(ball(np.random.default_rng(9))[0], Geometry(shape_zyx=(12, 24, 24), spacing_zyx_mm=(1.0, 1.0, 1.0)))
    write_image(workspace.root / "images" / "new_0000.nii.gz", volume)
    model = workspace.model("balls", "unet", "3d_fullres")
    assert evaluate(["--model", str(model), "--calibrate", "--device", "cpu"]) == 0
    return model


@pytest.fixture
def model(trained, tmp_path):
    """A copy of the workspace, to be changed."""
    shutil.copytree(trained.parents[2], tmp_path / "copy")
    return tmp_path / "copy" / trained.relative_to(trained.parents[2])


def recorded(model):
    return read_json(model / FILE, Calibration)


def image(model):
    return model.parents[2] / "images" / "new_0000.nii.gz"


def with_temperature(model, value):
    """As if it had been fitted."""
    write_json(model / FILE, msgspec.structs.replace(recorded(model), temperatures=(value,)))


def naive_logits(model):
    """Logits (n, 2) and truth (n,) of all voxels, of every case by the fold that held it out; spacing and crop are the image's."""
    logits, truth = [], []
    for i, case in enumerate(BALLS):
        array, label = ball(np.random.default_rng(i))
        predictor = Predictor(model, folds=[i // 2], device="cpu", mirroring=False)
        volume = Volume(array, Geometry(shape_zyx=label.shape, spacing_zyx_mm=(1.0, 1.0, 1.0)))
        prepared = predictor.prepare(volume, case)
        assert prepared.properties.shape == label.shape
        logits.append(torch.cat(list(predictor.logits(prepared)), dim=2)[0].flatten(1).double().numpy().T)
        truth.append(label.reshape(-1))
    return np.concatenate(logits), np.concatenate(truth)


def test_the_temperature_is_that_of_all_voxels(trained):
    logits, truth = naive_logits(trained)
    margin = np.where(truth == 1, 1, -1) * (logits[:, 1] - logits[:, 0])  # a softmax of two is a sigmoid
    best = minimize_scalar(lambda t: np.logaddexp(0, -margin / t).mean(), bounds=(0.1, 10), method="bounded")
    found = recorded(trained)
    assert found.temperatures == pytest.approx((best.x,), rel=0.02)
    assert found.log_loss_before == pytest.approx(np.logaddexp(0, -margin).mean(), rel=0.02)
    assert found.log_loss_after < found.log_loss_before
    probability = 1 / (1 + np.exp(logits[:, 0] - logits[:, 1]))
    assert found.classes["ball"].before.brier_score == pytest.approx(((probability - truth) ** 2).mean(), rel=0.02)
    assert (found.folds, found.mirroring) == (("0", "1"), False)
    assert sum(found.classes["ball"].after.share) == pytest.approx(1)


def test_what_is_current_is_kept_and_an_interrupted_run_resumes(model, monkeypatch):
    written, stamp = recorded(model), (model / FILE).stat().st_mtime_ns
    monkeypatch.setattr(calibration, "Predictor", None)  # nothing is predicted
    assert calibrate_model(model) == written
    assert (model / FILE).stat().st_mtime_ns == stamp
    (model / FILE).unlink()
    assert calibrate_model(model) == written


@pytest.mark.parametrize("damage", [lambda content: b"half", lambda content: content[: len(content) // 2]])
def test_a_fold_whose_sample_is_missing_or_damaged_is_predicted_again(model, damage):
    written = recorded(model)
    (model / FILE).unlink()
    sample = model / "fold_0" / "validation" / SAMPLE
    sample.write_bytes(damage(sample.read_bytes()))
    (model / "fold_1" / "validation" / SAMPLE).unlink()
    assert calibrate_model(model, device="cpu") == written


def change_weights(model, fold=0):
    path = model / f"fold_{fold}" / "checkpoint_final.pt"
    content = torch.load(path, weights_only=True)
    for tensor in content["network"].values():
        if tensor.is_floating_point():
            tensor.mul_(1.1)
    torch.save(content, path)


def test_a_calibration_of_other_weights_or_scores_is_refused(model, capsys):
    change_weights(model)
    assert Predictor(model, device="cpu")(image(model)).probabilities is None  # labels need none
    out = model.parent / "out"
    arguments = ["-i", str(image(model)), "-o", str(out), "-m", str(model), "--device", "cpu"]
    assert predict([*arguments, "--probabilities"]) == 2
    message = capsys.readouterr().err
    assert re.search("was fitted to other weights or validation scores than are there now; fit it again", message)
    assert evaluate(["--model", str(model)]) == 0  # the scores are what they are
    assert "warning: " in (said := capsys.readouterr()).err
    assert "calibration:" not in said.out
    before = recorded(model)
    calibrate_model(model, device="cpu")
    assert recorded(model).made_from == calibration_basis(ModelFolder.open(model), ["0", "1"]) != before.made_from
    assert predict([*arguments, "--probabilities"]) == 0
    summary = model / "fold_1" / "validation" / "summary.json"
    scores = json.loads(summary.read_text())
    scores["metric_per_case"][0]["metrics"]["1"]["n_ref"] += 1
    summary.write_text(json.dumps(scores))
    with pytest.raises(UserError, match="delete it for a temperature of 1"):
        Predictor(model, device="cpu")(image(model), uncertainty=True)


def test_distances_that_are_scored_later_leave_a_calibration_current(model, capsys):
    before = (model / "fold_0" / "validation" / "summary.json").read_text()
    assert evaluate(["--model", str(model), "--distances"]) == 0
    assert (model / "fold_0" / "validation" / "summary.json").read_text() != before
    said = capsys.readouterr()
    assert "HD95" in said.out
    assert "calibration:" in said.out
    assert "warning" not in said.err
    summary = model / "fold_1" / "validation" / "summary.json"
    summary.write_text("half")  # which the scores say themselves
    assert calibration_basis(ModelFolder.open(model), ["0", "1"]) != recorded(model).made_from


def test_maps_are_calibrated_and_labels_stay(model):
    with_temperature(model, 2.5)
    new = Predictor(model, device="cpu")(image(model), probabilities=True, uncertainty=True)
    (model / FILE).unlink()
    old = Predictor(model, device="cpu")(image(model), probabilities=True, uncertainty=True)
    np.testing.assert_array_equal(new.array, old.array)
    assert new.probabilities is not None
    assert old.probabilities is not None
    assert new.entropy is not None
    power = old.probabilities.astype(float) ** (1 / 2.5)
    np.testing.assert_allclose(new.probabilities, power / power.sum(axis=0), atol=5e-3)
    p = np.clip(new.probabilities.astype(float), 1e-12, 1)
    np.testing.assert_allclose(new.entropy, -(p * np.log(p)).sum(axis=0) / np.log(2), atol=5e-3)
    np.testing.assert_array_equal(new.disagreement, old.disagreement)


def test_the_record_says_which_temperature_was_used(model, tmp_path, caplog):
    caplog.set_level("INFO")
    with_temperature(model, 2.5)
    arguments = ["-i", str(image(model)), "-o", str(tmp_path / "out"), "-m", str(model), "--device", "cpu"]
    assert predict(arguments) == 0
    assert case_record(tmp_path)["temperatures"] == []  # labels have none
    assert predict([*arguments, "--probabilities"]) == 0
    assert case_record(tmp_path)["temperatures"] == [2.5]
    assert "temperature of the probabilities: 2.500" in caplog.text
    with_temperature(model, 1.5)  # maps of another one are written again
    assert predict([*arguments, "--probabilities"]) == 0
    assert case_record(tmp_path)["temperatures"] == [1.5]
    stamp = (tmp_path / "out" / "new.nii.gz").stat().st_mtime_ns
    assert predict([*arguments, "--probabilities"]) == 0
    assert (tmp_path / "out" / "new.nii.gz").stat().st_mtime_ns == stamp


def case_record(folder):
    return json.loads((folder / "out" / "predictions.json").read_text())["cases"]["new"]


def test_what_was_not_fitted_has_a_temperature_of_1(model, tmp_path, caplog):
    """Other checkpoints, folds that were not fitted, and the mean of several models."""
    caplog.set_level("INFO")
    with_temperature(model, 2.5)
    assert Predictor(model, folds=[1], device="cpu").temperatures == (2.5,)
    both = Ensemble([Predictor(model, folds=[fold], device="cpu") for fold in (0, 1)])
    assert both.temperatures == (1.0,)
    shutil.copy(model / "fold_0" / "checkpoint_final.pt", model / "fold_0" / "checkpoint_best.pt")
    assert Predictor(model, folds=[0], device="cpu", checkpoint="best").temperatures == (1.0,)
    shutil.copytree(model / "fold_0", model / "fold_all", ignore=shutil.ignore_patterns("validation"))
    assert Predictor(model, folds="all", device="cpu").temperatures == (1.0,)
    (model / FILE).unlink()
    assert predict([*arguments_of(model, tmp_path / "out"), "--uncertainty"]) == 0
    assert case_record(tmp_path)["temperatures"] == [1.0]
    assert "temperature of the probabilities: 1 (never fitted)" in caplog.text


def arguments_of(model, output):
    return ["-i", str(image(model)), "-o", str(output), "-m", str(model), "--device", "cpu"]


def test_the_weights_are_hashed_once_for_maps_and_expected_dice(model, monkeypatch):
    with_temperature(model, 2.5)
    calls = []

    def counted(*given):
        calls.append(given)
        return calibration_basis(*given)

    monkeypatch.setattr("unetrpp.inference.calibration.calibration_basis", counted)
    predictor = Predictor(model, device="cpu")
    assert predictor.temperatures == (2.5,)
    assert predictor(image(model), uncertainty=True).entropy is not None
    assert len(calls) == 1


def test_a_copy_is_calibrated_for_its_own_weights(model, tmp_path):
    with_temperature(model, 2.5)
    copy = import_model(export_model(model, tmp_path / "model.zip"), workspace=tmp_path / "other")
    assert not (copy / "fold_0" / "validation").exists()
    assert Predictor(copy, device="cpu").temperatures == (2.5,)
    change_weights(copy)
    with pytest.raises(UserError, match="was fitted to other weights"):
        _ = Predictor(copy, device="cpu").temperatures
    one = import_model(export_model(model, tmp_path / "one.zip", folds=[1]), workspace=tmp_path / "fold_1")
    assert recorded(one).folds == ("1",)
    assert Predictor(one, device="cpu").temperatures == (2.5,)
    change_weights(model)  # what is out of date does not travel
    other = import_model(export_model(model, tmp_path / "other.zip"), workspace=tmp_path / "changed")
    assert not (other / FILE).exists()


def test_a_threshold_is_followed_and_recorded(model, tmp_path, capsys):
    with_temperature(model, 2.5)
    maps = Predictor(model, device="cpu")(image(model), probabilities=True).probabilities
    assert maps is not None
    expected = maps[1]
    arguments = ["-i", str(image(model)), "-o", str(tmp_path / "out"), "-m", str(model), "--device", "cpu"]
    limit = float(np.quantile(expected.astype(float), 0.9))
    assert predict([*arguments, "--threshold", f"ball={limit}"]) == 0
    predicted = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / "new.nii.gz")))
    clear = np.abs(expected.astype(float) - limit) > 1e-3  # of float16
    np.testing.assert_array_equal(predicted[clear], (expected > limit)[clear])
    settings = json.loads((tmp_path / "out" / "predictions.json").read_text())["settings"]
    assert (settings["threshold"], settings["temperatures"]) == ({"ball": limit}, [2.5])
    assert case_record(tmp_path)["temperatures"] == [2.5]
    assert predict([*arguments, "--threshold", "ball=0.99"]) == 2
    assert "made with other settings (threshold)" in capsys.readouterr().err
    assert predict([*arguments, "--threshold", "liver=0.5"]) == 2
    assert "'liver', which is no foreground class; there is ball" in capsys.readouterr().err
    assert predict([*arguments, "--threshold", "ball=0.5", "--threshold", "ball=0.9"]) == 2
    assert "--threshold is given twice for 'ball'" in capsys.readouterr().err


def test_thresholds_for_a_wanted_recall_or_precision(trained, capsys):
    found = recorded(trained).classes["ball"]
    recall = choose_thresholds(trained, recall={"ball": 0.5})["ball"]
    fit = [i for i, value in enumerate(found.recall) if value >= 0.5]
    assert recall.threshold == round((fit[-1] + 1) / 100, 2)  # the highest
    wanted = max(value for value in found.precision if value is not None)
    precision = choose_thresholds(trained, precision={"ball": wanted})["ball"]
    assert precision.precision == wanted
    assert found.precision.index(wanted) == round(precision.threshold * 100) - 1  # the lowest
    assert evaluate(["--model", str(trained), "--recall", "ball=0.5"]) == 0
    assert f"unetrpp_predict ... --threshold ball={recall.threshold:g}" in capsys.readouterr().out
    assert evaluate(["--model", str(trained), "--precision", f"ball={wanted:.6f}"]) in (0, 2)
    with pytest.raises(UserError, match="there is no class 'liver'; the model has ball"):
        choose_thresholds(trained, recall={"liver": 0.5})
    with pytest.raises(UserError, match=r"no threshold gives 'ball' a recall of 1.1"):
        choose_thresholds(trained, recall={"ball": 1.1})


def test_thresholds_for_a_wanted_recall_or_precision_of_lesions(model, monkeypatch, capsys):
    temperature = 1.3
    with_temperature(model, temperature)
    logits, truth = naive_logits(model)
    probability = 1 / (1 + np.exp((logits[:, 0] - logits[:, 1]) / temperature))
    shape = (len(BALLS), *ball(np.random.default_rng(0))[1].shape)

    def pooled(threshold):
        pairs = zip((probability >= threshold).reshape(shape), truth.reshape(shape) == 1, strict=True)
        scores = [lesion_scores(predicted, true) for predicted, true in pairs]
        found = sum(each["lesions_detected"] or 0 for each in scores)
        return found / sum(each["lesions_ref"] or 0 for each in scores), scores

    wanted = 0.5
    fit = [threshold for threshold in THRESHOLDS if pooled(threshold)[0] >= wanted]
    assert evaluate(["--model", str(model), "--recall", f"ball={wanted}", "--lesions", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert f"unetrpp_predict ... --threshold ball={fit[-1]:g}" in out
    assert "F1 of all lesions" in out
    counted = recorded(model).lesions["ball"]
    assert counted.recall == pytest.approx([pooled(threshold)[0] for threshold in THRESHOLDS])
    for threshold, precision in zip(THRESHOLDS, counted.precision, strict=True):
        scores = pooled(threshold)[1]
        false = sum(each["lesions_false"] or 0 for each in scores)
        assert precision is None or precision == 1 if not false else precision is not None and precision < 1
    monkeypatch.setattr("unetrpp.evaluation.lesion_points.Predictor", None)  # nothing is predicted again
    best = max(value for value in counted.precision if value is not None)
    point = choose_thresholds(model, precision={"ball": best}, lesions=True)["ball"]
    assert counted.precision.index(best) == THRESHOLDS.index(point.threshold)  # the lowest


def test_the_table_and_the_page(model, capsys):
    assert evaluate(["--model", str(model), "--calibrate", "--precision", "ball=0.01"]) == 0
    out = capsys.readouterr().out
    found = recorded(model)
    row = next(line for line in out.splitlines() if line.startswith("ball") and line.count("0.") > 5)
    after = found.classes["ball"].after
    assert f"{after.expected_calibration_error:.4f}" in row
    assert f"{after.brier_score:.4f}" in row
    page = write_report(model).read_text()
    assert "<h2>Calibration</h2>" in page
    assert "<h2>Reliability</h2>" in page
    assert f"<td>{after.brier_score:.4f}</td>" in page
    change_weights(model)
    assert "<h2>Calibration</h2>" not in write_report(model).read_text()


def test_without_the_preprocessed_cases_nothing_is_calibrated(model):
    (model / FILE).unlink()
    shutil.rmtree(model.parents[2] / "preprocessed" / "balls" / "unet_3d_fullres")
    with pytest.raises(UserError, match="predict from the workspace that the model was trained in"):
        calibrate_model(model, device="cpu")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "{model}", "--device", "cpu"], "--device is where --calibrate and --lesions predict"),
        (["--model", "{model}", "--lesions"], "--lesions says what --recall and --precision count; give one of them"),
        (["predictions", "references", "--calibrate"], "--calibrate has no effect with PREDICTIONS and REFERENCES"),
        (["--compare", "a", "b", "--recall", "ball=0.5"], "--recall has no effect with --compare"),
    ],
)
def test_options_without_effect_are_refused(trained, arguments, message, capsys):
    assert evaluate([argument.format(model=trained) for argument in arguments]) == 2
    assert message in capsys.readouterr().err


def test_an_unknown_class_is_refused_before_anything_is_computed(model, monkeypatch, capsys):
    monkeypatch.setattr("unetrpp.evaluation.cross_validation.evaluate_model", lambda *_, **__: pytest.fail("evaluated"))
    assert evaluate(["--model", str(model), "--calibrate", "--recall", "liver=0.5"]) == 2
    assert "there is no class 'liver'; the model has ball" in capsys.readouterr().err


def test_a_recall_without_a_calibration(model, capsys):
    (model / FILE).unlink()
    assert evaluate(["--model", str(model), "--recall", "ball=0.5"]) == 2
    assert "add --calibrate, which writes it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        (["--recall", "ball=0.5", "--precision", "ball=0.5"], "'ball' is given a recall and a precision"),
        (["--recall", "ball=0.5", "ball=0.7"], "--recall is given twice for 'ball'; give one number for every class"),
        (["--precision", "ball=0.5", "--precision", "ball=0.7"], "--precision is given twice for 'ball'"),
    ],
)
def test_a_class_has_one_threshold(trained, wanted, message, capsys):
    assert evaluate(["--model", str(trained), *wanted]) == 2
    assert message in capsys.readouterr().err


@pytest.fixture(scope="module")
def expecting(tmp_path_factory):
    """A model of three folds and twelve cases, which are enough for an expected Dice; calibrated, with three images."""
    workspace = workspace_of_balls(tmp_path_factory.mktemp("expecting"), count=12)
    write_json(workspace.preprocessed("balls") / "fingerprint.json", fingerprint())
    cases = [f"ball_{i}" for i in range(12)]
    folds = [
        Fold(train=tuple(c for c in cases if c not in cases[k::3]), validation=tuple(cases[k::3])) for k in range(3)
    ]
    write_json(workspace.preprocessed("balls") / "splits.json", Splits(folds=tuple(folds)))
    options: dict[str, Any] = {"epochs": 1, "iterations": 15, "mirroring": False, "plans_name": "unet", "device": "cpu"}
    train("balls", "3d_fullres", [0, 1, 2], workspace=workspace.root, **options)
    for i in range(3):
        image = ball(np.random.default_rng(100 + i))[0]
        volume = Volume(image, Geometry(shape_zyx=(12, 24, 24), spacing_zyx_mm=(1.0, 1.0, 1.0)))
        write_image(workspace.root / "images" / f"new_{i}_0000.nii.gz", volume)
    model = workspace.model("balls", "unet", "3d_fullres")
    calibrate_model(model, device="cpu")
    return model


def predictor_of(model, **options):
    return Predictor(model, device="cpu", mirroring=False, **options)


def features_of(predictor, volume, case):
    """(classes, P) of a predictor of one fold."""
    prepared = predictor.prepare(volume, case)
    features = predictor.features(prepared)
    for _ in predictor.logits(prepared, features):
        pass
    return features.rows()[0]


def test_the_expected_dice_is_that_of_each_folds_own_prediction(expecting):
    """Against features that are computed from each fold alone."""
    path = expecting.parents[2] / "images" / "new_0_0000.nii.gz"
    found = predictor_of(expecting)(path)
    assert found.expected_dice is not None
    alone = [predictor_of(expecting, folds=[fold]) for fold in range(3)]
    rows = {str(fold): features_of(each, read_image([path]), "new")[0] for fold, each in enumerate(alone)}
    model = recorded(expecting).expected_dice["ball"]
    assert sum(len(fold.residuals) for fold in model.folds.values()) == 12
    assert found.expected_dice["ball"] == model(rows)
    everything = predictor_of(expecting)(path, probabilities=True, uncertainty=True)
    assert everything.expected_dice == found.expected_dice


def test_features_and_dice_are_those_of_the_validation(expecting):
    """The model's residuals, from predictions of the images themselves and the scores of each fold."""
    model = recorded(expecting).expected_dice["ball"]
    for name, fold in model.folds.items():
        summary = json.loads((expecting / f"fold_{name}" / "validation" / "summary.json").read_text())
        predictor = predictor_of(expecting, folds=[name])
        rows = []
        for case in summary["metric_per_case"]:
            array, label = ball(np.random.default_rng(int(case["case"].removeprefix("ball_"))))
            volume = Volume(array, Geometry(shape_zyx=label.shape, spacing_zyx_mm=(1.0, 1.0, 1.0)))
            rows.append(features_of(predictor, volume, case["case"])[0])
        np.testing.assert_allclose(fold.mean, np.mean(rows, axis=0), rtol=1e-3, atol=1e-3)
        for row, case, part, residual in zip(rows, summary["metric_per_case"], fold.parts, fold.residuals, strict=True):
            expected = model.regressions[part]((row - fold.mean)[None])[0]
            assert to_scale(np.array(case["metrics"]["1"]["Dice"])) - expected == pytest.approx(residual, abs=1e-2)


def test_predictions_say_what_to_look_at_first(expecting, tmp_path, capsys):
    images = expecting.parents[2] / "images"
    arguments = [
        "-i",
        str(images),
        "-o",
        str(tmp_path / "out"),
        "-m",
        str(expecting),
        "--device",
        "cpu",
        "--no-mirroring",
    ]
    assert predict(arguments) == 0
    record = json.loads((tmp_path / "out" / "predictions.json").read_text())
    expected = {case: found["expected_dice"]["ball"]["expected"] for case, found in record["cases"].items()}
    assert record["review_order"] == sorted(expected, key=lambda case: expected[case])
    assert f"look first at {record['review_order'][0]}" in capsys.readouterr().out
    lines = (tmp_path / "out" / "volumes.csv").read_text().splitlines()
    assert len(lines) == 4
    assert any(line.startswith("new_0,ball,") and str(expected["new_0"]) in line for line in lines)
    assert predict(arguments) == 0  # nothing is left to do, and it is said again
    assert "look first at" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--step", "0.25", "--no-mirroring"], "differs by the step"),
        ([], "differs by mirroring"),
        (["--no-mirroring", "--threshold", "ball=0.3"], "differs by thresholds"),
    ],
)
def test_other_predictions_have_no_expected_dice(expecting, options, reason, tmp_path, caplog):
    caplog.set_level("INFO")
    image = expecting.parents[2] / "images" / "new_1_0000.nii.gz"
    assert predict(["-i", str(image), "-o", str(tmp_path), "-m", str(expecting), "--device", "cpu", *options]) == 0
    assert reason in caplog.text
    assert "no expected Dice: " in caplog.text
    assert json.loads((tmp_path / "predictions.json").read_text())["review_order"] == []


def test_several_models_and_too_few_cases_have_none(expecting, trained):
    both = Ensemble([predictor_of(expecting, folds=[fold]) for fold in (0, 1)])
    assert both.why_no_expected_dice == "it is not fitted for the mean of several models"
    assert both.expected_by == ""
    assert (
        "too few cases (it takes 10 with a class, of more than two patients)"
        in predictor_of(trained).why_no_expected_dice
    )
    assert recorded(trained).expected_dice == {}


def test_a_model_that_was_not_calibrated_says_how(model):
    (model / FILE).unlink()
    assert f"--model {model} --calibrate" in predictor_of(model).why_no_expected_dice
    for fold in (0, 1):  # as in an imported model
        shutil.rmtree(model / f"fold_{fold}" / "validation")
    assert predictor_of(model).why_no_expected_dice == "the model was not calibrated"


def test_the_check_is_in_the_table_and_the_record(expecting, capsys):
    assert evaluate(["--model", str(expecting)]) == 0
    out = capsys.readouterr().out
    check = recorded(expecting).dice_check
    assert check is not None
    assert check.classes["ball"].cases == 12
    assert f"{check.classes['ball'].coverage:.0%}" in out
    assert "of the worst tenth of the cases" in out
    assert evaluate(["--model", str(expecting), "--calibrate", "--device", "cpu"]) == 0  # all is current


def test_a_foreign_volumes_csv_is_not_replaced(expecting, tmp_path, capsys):
    (tmp_path / "volumes.csv").write_text("mine")
    image = expecting.parents[2] / "images" / "new_1_0000.nii.gz"
    arguments = ["-i", str(image), "-o", str(tmp_path), "-m", str(expecting), "--device", "cpu"]
    assert predict(arguments) == 2
    assert "holds volumes.csv, which no predictions.json lists" in capsys.readouterr().err
    assert (tmp_path / "volumes.csv").read_text() == "mine"
    assert predict([*arguments, "--overwrite"]) == 0
    assert (tmp_path / "volumes.csv").read_text().startswith("case,class,")
