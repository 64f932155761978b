"""metadata.json: the keys that MONAI's bundle specification demands, and values that agree with the ONNX file itself."""

import json

import msgspec
import numpy as np
import onnx
import torch

from tests.export.test_deployment import SIDES, anisotropic, make_cascade
from tests.helpers.model import PLAN, make_model
from unetrpp.dataset.labels import LabelScheme, Region
from unetrpp.export.onnx import export_onnx

# Mandatory by https://docs.monai.io/en/stable/mb_specification.html, with the types of JSON that it states.
MANDATORY = {
    "version": str,
    "monai_version": str,
    "pytorch_version": str,
    "numpy_version": str,
    "optional_packages_version": dict,
    "task": str,
    "description": str,
    "authors": str,
    "copyright": str,
    "network_data_format": dict,
}
OF_A_TENSOR = {
    "type": str,
    "format": str,
    "modality": str,
    "num_channels": int,
    "spatial_shape": list,
    "dtype": str,
    "value_range": list,
    "is_patch_data": bool,
    "channel_def": dict,
}


def exported(folder, plan, channels):
    """metadata.json of an export, and the ONNX networks that it names."""
    export_onnx(make_model(folder, 1, plan, channels=channels), folder / "onnx")
    metadata = json.loads((folder / "onnx" / "metadata.json").read_text())
    return metadata, [onnx.load(folder / "onnx" / name) for name in metadata["networks"]]


def shape(value) -> list[int]:
    """Channels and patch of an input or output of an ONNX graph."""
    return [size.dim_value for size in value.type.tensor_type.shape.dim][1:]


def test_it_has_what_the_specification_demands(tmp_path):
    metadata, networks = exported(tmp_path, anisotropic(SIDES, mirror_axes=()), ("CT", "MR"))
    for key, kind in MANDATORY.items():
        assert isinstance(metadata[key], kind), key
    data = metadata["network_data_format"]
    (image,), (prediction,) = data["inputs"].values(), data["outputs"].values()
    for tensor in (image, prediction):
        assert tensor.keys() == OF_A_TENSOR.keys()
        assert all(isinstance(tensor[key], kind) for key, kind in OF_A_TENSOR.items())
    (network,) = networks
    assert [image["num_channels"], *image["spatial_shape"]] == shape(network.graph.input[0])
    assert [prediction["num_channels"], *prediction["spatial_shape"]] == shape(network.graph.output[0])
    assert list(data["inputs"]) == [network.graph.input[0].name]
    assert image["channel_def"] == {"0": "CT", "1": "MR"}
    assert prediction["channel_def"] == {str(i): name for i, name in enumerate(SIDES.names)}
    assert (image["format"], image["modality"], prediction["format"]) == ("magnitude", "CT, MR", "labels")
    assert metadata["pytorch_version"].split("+")[0] == torch.__version__.split("+")[0]
    assert metadata["numpy_version"] == np.__version__
    assert metadata["task"] == "Segmentation of left, right and ball"


def test_regions_may_overlap_and_ct_is_in_hounsfield_units(tmp_path):
    regions = (Region(name="whole", members=(1, 2), value=1), Region(name="core", members=(2,), value=2))
    labels = LabelScheme(names=("background", "edema", "core"), values=(0, 1, 2), regions=regions)
    plan = anisotropic(labels, mirror_axes=())
    first, second = plan.preprocessing.normalization
    both = (first, msgspec.structs.replace(second, channel="CT", scheme="ct", masked=False))
    preprocessing = msgspec.structs.replace(plan.preprocessing, normalization=both, zero_outside_mask=False)
    plan = msgspec.structs.replace(plan, preprocessing=preprocessing)
    metadata, _ = exported(tmp_path, plan, ("CT", "CT"))
    data = metadata["network_data_format"]
    assert (data["inputs"]["image"]["format"], data["inputs"]["image"]["modality"]) == ("hounsfield", "CT")
    assert data["outputs"]["pred"]["format"] == "classes"
    assert data["outputs"]["pred"]["channel_def"] == {"0": "whole", "1": "core"}


def test_every_fold_is_named(tmp_path):
    written = export_onnx(make_model(tmp_path, 2, PLAN), tmp_path / "onnx")
    metadata = json.loads((tmp_path / "onnx" / "metadata.json").read_text())
    assert metadata["networks"] == ["fold_0.onnx", "fold_1.onnx"]
    assert metadata["version"] == written.hash


def test_the_second_stage_of_a_cascade_takes_the_first_ones_labels(tmp_path):
    export_onnx(make_cascade(tmp_path, folds=1), tmp_path / "onnx")
    for folder in (tmp_path / "onnx", tmp_path / "onnx" / "first_stage"):
        metadata = json.loads((folder / "metadata.json").read_text())
        (image,) = metadata["network_data_format"]["inputs"].values()
        network = onnx.load(folder / metadata["networks"][0])
        assert image["num_channels"] == len(image["channel_def"]) == shape(network.graph.input[0])[0]
