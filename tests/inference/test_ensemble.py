"""Several models: the mean of their probability maps on the original grid, with slabs of any thickness."""

import itertools

import msgspec
import numpy as np
import pytest
import torch

from tests.helpers.model import PLAN, change_plans, make_model, other_grid, write_images
from unetrpp.core.errors import UserError
from unetrpp.core.files import read_json, write_json
from unetrpp.inference.ensemble import Ensemble, in_step, on_grid
from unetrpp.inference.predictor import Predictor
from unetrpp.io.images import Volume
from unetrpp.plans.plans import Plans
from unetrpp.preprocessing.grid import CaseGrid


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folders = tmp_path_factory.mktemp("one"), tmp_path_factory.mktemp("two")
    first, second = make_model(folders[0], folds=1), make_model(folders[1], folds=2)
    return [Predictor(m, device="cpu") for m in (first, other_grid(second, (2.0, 1.2, 0.8)))]


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"), 1)[0]


@pytest.fixture(scope="module")
def turned(tmp_path_factory):
    """The second of ``models``, planned so that another axis is its first one."""
    folder = make_model(tmp_path_factory.mktemp("turned"), folds=2)
    return Predictor(other_grid(folder, (1.2, 0.8, 2.0), (2, 0, 1)), device="cpu")


@pytest.mark.parametrize("order", ["equal", "turned last", "turned first"])
def test_the_mean_of_the_models_maps(models, turned, image, order):
    """Each member's own result is the reference: it is on the image's grid, whatever the member's axis order."""
    models = {"equal": models, "turned last": [models[0], turned], "turned first": [turned, models[0]]}[order]
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


@pytest.mark.parametrize("transpose", list(itertools.permutations(range(3))))
def test_slabs_in_another_axis_order_are_those_voxels(image, transpose):
    """Voxel by voxel: the value of a voxel of the image is found again, whatever the order of the axes."""
    grids = []
    for order in (transpose, (1, 2, 0)):
        plan = msgspec.structs.replace(PLAN.preprocessing, transpose=order)
        grids.append(CaseGrid.of_image(image.array, image.geometry, plan, "case"))
    own, other = grids
    voxels = np.arange(2 * image.array[0].size, dtype=np.float32).reshape(2, *image.array.shape[1:])
    slabs = torch.from_numpy(np.ascontiguousarray(own.crop(voxels))).split(
        [1, 3, own.properties.cropped_shape[0] - 4], 1
    )
    (whole,) = on_grid(iter(slabs), own, other)
    np.testing.assert_array_equal(whole.numpy(), other.crop(voxels))


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


@pytest.mark.parametrize("order", [1, -1])
def test_a_model_of_another_frame_and_crop_is_averaged_on_the_images_grid(models, image, tmp_path, order):
    """One model crops a rim of -50 away, the other, by the rules of nnU-Net, does not."""
    array = image.array.copy()
    array[:, :2] = array[:, :, -3:] = -50
    rim = Volume(array, image.geometry)
    path = make_model(tmp_path, folds=2)
    plan = msgspec.structs.replace(PLAN.preprocessing, rules="nnunet", orientation="file", transpose=(2, 1, 0))
    change_plans(
        path, configurations={"3d_fullres": msgspec.structs.replace(PLAN, preprocessing=plan, averaging="logits")}
    )
    members = [models[0], Predictor(path, device="cpu")][::order]
    maps = [member(rim, probabilities=True).probabilities.astype(np.float32) for member in members]
    result = Ensemble(members)(rim, probabilities=True)
    assert result.probabilities is not None
    np.testing.assert_allclose(result.probabilities, sum(maps) / 2, atol=2e-3)
    assert {member.prepare(rim, "x").properties.cropped_shape for member in members} != {rim.geometry.shape_zyx}
