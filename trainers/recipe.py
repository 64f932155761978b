"""The training config of a fold, from the options given and what is recorded in the fold's folder."""

import logging
from collections.abc import Mapping
from pathlib import Path

import msgspec

from unetrpp.core.errors import UserError
from unetrpp.core.files import read_json
from unetrpp.trainers.config import SHORT_RUN_STEPS, STANDARD_TRAINER, TrainingConfig

LOG = logging.getLogger(__name__)

LONGEST_WARMUP = 500  # steps
RATES = {"adamw": 3e-3, "muon": 6e-3}  # docs/experiments.md
NAMES = {"adamw": "AdamW", "muon": "Muon"}

# Named recipes (--recipe): fields of TrainingConfig. `nnunet` is nnU-Net 2.8.1's training for runs of any length, so that
# results compare; docs/training.md says what each field does.
RECIPES: dict[str, dict[str, object]] = {
    "nnunet": {
        "optimizer": "sgd",
        "decay_everything": True,
        "rate_changes": "every_epoch",
        "heads": "random",
        "sampling": "case_first",
        "padding": "background",
        "recipe": "nnunet: nnU-Net 2.8.1's training",
    }
}

# Fields of TrainingConfig and the values given for them. None, or no entry, leaves a field to the recipe.
ConfigOverrides = Mapping[str, object]


def new_config(fold: int | str, overrides: ConfigOverrides, precision: str = "fp32") -> TrainingConfig:
    """The recipe for a run of the given length: SGD for long runs, Muon for short ones; or the one of RECIPES that is named.

    Args:
        precision: unless ``overrides`` give another one.

    Raises:
        UserError: a value is out of range or contradicts the named recipe, or attention is to be learned in a single epoch
            or by another trainer.
    """
    asked = {key: value for key, value in overrides.items() if value is not None}
    given = _with_named_recipe(asked) | {"given": tuple(asked)}
    config = _config({"fold": fold, "precision": precision} | given)
    if "optimizer" not in given and config.steps < SHORT_RUN_STEPS:
        reason = f"short: {config.steps} steps are fewer than {SHORT_RUN_STEPS}, so Muon with warm-up instead of SGD"
        given = {"optimizer": "muon", "recipe": reason} | given
    optimizer = str(given.get("optimizer", config.optimizer))
    if optimizer in RATES:
        warmup = min(LONGEST_WARMUP, config.steps // 8)
        fields: dict[str, object] = {"learning_rate": RATES[optimizer], "weight_decay": 1e-2, "warmup": warmup}
        fields["recipe"] = f"{NAMES[optimizer]} with warm-up, as asked for"
        config = _config({"fold": fold, "precision": precision} | fields | given)
    if config.learn_attention and config.epochs < 2:
        raise UserError(
            "--learn-attention judges the gates after an epoch and then trains without those that it removed; "
            "give --epochs 2 or more, or fewer --iterations"
        )
    if config.learn_attention and config.ema is not None:
        raise UserError("--learn-attention changes the network, so there is no mean of its weights; leave out --ema")
    if config.learn_attention and config.trainer != STANDARD_TRAINER:
        raise UserError(f"--learn-attention has its own trainer; give it without --trainer {config.trainer}")
    return config


def _with_named_recipe(given: dict[str, object]) -> dict[str, object]:
    """``given`` with the fields of the recipe that its ``recipe`` names.

    Raises:
        UserError: there is none of this name, or another optimizer is given than its own.
    """
    if "recipe" not in given:
        return given
    name = str(given["recipe"])
    if name not in RECIPES:
        raise UserError(f"there is no recipe {name!r}; choose from {', '.join(RECIPES)}, or leave it out")
    fields = RECIPES[name]
    if given.get("optimizer") not in (None, fields["optimizer"]):
        raise UserError(f"the recipe {name} trains with {fields['optimizer']}; leave out --optimizer")
    return given | fields


def _config(fields: dict[str, object]) -> TrainingConfig:
    try:
        return msgspec.convert(fields, TrainingConfig)
    except msgspec.ValidationError as error:
        raise UserError(f"impossible training option: {error}") from None


def config_for(
    folder: Path,
    fold: int | str,
    overrides: ConfigOverrides,
    *,
    continue_training: bool,
    overwrite: bool = False,
    precision: str = "fp32",
    cases: str = "",
) -> TrainingConfig:
    """The config of a fold: the one recorded in ``folder``, extended with ``continue_training``, else a new one.

    Extending keeps the recipe and stretches the poly schedule over the new number of epochs: the learning rate continues
    with the value that the longer run has at this step. Limits of hours and patience are those of ``overrides``.

    Args:
        overwrite: the fold is about to start again, so its record does not count.
        precision: of a new config, unless ``overrides`` give another one.
        cases: digest of the fold's cases.

    Raises:
        UserError: the overrides or the cases contradict the record, or there is nothing to extend.
    """
    path = folder / "training.json"
    if overwrite or not path.exists():
        if continue_training:
            raise UserError(f"fold {fold} was never started, so --continue has nothing to extend; train it first")
        return msgspec.structs.replace(new_config(fold, overrides, precision), cases=cases)
    config = read_json(path, TrainingConfig, hint="start again with --overwrite")
    if config.cases != cases:
        raise UserError(
            f"the cases of fold {fold} in splits.json are not those that its training started with; "
            "restore them, or start the fold again with --overwrite"
        )
    if continue_training:
        config = _extended(config, overrides)
    _require_recorded(config, overrides)
    return config


def _extended(config: TrainingConfig, overrides: ConfigOverrides) -> TrainingConfig:
    epochs = overrides.get("epochs")
    if not isinstance(epochs, int) or epochs < config.epochs:
        raise UserError(
            f"fold {config.fold} was planned for {config.epochs} epochs; --continue needs --epochs of at least that"
        )
    limits = {name: overrides.get(name) for name in ("max_hours", "patience")}
    return msgspec.structs.replace(config, epochs=epochs, **limits)


def _require_recorded(config: TrainingConfig, overrides: ConfigOverrides) -> None:
    """
    Raises:
        UserError: a value is given that is not the recorded one.
    """
    for key, value in overrides.items():
        recorded = getattr(config, key)
        if key == "recipe":
            recorded = config.recipe.partition(":")[0]
        if value is not None and value != recorded:
            raise UserError(
                f"fold {config.fold} was started with {key} {recorded}, not {value}; repeat the command without it to "
                "resume, extend with --continue --epochs N, or start again with --overwrite"
            )
