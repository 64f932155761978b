"""An image and its rotated or flipped copy get the same segmentation in world space."""

import math

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.model import make_model
from unetrpp.inference.predictor import Predictor
from unetrpp.io.images import from_sitk, to_sitk


@pytest.fixture(scope="module")
def image():
    """Oblique, with a smooth random texture and an empty border that is cropped."""
    texture = np.zeros((14, 22, 20), np.float32)
    texture[2:-1, 1:-3, 2:-2] = np.random.default_rng(0).normal(100, 30, (11, 18, 16))
    image = sitk.SmoothingRecursiveGaussian(sitk.GetImageFromArray(texture), 1.0)
    image.SetSpacing((0.8, 0.9, 1.5))
    image.SetOrigin((3.0, -7.0, 11.0))
    c, s = math.cos(0.2), math.sin(0.2)
    image.SetDirection((c, -s, 0, s, c, 0, 0, 0, 1))
    return image


@pytest.fixture(scope="module")
def predictor(tmp_path_factory, image):
    """A random network, its bias such that half of the image is foreground; images are resampled to 1 mm."""
    predictor = Predictor(make_model(tmp_path_factory.mktemp("model"), 1), device="cpu", mirroring=False)
    logits = torch.cat(list(predictor.logits(predictor.prepare(from_sitk(image), "a"))), dim=2)[0]
    bias = dict(predictor.networks[0].named_parameters())["heads.0.bias"]
    bias.data[1] -= (logits[1] - logits[0]).median()
    return predictor


@settings(max_examples=12, deadline=None)
@given(order=st.permutations(range(3)), flips=st.tuples(*[st.booleans()] * 3))
def test_a_rotated_copy_gets_the_same_segmentation(predictor, image, order, flips):
    rotated = sitk.Flip(sitk.PermuteAxes(image, order), flips)  # both keep every voxel where it is in the world
    expected, found = predictor(image), predictor(rotated)
    assert found.geometry.shape_zyx == rotated.GetSize()[::-1]
    resampled = sitk.Resample(to_sitk(found.array, found.geometry), image, sitk.Transform(), sitk.sitkNearestNeighbor)
    same = sitk.GetArrayFromImage(resampled) == expected.array
    assert 0.1 < (expected.array > 0).mean() < 0.9
    assert same.mean() > 0.999  # probabilities within rounding of a tie may fall either way
