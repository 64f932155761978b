"""Chosen classes and files of single classes, from the command to the files."""

import csv
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from tests.helpers.model import make_model_2d, make_model_of, write_images
from tests.inference.test_written_classes import REGIONS
from unetrpp.cli.predict import main
from unetrpp.core.errors import UserError
from unetrpp.core.files import read_json
from unetrpp.dataset.labels import LabelScheme
from unetrpp.inference.postprocessing import PostProcessing
from unetrpp.inference.predict import predict
from unetrpp.inference.record import Predictions
from unetrpp.io.images import read_geometry, read_image, read_label
from unetrpp.io.surfaces import write_surface

CLASSES = LabelScheme(names=("background", "a", "b/c", "d"), values=(0, 7, 3, 1))


@pytest.fixture(scope="module", params=[CLASSES, REGIONS], ids=["classes", "regions"])
def labels(request):
    return request.param


@pytest.fixture(scope="module")
def model(tmp_path_factory, labels):
    return make_model_of(tmp_path_factory.mktemp("results"), labels)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    write_images(folder, 2)
    return folder


@pytest.fixture(scope="module")
def whole(model, images, tmp_path_factory):
    """All classes, with their maps."""
    out = tmp_path_factory.mktemp("whole")
    predict(input=images, output=out, model=model, mirroring=False, device="cpu", probabilities=True, uncertainty=True)
    return out


def array_of(path):
    return read_label(path).array[0]


def test_the_chosen_classes_are_those_of_the_whole_prediction(model, labels, images, whole, tmp_path):
    chosen = [target.name for target in labels.targets][::2]
    command = ["-i", images, "-o", tmp_path, "-m", model, "--no-mirroring", "--device", "cpu", "--probabilities"]
    assert main([*map(str, command), "--uncertainty", "--report", "--classes", *chosen]) == 0
    assert (tmp_path / "report.html").stat().st_size > 10_000
    record = read_json(tmp_path / "predictions.json", Predictions)
    assert record.settings.classes == tuple(chosen)
    for case in ("case_0", "case_1"):
        found, expected = array_of(tmp_path / f"{case}.nii.gz"), array_of(whole / f"{case}.nii.gz")
        for target in labels.targets:
            before = np.isin(expected, labels.segments()[target.name])
            assert 0 < before.mean() < 1
            if target.name in chosen and not labels.overlapping:
                np.testing.assert_array_equal(found == target.value, before)
        background = ~np.isin(expected, [v for name in chosen for v in labels.segments()[name]])
        np.testing.assert_array_equal(found == 0, background)
        maps = [k for k, channel in enumerate(labels.output_channels) if channel.name in chosen]
        names = {f"{case}_probability_{k}.nii.gz" for k in maps}
        assert {path.name for path in tmp_path.glob(f"{case}_prob*")} == names
        for name in (*names, f"{case}_entropy.nii.gz", f"{case}_disagreement.nii.gz"):
            np.testing.assert_array_equal(read_image(tmp_path / name).array, read_image(whole / name).array)
        assert list(record.cases[case].volumes_ml) == chosen
    with (tmp_path / "volumes.csv").open(newline="") as file:
        assert [row["class"] for row in csv.DictReader(file)] == chosen * 2


def test_masks_are_the_segments_of_the_segmentation(model, labels, images, tmp_path):
    out = tmp_path / "out"
    given = {"input": images, "output": out, "model": model, "mirroring": False, "device": "cpu"}
    assert not predict(**given, masks=True).failed
    segmentation = array_of(out / "case_1.nii.gz")
    names = {name: name.replace("/", "_") for name in labels.segments()}
    assert sorted(path.name for path in (out / "case_1").iterdir()) == sorted(f"{n}.nii.gz" for n in names.values())
    for name, values in labels.segments().items():
        path = out / "case_1" / f"{names[name]}.nii.gz"
        np.testing.assert_array_equal(array_of(path), np.isin(segmentation, values))
        assert read_geometry(path) == read_geometry(out / "case_1.nii.gz")
    stamp = path.stat().st_mtime_ns
    predict(**given, masks=True)
    assert path.stat().st_mtime_ns == stamp  # finished
    path.unlink()
    predict(**given, masks=True)
    assert path.exists()
    predict(**given, overwrite=True)
    assert not (out / "case_1").exists()  # no old mask stays beside a new segmentation


def test_postprocessing_sees_all_classes(labels, images, tmp_path, whole, monkeypatch):
    """The largest component of all classes together, of which one class is written."""
    model = make_model_of(tmp_path, labels)
    rule = PostProcessing(largest_component=(tuple(target.value for target in labels.targets),))
    monkeypatch.setattr("unetrpp.inference.predict.postprocessing_of", lambda models: rule)
    first = labels.targets[0].name
    result = predict(
        input=images,
        output=tmp_path / "out",
        model=model,
        mirroring=False,
        device="cpu",
        postprocessing=True,
        classes=[first],
    )
    expected = np.isin(rule.apply(array_of(whole / "case_0.nii.gz")), labels.segments()[first])
    np.testing.assert_array_equal(array_of(result.segmented["case_0"]) > 0, expected)


def test_other_classes_are_other_settings(model, labels, images, tmp_path):
    given = {"input": images, "output": tmp_path, "model": model, "mirroring": False, "device": "cpu"}
    first, second, _ = (target.name for target in labels.targets)
    predict(**given, classes=[first])
    with pytest.raises(UserError, match=r"other settings \(classes\)"):
        predict(**given, classes=[first, second])
    assert "classes" not in (tmp_path / "predictions.json").read_text().replace('"classes": [', "", 1)


def test_an_unknown_class_ends_the_command_before_anything_is_written(model, images, tmp_path, capsys):
    command = ["-i", images, "-o", tmp_path / "out", "-m", model, "--device", "cpu", "--classes", "lung"]
    assert main([str(word) for word in command]) == 2
    assert "--classes names 'lung', which is no" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_files_of_others_in_the_folder_of_a_case_are_kept(model, labels, images, tmp_path):
    mask = tmp_path / "case_0" / f"{labels.targets[0].name}.nii.gz"
    mask.parent.mkdir()
    mask.write_bytes(b"a reference, perhaps")
    given = {"input": images, "output": tmp_path, "model": model, "mirroring": False, "device": "cpu"}
    with pytest.raises(UserError, match=f"holds case_0/{labels.targets[0].name}.nii.gz, which no predictions.json"):
        predict(**given, masks=True)
    assert mask.read_bytes() == b"a reference, perhaps"
    predict(**given)
    assert mask.read_bytes() == b"a reference, perhaps"


def test_intensities_are_those_of_the_input(model, labels, images, whole, tmp_path):
    given = {"input": images, "output": tmp_path, "model": model, "mirroring": False, "device": "cpu"}
    predict(**given)
    predict(**given, intensities=True)  # asked for later

    def rows():
        with (tmp_path / "volumes.csv").open(newline="") as file:
            return {(row["case"], row["class"]): row for row in csv.DictReader(file)}

    found, segments = rows(), labels.segments()
    for case in ("case_0", "case_1"):
        image = read_image(images / f"{case}_0000.nii.gz").array[0].astype(float)
        array = array_of(tmp_path / f"{case}.nii.gz")
        for name, values in segments.items():
            voxels = image[np.isin(array, values)]
            row = found[case, name]
            assert (float(row["mean MRI"]), float(row["sd MRI"])) == pytest.approx(
                (voxels.mean(), voxels.std()), rel=1e-6
            )
    stamp = (tmp_path / "case_0.nii.gz").stat().st_mtime_ns
    predict(**given, intensities=True)
    predict(**given)
    assert (tmp_path / "case_0.nii.gz").stat().st_mtime_ns == stamp
    assert rows() == found  # what is known stays in the table


@pytest.mark.parametrize("ending", ["stl", "obj"])
def test_surfaces_enclose_the_segments(model, labels, images, tmp_path, ending):
    given = {"input": images, "output": tmp_path, "model": model, "mirroring": False, "device": "cpu"}
    assert not predict(**given, surfaces=ending, masks=True).failed
    for name in labels.segments():
        mask = read_label(tmp_path / "case_1" / f"{name.replace('/', '_')}.nii.gz")
        write_surface(tmp_path / f"expected.{ending}", mask.array[0] == 1, mask.geometry)
        path = tmp_path / "case_1" / f"{name.replace('/', '_')}.{ending}"
        assert path.read_bytes() == (tmp_path / f"expected.{ending}").read_bytes()
        assert path.stat().st_size > 1000


def test_a_photograph_has_no_surface(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (20, 24, 3)).astype(np.uint8)
    (tmp_path / "in").mkdir()
    sitk.WriteImage(sitk.GetImageFromArray(image, isVector=True), str(tmp_path / "in" / "photo_0000.png"))
    model = make_model_2d(tmp_path)
    result = predict(input=tmp_path / "in", output=tmp_path / "out", model=model, device="cpu", surfaces="stl")
    assert result.failed == {"photo": "an image of two dimensions has no surface; leave --surfaces out"}
    assert not list((tmp_path / "out").rglob("*.stl"))


def test_files_of_several_runs_are_all_recorded(model, labels, images, tmp_path):
    """Each run asks for something else; nothing of the earlier ones is lost, or taken for a file of another."""
    given = {"input": images / "case_0_0000.nii.gz", "output": tmp_path, "model": model, "mirroring": False}
    asked: list[dict[str, Any]] = [
        {"masks": True},
        {"surfaces": "stl"},
        {"uncertainty": True},
        {"intensities": True},
        {"probabilities": True},
    ]
    for more in asked:
        assert not predict(**given, device="cpu", **more).failed
    record = read_json(tmp_path / "predictions.json", Predictions).cases["case_0"]
    others = {"predictions.json", "volumes.csv", "case_0.nii.gz"}
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()} - others
    assert len(files) == 2 * len(labels.targets) + 2 + labels.outputs
    assert set(record.maps) == files
    assert record.intensities
    stamp = (tmp_path / "case_0.nii.gz").stat().st_mtime_ns
    for more in asked:
        predict(**given, device="cpu", **more)
    assert (tmp_path / "case_0.nii.gz").stat().st_mtime_ns == stamp
