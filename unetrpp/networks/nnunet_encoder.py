"""Encoders that self-supervised pretraining publishes for nnU-Net: reading them, and renaming their weights to ours.

A file holds ``network_weights`` of a whole network, and ``nnssl_adaptation_plan``, which says where the encoder and its stem are
among them (nnssl, github.com/MIC-DKFZ/nnssl). The rest of the network solved another task and is left out.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from unetrpp.core.errors import UserError
from unetrpp.networks.foreign import read_foreign
from unetrpp.networks.nnunet import WEIGHTS, unique_weights

PLAN = "nnssl_adaptation_plan"
ENCODER, STEM = "encoder.stages", "encoder.stem"  # nnU-Net's names
# The instance norm that follows subtracts the bias, so our residual blocks have none.
WITHOUT_EFFECT = re.compile(r"encoder\.\d+\.blocks\.\d+\.(conv[12]|skip\.conv)\.bias")


@dataclass(frozen=True)
class PretrainedEncoder:
    """The encoder of a U-Net.

    Attributes:
        network: "unet" or "resunet".
        dimensions: 2 or 3.
        in_channels: that it was trained with.
        weights: under the names of our network.
    """

    network: str
    dimensions: int
    in_channels: int
    weights: Mapping[str, Tensor]


def read_encoder(path: Path) -> PretrainedEncoder | None:
    """The encoder in a checkpoint of self-supervised pretraining; None where the checkpoint is of another kind.

    Raises:
        UserError: no such file, other objects inside, or the encoder is not that of a U-Net of nnU-Net.
    """
    content = read_foreign(path)
    if not isinstance(content, Mapping) or not isinstance(content.get(PLAN), Mapping):
        return None
    tensors = content.get(WEIGHTS)
    if not isinstance(tensors, Mapping) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise UserError(f"{path} has no tensors as {WEIGHTS}; get the file again")
    weights = unique_weights(_with_usual_names(tensors, content[PLAN]), 0, path)
    first = next((weights[n] for n in ("stem.conv.weight", "encoder.0.blocks.0.conv.weight") if n in weights), None)
    if first is None:
        kind = content[PLAN].get("architecture_plans")
        name = kind.get("arch_class_name") if isinstance(kind, Mapping) else kind
        raise UserError(f"{path} holds a network of kind {name}; only encoders of nnU-Net's U-Nets can be taken over")
    return PretrainedEncoder(
        network="resunet" if "stem.conv.weight" in weights else "unet",
        dimensions=first.ndim - 2,
        in_channels=first.shape[1],
        weights={name: value for name, value in weights.items() if not WITHOUT_EFFECT.fullmatch(name)},
    )


def _with_usual_names(tensors: Mapping[str, Tensor], plan: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of encoder and stem by nnU-Net's names, whatever the pretraining called the two."""
    parts = {str(plan.get("key_to_stem", STEM)): STEM, str(plan.get("key_to_encoder", ENCODER)): ENCODER}
    found = {}
    for name, value in tensors.items():
        bare = re.sub(r"^(module\.|_orig_mod\.)+", "", name)
        for theirs, usual in parts.items():
            if bare.startswith(f"{theirs}."):
                found[usual + bare.removeprefix(theirs)] = value
                break
    return found
