"""Checkpoints of nnU-Net v2: reading them without running code, and renaming their weights to ours.

nnU-Net stores the tensors of a block under the block's own names and again in a list (``all_modules``), and those of the encoder
again under the decoder. All copies must agree.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from unetrpp.core.errors import UserError
from unetrpp.core.text import listed
from unetrpp.networks.build import build_network
from unetrpp.networks.foreign import read_foreign
from unetrpp.plans.architecture import Architecture
from unetrpp.plans.nnunet import architecture_of, resolve

WEIGHTS = "network_weights"
PROBLEMS_SHOWN = 5

COPIES = [
    (r"^(module\.|_orig_mod\.)+", ""),  # of training on several devices, or compiled
    (r"^decoder\.encoder\.", "encoder."),
    (r"\.all_modules\.0\.", ".conv."),
    (r"\.all_modules\.\d+\.", ".norm."),
]
# Their name without copies -> ours. The decoder counts from the deepest stage up: <S> stands for our level of it.
NAMES = [
    (r"encoder\.stem\.convs\.0\.(.+)", r"stem.\1"),
    (r"encoder\.stages\.(\d+)\.0\.convs\.(\d+)\.(.+)", r"encoder.\1.blocks.\2.\3"),
    (r"encoder\.stages\.(\d+)\.blocks\.(\d+)\.(.+)", r"encoder.\1.blocks.\2.\3"),
    (r"decoder\.stages\.(\d+)\.(?:convs|blocks)\.(\d+)\.(.+)", r"decoder.<\1>.blocks.\2.\3"),
    (r"decoder\.transpconvs\.(\d+)\.(.+)", r"decoder.<\1>.upsample.\2"),
    (r"decoder\.seg_layers\.(\d+)\.(.+)", r"heads.<\1>.\2"),
]
RESIDUAL_PARTS = [
    (r"\.conv(\d)\.(conv|norm)\.", r".\2\1."),  # conv1.norm -> norm1
    (r"\.skip\.\d\.", ".skip."),  # after a pooling, which has no weights, or alone
]


@dataclass(frozen=True)
class NnunetCheckpoint:
    """A checkpoint of nnU-Net v2.

    Attributes:
        path: of the file, for messages.
        weights: its tensors under nnU-Net's names.
        trainer: name of the class that trained it.
        plans, dataset_json: those it was trained with.
        configuration: of the plans.
        mirror_axes: of the patch, those that prediction mirrors.
    """

    path: Path
    weights: Mapping[str, Tensor]
    trainer: str
    plans: Mapping[str, Any]
    dataset_json: Mapping[str, Any]
    configuration: str
    mirror_axes: tuple[int, ...]


def read_checkpoint(path: Path) -> NnunetCheckpoint:
    """Read ``checkpoint_final.pth`` or ``checkpoint_best.pth``; only tensors, numbers, strings and numpy scalars are unpickled.

    Raises:
        UserError: no such file, other objects inside, or not a checkpoint of nnU-Net v2.
    """
    content = read_foreign(path)
    kinds = {WEIGHTS: Mapping, "trainer_name": str, "init_args": Mapping}
    if not isinstance(content, Mapping) or any(not isinstance(content.get(key), kind) for key, kind in kinds.items()):
        raise UserError(f"{path} is not a checkpoint of nnU-Net v2 (it has no {', '.join(kinds)})")
    given, weights = content["init_args"], content[WEIGHTS]
    kinds = {"plans": Mapping, "dataset_json": Mapping, "configuration": str}
    if any(not isinstance(given.get(key), kind) for key, kind in kinds.items()):
        raise UserError(f"{path} does not say what it was trained with (its init_args lack one of {', '.join(kinds)})")
    if not all(isinstance(value, Tensor) for value in weights.values()):
        raise UserError(f"{path} holds something else than tensors as {WEIGHTS}")
    return NnunetCheckpoint(
        path=path,
        weights=dict(weights),
        trainer=content["trainer_name"],
        plans=given["plans"],
        dataset_json=given["dataset_json"],
        configuration=given["configuration"],
        mirror_axes=tuple(sorted(int(axis) for axis in content.get("inference_allowed_mirroring_axes") or ())),
    )


def network_of(
    checkpoint: NnunetCheckpoint, plans: Mapping[str, Any] | None = None
) -> tuple[Architecture, dict[str, Tensor]]:
    """The network of a checkpoint and its weights under our names.

    Args:
        plans: the content of plans.json; by default the plans inside the checkpoint, which are the same.

    Raises:
        UserError: as :func:`unetrpp.plans.nnunet.architecture_of` and :func:`convert_weights`.
    """
    configurations = (plans or checkpoint.plans).get("configurations", {})
    configuration = resolve(configurations, checkpoint.configuration, checkpoint.path)
    architecture = architecture_of(configuration, *channels_of(checkpoint), where=checkpoint.path)
    return architecture, convert_weights(checkpoint, architecture)


def channels_of(checkpoint: NnunetCheckpoint) -> tuple[int, int]:
    """Input and output channels of the network, by the shapes of its first and last weights."""
    names = list(checkpoint.weights)
    first = next(
        (n for n in names if re.fullmatch(r"(.*\.)?encoder\.(stem|stages\.0\.0)\.convs\.0\.conv\.weight", n)), None
    )
    heads = [n for n in names if re.fullmatch(r"(.*\.)?seg_layers\.\d+\.weight", n)]
    if first is None or not heads:
        raise UserError(
            f"{checkpoint.path} has the weights of another network than nnU-Net's U-Nets ({checkpoint.trainer})"
        )
    return checkpoint.weights[first].shape[1], checkpoint.weights[heads[0]].shape[0]


def convert_weights(checkpoint: NnunetCheckpoint, architecture: Architecture) -> dict[str, Tensor]:
    """The weights with the names of our network.

    Where our convolution has no bias, theirs is left out: the instance norm that follows subtracts it. Where only ours has
    one, it is 0.

    Raises:
        UserError: copies of a tensor differ, or tensors are missing, extra or of another shape, as where a trainer builds its
            own network.
    """
    theirs = unique_weights(checkpoint.weights, len(architecture.levels), checkpoint.path)
    with FakeTensorMode():  # tensors with shapes but no values
        expected = build_network(architecture).state_dict()
    ours, problems = dict[str, Tensor](), list[str]()
    for name, value in expected.items():
        found = theirs.get(name)
        if found is None and _is_bias_of(name, theirs):
            found = torch.zeros(value.shape)
        if found is None:
            problems.append(f"{name} is missing")
        elif found.shape != value.shape:
            problems.append(f"{name} has shape {tuple(found.shape)}, not {tuple(value.shape)}")
        else:
            ours[name] = found.to(value.dtype).clone(memory_format=torch.contiguous_format)
    superfluous = [name for name in theirs if name not in expected and not re.search(r"\.conv\d?\.bias$", name)]
    problems += [f"{name} is extra" for name in sorted(superfluous)]
    if problems:
        raise UserError(
            f"{checkpoint.path}: the trainer {checkpoint.trainer} built another network than its plans describe: "
            f"{listed(problems, PROBLEMS_SHOWN)}; it cannot be imported"
        )
    return ours


def _is_bias_of(name: str, weights: Mapping[str, Tensor]) -> bool:
    """Whether ``name`` is the bias of a convolution whose weight is among ``weights``."""
    return name.endswith(".bias") and "norm" not in name and name.replace(".bias", ".weight") in weights


def unique_weights(weights: Mapping[str, Tensor], levels: int, where: object) -> dict[str, Tensor]:
    """Every tensor once, under our name where it has one.

    Args:
        weights: by nnU-Net's names.
        levels: of the network.
        where: the file, for messages.

    Raises:
        UserError: two copies of a tensor differ.
    """
    unique = dict[str, Tensor]()
    for name, value in weights.items():
        ours = our_name(name, levels)
        if ours in unique and not torch.equal(unique[ours], value):
            raise UserError(f"{where}: {name} differs from its copy, so the file is damaged; get it again")
        unique[ours] = value
    return unique


def our_name(name: str, levels: int) -> str:
    """Our name for a tensor of a U-Net of nnU-Net with this many stages; copies have the same.

    >>> our_name("decoder.encoder.stages.1.blocks.0.conv2.all_modules.1.weight", 4)
    'encoder.1.blocks.0.norm2.weight'
    >>> our_name("decoder.seg_layers.2.bias", 4), our_name("encoder.stages.0.0.convs.1.conv.weight", 4)
    ('heads.0.bias', 'encoder.0.blocks.1.conv.weight')
    """
    for pattern, replacement in COPIES:
        name = re.sub(pattern, replacement, name)
    for pattern, ours in NAMES:
        if re.fullmatch(pattern, name):
            name = re.sub(pattern, ours, name)
            break
    for pattern, replacement in RESIDUAL_PARTS:
        name = re.sub(pattern, replacement, name)
    return re.sub(r"<(\d+)>", lambda match: str(levels - 2 - int(match[1])), name)
