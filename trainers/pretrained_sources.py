"""Fine-tuning, part two: reading the weights of a checkpoint, ours or nnU-Net's, and what its inputs and outputs mean."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from torch import Tensor

from unetrpp.core.errors import UserError
from unetrpp.dataset.label_definitions import read_labels
from unetrpp.model import checkpoint
from unetrpp.model.folder import ModelFolder
from unetrpp.networks.nnunet import network_of, read_checkpoint
from unetrpp.networks.nnunet_encoder import read_encoder
from unetrpp.plans.nnunet import resolve
from unetrpp.trainers.network_spec import NetworkSpec

NNUNET = ".pth"  # the ending of checkpoints of nnU-Net, and of what is pretrained for it


@dataclass(frozen=True)
class Source:
    """A checkpoint to start from: the network that it belongs to, and its tensors under our names.

    Of an encoder there are no other tensors; what the network of its training predicted does not matter.
    """

    spec: NetworkSpec
    tensors: Mapping[str, Tensor]


def read_source(path: Path, planned: NetworkSpec) -> Source:
    """Read a checkpoint of a model folder, of nnU-Net, or of self-supervised pretraining for nnU-Net.

    Raises:
        UserError: it is damaged, is in no model folder, or is of another kind of network than ``planned``.
    """
    source = _read_foreign(path, planned) if path.suffix == NNUNET else _read_own(path)
    for field in ("network", "dimensions"):
        theirs, ours = getattr(source.spec.architecture, field), getattr(planned.architecture, field)
        if theirs != ours:
            raise UserError(f"{path} has {field} {theirs}, the plans have {ours}; plan with what the checkpoint has")
    return source


def _read_own(path: Path) -> Source:
    model = ModelFolder.open(path.parent.parent)
    architecture = model.architecture(path.parent.name.removeprefix("fold_"))
    spec = NetworkSpec(architecture, model.plans.labels, model.configuration.first_stage is not None)
    return Source(spec, checkpoint.load(path, torch.device("cpu"))["network"])


def _read_foreign(path: Path, planned: NetworkSpec) -> Source:
    if (encoder := read_encoder(path)) is not None:
        if (encoder.network, encoder.dimensions) != (planned.architecture.network, planned.architecture.dimensions):
            raise UserError(
                f"{path} holds the encoder of a {encoder.dimensions}D {encoder.network}; plan with --planner "
                f"{encoder.network}, and train a {encoder.dimensions}D configuration"
            )
        architecture = msgspec.structs.replace(planned.architecture, in_channels=encoder.in_channels)
        return Source(NetworkSpec(architecture, planned.labels), encoder.weights)
    found = read_checkpoint(path)
    architecture, weights = network_of(found)
    first_stage = resolve(found.plans["configurations"], found.configuration, path).previous_stage
    description = found.dataset_json
    labels = read_labels(path, description.get("labels", {}), description.get("regions_class_order"))
    return Source(NetworkSpec(architecture, labels, first_stage is not None), weights)
