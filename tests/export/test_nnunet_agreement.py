"""Imported models predict what nnU-Net 2.8.1 predicts: its golden models, and fresh ones where an environment has nnU-Net."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.helpers.nnunet_agreement import assert_agrees
from unetrpp.export.nnunet.models import import_nnunet
from unetrpp.inference.predictor import Predictor

pytestmark = pytest.mark.slow

GOLDEN = {  # model, folder of expected predictions: folds
    ("plain_3d", "fold_0"): "0",
    ("plain_3d", "fold_0_without_mirroring"): "0",
    ("plain_3d", "folds_0_1"): ("0", "1"),
    ("plain_2d", "fold_0"): "0",
    ("resenc_3d", "fold_all"): "all",
    ("regions_3d", "fold_0"): "0",
}
FRESH = ["cascade", "masks", "regions", "older", "rgb"]
DRIVER = Path(__file__).parents[1] / "helpers" / "nnunet_driver.py"


@pytest.mark.parametrize(("model", "how"), GOLDEN)
def test_golden_models(test_data, tmp_path, model, how):
    golden = test_data.parent / "golden" / "nnunet"
    if not golden.is_dir():
        pytest.skip(f"{golden} with models of nnU-Net is missing")
    (target,) = import_nnunet(golden / model / "model", workspace=tmp_path)
    predictor = Predictor(
        target, folds=GOLDEN[model, how], mirroring=not how.endswith("without_mirroring"), device="cpu"
    )
    expected = sorted((golden / model / "expected" / how).glob("*.nii.gz"))
    assert len(expected) == 2
    for file in expected:
        image = golden / "images" / file.name.replace(".nii.gz", "_0000.nii.gz")
        assert_agrees(predictor(image, probabilities=True), file, tmp_path / "probabilities")
        assert_agrees(predictor(image), file, tmp_path)  # decided on logits, without maps


@pytest.fixture(scope="module", params=FRESH)
def fresh(request, tmp_path_factory):
    """What nnU-Net trained and predicted for one scenario of the driver."""
    python = os.environ.get("UNETRPP_NNUNET_PYTHON")
    if not python:
        pytest.skip("UNETRPP_NNUNET_PYTHON names no Python with nnunetv2 2.8.1")
    folder = tmp_path_factory.mktemp(request.param)
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"PYTHONSAFEPATH": "1"}
    command = [python, str(DRIVER), request.param, str(folder)]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=1800)
    return folder


def test_fresh_models(fresh, tmp_path):
    targets = import_nnunet(fresh / "results" / "Dataset042_Balls", workspace=tmp_path)
    expected = sorted((fresh / "expected").iterdir())
    assert sorted(target.name.split("__")[1] for target in targets) == [folder.name for folder in expected]
    for folder in expected:
        target = next(target for target in targets if target.name.endswith(f"__{folder.name}"))
        for how in sorted(folder.iterdir()):
            folds = how.name.removesuffix("_plain").split("_")
            predictor = Predictor(target, folds=folds, mirroring=not how.name.endswith("_plain"), device="cpu")
            segmentations = sorted(path for path in how.iterdir() if path.name.endswith((".nii.gz", ".png")))
            assert len(segmentations) == 2
            for file in segmentations:
                stem, _, ending = file.name.partition(".")
                images = sorted((fresh / "images").glob(f"{stem}_*.{ending}"))
                frame = predictor.model.configuration.preprocessing.orientation
                assert_agrees(predictor(images, probabilities=True), file, tmp_path / "probabilities", frame)
                assert_agrees(predictor(images), file, tmp_path)
