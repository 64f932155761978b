"""Starting from another training: what fits is copied, what almost fits is adapted, the rest starts afresh; all is said."""

import hashlib
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unetrpp import checkpoint
from unetrpp.errors import UserError
from unetrpp.files import Record, read_json, write_json
from unetrpp.labels import LabelScheme
from unetrpp.model_folder import ModelFolder
from unetrpp.networks.architecture import Architecture
from unetrpp.trainers.config import TrainingConfig

LOG = logging.getLogger(__name__)
FILE = "pretrained.json"
RECORD = "training.json"
LINEAR = {2: "bilinear", 3: "trilinear"}
FOCAL = (".gate.gamma", ".squeeze_excitation.gamma")  # chosen by the plans, not learned from data


class Change(Record, frozen=True, kw_only=True):
    """What became of a tensor that was not simply copied."""

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
class Side:
    """A network's description: of the checkpoint, or of the network to be trained."""

    architecture: Architecture
    labels: LabelScheme


def find_checkpoint(path: Path) -> Path:
    """``path`` itself, or of a model folder the final checkpoint of ``fold_all`` or else of its first trained fold.

    Raises:
        UserError: there is none.
    """
    if not path.is_dir():
        return path
    model = ModelFolder.open(path)
    trained = [fold for fold in model.folds() if model.checkpoint(fold).is_file()]
    fold = "all" if "all" in trained else model.choose_folds()[0]
    return model.checkpoint(fold)


def wishes_for(path: Path | None) -> dict[str, Any]:
    """The fields of the training config that ``--pretrained`` asks for.

    Raises:
        UserError: no checkpoint there.
    """
    if path is None:
        return {}
    found = find_checkpoint(path).resolve()
    if not found.is_file():
        raise UserError(f"{found} does not exist; give a model folder, or a checkpoint in one")
    with found.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    return {"pretrained": str(found), "pretrained_hash": digest}


def start_from(path: Path, network: nn.Module, side: Side, folder: Path) -> Transfer:
    """Load into ``network`` what fits, log every change as a line of a table, and write pretrained.json into ``folder``.

    Raises:
        UserError: the checkpoint is damaged, stands in no model folder, is of another kind of network, or may know the
            fold's validation cases.
    """
    model = ModelFolder.open(path.parent.parent)
    if (folder / RECORD).is_file():  # a Trainer used by itself leaves no records to compare
        require_unseen(path, folder)
    old = Side(model.architecture(path.parent.name.removeprefix("fold_")), model.plans.labels)
    for about in ("network", "dimensions"):
        theirs, ours = getattr(old.architecture, about), getattr(side.architecture, about)
        if theirs != ours:
            raise UserError(f"{path} has {about} {theirs}, the plans have {ours}; plan with what the checkpoint has")
    tensors = checkpoint.load(path, torch.device("cpu"))["network"]
    fitted, changes = fit(tensors, network.state_dict(), old, side)
    network.load_state_dict(fitted, strict=False)
    adapted = {change.tensor for change in changes}
    share = _values(fitted) / _values(network.state_dict())
    transfer = Transfer(
        checkpoint=str(path), copied=len(fitted.keys() - adapted), share=round(share, 4), changes=tuple(changes)
    )
    write_json(folder / FILE, transfer)
    LOG.info("%s: %d tensors are copied, %.1f %% of all values come from it", path, transfer.copied, 100 * share)
    width = max((len(change.tensor) for change in changes), default=0)
    for change in changes:
        LOG.info("  %s  %s", change.tensor.ljust(width), change.what)
    return transfer


def require_unseen(checkpoint: Path, folder: Path) -> None:
    """The fold of ``folder`` is scored on cases that the checkpoint must not have learned from.

    Raises:
        UserError: both are of one dataset, and nothing says that their folds were trained on the same cases.
    """
    config, theirs = read_json(folder / RECORD, TrainingConfig), checkpoint.with_name(RECORD)
    if config.fold == "all":  # is not scored
        return
    known, own = (
        {case.inputs_digest for case in ModelFolder.open(model).fingerprint.cases}
        for model in (checkpoint.parent.parent, folder.parent)
    )
    same_fold = theirs.is_file() and read_json(theirs, TrainingConfig).cases == config.cases
    if known & own and not same_fold:
        raise UserError(
            f"{checkpoint} comes from this dataset and may have been trained on the validation cases of fold {config.fold}, "
            f"whose scores would be too good; repeat with --overwrite and --pretrained MODEL/fold_{config.fold}/"
            "checkpoint_final.pt of the same splits.json, or without --pretrained"
        )


def fit(
    tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], old: Side, new: Side
) -> tuple[dict[str, Tensor], list[Change]]:
    """Of ``tensors`` those that ``wanted`` takes, adapted where needed; and what was not simply copied."""
    fitted, changes = {}, []
    for name, target in wanted.items():
        if name not in tensors:
            changes.append(Change(tensor=name, what="afresh: not in the checkpoint"))
            continue
        tensor, what = adapt(name, tensors[name].to(target.device), target, old, new)
        if tensor is not None:
            fitted[name] = tensor
        if what:
            changes.append(Change(tensor=name, what=what))
    changes += [Change(tensor=name, what="left out: not in this network") for name in tensors if name not in wanted]
    return fitted, changes


def adapt(name: str, tensor: Tensor, target: Tensor, old: Side, new: Side) -> tuple[Tensor | None, str]:
    """A tensor in the shape of ``target``, or None; and what was done, empty when it simply fits."""
    shapes = f"{_shown(tensor)} -> {_shown(target)}"
    if name.startswith("heads.") and _outputs(old.labels) != _outputs(new.labels):
        return None, f"afresh: a head of other classes ({', '.join(_outputs(old.labels))})"
    if name.endswith(FOCAL):
        return None, "" if torch.equal(tensor, target) else "afresh: as planned"
    if (".position" in name or ".project_" in name) and name.rsplit(".", 1)[-1] != "bias":
        return _adapt_to_patch(name, tensor, target, old.architecture, new.architecture)
    if tensor.shape == target.shape:
        return tensor, ""
    if tensor.ndim == target.ndim > 2 and tensor.shape[0] == target.shape[0] and tensor.shape[2:] == target.shape[2:]:
        channels = old.architecture.in_channels, new.architecture.in_channels
        if (tensor.shape[1], target.shape[1]) == channels:
            return spread_channels(tensor, channels[1]), f"input channels averaged and spread: {shapes}"
    return None, f"afresh: another shape, {shapes}"


def _outputs(labels: LabelScheme) -> tuple[str, ...]:
    """What the channels of the output mean, with the classes that a region holds."""
    regions = (f"{r.name} ({' + '.join(labels.names[i] for i in r.members)})" for r in labels.regions)
    return tuple(regions) or labels.names


def spread_channels(weight: Tensor, channels: int) -> Tensor:
    """A convolution of other input channels (out, in, *kernel): each gets the mean over the old ones, scaled so that
    an image of equal channels gives what it gave."""
    old = weight.shape[1]
    mean = weight.mean(dim=1, keepdim=True) * (old / channels)
    return mean.repeat(1, channels, *[1] * (weight.ndim - 2))


def _adapt_to_patch(
    name: str, tensor: Tensor, target: Tensor, old: Architecture, new: Architecture
) -> tuple[Tensor | None, str]:
    """Positions (1, N, C) and token projections (P, N), which are tied to the patch size."""
    level = level_of(name)
    before, after = old.sizes()[level], new.sizes()[level]
    position = name.endswith("position")
    others = (tensor.shape[2], target.shape[2]) if position else (tensor.shape[0], target.shape[0])
    if others[0] != others[1]:
        return None, f"afresh: another shape, {_shown(tensor)} -> {_shown(target)}"
    if before == after:
        return tensor, ""
    what = f"interpolated: {' x '.join(map(str, before))} -> {' x '.join(map(str, after))} tokens"
    return (resize_position if position else resize_projection)(tensor, before, after), what


def level_of(name: str) -> int:
    """The level that a stage's tensor works on.

    >>> level_of("encoder.0.blocks.0.position"), level_of("decoder.1.blocks.2.position")
    (1, 1)
    """
    stage, number, *_ = name.split(".")
    return int(number) + (stage == "encoder")


def resize_position(position: Tensor, before: tuple[int, ...], after: tuple[int, ...]) -> Tensor:
    """(1, N, C) -> (1, N', C), linear over the grid of tokens."""
    return _resize(position[0].T, before, after).T[None]


def resize_projection(weight: Tensor, before: tuple[int, ...], after: tuple[int, ...]) -> Tensor:
    """(P, N) -> (P, N'), linear over the grid; scaled as each sum then runs over more or fewer tokens."""
    return _resize(weight, before, after) * (math.prod(before) / math.prod(after))


def _resize(rows: Tensor, before: tuple[int, ...], after: tuple[int, ...]) -> Tensor:
    """Rows (R, N) of a grid ``before`` -> (R, N') of the grid ``after``."""
    grid = rows.reshape(1, len(rows), *before)
    return F.interpolate(grid, size=after, mode=LINEAR[len(before)], align_corners=False).flatten(2)[0]


def _shown(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape))


def _values(tensors: Mapping[str, Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors.values())
