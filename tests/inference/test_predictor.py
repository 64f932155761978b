"""The predictor: the order of averaging against scipy, orientation against ITK, and what it refuses."""

import math

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy import ndimage

from tests.helpers.model import GEOMETRY, make_model, make_model_2d, write_images
from tests.helpers.reading import is_mapped
from tests.helpers.tiny import configuration
from unetrpp.cli.predict import main
from unetrpp.core import large_arrays
from unetrpp.core.errors import UserError
from unetrpp.inference.predictor import Predictor, as_volume
from unetrpp.inference.sliding_window import SlidingWindow
from unetrpp.io.images import Volume, read_label, to_sitk
from unetrpp.preprocessing.case import preprocess


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("results"))


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"), 1)[0]


def test_one_call_follows_the_order_of_averaging(model, image):
    """Slow reference: the whole logits of each fold, softmax, mean, scipy's zoom, arg-max, and the canonical orientation undone."""
    predictor = Predictor(model, device="cpu")
    plan = configuration()
    case = preprocess(image, None, plan.preprocessing, "image")
    mean = np.zeros(())
    window = SlidingWindow(plan.patch, mirror_axes=plan.mirror_axes)
    for network in predictor.networks:  # random weights; both classes are to occur
        background, ball = window.logits(network, torch.from_numpy(case.image))
        network.get_parameter("heads.0.bias").data[1] -= (ball - background).median()
    result = predictor(image, probabilities=True)
    for network in predictor.networks:
        logits = window.logits(network, torch.from_numpy(case.image)).double().numpy()
        mean = mean + np.exp(logits) / np.exp(logits).sum(axis=0) / 2
    factors = [1, *(n / m for n, m in zip(case.properties.cropped_shape, case.properties.shape, strict=True))]
    mean = ndimage.zoom(mean, factors, order=1, mode="nearest", grid_mode=True)
    # Image x points to world y, image y to world -x: canonical = [z, world y, world x].
    back = np.flip(mean, 3).transpose(0, 1, 3, 2)
    assert back.shape[1:] == GEOMETRY.shape_zyx
    assert result.probabilities is not None
    np.testing.assert_allclose(result.probabilities, back, atol=2e-3)
    decided = np.abs(back[0] - back[1]) > 1e-3
    np.testing.assert_array_equal(result.array[decided], back.argmax(axis=0)[decided])
    assert decided.mean() > 0.9
    assert result.geometry == image.geometry
    assert 0 < result.array.sum() < result.array.size


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha"])
def test_an_image_larger_than_memory_gets_the_same_labels(model, image, tmp_path, monkeypatch, name):
    """Arrays in files instead of memory, from the reader to the network."""
    sitk.WriteImage(to_sitk(image.array[0], image.geometry), str(tmp_path / name))
    predictor = Predictor(model, device="cpu")
    in_memory = predictor(tmp_path / name, probabilities=True)
    monkeypatch.setattr(large_arrays, "LARGE_BYTES", 0)
    mapped = predictor(tmp_path / name, probabilities=True)
    np.testing.assert_array_equal(mapped.array, in_memory.array)
    np.testing.assert_array_equal(mapped.probabilities, in_memory.probabilities)
    prepared = predictor.prepare(as_volume(tmp_path / name), "a")
    assert prepared.properties.shape != prepared.properties.cropped_shape  # it is resampled
    assert is_mapped(prepared.image)


def test_the_orientation_of_the_file_does_not_matter(model, image):
    predictor = Predictor(model, device="cpu", mirroring=False)
    whole = to_sitk(image.array[0], image.geometry)
    expected = predictor(whole).to_sitk()
    for orientation in ("RAS", "PIL", "SLA"):
        reoriented = predictor(sitk.DICOMOrient(whole, orientation)).to_sitk()
        back = sitk.DICOMOrient(
            reoriented, sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(whole.GetDirection())
        )
        np.testing.assert_array_equal(sitk.GetArrayFromImage(back), sitk.GetArrayFromImage(expected))
        assert back.GetOrigin() == pytest.approx(expected.GetOrigin())


def test_the_result_does_not_depend_on_the_tile_batch(model, image):
    maps = [Predictor(model, device="cpu", tile_batch=n)(image, probabilities=True).probabilities for n in (1, 5)]
    assert maps[0] is not None
    assert maps[1] is not None
    np.testing.assert_allclose(maps[0].astype(float), maps[1].astype(float), atol=1e-3)  # float16 maps


def test_progress_counts_every_pass_and_ends_the_prediction_where_it_raises(model, image):
    """A pass is a tile under one of the eight mirrorings of three axes, on the grid of 1 mm."""
    predictor = Predictor(model, device="cpu", tile_batch=3)
    seen: list[tuple[int, int]] = []
    with_progress = predictor(image, on_progress=lambda *count: seen.append(count))
    tiles = math.prod([int(np.ceil((n - p) / (p / 2))) + 1 for n, p in zip((18, 22, 22), (8, 16, 16), strict=True)])
    assert seen == [(min(done, 8 * tiles), 8 * tiles) for done in range(3, 8 * tiles + 3, 3)]
    np.testing.assert_array_equal(with_progress.array, predictor(image).array)

    def stop(done: int, total: int) -> None:
        if done > total / 2:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        predictor(image, on_progress=stop)
    np.testing.assert_array_equal(with_progress.array, predictor(image).array)


def test_uncertainty_of_folds_that_agree_and_of_folds_that_do_not(model, image):
    alone = Predictor(model, folds=[0], device="cpu")(image, uncertainty=True)
    assert alone.disagreement is not None
    assert alone.disagreement.max() == 0
    both = Predictor(model, device="cpu")(image, uncertainty=True, probabilities=True)
    assert both.entropy is not None
    assert both.disagreement is not None
    assert both.probabilities is not None
    assert 0 <= both.entropy.min() <= both.entropy.max() <= 1
    assert set(np.unique(both.disagreement)) - {0, 1} or 0.5 in both.disagreement
    sure = np.abs(both.probabilities[0].astype(float) - both.probabilities[1]) > 0.8
    assert not sure.any() or both.entropy[sure].mean() < both.entropy[~sure].mean()


def test_maps_are_written_next_to_the_labels(model, image, tmp_path):
    result = Predictor(model, device="cpu", mirroring=False)(image, probabilities=True, uncertainty=True)
    result.save(tmp_path / "case.nii.gz")
    names = {p.name for p in tmp_path.iterdir()}
    maps = ("probability_0", "probability_1", "entropy", "disagreement")
    assert names == {"case.nii.gz", *(f"case_{name}.nii.gz" for name in maps)}
    np.testing.assert_array_equal(read_label(tmp_path / "case.nii.gz").array[0], result.array)


def test_an_array_with_its_geometry_gives_what_an_image_gives(model, image):
    predictor = Predictor(model, device="cpu", mirroring=False)
    rounded = np.round(image.array * 100).astype(np.int16)
    from_array = predictor(Volume(rounded, GEOMETRY))
    from_itk = predictor(to_sitk(rounded[0], GEOMETRY))
    np.testing.assert_array_equal(from_array.array, from_itk.array)
    assert from_array.geometry == GEOMETRY


def test_fewer_channels_are_refused_with_those_that_the_model_takes(tmp_path, image, capsys):
    model = make_model_2d(tmp_path)
    gray = np.random.default_rng(0).integers(0, 255, (20, 30)).astype(np.uint8)
    (tmp_path / "in").mkdir()
    sitk.WriteImage(sitk.GetImageFromArray(gray), str(tmp_path / "in" / "photo_0000.png"))
    command = ["-i", tmp_path / "in", "-o", tmp_path / "out", "-m", model, "--device", "cpu"]
    assert main([str(word) for word in command]) == 1
    words = capsys.readouterr().err.split()
    assert " ".join(words) == (
        "photo the image has 1 channel, but the model takes 3 and was trained on images that had all of them; "
        "give R as photo_0000.png, G as photo_0001.png and B as photo_0002.png"
    )
    with pytest.raises(UserError, match=r"image: the image has 1 channel, but the model takes 3"):
        Predictor(model, device="cpu")(image)


def test_arrays_that_do_not_fit_their_geometry_are_refused(model, image):
    predictor = Predictor(model, device="cpu")
    with pytest.raises(UserError, match=r"shape \(12, 24, 24\); give \(C, Z, Y, X\), such as array\[None\]"):
        predictor(Volume(image.array[0], GEOMETRY))
    with pytest.raises(UserError, match=r"but its geometry \(12, 24, 24\) \(Z, Y, X\)"):
        predictor(Volume(image.array.transpose(0, 3, 2, 1), GEOMETRY))
    with pytest.raises(UserError, match="an array alone has no spacing"):
        predictor(image.array)


def test_wrong_arguments_and_images_are_refused(model, image, tmp_path):
    with pytest.raises(UserError, match="is not a model folder"):
        Predictor(tmp_path)
    with pytest.raises(UserError, match=r"no checkpoint_final.pt of fold 7 \(trained: 0, 1\)"):
        Predictor(model, folds=[0, 7])
    with pytest.raises(UserError, match=r"no checkpoint_best.pt of any fold"):
        Predictor(model, checkpoint="best")
    with pytest.raises(UserError, match="cannot be used here"):
        Predictor(model, device="cuda:99")
    predictor = Predictor(model, device="cpu")
    with pytest.raises(UserError, match=r"c7: channel 'MRI' holds .* NaN or infinite"):
        predictor(Volume(np.full_like(image.array, np.nan), GEOMETRY), "c7")
    with pytest.raises(UserError, match=r"c7: channel 'MRI' holds -3.40282e\+38, too large .* replace"):
        predictor(Volume(np.full_like(image.array, -3.4028235e38), GEOMETRY), "c7")
    with pytest.raises(UserError, match="2 channels"):
        predictor(Volume(np.concatenate([image.array] * 2), GEOMETRY))


def test_a_damaged_or_unfitting_checkpoint_is_refused(tmp_path):
    model = make_model(tmp_path, folds=1)
    checkpoint = model / "fold_0" / "checkpoint_final.pt"
    whole = checkpoint.read_bytes()
    checkpoint.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"checkpoint_final.pt cannot be read"):
        Predictor(model)
    content = torch.load(_restored(checkpoint, whole), weights_only=True)
    content["network"].popitem()
    torch.save(content, checkpoint)
    with pytest.raises(UserError, match="does not fit"):
        Predictor(model)
    torch.save({**content, "format": 99}, checkpoint)
    with pytest.raises(UserError, match="format 99"):
        Predictor(model)


def _restored(path, content):
    path.write_bytes(content)
    return path


def test_a_renamed_folder_is_read_by_its_only_configuration(tmp_path):
    model = make_model(tmp_path, folds=1)
    renamed = model.rename(tmp_path / "my model")
    assert Predictor(renamed, device="cpu").model.configuration_name == "3d_fullres"


def test_one_fold_and_paths_as_strings(tmp_path):
    predictor = Predictor(make_model(tmp_path), folds=0, device="cpu", mirroring=False)
    assert predictor.folds == ["0"]
    write_images(tmp_path / "images", 1)
    path = tmp_path / "images" / "case_0_0000.nii.gz"
    np.testing.assert_array_equal(predictor([str(path)]).array, predictor(path).array)
