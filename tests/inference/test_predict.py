"""predict(): the work of unetrpp_predict as one call."""

import shutil

import numpy as np
import pytest

from tests.helpers.model import make_model, write_images
from unetrpp.cli.predict import main
from unetrpp.core.errors import UserError
from unetrpp.core.files import read_json
from unetrpp.inference.predict import PredictionResult, predict
from unetrpp.inference.predictor import Predictor
from unetrpp.inference.record import Predictions
from unetrpp.io.images import read_label
from unetrpp.model.folds import spell_folds


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("results"))


@pytest.fixture
def images(tmp_path):
    write_images(tmp_path / "images", 2)
    return tmp_path / "images"


def test_a_folder_is_segmented_as_the_predictor_segments_its_images(model, images, tmp_path):
    result = predict(input=images, output=tmp_path / "out", model=model, mirroring=False, device="cpu")
    assert result.output == tmp_path / "out"
    assert result.failed == {}
    assert result.segmented == {case: tmp_path / "out" / f"{case}.nii.gz" for case in ("case_0", "case_1")}
    predictor = Predictor(model, mirroring=False, device="cpu")
    for case, path in result.segmented.items():
        expected = predictor(images / f"{case}_0000.nii.gz")
        np.testing.assert_array_equal(read_label(path).array[0], expected.array)


def test_the_same_call_resumes_and_names_what_failed(model, images, tmp_path):
    (images / "case_1_0000.nii.gz").rename(tmp_path / "kept")
    (images / "case_1_0000.nii.gz").write_bytes(b"")

    def call() -> PredictionResult:
        paths = str(images), str(tmp_path / "out"), [str(model)]
        return predict(input=paths[0], output=paths[1], model=paths[2], folds=0, mirroring=False, device="cpu")

    first = call()
    assert set(first.segmented) == {"case_0"}
    assert set(first.failed) == {"case_1"}
    assert "empty (0 bytes)" in first.failed["case_1"]
    stamp = first.segmented["case_0"].stat().st_mtime_ns
    (tmp_path / "kept").replace(images / "case_1_0000.nii.gz")
    second = call()
    assert set(second.segmented) == {"case_0", "case_1"}
    assert second.failed == {}
    assert second.segmented["case_0"].stat().st_mtime_ns == stamp


def test_a_part_of_the_cases_and_several_models(model, images, tmp_path):
    result = predict(input=images, output=tmp_path / "out", model=(model, model), part="2/2", mirroring=False)
    assert set(result.segmented) == {"case_1"}
    assert (tmp_path / "out" / "predictions_2_of_2.json").exists()
    with pytest.raises(UserError, match=r"part '3/2' must be k/n with k from 1 to n"):
        predict(input=images, output=tmp_path / "out", model=model, part="3/2")


@pytest.mark.parametrize("given", [{}, {"model": "m", "best": "balls"}])
def test_either_a_model_or_the_best_one(given, tmp_path):
    with pytest.raises(UserError, match="give either a model folder"):
        predict(input=tmp_path, output=tmp_path / "out", **given)


def test_the_folds_that_are_averaged_are_chosen_by_name_and_said(model, images, tmp_path, caplog, capsys):
    copy = tmp_path / "unetrpp__3d_fullres"
    shutil.copytree(model, copy)
    shutil.copytree(copy / "fold_1", copy / "fold_all")
    command = ["-i", images, "-m", copy, "--no-mirroring", "--part", "1/2", "--device", "cpu", "-o"]

    def folds_of(name: str, *folds: str) -> str:
        caplog.clear()
        assert main([*map(str, command), str(tmp_path / name), "--folds", *folds]) == 0
        (member,) = read_json(tmp_path / name / "predictions_1_of_2.json", Predictions).settings.members
        assert f"unetrpp__3d_fullres: folds averaged: {spell_folds(member.folds)}\n" in caplog.text
        return spell_folds(member.folds)

    assert main([*map(str, command), str(tmp_path / "out"), "--folds", "all"]) == 2
    assert "give --folds fold_all or --folds 0-1" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert folds_of("a", "fold_all") == "fold_all"
    assert folds_of("b", "0-1") == "0-1"
    shutil.rmtree(copy / "fold_all")
    assert folds_of("c", "all") == "0-1"
    with pytest.raises(UserError, match="of fold_all"):
        predict(input=images, output=tmp_path / "d", model=copy, folds="all", device="cpu")


def test_fast_is_one_fold_without_mirroring_and_with_larger_steps(model, images, tmp_path):
    command = ["-i", images, "-o", tmp_path / "fast", "-m", model, "--device", "cpu", "--fast"]
    assert main([str(word) for word in [*command, "--folds", "all"]]) == 2  # would be ignored
    assert main([str(word) for word in command]) == 0
    settings = read_json(tmp_path / "fast" / "predictions.json", Predictions).settings
    assert (settings.members[0].folds, settings.mirroring, settings.step) == (("0",), False, 0.75)
    predictor = Predictor(model, folds=0, mirroring=False, step=0.75, device="cpu")
    for case in ("case_0", "case_1"):
        found = read_label(tmp_path / "fast" / f"{case}.nii.gz").array[0]
        np.testing.assert_array_equal(found, predictor(images / f"{case}_0000.nii.gz").array)
