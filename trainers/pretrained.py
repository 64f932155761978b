"""Starting from another training: what fits is copied, what almost fits is adapted, the rest starts afresh; all is said."""

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
from unetrpp.core.text import text_table
from unetrpp.dataset.labels import LabelScheme
from unetrpp.model import checkpoint
from unetrpp.model.folder import ModelFolder
from unetrpp.networks.build import build_network
from unetrpp.plans.architecture import Architecture
from unetrpp.plans.plans import Configuration

LOG = logging.getLogger(__name__)
FILE = "pretrained.json"
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
class NetworkSpec:
    """A network's description: of the checkpoint, or of the network to be trained."""

    architecture: Architecture
    labels: LabelScheme
    second_stage: bool = False  # of a cascade: its last input channels are a segmentation

    @classmethod
    def of(cls, plan: Configuration) -> "NetworkSpec":
        return cls(plan.architecture, plan.preprocessing.labels, plan.first_stage is not None)

    @property
    def segmented(self) -> tuple[str, ...]:
        """The foreground classes that have an input channel each, after those of the image."""
        return tuple(self.labels.names[i] for i in self.labels.foreground) if self.second_stage else ()

    @property
    def image_channels(self) -> int:
        return self.architecture.in_channels - len(self.segmented)


def spec_of_checkpoint(path: Path, spec: NetworkSpec) -> NetworkSpec:
    """The network that the checkpoint ``path`` of a model folder belongs to.

    Raises:
        UserError: it stands in no model folder, or is of another kind of network than ``spec``.
    """
    model = ModelFolder.open(path.parent.parent)
    architecture = model.architecture(path.parent.name.removeprefix("fold_"))
    for about in ("network", "dimensions"):
        theirs, ours = getattr(architecture, about), getattr(spec.architecture, about)
        if theirs != ours:
            raise UserError(f"{path} has {about} {theirs}, the plans have {ours}; plan with what the checkpoint has")
    return NetworkSpec(architecture, model.plans.labels, model.configuration.first_stage is not None)


def start_from(path: Path, network: nn.Module, spec: NetworkSpec, folder: Path) -> Transfer:
    """Load into ``network`` what fits, log every change as a line of a table, and write pretrained.json into ``folder``.

    Raises:
        UserError: the checkpoint is damaged, stands in no model folder, or is of another kind of network.
    """
    old = spec_of_checkpoint(path, spec)
    tensors = checkpoint.load(path, torch.device("cpu"))["network"]
    fitted, changes = fit(tensors, network.state_dict(), old, spec)
    network.load_state_dict(fitted, strict=False)
    adapted = {change.tensor for change in changes}
    share = _values(fitted) / _values(network.state_dict())
    transfer = Transfer(
        checkpoint=str(path), copied=len(fitted.keys() - adapted), share=round(share, 4), changes=tuple(changes)
    )
    write_json(folder / FILE, transfer)
    LOG.info("%s: %d tensors are copied, %.1f %% of all values come from it", path, transfer.copied, 100 * share)
    for line in text_table([(change.tensor, change.what) for change in changes], "l", indent="  ").splitlines():
        LOG.info("%s", line)
    return transfer


def fit(
    tensors: Mapping[str, Tensor], wanted: Mapping[str, Tensor], old: NetworkSpec, new: NetworkSpec
) -> tuple[dict[str, Tensor], list[Change]]:
    """Of ``tensors`` those that ``wanted`` takes, adapted where needed; and what was not simply copied."""
    fitted, changes = {}, []
    inputs = input_convolutions(new.architecture) if _inputs(old) != _inputs(new) else set()
    for name, target in wanted.items():
        if name not in tensors:
            changes.append(Change(tensor=name, what="afresh: not in the checkpoint"))
            continue
        change = adapt_input if name in inputs else adapt
        tensor, what = change(name, tensors[name].to(target.device), target, old, new)
        if tensor is not None:
            fitted[name] = tensor
        if what:
            changes.append(Change(tensor=name, what=what))
    changes += [Change(tensor=name, what="left out: not in this network") for name in tensors if name not in wanted]
    return fitted, changes


def adapt(name: str, tensor: Tensor, target: Tensor, old: NetworkSpec, new: NetworkSpec) -> tuple[Tensor | None, str]:
    """A tensor in the shape of ``target``, or None; and what was done, empty when it simply fits."""
    shapes = f"{_shown(tensor)} -> {_shown(target)}"
    if name.startswith("heads.") and _outputs(old.labels) != _outputs(new.labels):
        return None, f"afresh: a head of other classes ({', '.join(_outputs(old.labels))})"
    if name.endswith(FOCAL):
        return None, "" if torch.equal(tensor, target) else "afresh: as planned"
    tied = (".position" in name or ".project_" in name) and name.rsplit(".", 1)[-1] != "bias"
    if tied and new.architecture.network == "unetrpp":  # in a network of a package such names may mean anything
        return _adapt_to_patch(name, tensor, target, old.architecture, new.architecture)
    if tensor.shape == target.shape:
        return tensor, ""
    return None, f"afresh: another shape, {shapes}"


def adapt_input(
    name: str, weight: Tensor, target: Tensor, old: NetworkSpec, new: NetworkSpec
) -> tuple[Tensor | None, str]:
    """A convolution of the network's input (out, in, *kernel) for other input channels, and what was done.

    Channels of a segmentation of other classes start at 0: at first the network answers to the image alone.
    """
    shapes, done = f"{_shown(weight)} -> {_shown(target)}", []
    if (weight.shape[0], *weight.shape[2:]) != (target.shape[0], *target.shape[2:]):
        return None, f"afresh: another shape, {shapes}"
    image, segmentation = weight[:, : old.image_channels], weight[:, old.image_channels :]
    if old.image_channels != new.image_channels:
        image = spread_channels(image, new.image_channels)
        done.append("input channels averaged and spread")
    if old.segmented != new.segmented:
        segmentation = torch.zeros_like(target[:, new.image_channels :])
        done.append("segmentation channels start at 0" if new.segmented else "segmentation channels left out")
    return torch.cat([image, segmentation], dim=1), f"{', '.join(done)}: {shapes}"


def input_convolutions(architecture: Architecture) -> set[str]:
    """The tensors that take the network's input: those whose shape depends on the number of its channels."""
    wider = msgspec.structs.replace(architecture, in_channels=architecture.in_channels + 1)
    with torch.random.fork_rng(devices=[]):  # the training draws what it would have drawn
        before, after = (build_network(each).state_dict() for each in (architecture, wider))
    return {name for name, tensor in before.items() if tensor.shape != after[name].shape}


def _inputs(spec: NetworkSpec) -> tuple[int, tuple[str, ...]]:
    return spec.image_channels, spec.segmented


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
