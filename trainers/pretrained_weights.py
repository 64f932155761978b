"""Fine-tuning, part three: load the weights of a checkpoint into a network that may have other channels, classes or patches.

Tensors of the same meaning and shape are copied, some others are adapted, and the rest keeps its initialisation.
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unetrpp.core.errors import UserError
from unetrpp.core.files import Record, write_json
from unetrpp.core.text import format_shape, text_table
from unetrpp.networks.build import build_network
from unetrpp.plans.architecture import Architecture
from unetrpp.trainers.network_spec import NetworkSpec
from unetrpp.trainers.pretrained_sources import read_source

LOG = logging.getLogger(__name__)
FILE = "pretrained.json"
LINEAR = {2: "bilinear", 3: "trilinear"}
FOCAL = (".gate.gamma", ".squeeze_excitation.gamma")  # chosen by the plans, not learned from data


class Change(Record, frozen=True, kw_only=True):
    """A tensor that was not simply copied."""

    tensor: str
    what: str


class Transfer(Record, frozen=True, kw_only=True):
    """pretrained.json of a fold."""

    format: int = 1
    checkpoint: str
    copied: int  # tensors
    share: float  # of the network's values that come from the checkpoint, copied or adapted
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class Specs:
    """The network of the checkpoint, and the one to be trained."""

    old: NetworkSpec
    new: NetworkSpec


def start_from(path: Path, network: nn.Module, spec: NetworkSpec, folder: Path) -> Transfer:
    """Load the checkpoint ``path`` into ``network``, as far as it fits; log every change and write pretrained.json.

    Args:
        spec: of ``network``.
        folder: of the fold, for pretrained.json.

    Raises:
        UserError: the network cannot start from it (:func:`read_fitting`).
    """
    fitted, changes = read_fitting(path, network, spec)
    network.load_state_dict(fitted, strict=False)
    adapted = {change.tensor for change in changes}
    share = _values(fitted) / _values(network.state_dict())
    transfer = Transfer(
        checkpoint=str(path), copied=len(fitted.keys() - adapted), share=round(share, 4), changes=tuple(changes)
    )
    write_json(folder / FILE, transfer)
    given = "tensor was" if transfer.copied == 1 else "tensors were"
    LOG.info("%s: %d %s copied, which gives %.1f%% of all weights", path, transfer.copied, given, 100 * share)
    for line in text_table([(change.tensor, change.what) for change in changes], "l", indent="  ").splitlines():
        LOG.info("%s", line)
    return transfer


def read_fitting(path: Path, network: nn.Module, spec: NetworkSpec) -> tuple[dict[str, Tensor], list[Change]]:
    """The tensors of the checkpoint ``path`` as ``network``, of this ``spec``, takes them; and all changes.

    Raises:
        UserError: the checkpoint is damaged, is in no model folder, is of another kind of network, or none of its weights fits.
    """
    source = read_source(path, spec)
    fitted, changes = fit(source.tensors, network.state_dict(), Specs(source.spec, spec))
    # A bias or a temperature fits many networks, and tells nothing.
    if all(tensor.ndim < 2 for tensor in fitted.values()):
        raise UserError(
            f"{path}: none of its weights fits the network to be trained ({changes[0].tensor}: {changes[0].what}); leave out "
            "--pretrained, or plan the network that the checkpoint is of"
        )
    return fitted, changes


def fit(
    tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], specs: Specs
) -> tuple[dict[str, Tensor], list[Change]]:
    """The checkpoint's ``tensors`` that the network takes, adapted where needed; and all changes.

    Args:
        wanted: the tensors of the network.
    """
    fitted, changes = {}, []
    inputs = input_convolutions(specs.new.architecture) if specs.old.inputs != specs.new.inputs else set()
    for name, target in wanted.items():
        if name not in tensors:
            changes.append(Change(tensor=name, what="newly initialised: not in the checkpoint"))
            continue
        change = adapt_input if name in inputs else adapt
        tensor, what = change(name, tensors[name].to(target.device), target, specs)
        if tensor is not None:
            fitted[name] = tensor
        if what:
            changes.append(Change(tensor=name, what=what))
    changes += [Change(tensor=name, what="left out: not in this network") for name in tensors if name not in wanted]
    return fitted, changes


def adapt(name: str, tensor: Tensor, target: Tensor, specs: Specs) -> tuple[Tensor | None, str]:
    """``tensor`` in the shape of ``target``, or None; and what was done, empty where it fits unchanged."""
    if name.startswith("heads.") and specs.old.outputs != specs.new.outputs:
        return None, f"newly initialised: a head for other classes ({', '.join(specs.old.outputs)})"
    if name.endswith(FOCAL):
        return None, "" if torch.equal(tensor, target) else "newly initialised: as planned"
    tied = (".position" in name or ".project_" in name) and name.rsplit(".", 1)[-1] != "bias"
    if tied and specs.new.architecture.network == "unetrpp":  # in a package's network such names may mean anything
        return _adapt_to_patch(name, tensor, target, specs)
    if tensor.shape == target.shape:
        return tensor, ""
    return None, _other_shape(tensor, target)


def adapt_input(name: str, weight: Tensor, target: Tensor, specs: Specs) -> tuple[Tensor | None, str]:
    """A convolution of the network's input (out, in, *kernel) for other input channels, and what was done.

    Channels of a segmentation of other classes start at 0, so that at first the network depends on the image alone.
    """
    old, new = specs.old, specs.new
    if (weight.shape[0], *weight.shape[2:]) != (target.shape[0], *target.shape[2:]):
        return None, _other_shape(weight, target)
    image, segmentation = weight[:, : old.image_channels], weight[:, old.image_channels :]
    done = []
    if old.image_channels != new.image_channels:
        image = spread_channels(image, new.image_channels)
        done.append("input channels averaged and spread")
    if old.segmented != new.segmented:
        segmentation = torch.zeros_like(target[:, new.image_channels :])
        done.append("segmentation channels start at 0" if new.segmented else "segmentation channels left out")
    return torch.cat([image, segmentation], dim=1), f"{', '.join(done)}: {_shapes(weight, target)}"


def input_convolutions(architecture: Architecture) -> set[str]:
    """The weights that take the network's input: those whose shape depends on the number of input channels.

    With one channel more the input may have as many as the first block, whose skip then needs no convolution.
    """
    wider = msgspec.structs.replace(architecture, in_channels=architecture.in_channels + 1)
    with torch.random.fork_rng(devices=[]):  # leaves the random numbers of the training as they are
        before, after = (build_network(each).state_dict() for each in (architecture, wider))
    weights = {name: tensor.shape for name, tensor in before.items() if tensor.ndim > 1}  # not of norms
    return {name for name, shape in weights.items() if name not in after or shape != after[name].shape}


def spread_channels(weight: Tensor, channels: int) -> Tensor:
    """A convolution (out, in, *kernel) -> (out, channels, *kernel).

    Each input channel gets the mean over the old ones, scaled so that an image of equal channels gives the same as before.
    """
    old = weight.shape[1]
    mean = weight.mean(dim=1, keepdim=True) * (old / channels)
    return mean.repeat(1, channels, *[1] * (weight.ndim - 2))


def _adapt_to_patch(name: str, tensor: Tensor, target: Tensor, specs: Specs) -> tuple[Tensor | None, str]:
    """Positions (1, N, C) and token projections (P, N), whose N is the number of tokens of a patch."""
    level = level_of(name)
    before, after = specs.old.architecture.sizes()[level], specs.new.architecture.sizes()[level]
    position = name.endswith("position")
    features = 2 if position else 0  # the axis that does not depend on the patch
    if tensor.shape[features] != target.shape[features]:
        return None, _other_shape(tensor, target)
    if before == after:
        return tensor, ""
    resize = resize_position if position else resize_projection
    return resize(tensor, before, after), f"interpolated: {format_shape(before)} -> {format_shape(after)} tokens"


def level_of(name: str) -> int:
    """The resolution level of a stage's tensor.

    >>> level_of("encoder.0.blocks.0.position"), level_of("decoder.1.blocks.2.position")
    (1, 1)
    """
    stage, number, *_ = name.split(".")
    return int(number) + (stage == "encoder")


def resize_position(position: Tensor, before: tuple[int, ...], after: tuple[int, ...]) -> Tensor:
    """(1, N, C) -> (1, N', C), interpolated linearly over the grid of tokens."""
    return _resize(position[0].T, before, after).T[None]


def resize_projection(weight: Tensor, before: tuple[int, ...], after: tuple[int, ...]) -> Tensor:
    """(P, N) -> (P, N'), interpolated linearly over the grid; scaled because each sum runs over N' instead of N tokens."""
    return _resize(weight, before, after) * (math.prod(before) / math.prod(after))


def _resize(rows: Tensor, before: tuple[int, ...], after: tuple[int, ...]) -> Tensor:
    """Rows (R, N) of a grid ``before`` -> (R, N') of the grid ``after``."""
    grid = rows.reshape(1, len(rows), *before)
    return F.interpolate(grid, size=after, mode=LINEAR[len(before)], align_corners=False).flatten(2)[0]


def _other_shape(tensor: Tensor, target: Tensor) -> str:
    return f"newly initialised: another shape, {_shapes(tensor, target)}"


def _shapes(tensor: Tensor, target: Tensor) -> str:
    return f"{format_shape(tensor.shape)} -> {format_shape(target.shape)}"


def _values(tensors: Mapping[str, Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors.values())
