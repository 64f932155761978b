"""OME-Zarr images as inputs of a prediction and of a dataset: a folder that is one image."""

import json
from typing import Any

import numpy as np
import pytest

from tests.helpers.model import make_model
from tests.helpers.ome_zarr import write_ome_zarr
from tests.helpers.raw_dataset import DESCRIPTION, GEOMETRY, make_case
from tests.helpers.tiny import ball
from unetrpp.core.errors import UserError
from unetrpp.dataset.cases import Case, read_dataset
from unetrpp.dataset.description import DATASET_ENDINGS
from unetrpp.dataset.verification import inputs_digest, inspect, strays
from unetrpp.dataset_conversion.folder import convert_folder
from unetrpp.inference.inputs import find_cases, require_series
from unetrpp.inference.left_out import left_out
from unetrpp.inference.predict import predict
from unetrpp.io.geometry import Geometry
from unetrpp.io.images import Volume, read_file, write_image, write_segmentation
from unetrpp.model.folder import ModelFolder

SCALE, PLACE = (1.5, 0.75, 0.75), (3.0, -2.0, 8.0)
SMALL = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model"), 1)


def scans(count: int) -> list[np.ndarray]:
    return [ball(np.random.default_rng(i))[0][0].astype(np.int16) for i in range(count)]


def test_a_prediction_is_that_of_the_same_images_in_nifti(tmp_path, model):
    for i, array in enumerate(scans(2)):
        zarr = write_ome_zarr(tmp_path / "zarr" / f"c{i}_0000.zarr", array, SCALE, translation=PLACE, chunks=(4, 8, 8))
        geometry = Geometry(shape_zyx=array.shape, spacing_zyx_mm=SCALE, origin_xyz_mm=PLACE[::-1])
        write_image(tmp_path / "nifti" / f"c{i}_0000.nii.gz", Volume(array[None], geometry))
    options = {"model": model, "probabilities": True, "mirroring": False, "device": "cpu"}
    for name in ("zarr", "nifti"):
        result = predict(input=tmp_path / name, output=tmp_path / f"of_{name}", **options)
        assert (sorted(result.segmented), result.failed, result.left_out) == (["c0", "c1"], {}, {})
    written = sorted(path.name for path in (tmp_path / "of_zarr").glob("*.nii.gz"))
    assert len(written) == 6
    for name in written:
        ours, other = (read_file(tmp_path / folder / name) for folder in ("of_zarr", "of_nifti"))
        assert np.array_equal(ours.array, other.array)
        assert ours.geometry.spacing_zyx_mm == other.geometry.spacing_zyx_mm == SCALE
    result = predict(input=zarr, output=tmp_path / "one", **options)
    assert list(result.segmented) == ["c1"]
    assert (tmp_path / "one" / "c1.nii.gz").read_bytes() == (tmp_path / "of_zarr" / "c1.nii.gz").read_bytes()


def test_a_changed_chunk_is_predicted_again(tmp_path, model):
    path = write_ome_zarr(tmp_path / "a_0000.zarr", scans(1)[0], SCALE)
    options = {"input": path, "output": tmp_path / "out", "model": model, "mirroring": False, "device": "cpu"}
    predict(**options)
    before = (tmp_path / "out" / "predictions.json").read_text()
    predict(**options)
    assert (tmp_path / "out" / "predictions.json").read_text() == before
    (path / "0" / "c" / "0" / "0" / "0").unlink()
    predict(**options)
    assert (tmp_path / "out" / "predictions.json").read_text() != before


def test_the_place_of_a_chunk_counts_for_the_digest(tmp_path):
    path = write_ome_zarr(tmp_path / "a.zarr", SMALL * 0 + 1, SCALE, chunks=(1, 3, 4))
    case, first = Case("a", (path,), None), path / "0" / "c" / "0" / "0" / "0"
    content = first.read_bytes()
    first.unlink()
    without_first = inputs_digest(case)
    first.write_bytes(content)
    (path / "0" / "c" / "1" / "0" / "0").unlink()
    assert inputs_digest(case) != without_first


def test_a_folder_holds_cases_and_images_that_are_none(tmp_path, model):
    description = ModelFolder.open(model).description
    for name in ("a_0000", "b", "c_0001"):
        write_ome_zarr(tmp_path / f"{name}.zarr", SMALL, SCALE)
    cases = find_cases([tmp_path], description)
    assert cases == {"a": (tmp_path / "a_0000.zarr",)}
    others = left_out(tmp_path, cases, description)
    assert others.keys() == {"b.zarr", "c_0001.zarr"}
    assert others["b.zarr"] == "has no channel number in its name; rename it to b_0000.zarr"
    with pytest.raises(UserError, match="--dicom-seg is for DICOM series, but a came as other files"):
        require_series(cases, "--dicom-seg")


def test_images_of_the_models_ending_come_first(tmp_path, model):
    description = ModelFolder.open(model).description
    write_ome_zarr(tmp_path / "a_0000.zarr", SMALL, SCALE)
    geometry = Geometry(shape_zyx=SMALL.shape, spacing_zyx_mm=SCALE)
    write_image(tmp_path / "b_0000.nii.gz", Volume(SMALL[None], geometry))
    cases = find_cases([tmp_path], description)
    assert list(cases) == ["b"]
    reason = "does not end in .nii.gz as the model's images do; convert it to .nii.gz, or give the file itself in place of the folder"
    assert left_out(tmp_path, cases, description) == {"a_0000.zarr": reason}


def test_a_dataset_may_list_them_with_labels_of_another_ending(tmp_path):
    """Values of chunks may look like a DICOM file's, and are none of the dataset's images."""
    files = {}
    for i in range(4):
        array, label = make_case(i)
        place = GEOMETRY.origin_xyz_mm[::-1]
        image = tmp_path / "imagesTr" / f"case_{i}.zarr"
        write_ome_zarr(image, array.astype(np.int16), GEOMETRY.spacing_zyx_mm, translation=place, compressors=None)
        write_segmentation(tmp_path / "labelsTr" / f"case_{i}.nii.gz", label, GEOMETRY)
        files[f"case_{i}"] = {"images": [f"imagesTr/case_{i}.zarr"], "label": f"labelsTr/case_{i}.nii.gz"}
    (tmp_path / "dataset.json").write_text(json.dumps(DESCRIPTION | {"dataset": files}))
    dataset = read_dataset(tmp_path, "x")
    assert strays(dataset) == []
    found = inspect(dataset.cases[0], dataset.description)
    assert [problem.message for problem in found.problems if problem.fatal] == []
    assert ".zarr" not in DATASET_ENDINGS


@pytest.mark.parametrize("images", ["images", "images/{case}.zarr"])
def test_a_conversion_writes_them_as_nifti(tmp_path, images):
    for i in range(2):
        array, label = make_case(i)
        place = GEOMETRY.origin_xyz_mm[::-1]
        path = tmp_path / "source" / "images" / f"c{i}.zarr"
        write_ome_zarr(path, array.astype(np.int16), GEOMETRY.spacing_zyx_mm, translation=place, compressors=None)
        write_segmentation(tmp_path / "source" / "labels" / f"c{i}.nii.gz", label, GEOMETRY)
    options: dict[str, Any] = {
        "labels": "labels",
        "channel": ["MR"],
        "label": {"organ": 1, "lesion": 2},
        "name": "x",
        "processes": 1,
    }
    result = convert_folder(tmp_path / "source", images=[images], workspace=tmp_path / "workspace", **options)
    assert not result.left_out
    assert not result.errors
    written = read_file(tmp_path / "workspace" / "raw" / "x" / "imagesTr" / "c1_0000.nii.gz")
    assert np.array_equal(written.array[0], make_case(1)[0].astype(np.int16))
