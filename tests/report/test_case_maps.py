"""Maps of a validation case: the entropy is the predictor's own, and gates are those of the attention report."""

import numpy as np
import pytest

from tests.helpers.model import give_own_attention, make_model, other_grid, write_images
from unetrpp.inference.predictor import Predictor
from unetrpp.report.attention_maps import inspect_case
from unetrpp.report.case_maps import case_maps


@pytest.fixture
def model(tmp_path):
    model = make_model(tmp_path, folds=2)
    give_own_attention(model, 0, {"gate@0": 1.5, "se@1": 0.7})
    return model


def predictor(model, fold: int) -> Predictor:
    return Predictor(model, folds=[fold], device="cpu", mirroring=False)


def test_the_entropy_is_that_of_the_fold_without_mirroring(model, tmp_path):
    (image,) = write_images(tmp_path / "images", 1)
    for fold, names in ((0, ["entropy", "gate@0"]), (1, ["entropy"])):
        maps = case_maps(predictor(model, fold), image, "case_0")
        assert list(maps) == names
        expected = predictor(model, fold)(image, uncertainty=True).entropy
        assert expected is not None
        np.testing.assert_allclose(maps["entropy"], expected, atol=1e-5)


def test_a_gate_lies_on_the_image(model, tmp_path):
    """On the network's grid, which is finer here, it is the map of the attention report."""
    (image,) = write_images(tmp_path / "images", 1)
    chosen = predictor(other_grid(model, (1.5, 0.9, 0.9), (2, 0, 1)), 0)
    gate = case_maps(chosen, image, "case_0")["gate@0"]
    assert gate.shape == image.array.shape[1:]
    found = inspect_case(chosen, image, None, "case_0")
    (expected,) = [module.map for module in found.modules if module.map is not None]
    properties = chosen.prepare(image, "case_0").properties
    if properties.shape == properties.cropped_shape:
        np.testing.assert_allclose(gate, chosen.grid(properties).to_input(expected), atol=1e-5)
    assert gate.min() >= 0
    assert abs(gate.mean() - expected.mean()) < 0.02
