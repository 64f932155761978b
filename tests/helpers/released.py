"""A checkpoint as the released UNETR++ code writes it."""

from pathlib import Path

import numpy as np
import torch

from unetrpp.export.released import with_preset
from unetrpp.networks.build import build_network
from unetrpp.networks.released import official_name
from unetrpp.plans.plans import Plans


def write_released_checkpoint(path: Path, plans: Plans, preset: str, configuration: str = "3d_fullres") -> Path:
    """Random weights of the published network for these plans, under the released names."""
    torch.manual_seed(0)
    architecture = with_preset(plans, preset, configuration, path).configurations[configuration].architecture
    state = build_network(architecture).state_dict()
    theirs = {f"module.{official_name(name, architecture.projection)}": value for name, value in state.items()}
    torch.save({"epoch": 1000, "state_dict": theirs, "best_stuff": (np.float64(0.9),)}, path)
    return path
