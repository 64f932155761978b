"""predict(): the work of unetrpp_predict as one call."""

import numpy as np
import pytest

from tests.helpers.model import make_model, write_images
from unetrpp.core.errors import UserError
from unetrpp.inference.predict import PredictionResult, predict
from unetrpp.inference.predictor import Predictor
from unetrpp.io.images import read_label


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
