"""Trackers: where the curves, the recipe, the plans, the scores and pictures of a fold go beside its own folder.

Built-in ones are TensorBoard, Weights & Biases and MLflow, each an extra; packages register others in the group
``unetrpp.trackers`` (docs/extending.md).
"""

import importlib.util
import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np

from unetrpp.core.errors import UserError
from unetrpp.core.files import read_json
from unetrpp.core.registry import find
from unetrpp.model.folder import ModelFolder
from unetrpp.trainers.log import EpochEntry, EpochTracker


@dataclass(frozen=True)
class TrackedFold:
    """What a tracker is made of.

    Attributes:
        folder: ``fold_k`` of the model folder; files of a tracker go below it, or beside it.
        class_names: of the Dice in the entry of an epoch, in their order.
        run: what the tracker called its run when the fold's training began, so that it continues this run; None at first.
    """

    folder: Path
    class_names: Sequence[str]
    run: str | None = None

    @property
    def dataset(self) -> str:
        return ModelFolder.open(self.folder.parent).dataset

    @property
    def name(self) -> str:
        """Of the run, as people read it."""
        return f"{self.folder.parent.resolve().name} {self.folder.name}"

    @property
    def records(self) -> dict[str, Path]:
        """training.json and plans.json, by name."""
        return {"training.json": self.folder / "training.json", "plans.json": self.folder.parent / "plans.json"}

    def record(self, name: str) -> dict[str, object]:
        """The content of one of the ``records``."""
        return read_json(self.records[name], dict[str, object])

    def numbers(self, entry: EpochEntry) -> dict[str, float]:
        """Every number of an epoch by its name; those that are undefined are left out."""
        found = {key: value for key, value in entry.items() if isinstance(value, int | float) and key != "epoch"}
        dice = zip(self.class_names, entry["dice"], strict=True)
        found |= {f"dice/{name}": value for name, value in dice if value is not None}
        return found | {f"gamma/{place}": gamma for place, gamma in entry.get("gammas", {}).items()}


class Tracker(EpochTracker, Protocol):
    """One run of a fold in a tracker; made by calling what is registered with a :class:`TrackedFold`.

    Attributes:
        run: the tracker's name of the run, by which a later process continues it.
    """

    run: str

    def epoch(self, entry: EpochEntry) -> None:
        """Show the metrics of an epoch."""

    def validated(self, scores: Mapping[str, float], pictures: Mapping[str, np.ndarray]) -> None:
        """Show the scores of whole validation volumes by name, and pictures (Y, X, 3), uint8, of some cases by title."""

    def close(self, done: bool) -> None:
        """Write what is left. ``done``: the training was not interrupted."""


MakeTracker: TypeAlias = Callable[[TrackedFold], Tracker]


class TensorBoard:
    """Writes event files into the fold's folder ``tensorboard``."""

    run = "tensorboard"

    def __init__(self, fold: TrackedFold):
        from torch.utils.tensorboard import SummaryWriter

        self.fold, self.writer = fold, SummaryWriter(str(fold.folder / self.run))
        for name, path in fold.records.items():
            self.writer.add_text(name, f"```json\n{path.read_text(encoding='utf8')}\n```")

    def epoch(self, entry: EpochEntry) -> None:
        for name, value in self.fold.numbers(entry).items():
            self.writer.add_scalar(name, value, entry["epoch"])
        self.writer.flush()

    def validated(self, scores: Mapping[str, float], pictures: Mapping[str, np.ndarray]) -> None:
        for name, value in scores.items():
            self.writer.add_scalar(name, value)
        for title, picture in pictures.items():
            self.writer.add_image(title, picture, dataformats="HWC")

    def close(self, done: bool) -> None:
        self.writer.close()


class WeightsAndBiases:
    """A run of Weights & Biases, offline in the fold's folder ``wandb`` unless WANDB_MODE says otherwise.

    Pictures show patients, so that nothing is sent before a person says so, by ``wandb sync`` or by WANDB_MODE=online.
    """

    def __init__(self, fold: TrackedFold):
        import wandb

        self.fold = fold
        self.logged = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "unetrpp"),
            group=os.environ.get("WANDB_RUN_GROUP", fold.dataset),
            name=fold.name,
            id=fold.run,
            resume="allow",
            allow_val_change=True,  # an extended fold has more epochs
            dir=fold.folder.resolve(),
            config={name.removesuffix(".json"): fold.record(name) for name in fold.records},
            mode=os.environ.get("WANDB_MODE", "offline"),
            reinit="create_new",
            settings=wandb.Settings(console="off", silent=True),
        )
        self.run: str = self.logged.id
        self.logged.define_metric("*", step_metric="epoch")
        self.wandb = wandb

    def epoch(self, entry: EpochEntry) -> None:
        self.logged.log({"epoch": entry["epoch"], **self.fold.numbers(entry)})

    def validated(self, scores: Mapping[str, float], pictures: Mapping[str, np.ndarray]) -> None:
        self.logged.summary.update(scores)
        shown = [self.wandb.Image(picture, caption=title) for title, picture in pictures.items()]
        if shown:
            self.logged.log({"validation": shown})

    def close(self, done: bool) -> None:
        self.logged.finish(exit_code=0 if done else 1)


class MLflow:
    """A run of MLflow in the store of MLFLOW_TRACKING_URI, by default in the model folder's own ``mlflow``."""

    def __init__(self, fold: TrackedFold):
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when mlflow is imported
        from mlflow import MlflowClient

        self.fold, folder = fold, fold.folder.parent / "mlflow"
        uri = os.environ.get("MLFLOW_TRACKING_URI")
        self.client = MlflowClient(uri or local_store(folder))
        if fold.run is None:
            self.run = self._begin(None if uri else (folder.resolve() / "artifacts").as_uri())
        else:
            self.run = fold.run
            self.client.update_run(self.run, status="RUNNING")
        for path in fold.records.values():
            self.client.log_artifact(self.run, str(path))

    def _begin(self, artifacts: str | None) -> str:
        """Create the run, with the recipe as its parameters; ``artifacts``: where a new experiment keeps files."""
        from mlflow.exceptions import MlflowException

        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", self.fold.dataset)
        try:
            experiment = self.client.create_experiment(name, artifacts)
        except MlflowException:  # it exists; or another fold, trained at the same time, was faster
            experiment = self.client.get_experiment_by_name(name).experiment_id
        run: str = self.client.create_run(experiment, run_name=self.fold.name).info.run_id
        for key, value in self.fold.record("training.json").items():
            self.client.log_param(run, key, value)
        return run

    def epoch(self, entry: EpochEntry) -> None:
        for name, value in self.fold.numbers(entry).items():
            self.client.log_metric(self.run, allowed(name), value, step=entry["epoch"])

    def validated(self, scores: Mapping[str, float], pictures: Mapping[str, np.ndarray]) -> None:
        for name, value in scores.items():
            self.client.log_metric(self.run, allowed(name), value)
        for title, picture in pictures.items():
            self.client.log_image(self.run, picture, artifact_file=f"{allowed(title)}.png")

    def close(self, done: bool) -> None:
        self.client.set_terminated(self.run, "FINISHED" if done else "KILLED")


def local_store(folder: Path) -> str:
    """The address of a store in ``folder``, which is made whole or not at all: two folds that make its tables at the same time
    would break it."""
    from mlflow import MlflowClient

    store = folder.resolve() / "mlflow.db"
    if not store.exists():
        folder.mkdir(exist_ok=True)
        made = store.with_name(f"mlflow.{os.getpid()}.db")
        MlflowClient(f"sqlite:///{made}")
        with suppress(FileExistsError):  # another fold was faster
            store.hardlink_to(made)
        with suppress(PermissionError):  # Windows keeps an open file
            made.unlink()
    return f"sqlite:///{store}"


def allowed(name: str) -> str:
    """A name with the characters that MLflow takes.

    >>> allowed("dice/tumour (core)")
    'dice/tumour _core_'
    """
    return re.sub(r"[^\w./: -]", "_", name)


TRACKERS: dict[str, MakeTracker] = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases, "mlflow": MLflow}


def require_tracker(name: str) -> MakeTracker:
    """What makes the tracker ``name``: a built-in one, a registered one, or ``package.module:Class``.

    Raises:
        UserError: there is none, or its package, an extra of the same name, is not installed.
    """
    if name in TRACKERS and importlib.util.find_spec(name) is None:
        raise UserError(f'--tracker {name} needs the package {name}; pip install "unetrpp[{name}]"')
    return find("tracker", name, TRACKERS, allow_import_path=True)
