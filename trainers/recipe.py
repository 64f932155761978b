"""From what the user asked for and what is on disk to the training config of a fold."""

import logging
from pathlib import Path
from typing import Any

import msgspec

from unetrpp.core.errors import UserError
from unetrpp.core.files import read_json
from unetrpp.trainers.config import SHORT_RUN_STEPS, STANDARD_TRAINER, TrainingConfig

LOG = logging.getLogger(__name__)

LONGEST_WARMUP = 500  # steps

ConfigOverrides = dict[str, Any]  # fields of TrainingConfig that the user gave


def new_config(fold: int | str, overrides: ConfigOverrides, precision: str = "fp32") -> TrainingConfig:
    """The recipe for a run of the wished length: nnU-Net's for long ones, one that learns at once for short ones.

    Raises:
        UserError: attention is to be learned in a single epoch, or by another trainer.
    """
    standard = TrainingConfig(fold=0)
    given = {key: value for key, value in overrides.items() if value is not None}
    steps = given.get("epochs", standard.epochs) * given.get("iterations", standard.iterations)
    chosen = given.get("optimizer") or ("adamw" if steps < SHORT_RUN_STEPS else "sgd")
    recipe: dict[str, Any] = {"optimizer": chosen, "precision": precision}
    if chosen == "adamw":
        recipe |= {"learning_rate": 3e-3, "weight_decay": 1e-2, "warmup": min(LONGEST_WARMUP, steps // 8)}
        recipe["recipe"] = "AdamW with warm-up, as asked for"
    if given.get("optimizer") is None and steps < SHORT_RUN_STEPS:
        recipe["recipe"] = (
            f"short: {steps} steps are fewer than {SHORT_RUN_STEPS}, so AdamW with warm-up instead of SGD"
        )
    config = msgspec.convert({"fold": fold} | recipe | given, TrainingConfig)
    if config.learn_attention and config.epochs < 2:
        raise UserError(
            "--learn-attention judges after an epoch and trains on after that; give --epochs 2 or more, or less --iterations"
        )
    if config.learn_attention and config.trainer != STANDARD_TRAINER:
        raise UserError(f"--learn-attention is a trainer of its own, so --trainer {config.trainer} cannot go with it")
    return config


def config_for(
    folder: Path, fold: int | str, overrides: ConfigOverrides, go_on: bool, precision: str = "fp32", cases: str = ""
) -> TrainingConfig:
    """The config of a fold folder: the recorded one, extended with --continue, else a new one.

    Extending keeps the recipe and stretches the poly schedule over the new number of epochs: the learning rate goes
    on with the value that the longer run has at this step. Limits of hours and patience are those of this command.

    Raises:
        UserError: the overrides or the cases contradict what the folder was started with, or there is nothing to extend.
    """
    path = folder / "training.json"
    if not path.exists():
        if go_on:
            raise UserError(f"fold {fold} was never started, so --continue has nothing to extend; train it first")
        return msgspec.structs.replace(new_config(fold, overrides, precision), cases=cases)
    config = read_json(path, TrainingConfig, hint="start anew with --overwrite")
    if config.cases != cases:
        raise UserError(
            f"the cases of fold {fold} in splits.json are others than when its training started; "
            "restore them, or start the fold anew with --overwrite"
        )
    if go_on:
        epochs = overrides.get("epochs")
        if epochs is None or epochs < config.epochs:
            raise UserError(
                f"fold {fold} was planned for {config.epochs} epochs; --continue needs --epochs with at least that"
            )
        limits = {name: overrides.get(name) for name in ("max_hours", "patience")}
        config = msgspec.structs.replace(config, epochs=epochs, **limits)
    for key, value in overrides.items():
        recorded = getattr(config, key)
        if value is not None and value != recorded:
            raise UserError(
                f"fold {fold} was started with {key} {recorded}, not {value}; repeat the command without it to resume, "
                "extend with --continue --epochs N, or start anew with --overwrite"
            )
    return config
