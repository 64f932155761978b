"""The arms of an ablation: what each changes of the planned network, its loss or its recipe."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import numpy as np

from unetrpp.networks import focal_module
from unetrpp.networks.design import MOST_TOKENS, with_pooled_attention
from unetrpp.patches.sampling import PatchDraw, PatchSampler
from unetrpp.plans.architecture import Architecture
from unetrpp.preprocessing.store import StoredCase

Change = Callable[[Architecture], Architecture]


@dataclass(frozen=True)
class Arm:
    """What an arm changes; everything else comes from the plans and the recipe."""

    planner: str = "unetrpp"
    attention: str | None = None
    loss: str = "dice_ce"
    changes: tuple[Change, ...] = ()  # of the network, in this order
    recipe: dict[str, Any] = field(default_factory=dict)
    plan: dict[str, Any] = field(default_factory=dict)  # fields of the configuration
    batch_dice: bool | None = None  # of the loss; None: as planned
    sampler: type[PatchSampler] = PatchSampler
    gates_start: float = focal_module.OPEN  # A^gamma of a new module

    def with_change(self, change: Change) -> "Arm":
        return replace(self, changes=(*self.changes, change))

    def with_network(self, **fields: Any) -> "Arm":
        return self.with_change(lambda network: msgspec.structs.replace(network, **fields))

    def with_recipe(self, **changes: Any) -> "Arm":
        return replace(self, recipe=self.recipe | changes)

    def with_plan(self, **fields: Any) -> "Arm":
        return replace(self, plan=self.plan | fields)

    def network(self, planned: Architecture) -> Architecture:
        for change in self.changes:
            planned = change(planned)
        return planned


def epa_at(*kept: int) -> Change:
    """EPA at these levels alone, counted from the deepest (0) upwards; the others get plain residual blocks."""

    def change(network: Architecture) -> Architecture:
        deepest = len(network.levels) - 1
        levels = [
            level if deepest - i in kept else msgspec.structs.replace(level, attention="conv")
            for i, level in enumerate(network.levels)
        ]
        return msgspec.structs.replace(network, levels=tuple(levels))

    return change


def epa_finest(count: int) -> Change:
    """EPA at the ``count`` finest of its levels alone; the others get plain residual blocks."""

    def change(network: Architecture) -> Architecture:
        having = [i for i, level in enumerate(network.levels) if level.attention == "epa"]
        deepest = len(network.levels) - 1
        return epa_at(*(deepest - i for i in having[:count]))(network)

    return change


def epa_coarse(network: Architecture) -> Architecture:
    """Pooled EPA at the levels of at most 2,048 voxels in a patch."""
    attention = ["epa" if 1 < tokens <= MOST_TOKENS else "conv" for tokens in network.tokens()]
    levels = [
        msgspec.structs.replace(level, attention=kind) for level, kind in zip(network.levels, attention, strict=True)
    ]
    return with_pooled_attention(msgspec.structs.replace(network, levels=tuple(levels)))


def every_gate(network: Architecture) -> Architecture:
    """A gate with gamma 1 on every skip."""
    return network.with_focal({f"gate@{i}": 1.0 for i in range(len(network.levels) - 1)})


class CentredSampler(PatchSampler):
    """Draws the centre of a random patch over the voxels, then moves the patch into the case: the rule of release 0.1.0."""

    def anywhere(self, rng: np.random.Generator, case: StoredCase) -> PatchDraw:
        center, room = rng.random(3) * case.shape, np.array(case.shape) - self.patch
        start = np.clip(np.floor(center).astype(int) - np.array(self.patch) // 2, 0, np.maximum(room, 0))
        z, y, x = np.where(room < 0, np.array(case.shape) // 2, start + np.array(self.patch) // 2).tolist()
        return PatchDraw(case.case, (z, y, x), None)


PARTS: dict[str, Callable[[Arm], Arm]] = {
    # networks and where attention goes
    "paper": lambda arm: replace(arm, attention="paper"),
    "pooled": lambda arm: replace(arm, attention="pooled"),
    "none": lambda arm: replace(arm, attention="none"),
    "all": lambda arm: replace(arm, attention="all"),
    "auto": lambda arm: replace(arm, attention="auto"),
    "focal": lambda arm: replace(arm, attention="focal"),
    "unet": lambda arm: replace(arm, planner="unet"),
    "resunet": lambda arm: replace(arm, planner="resunet"),
    "epa_deepest": lambda arm: arm.with_change(epa_at(0)),
    "epa_two_deepest": lambda arm: arm.with_change(epa_at(0, 1)),
    "epa_coarse": lambda arm: arm.with_change(epa_coarse),
    "epa_finest": lambda arm: arm.with_change(epa_finest(1)),
    "epa_two_finest": lambda arm: arm.with_change(epa_finest(2)),
    "pooled_voxels": lambda arm: arm.with_change(lambda network: with_pooled_attention(network, tokens=None)),
    "pooled27_voxels": lambda arm: arm.with_change(lambda network: with_pooled_attention(network, 27, tokens=None)),
    "gates": lambda arm: arm.with_change(every_gate),
    "open": lambda arm: replace(arm, gates_start=0.98),
    "focus": lambda arm: arm.with_network(gates="focus"),  # the authors' gate, wherever there are gates
    # losses, with the planner's gamma and scales
    "ufl": lambda arm: replace(arm, loss="unified_focal"),
    "ufl_d": lambda arm: replace(arm, loss="unified_focal_distance"),
    # gammas learned in training: with pruning (stage B), or all kept
    "learned": lambda arm: arm.with_recipe(learn_attention=True),
    "unpruned": lambda arm: arm.with_recipe(least_gamma=0.0, least_contrast=0.0),
    # one change of the network or the recipe
    "two_heads": lambda arm: arm.with_network(supervised_levels=2),
    "random_heads": lambda arm: arm.with_network(initial_logits=()),
    "scale_1e-2": lambda arm: arm.with_network(layer_scale=1e-2),
    "scale_1e-1": lambda arm: arm.with_network(layer_scale=1e-1),
    "scale_1": lambda arm: arm.with_network(layer_scale=1.0),
    "batch": lambda arm: arm.with_network(norm="batch"),
    "group": lambda arm: arm.with_network(norm="group"),
    "dropout": lambda arm: arm.with_network(dropout=0.1, attention_dropout=0.1),
    "decay_all": lambda arm: arm.with_recipe(decay_everything=True),
    "no_decay": lambda arm: arm.with_recipe(weight_decay=0.0),
    # where patches are drawn
    "centred": lambda arm: replace(arm, sampler=CentredSampler),
    "case_first": lambda arm: arm.with_recipe(sampling="case_first"),
    "padding": lambda arm: arm.with_recipe(padding="background"),
    "foreground_0": lambda arm: arm.with_plan(foreground_fraction=0.0),
    "foreground_67": lambda arm: arm.with_plan(foreground_fraction=0.67),
    "batch_dice": lambda arm: replace(arm, batch_dice=True),
    "sample_dice": lambda arm: replace(arm, batch_dice=False),
    # how it learns; in float32 but with "bf16"
    "bf16": lambda arm: arm.with_recipe(precision="bf16"),
    "sgd": lambda arm: arm.with_recipe(optimizer="sgd"),
    "adamw": lambda arm: arm.with_recipe(optimizer="adamw"),
    "linear": lambda arm: arm.with_recipe(schedule="linear"),
    "cosine": lambda arm: arm.with_recipe(schedule="cosine"),
    "stable": lambda arm: arm.with_recipe(schedule="stable"),
    "lr_1e-3": lambda arm: arm.with_recipe(learning_rate=1e-3),
    "lr_2e-3": lambda arm: arm.with_recipe(learning_rate=2e-3),
    "lr_3e-3": lambda arm: arm.with_recipe(learning_rate=3e-3),
    "lr_6e-3": lambda arm: arm.with_recipe(learning_rate=6e-3),
    "lr_1e-2": lambda arm: arm.with_recipe(learning_rate=1e-2),
    "lr_2e-2": lambda arm: arm.with_recipe(learning_rate=2e-2),
    "beta_99": lambda arm: arm.with_recipe(second_moment=0.99),
    "decay_1e-1": lambda arm: arm.with_recipe(weight_decay=0.1),
    "ema_95": lambda arm: arm.with_recipe(ema=0.95),
    "ema_99": lambda arm: arm.with_recipe(ema=0.99),
    "ema_995": lambda arm: arm.with_recipe(ema=0.995),
    "drop_path": lambda arm: arm.with_recipe(drop_path=0.1),
}


def arm_of(text: str) -> Arm:
    """
    >>> arm_of("auto+ufl").loss
    'unified_focal'
    """
    arm = Arm()
    for part in text.split("+"):
        if part not in PARTS:
            raise SystemExit(f"{part!r} is not a part of an arm; choose from {', '.join(PARTS)}")
        arm = PARTS[part](arm)
    return arm
