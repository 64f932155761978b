"""Checkpoints of the released UNETR++ code: reading them without running code, and renaming their parameters."""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from unetrpp.core.errors import UserError
from unetrpp.networks.build import build_network
from unetrpp.networks.foreign import read_foreign
from unetrpp.plans.architecture import Architecture

# Our name of a module or parameter -> the released one; the first pattern that matches the whole name is used.
STAGES = [
    (r"entry\.blocks\.0\.(.+)", r"encoder1.\1"),
    (r"encoder\.(\d)\.downsample\.conv\.(.+)", r"unetr_pp_encoder.downsample_layers.\1.0.conv.\2"),
    (r"encoder\.(\d)\.downsample\.norm\.(.+)", r"unetr_pp_encoder.downsample_layers.\1.1.\2"),
    (r"encoder\.(\d)\.blocks\.(.+)", r"unetr_pp_encoder.stages.\1.\2"),
    (r"heads\.(\d)\.(.+)", r"out<\1+1>.conv.conv.\2"),
    (r"decoder\.(\d)\.upsample\.(.+)", r"decoder<\1+2>.transp_conv.conv.\2"),
    (r"decoder\.0\.blocks\.0\.(.+)", r"decoder2.decoder_block.0.\1"),
    (r"decoder\.(\d)\.blocks\.(.+)", r"decoder<\1+2>.decoder_block.0.\2"),
]
PARTS = [
    (r"\.position$", r".pos_embed"),
    (r"\.attention\.", r".epa_block."),
    (r"\.project_keys\.", r".E."),
    (r"\.project_values\.", r".F."),
    (r"\.channel_temperature$", r".temperature"),
    (r"\.spatial_temperature$", r".temperature2"),
    (r"\.spatial_out\.", r".out_proj."),
    (r"\.channel_out\.", r".out_proj2."),
    (r"\.convolutions\.0\.", r".conv51."),
    (r"\.convolutions\.1\.", r".conv52."),
    (r"\.out\.(weight|bias)$", r".conv8.1.\1"),
    (r"\.skip\.conv\.", r".conv3."),
    (r"\.conv(1|2|3)\.weight$", r".conv\1.conv.weight"),
]
STATE = "state_dict"
PROBLEMS_SHOWN = 5


def official_name(name: str, projection: str = "shared") -> str:
    """The released code's name for one entry of our state_dict.

    >>> official_name("decoder.3.blocks.0.attention.channel_out.bias")
    'decoder5.decoder_block.0.0.epa_block.out_proj2.bias'
    """
    for pattern, theirs in STAGES:
        if re.fullmatch(pattern, name):
            name = re.sub(pattern, theirs, name)
            break
    name = re.sub(r"<(\d)\+(\d)>", lambda m: str(int(m[1]) + int(m[2])), name)
    for pattern, theirs in PARTS:
        name = re.sub(pattern, theirs, name)
    return re.sub(r"\.E\.weight$", ".EF", name) if projection == "parameter" else name


def convert_state(theirs: Mapping[str, Tensor], architecture: Architecture) -> dict[str, Tensor]:
    """A released state_dict with the names and shapes of our network.

    Names may have the prefix ``module.``. Where one projection E serves keys and values, F may repeat it.

    Raises:
        UserError: entries are missing, extra or of another shape; the message names them.
    """
    theirs = {name.removeprefix("module."): value for name, value in theirs.items()}
    if architecture.projection == "shared":
        theirs = _without_aliases(theirs)
    ours: dict[str, Tensor] = {}
    problems: list[str] = []
    with FakeTensorMode():  # tensors with shapes but no values
        expected = build_network(architecture).state_dict()
    names = {name: official_name(name, architecture.projection) for name in expected}
    for name, value in expected.items():
        their_value = theirs.get(names[name])
        if their_value is None:
            problems.append(f"{names[name]} is missing")
            continue
        if names[name].endswith(".EF"):
            their_value = their_value.T
        if their_value.shape != value.shape:
            problems.append(f"{names[name]} has shape {tuple(their_value.shape)}, not {tuple(value.shape)}")
        ours[name] = their_value.to(value.dtype).clone(memory_format=torch.contiguous_format)
    problems += [f"{name} is extra" for name in sorted(set(theirs) - set(names.values()))]
    if problems:
        raise UserError(
            f"the checkpoint does not fit the preset: {_some(problems)}; choose the preset it was trained with"
        )
    return ours


def _without_aliases(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state_dict without every F that repeats its E.

    Raises:
        UserError: an F differs from its E.
    """
    unique = dict(theirs)
    for name, value in theirs.items():
        keys = theirs.get(re.sub(r"\.epa_block\.F\.", ".epa_block.E.", name))
        if ".epa_block.F." in name and keys is not None:
            if not torch.equal(value, keys):
                raise UserError(
                    f"{name} differs from its E, but this preset has one projection for both; choose another"
                )
            del unique[name]
    return unique


def _some(problems: list[str]) -> str:
    more = f" and {len(problems) - PROBLEMS_SHOWN} more" if len(problems) > PROBLEMS_SHOWN else ""
    return ", ".join(problems[:PROBLEMS_SHOWN]) + more


def read_official(path: Path) -> dict[str, Tensor]:
    """The state_dict of a released checkpoint. Only tensors, numbers, strings and numpy scalars are unpickled.

    Raises:
        UserError: no such file, no checkpoint, or a checkpoint that holds other objects.
    """
    content = read_foreign(path)
    state = content.get(STATE, content) if isinstance(content, dict) else None
    if not isinstance(state, Mapping) or not state or not all(isinstance(v, Tensor) for v in state.values()):
        raise UserError(f"{path} has no {STATE!r} of tensors; give a checkpoint of the released UNETR++ code")
    return dict(state)
