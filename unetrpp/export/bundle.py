"""metadata.json: what the exported networks take and give, in the words of MONAI's bundle specification.

https://docs.monai.io/en/stable/mb_specification.html lists the keys. Programs that know MONAI bundles read them; the steps before
and after a network, which the specification has no keys for, are in model.json.
"""

from importlib.metadata import version
from typing import Literal

from unetrpp.core.files import Record
from unetrpp.core.text import listed
from unetrpp.export.deployment import INPUT, Deployment
from unetrpp.model.folder import ModelFolder

FILE = "metadata.json"
PREDICTION = "pred"  # the specification's name of the output; in the ONNX file it is called logits
MONAI = "1.6.1"  # with which the page docs/monai.md was tried
NOT_STATED = "not stated"
RESEARCH = "For research use. Not a medical device."


class Tensor(Record, frozen=True, kw_only=True):
    """One input or output of a network, without its batch."""

    type: Literal["image"] = "image"
    format: Literal["hounsfield", "magnitude", "labels", "classes"]
    modality: str
    num_channels: int
    spatial_shape: tuple[int, ...]
    dtype: Literal["float32"] = "float32"
    value_range: tuple[float, ...] = ()  # not known
    is_patch_data: bool = True
    channel_def: dict[str, str]  # number of the channel -> what it holds


class DataFormat(Record, frozen=True, kw_only=True):
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]


class Metadata(Record, frozen=True, kw_only=True):
    """metadata.json with the specification's mandatory keys, and ``networks``: the ONNX file of every fold."""

    version: str  # of the model: the hash of its plans and checkpoints
    monai_version: str = MONAI
    pytorch_version: str
    numpy_version: str
    optional_packages_version: dict[str, str]
    task: str
    description: str
    authors: str = NOT_STATED
    copyright: str = NOT_STATED
    intended_use: str = RESEARCH
    data_source: str
    network_data_format: DataFormat
    networks: tuple[str, ...]


def bundle_metadata(model: ModelFolder, deployment: Deployment) -> Metadata:
    """The record of the networks that ``deployment`` describes."""
    names = [output.name for output in deployment.outputs if output.name != "background"]
    return Metadata(
        version=deployment.hash,
        pytorch_version=version("torch"),
        numpy_version=version("numpy"),
        optional_packages_version={"onnxruntime": version("onnxruntime")},
        task=f"Segmentation of {listed(names)}",
        description=f"{deployment.model} of the dataset {deployment.dataset}, made with unetrpp {deployment.version}. "
        f"The networks give logits for one patch; model.json has the steps from an image to labels.",
        data_source=model.description.reference or NOT_STATED,
        network_data_format=_data_format(deployment),
        networks=tuple(network.file for network in deployment.networks),
    )


def _data_format(deployment: Deployment) -> DataFormat:
    channels, outputs = deployment.channels, deployment.outputs
    names = [channel.name for channel in channels]
    if deployment.first_stage is not None:
        names += [f"1 where the first stage predicts {value}, else 0" for value in deployment.first_stage.values]
    hounsfield = all(channel.scheme == "ct" for channel in channels)
    modality = "CT" if hounsfield else ", ".join(dict.fromkeys(channel.name for channel in channels))
    image = Tensor(
        format="hounsfield" if hounsfield else "magnitude",
        modality=modality,
        num_channels=len(names),
        spatial_shape=deployment.tiles.patch,
        channel_def={str(i): name for i, name in enumerate(names)},
    )
    logits = Tensor(
        format="labels" if deployment.activation == "softmax" else "classes",  # one class a voxel, or several
        modality="n/a",
        num_channels=len(outputs),
        spatial_shape=deployment.tiles.patch,
        channel_def={str(i): output.name for i, output in enumerate(outputs)},
    )
    return DataFormat(inputs={INPUT: image}, outputs={PREDICTION: logits})
