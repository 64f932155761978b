"""What to run next in a workspace, dataset by dataset, by the files that are there."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from unetrpp.core.errors import UserError
from unetrpp.core.files import read_json
from unetrpp.core.text import counted_of, quoted
from unetrpp.core.workspace import NO_PLANS, Workspace
from unetrpp.dataset.splits import Splits
from unetrpp.plans.plans import read_plans

STANDARD_PLANS = "unetrpp"
SELECTION = "inference.json"  # of inference/selection.py, which needs torch
PREDICT = "unetrpp_predict -i IMAGES -o OUT"
START = (
    "unetrpp_convert list (known datasets and layouts), unetrpp_convert folder --help (a folder of your own), or unetrpp_demo (the "
    "whole way on made data, in minutes)"
)


# Of training.json, whose record (unetrpp.trainers.config) lies above this module.
USUAL = {
    "epochs": 1000,
    "iterations": 250,
    "trainer": "standard",
    "pretrained": None,
    "max_hours": None,
    "patience": None,
}
FLAGS = {"learning_rate": "--lr"}  # of fields whose option is not their name


def next_steps(workspace: Workspace) -> list[str]:
    """Lines for every dataset of the workspace: how far it is, and the command that goes on."""
    parts = [workspace.root / part for part in ("raw", "preprocessed", "results")]
    names = sorted({path.name for part in parts for path in part.glob("[!.]*") if path.is_dir()})
    if not names:
        return [f"{workspace.root} has no dataset yet: {START}"]
    return [f"{state}: {command}" for name in names for state, command in _steps(workspace, name, {})]


def next_command(workspace: Workspace, dataset: str, options: Mapping[str, str] | None = None) -> str:
    """The first command that goes on with a dataset.

    Args:
        options: of trainings that were just started, by the name of their model folder; beside those that its folds recorded.
    """
    return next(command for _, command in _steps(workspace, dataset, options or {}))


def plan_command(workspace: Workspace, dataset: str) -> str:
    """The command that plans a dataset, or plans and preprocesses what has changed in one that was."""
    return f"unetrpp_plan_and_preprocess {quoted(dataset)}{workspace.option}"


def best_command(workspace: Workspace, dataset: str) -> str:
    """The command that predicts with what unetrpp_find_best chose."""
    return f"{PREDICT} --best {quoted(dataset)}{workspace.option}"


def predict_command(model: Path) -> str:
    """The command that predicts with a model folder; an imported one may have only checkpoints that were the best."""
    best = not any(model.glob("fold_*/checkpoint_final.pt")) and any(model.glob("fold_*/checkpoint_best.pt"))
    return f"{PREDICT} -m {quoted(model)}{' --checkpoint best' if best else ''}"


def _steps(workspace: Workspace, name: str, options: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """How far the dataset's configurations and models are, each with the command that goes on."""
    dataset, configurations = quoted(name), list(_preprocessed(workspace, name))
    where, folds = workspace.option, _folds(workspace, name)
    only = " all" if folds == 0 else ""  # the one fold that a single case has
    models = sorted(path for path in (workspace.root / "results" / name).glob("*__*") if any(path.glob("fold_*")))
    if not configurations and not models:
        yield f"{name} is not planned", plan_command(workspace, name)
    for plans, configuration in configurations:
        trained = f"{plans}__{configuration}" in {path.name for path in models}
        if not trained and not _waits(workspace, name, plans, configuration):
            yield f"{name} is planned and not trained", _train(dataset, f"{configuration}{only}", plans) + where
    finished = []
    for path in models:
        plans, _, configuration = path.name.partition("__")
        done, count = _trained(path), 0 if folds is None or (path / "fold_all").is_dir() else folds or 1
        if (plans, configuration) in configurations and done < count:
            state = f"{name}, {path.name}: {counted_of(done, count, 'fold', 'is/are')} trained"
            given = options.get(path.name, "")
            started = next(iter(sorted(path.glob("fold_*/training.json"))), None)
            recorded = "".join(text for flag, text in _options(started).items() if flag not in given.split())
            yield state, _train(dataset, f"{configuration}{only}", plans) + recorded + given + where
        elif done:
            finished.append(path)
    if finished:
        yield f"{name} is trained", f"{PREDICT} {_model(workspace, name, finished)}{where}"


def _preprocessed(workspace: Workspace, name: str) -> Iterator[tuple[str, str]]:
    """Plans and configuration of every store."""
    home = workspace.preprocessed(name)
    for file in sorted(home.glob("*.json")):
        if file.stem not in NO_PLANS:
            stores = sorted(path.name for path in home.glob(f"{file.stem}_[23]d*") if path.is_dir())
            yield from ((file.stem, store.removeprefix(f"{file.stem}_")) for store in stores)


def _waits(workspace: Workspace, name: str, plans: str, configuration: str) -> bool:
    """Whether the first stage of a cascade has to be trained and validated before this configuration."""
    try:
        stage = read_plans(workspace.plans(name, plans)).configuration(configuration).first_stage
    except UserError:
        return False
    if stage is None:
        return False
    validated = workspace.model(name, plans, stage).glob("fold_*/validation/summary.json")
    return len(list(validated)) < (_folds(workspace, name) or 1)


def _train(dataset: str, what: str, plans: str) -> str:
    """``what`` is a configuration, and the fold if it has to be named."""
    chosen = "" if plans == STANDARD_PLANS else f" -p {quoted(plans)}"
    return f"unetrpp_train {dataset} {what}{chosen}"


def again_command(workspace: Workspace, dataset: str, *, plans: str, configuration: str, fold: int | str) -> str:
    """The command that trains a fold again from its start, with the options that it recorded."""
    recorded = workspace.model(dataset, plans, configuration) / f"fold_{fold}" / "training.json"
    options = "".join(_options(recorded).values())
    return f"{_train(quoted(dataset), f'{configuration} {fold}', plans)}{options} --overwrite{workspace.option}"


def _options(path: Path | None) -> dict[str, str]:
    """The options, by flag, in which the training.json of a fold differs from the usual, so that the other folds do not take a
    thousand epochs, or start from random weights where the first did not."""
    try:
        found: dict[str, Any] = {} if path is None else read_json(path, dict[str, Any])
    except UserError:
        return {}
    recipe = str(found.get("recipe", "")).partition(":")[0]  # "NAME: why"
    unusual = (name for name, usual in USUAL.items() if found.get(name, usual) != usual)
    # Fields that options set; those of a fold that an earlier release started, or that was extended, as far as they tell it themselves.
    names = dict.fromkeys([*found.get("given", ()), *unusual, *(["recipe"] if recipe == "nnunet" else [])])
    values = {name: found.get(name) for name in names} | {"recipe": recipe, "pretrained_hash": None}
    if found.get("pretrained") is not None:
        values["pretrained"] = _source(Path(found["pretrained"]))
    options = {}
    for name in names:
        value, flag = values[name], FLAGS.get(name, f"--{name.replace('_', '-')}")
        if value is not None:  # as of a limit that an extension dropped
            options[flag] = f" {flag}" if value is True else f" {flag} {quoted(value)}"
    return options


def _source(checkpoint: Path) -> str:
    """What --pretrained took: the model folder of a checkpoint in one, in which each fold finds its own, else the file."""
    folder = checkpoint.parent.parent
    return str(folder if (folder / "plans.json").is_file() and checkpoint.suffix == ".pt" else checkpoint)


def _folds(workspace: Workspace, name: str) -> int | None:
    """How many folds the dataset is split into, 0 where a single case cannot be split; None where no file says so."""
    try:
        return len(read_json(workspace.preprocessed(name) / "splits.json", Splits).folds)
    except UserError:
        return None


def _trained(model: Path) -> int:
    return len(list(model.glob("fold_*/checkpoint_final.pt")))


def _model(workspace: Workspace, name: str, models: list[Path]) -> str:
    """The option that names the model: what unetrpp_find_best chose, or the only one, or the advice to choose."""
    if (workspace.root / "results" / name / SELECTION).is_file():
        return f"--best {quoted(name)}"
    if len(models) == 1:
        return f"-m {quoted(models[0])}"
    return f"-m MODEL_FOLDER, or choose with unetrpp_find_best {quoted(name)}"
