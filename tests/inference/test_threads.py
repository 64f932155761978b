"""A predictor that several threads call at the same time gives each of them what it gives one alone."""

import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from tests.helpers.model import make_model, make_model_2d, write_images
from unetrpp.inference.ensemble import Ensemble
from unetrpp.inference.predictor import Predictor

THREADS, ROUNDS, COUNT = 4, 3, 3


def in_threads(predictor, images):
    """The segmentation of every image, several at the same time, in some rounds."""
    with ThreadPoolExecutor(THREADS) as threads:
        futures = [threads.submit(predictor, image, probabilities=True) for image in images * ROUNDS]
        return [future.result() for future in futures]


def require_same(predictor, images):
    alone = [predictor(image, probabilities=True) for image in images]
    for found, expected in zip(in_threads(predictor, images), alone * ROUNDS, strict=True):
        np.testing.assert_array_equal(found.array, expected.array)
        np.testing.assert_array_equal(found.probabilities, expected.probabilities)
    assert len({segmentation.probabilities.tobytes() for segmentation in alone}) == len(images)


@pytest.mark.parametrize("ensemble", [False, True])
def test_volumes(tmp_path, ensemble):
    write_images(tmp_path / "images", COUNT)
    images = sorted((tmp_path / "images").iterdir())
    predictor = Predictor(make_model(tmp_path, folds=2), device="cpu")
    require_same(Ensemble([predictor, predictor]) if ensemble else predictor, images)


def test_the_first_call_in_threads(tmp_path):
    """What is looked up once, such as the calibration, is not looked up yet."""
    write_images(tmp_path / "images", COUNT)
    images = sorted((tmp_path / "images").iterdir())
    model = make_model(tmp_path, folds=1)
    found = in_threads(Predictor(model, device="cpu"), images)
    for segmentation, image in zip(found, images * ROUNDS, strict=True):
        expected = Predictor(model, device="cpu")(image, probabilities=True).probabilities
        np.testing.assert_array_equal(segmentation.probabilities, expected)


def test_photographs_are_read_and_warnings_stay_as_they_are(tmp_path):
    """Pillow's warnings are silenced while a picture is opened, which Python does for all threads at once."""
    random, images = np.random.default_rng(0), []
    for i in range(COUNT):
        images.append(tmp_path / f"{i}.png")
        Image.fromarray(random.integers(0, 255, (40, 40, 3)).astype(np.uint8)).save(images[-1])
    before = list(warnings.filters)
    require_same(Predictor(make_model_2d(tmp_path), device="cpu"), images)
    assert list(warnings.filters) == before
