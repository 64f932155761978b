"""model.json is complete: a prediction written from it alone gives the labels of `Predictor`."""

import re
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.helpers.model import PLAN, make_model, make_model_2d
from tests.helpers.naive_deployment import predict
from tests.helpers.tiny import LABELS, ball
from unetrpp.core.files import read_json
from unetrpp.dataset.labels import LabelScheme, Region
from unetrpp.export.deployment import Deployment, Mirroring, describe
from unetrpp.export.onnx import export_onnx
from unetrpp.inference.predictor import Predictor
from unetrpp.io.geometry import Geometry
from unetrpp.io.images import Volume
from unetrpp.model.folder import ModelFolder
from unetrpp.networks.design import unet_architecture
from unetrpp.plans.fingerprint import IntensityStatistics
from unetrpp.plans.plans import Normalization

PAGE = Path(__file__).parents[2] / "docs" / "deployment.md"
TURNED = (0.0, -1.0, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0)  # x of the file runs along z of the patient
SIDES = LabelScheme(names=("background", "left", "right", "ball"), values=(0, 4, 2, 9))
STATISTICS = IntensityStatistics(
    mean=110.0, median=105.0, std=40.0, minimum=0.0, maximum=300.0, percentile_00_5=60.0, percentile_99_5=220.0
)


def two_channels(rng, shape):
    """A CT and an MR of -1000 and 0 where they are empty: in a rim that is cropped away, in a corner, and in a hole."""
    image = np.stack([ball(rng)[0][0], ball(rng)[0][0] + 3])[:, : shape[0], : shape[1], : shape[2]]
    inside = np.pad(np.ones([n - 4 for n in image.shape[1:]], bool), 2)
    inside[:5, :9, :9] = False
    inside[6:8, 11:13, 11:13] = False
    return np.where(inside, image, np.array([-1000, 0]).reshape(2, 1, 1, 1)).astype(np.float32)


def anisotropic(labels, **changes):
    """Two channels, a transpose, a coarse axis and a patch larger than the image along one axis."""
    normalization = (
        Normalization(channel="CT", scheme="ct", statistics=STATISTICS),
        Normalization(channel="MR", scheme="zscore", statistics=STATISTICS, masked=True),
    )
    preprocessing = msgspec.structs.replace(
        PLAN.preprocessing,
        transpose=(1, 0, 2),
        spacing_mm=(3.0, 0.8, 0.9),
        normalization=normalization,
        labels=labels,
        zero_outside_mask=True,
    )
    network = unet_architecture(2, labels.outputs, (8, 16, 16), [(1, 2, 2)], width=0.25)
    return msgspec.structs.replace(PLAN, preprocessing=preprocessing, architecture=network, **changes)


def exported(model, folder):
    export_onnx(model, folder)
    return folder


def agree(model, folder, volume):
    expected = Predictor(model, device="cpu")(volume).array
    found = predict(folder, volume.array, volume.geometry.spacing_zyx_mm, np.array(volume.geometry.direction))
    assert len(np.unique(expected)) > 1
    np.testing.assert_array_equal(found, expected)


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    """Two folds of a model whose left and right labels are exchanged when mirrored."""
    folder = tmp_path_factory.mktemp("sides")
    plan = anisotropic(SIDES, mirror_axes=(0, 2), swap_axis=2, swapped_labels=((1, 2),))
    model = make_model(folder, 2, plan, channels=("CT", "MR"))
    return model, exported(model, folder / "onnx")


def test_two_rotated_channels_with_swapped_sides(sides):
    geometry = Geometry(shape_zyx=(12, 22, 20), spacing_zyx_mm=(1.0, 0.7, 4.0), direction=TURNED)
    model, folder = sides
    agree(model, folder, Volume(two_channels(np.random.default_rng(0), geometry.shape_zyx), geometry))


def test_an_image_on_the_models_own_grid(sides):
    geometry = Geometry(shape_zyx=(12, 24, 24), spacing_zyx_mm=(0.8, 3.0, 0.9))
    model, folder = sides
    agree(model, folder, Volume(two_channels(np.random.default_rng(1), geometry.shape_zyx), geometry))


def test_regions(tmp_path):
    regions = (Region(name="whole", members=(1, 2), value=4), Region(name="core", members=(2,), value=2))
    labels = LabelScheme(names=("background", "edema", "core"), values=(0, 4, 2), regions=regions)
    model = make_model(tmp_path, 1, anisotropic(labels, mirror_axes=(1,)), channels=("CT", "MR"))
    geometry = Geometry(shape_zyx=(10, 20, 18), spacing_zyx_mm=(1.0, 1.2, 1.1))
    volume = Volume(two_channels(np.random.default_rng(2), geometry.shape_zyx), geometry)
    agree(model, exported(model, tmp_path / "onnx"), volume)


def make_cascade(folder, folds=2):
    """A second stage whose sides are exchanged when mirrored, and its first stage of a coarser spacing."""
    sides = {"mirror_axes": (0, 2), "swap_axis": 2, "swapped_labels": ((1, 2),)}
    first = anisotropic(SIDES, **sides)
    coarser = msgspec.structs.replace(first.preprocessing, spacing_mm=(4.0, 1.7, 1.9))
    lowres = msgspec.structs.replace(first, preprocessing=coarser)
    network = unet_architecture(2 + 3, SIDES.outputs, (8, 16, 16), [(1, 2, 2)], width=0.25)
    second = anisotropic(SIDES, **sides, first_stage="3d_lowres")
    second = msgspec.structs.replace(second, architecture=network)
    model = make_model(folder, folds, second, "3d_cascade", channels=("CT", "MR"))
    make_model(folder / "first", folds, lowres, "3d_lowres", channels=("CT", "MR")).rename(model / "previous_stage")
    return model


def test_a_cascade(tmp_path):
    model = make_cascade(tmp_path)
    folder = exported(model, tmp_path / "onnx")
    geometry = Geometry(shape_zyx=(12, 22, 20), spacing_zyx_mm=(1.0, 0.7, 4.0), direction=TURNED)
    agree(model, folder, Volume(two_channels(np.random.default_rng(0), geometry.shape_zyx), geometry))
    found = read_json(folder / "model.json", Deployment)
    first = read_json(folder / "first_stage" / "model.json", Deployment)
    assert found.first_stage is not None
    assert (found.first_stage.hash, found.first_stage.values) == (first.hash, (4, 2, 9))
    assert found.mirroring.exchanged_inputs == (0, 1, 3, 2, 4)
    assert [step for step in found.steps if "first_stage" in step] == [found.steps[6]]
    assert not any("first_stage" in step for step in first.steps)


def test_of_a_cascade_the_first_stage_is_exported_for_the_same_folds(tmp_path):
    model = make_cascade(tmp_path)
    export_onnx(model, tmp_path / "onnx", folds=["1"])
    assert sorted(path.name for path in (tmp_path / "onnx" / "first_stage").glob("*.onnx")) == ["fold_1.onnx"]


def test_slices_of_a_2d_network(tmp_path):
    model = make_model_2d(tmp_path)
    geometry = Geometry(shape_zyx=(2, 20, 30), spacing_zyx_mm=(5.0, 1.5, 1.0))
    image = np.random.default_rng(3).integers(0, 256, (3, 2, 20, 30)).astype(np.float32)
    agree(model, exported(model, tmp_path / "onnx"), Volume(image, geometry))


def test_the_record_names_channels_outputs_and_mirrors(sides):
    model, folder = sides
    found = read_json(folder / "model.json", Deployment)
    assert msgspec.json.decode(msgspec.json.encode(found), type=Deployment) == found
    assert [(c.name, c.clip, c.mean, c.std) for c in found.channels] == [
        ("CT", (60.0, 220.0), 110.0, 40.0),
        ("MR", None, None, None),
    ]
    assert [(output.name, output.value) for output in found.outputs] == list(
        zip(SIDES.names, SIDES.values, strict=True)
    )
    assert found.mirroring == Mirroring(axes=(0, 2), swap_axis=2, exchanged_outputs=(0, 2, 1, 3))
    assert (found.activation, found.threshold) == ("softmax", None)
    assert found == describe(ModelFolder.open(model), ["0", "1"], "final", found.networks)


def test_the_documented_example_runs(tmp_path, monkeypatch):
    exported(make_model(tmp_path, 1), tmp_path / "hippocampus_onnx")
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf8"), flags=re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(code, names)  # our own page
    assert names["labels"].shape == (1, *PLAN.patch)
    np.testing.assert_allclose(names["probabilities"].sum(axis=1), 1, rtol=1e-5)
    assert set(np.unique(names["labels"])) <= set(LABELS.values)
