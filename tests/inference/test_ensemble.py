"""Several models: the mean of their probability maps on the original grid, with slabs of any thickness."""

import msgspec
import numpy as np
import pytest
import torch

from tests.helpers.model import make_model, write_images
from unetrpp.core.errors import UserError
from unetrpp.core.files import read_json, write_json
from unetrpp.inference.ensemble import Ensemble, in_step
from unetrpp.inference.predictor import Predictor
from unetrpp.plans.plans import Plans


def other_spacing(model, spacing):
    """The same model planned for another spacing."""
    plans = read_json(model / "plans.json", Plans)
    configuration = plans.configurations["3d_fullres"]
    preprocessing = msgspec.structs.replace(configuration.preprocessing, spacing_mm=spacing)
    changed = msgspec.structs.replace(configuration, preprocessing=preprocessing)
    write_json(model / "plans.json", msgspec.structs.replace(plans, configurations={"3d_fullres": changed}))
    return model


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folders = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    first, second = make_model(folders[0], folds=1), make_model(folders[1], folds=2)
    return [Predictor(m, device="cpu") for m in (first, other_spacing(second, (2.0, 1.2, 0.8)))]


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"), 1)[0]


def test_the_mean_of_the_models_maps(models, image):
    result = Ensemble(models)(image, probabilities=True, uncertainty=True)
    maps = [model(image, probabilities=True).probabilities.astype(np.float32) for model in models]
    mean = sum(maps) / 2
    assert result.probabilities is not None
    assert result.disagreement is not None
    np.testing.assert_allclose(result.probabilities, mean, atol=2e-3)
    clear = np.abs(mean[0] - mean[1]) > 5e-3
    np.testing.assert_array_equal(result.array[clear], mean.argmax(axis=0)[clear])
    decisions = [m.argmax(axis=0) for m in maps]
    clear &= (np.abs(maps[0][0] - maps[0][1]) > 5e-3) & (np.abs(maps[1][0] - maps[1][1]) > 5e-3)
    expected = sum(decision != mean.argmax(axis=0) for decision in decisions) / 2
    np.testing.assert_allclose(result.disagreement[clear], expected[clear])


def test_one_member_gives_what_its_predictor_gives(models, image):
    np.testing.assert_array_equal(Ensemble(models[:1])(image).array, models[0](image).array)


def test_slabs_of_different_thickness_are_cut_to_equal_thickness():
    whole = torch.rand(2, 3, 10, 2, 2)
    streams = [iter(part.split(depths, dim=1)) for part, depths in zip(whole, ([3, 7], [1, 1, 5, 3]), strict=True)]
    pieces = list(in_step(streams))
    torch.testing.assert_close(torch.cat(pieces, dim=2), whole)
    assert [piece.shape[2] for piece in pieces] == [1, 1, 1, 4, 3]


def test_models_of_different_datasets_are_refused(models, tmp_path):
    path = make_model(tmp_path, folds=1)
    plans = read_json(path / "plans.json", Plans)
    write_json(path / "plans.json", msgspec.structs.replace(plans, channel_names=("CT",)))
    with pytest.raises(UserError, match="differ in their channel_names"):
        Ensemble([models[0], Predictor(path, device="cpu")])
    with pytest.raises(UserError, match="at least one model"):
        Ensemble([])
