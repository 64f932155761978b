"""Features of a case are those of plain sums over whole arrays, however the logits are cut into slabs."""

import numpy as np
import pytest
import torch
from scipy.special import expit, logit, softmax

from unetrpp.dataset.labels import LabelScheme, Region
from unetrpp.inference import export
from unetrpp.inference.case_features import CaseFeatures, PassAgreement, contains, feature_names

CLASSES = LabelScheme(names=("background", "a", "b"), values=(0, 3, 5))
REGIONS = LabelScheme(
    names=("background", "oedema", "core"),
    values=(0, 1, 2),
    regions=(Region(name="whole", members=(1, 2), value=1), Region(name="core", members=(2,), value=2)),
)
SHAPE, VOXEL_MM3 = (7, 5, 6), 2.5


@pytest.fixture(params=[CLASSES, REGIONS], ids=["classes", "regions"])
def scheme(request):
    return request.param


def example(scheme, folds=2, seed=0):
    """Logits (F, K, *SHAPE) and an image (2, *SHAPE)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (folds, scheme.outputs, *SHAPE)).astype(np.float32)
    return torch.from_numpy(logits), rng.normal(0, 1, (2, *SHAPE)).astype(np.float32)


def masks_of(scheme, logits):
    """(2, ...) of one fold: the voxels of each class or region."""
    if scheme.overlapping:
        return np.stack([(logits > 0).any(axis=0), logits[1] > 0])
    winner = logits.argmax(axis=0)
    return np.stack([winner == 1, winner == 2])


def naive(scheme, logits, image):
    """(classes, P) of one fold, from whole arrays."""
    probability = expit(logits) if scheme.overlapping else softmax(logits, axis=0)[1:]
    masks = masks_of(scheme, logits)
    rows = []
    for p, mask in zip(probability.astype(float), masks, strict=True):
        n, shares = mask.sum(), []
        for share in (2 * p[mask].sum() / (n + p.sum()), p[mask].mean(), p[mask].sum() / p.sum()):
            shares.append(np.log(share / (1 - share)))
        faces = sum(np.abs(np.diff(mask.astype(int), axis=axis)).sum() for axis in range(3))
        doubt = (p * (1 - p)).sum()
        shape = [np.log(n * VOXEL_MM3), np.log((faces + 1) / n ** (2 / 3)), np.log(doubt / (faces + 1))]
        intensities = [value for channel in image for value in (channel[mask].mean(), channel[mask].std())]
        rows.append([*shares, *shape, *intensities])
    return np.array(rows)


def rows_of(scheme, logits, image, cuts):
    features = CaseFeatures(scheme, image, VOXEL_MM3, mirrored=False)
    slabs = list(features.watch(torch.split(logits, cuts, dim=2)))
    np.testing.assert_array_equal(torch.cat(slabs, dim=2), logits)  # they pass unchanged
    return features.rows()


def test_features_are_those_of_whole_arrays(scheme):
    logits, image = example(scheme)
    found = rows_of(scheme, logits, image, [7])
    assert found.shape == (2, 2, len(feature_names(2, mirrored=False)))
    for fold, rows in zip(logits.numpy(), found, strict=True):
        np.testing.assert_allclose(rows, naive(scheme, fold, image), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("cuts", [[1] * 7, [3, 4], [6, 1]])
def test_slabs_do_not_matter(scheme, cuts):
    logits, image = example(scheme)
    np.testing.assert_allclose(rows_of(scheme, logits, image, cuts), rows_of(scheme, logits, image, [7]), rtol=1e-6)


def test_large_slabs_are_summed_in_parts(scheme, monkeypatch):
    logits, image = example(scheme)
    whole = rows_of(scheme, logits, image, [7])
    monkeypatch.setattr(export, "part_values", lambda device: logits[:, :, :1].numel())
    np.testing.assert_allclose(rows_of(scheme, logits, image, [7]), whole, rtol=1e-6)


def test_a_class_of_which_nothing_is_predicted_has_none():
    logits, image = example(CLASSES)
    logits[1, 2] = -50
    found = rows_of(CLASSES, logits, image, [7])
    assert np.isnan(found[1, 1]).all()
    assert np.isfinite(found[1, 0]).all()
    assert np.isfinite(found[0]).all()


def test_a_sure_prediction_has_finite_features():
    label = torch.zeros(SHAPE, dtype=torch.long)
    label[2:5, 1:3, 2:4], label[5:, 3:, 4:] = 1, 2
    logits = 200 * torch.nn.functional.one_hot(label, 3).movedim(-1, 0)[None].float()
    found = rows_of(CLASSES, logits, np.zeros((1, *SHAPE), np.float32), [2, 5])
    assert np.isfinite(found).all()
    assert found[0, 0, 0] > 9  # overlap with itself


def test_regions_contain_the_decisions_for_regions_within_them():
    np.testing.assert_array_equal(contains(REGIONS), [[0, 1, 1], [0, 0, 1]])


def test_without_a_slab_there_are_no_features():
    with pytest.raises(ValueError, match="no slab"):
        CaseFeatures(CLASSES, np.zeros((1, *SHAPE), np.float32), 1.0, mirrored=False).rows()


def test_the_agreement_of_passes_is_that_of_their_masks(scheme):
    """Two tiles, three passes each, against masks of each pass put together."""
    tiles = [[example(scheme, seed=10 * tile + i)[0] for i in range(3)] for tile in range(2)]
    found = PassAgreement(scheme)
    for tile in tiles:
        for logits, axes in zip(tile, [(), (0,), (0, 2)], strict=True):
            found.add(logits, axes)
    agreement, spread = found.columns()
    for fold in range(2):
        masks = [np.concatenate([masks_of(scheme, tile[i][fold].numpy()) for tile in tiles], axis=1) for i in range(3)]
        for k in range(2):
            both = sum((masks[0][k] & other[k]).sum() for other in masks[1:])
            sizes = sum(masks[0][k].sum() + other[k].sum() for other in masks[1:])
            assert agreement[fold, k] == pytest.approx(logit(2 * both / sizes))
            volumes = [mask[k].sum() for mask in masks]
            assert spread[fold, k] == pytest.approx(np.log(np.std(volumes) / np.mean(volumes) + 1e-4))


def test_passes_that_agree_have_finite_features(scheme):
    logits, _ = example(scheme)
    found = PassAgreement(scheme)
    for axes in [(), (1,)]:
        found.add(logits, axes)
    assert all(np.isfinite(column).all() for column in found.columns())
    with pytest.raises(ValueError, match="no mirrored pass"):
        PassAgreement(scheme).columns()
