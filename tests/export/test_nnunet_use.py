"""Everything that works on a model of ours works on an imported one."""

import json
import shutil

import msgspec
import numpy as np
import pytest

from tests.helpers.model import GEOMETRY
from tests.helpers.naive_deployment import predict as predict_by_deployment
from tests.helpers.nnunet import configuration, plans, write_model
from tests.helpers.raw_dataset import write_dataset
from tests.helpers.tiny import ball
from unetrpp.__main__ import main
from unetrpp.core.errors import UserError
from unetrpp.core.files import read_json, write_json
from unetrpp.evaluation.evaluate import evaluate
from unetrpp.evaluation.find_best import find_best
from unetrpp.export.model_zip import export_model, import_model
from unetrpp.export.nnunet.models import import_nnunet
from unetrpp.export.onnx import export_onnx
from unetrpp.inference.ensemble import Ensemble
from unetrpp.inference.predict import predict
from unetrpp.inference.predictor import Predictor
from unetrpp.inference.record import Predictions
from unetrpp.io.images import Volume, read_image, read_label, write_image, write_segmentation
from unetrpp.model.folder import ModelFolder
from unetrpp.plans.plans import Plans


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Two folds, with another spacing and axis order than the images."""
    plan = plans(**{"3d_fullres": configuration(spacing=[1.0, 0.9, 1.6])})
    plan |= {"transpose_forward": [2, 0, 1], "transpose_backward": [1, 2, 0]}
    folder = write_model(tmp_path_factory.mktemp("nnunet"), plan, folds=(0, 1), seeds=(6, 5))
    crossval = folder / "crossval_results_folds_0_1"
    crossval.mkdir()
    function = "remove_all_but_largest_component_from_segmentation"
    content = {"postprocessing_fns": [function], "postprocessing_kwargs": [{"labels_or_regions": [1]}]}
    (crossval / "postprocessing.json").write_text(json.dumps(content))
    return import_nnunet(folder, workspace=tmp_path_factory.mktemp("workspace"))[0]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Two scans on a rotated grid, with an empty rim."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(2):
        array = ball(np.random.default_rng(number))[0]
        array[:, :, :3] = 0
        write_image(folder / f"case_{number}_0000.nii.gz", Volume(array, GEOMETRY))
    return folder


def test_the_command_writes_what_the_predictor_gives(model, images, tmp_path):
    out = tmp_path / "out"
    arguments = ["predict", "-i", str(images), "-o", str(out), "-m", str(model), "--uncertainty", "--probabilities"]
    assert main([*arguments, "--device", "cpu"]) == 0
    predictor = Predictor(model, device="cpu")
    for case in ("case_0", "case_1"):
        expected = predictor(images / f"{case}_0000.nii.gz", probabilities=True, uncertainty=True)
        found = read_label(out / f"{case}.nii.gz")
        np.testing.assert_array_equal(found.array[0], expected.array)
        assert found.geometry.shape_zyx == GEOMETRY.shape_zyx
        assert (out / f"{case}_entropy.nii.gz").is_file()
        assert expected.entropy is not None
        assert 0 < expected.entropy.max() <= 1
        assert set(np.unique(expected.array)) == {0, 1}
    record = read_json(out / "predictions.json", Predictions)
    assert record.settings.members[0].plans == "nnUNetPlans"
    assert not any("extent" in text for case in record.cases.values() for text in case.warnings)


def test_its_postprocessing_is_applied_on_request(model, images, tmp_path):
    how = {"input": images, "model": model, "folds": 0, "device": "cpu", "mirroring": False}
    plain = predict(output=tmp_path / "plain", **how)
    asked = predict(output=tmp_path / "asked", postprocessing=True, **how)
    for case, path in plain.segmented.items():
        before, after = read_label(path).array, read_label(asked.segmented[case]).array
        assert (before != after).any()
        assert not after[before == 0].any()
    with pytest.raises(UserError, match="leave --postprocessing out"):
        predict(input=images, output=tmp_path / "best", best="Balls", postprocessing=True)
    with pytest.raises(UserError, match="that of one model, but 2 are averaged"):
        predict(input=images, output=tmp_path / "two", model=[model, model], postprocessing=True)


def with_our_rules(model, folder):
    """The same weights as a model of ours: the canonical frame, our rules, the mean of probabilities."""
    path = folder / model.name
    path.parent.mkdir(exist_ok=True)
    shutil.copytree(model, path)
    found = read_json(path / "plans.json", Plans)
    ((name, plan),) = found.configurations.items()
    preprocessing = msgspec.structs.replace(plan.preprocessing, orientation="LPS", rules="unetrpp")
    plan = msgspec.structs.replace(plan, preprocessing=preprocessing, averaging="probabilities")
    write_json(path / "plans.json", msgspec.structs.replace(found, configurations={name: plan}))
    return path


def test_an_ensemble_with_one_of_ours(model, images, tmp_path):
    members = [
        Predictor(path, device="cpu", mirroring=False) for path in (model, with_our_rules(model, tmp_path / "ours"))
    ]
    image = images / "case_0_0000.nii.gz"
    found = [member(image, probabilities=True).probabilities for member in members]
    maps = [of_member.astype(np.float32) for of_member in found if of_member is not None]
    assert np.abs(maps[0] - maps[1]).max() > 0.01
    result = Ensemble(members)(image, probabilities=True, uncertainty=True)
    assert result.probabilities is not None
    np.testing.assert_allclose(result.probabilities, np.mean(maps, axis=0), atol=2e-3)


@pytest.mark.slow
def test_onnx_and_model_json_give_its_labels_without_unetrpp(model, images, tmp_path):
    deployment = export_onnx(model, tmp_path / "onnx")
    assert (deployment.rules, deployment.averaging, deployment.orientation) == ("nnunet", "logits", "file")
    predictor = Predictor(model, device="cpu")
    for case in ("case_0", "case_1"):
        volume = predictor(images / f"{case}_0000.nii.gz")
        image = read_image(images / f"{case}_0000.nii.gz").array
        found = predict_by_deployment(
            tmp_path / "onnx", image, np.array(GEOMETRY.spacing_zyx_mm), np.array(GEOMETRY.direction)
        )
        assert (found == volume.array).mean() > 0.9995


def test_its_zip_predicts_the_same(model, images, tmp_path):
    again = import_model(export_model(model, tmp_path / "model.zip"), workspace=tmp_path / "elsewhere")
    image = images / "case_1_0000.nii.gz"
    one, other = (Predictor(path, device="cpu", mirroring=False)(image) for path in (model, again))
    np.testing.assert_array_equal(one.array, other.array)
    assert ModelFolder.open(again).configuration == ModelFolder.open(model).configuration


def test_its_segmentations_are_evaluated(model, images, tmp_path):
    out = tmp_path / "out"
    predict(input=images, output=out, model=model, device="cpu", mirroring=False)
    for number in range(2):
        label = ball(np.random.default_rng(number))[1]
        write_segmentation(tmp_path / "references" / f"case_{number}.nii.gz", label, GEOMETRY)
    summary = evaluate(out, tmp_path / "references", dataset_json=model / "dataset.json")
    assert summary is not None


def test_find_best_says_that_it_has_no_validation(model, tmp_path):
    shutil.copytree(model, tmp_path / "results" / "Dataset007_Balls" / model.name)
    write_dataset(tmp_path / "raw" / "Dataset007_Balls")
    with pytest.raises(UserError, match=r"(?s)no model whose folds are all validated.*nnUNetPlans__3d_fullres"):
        find_best("Dataset007_Balls", workspace=tmp_path)
