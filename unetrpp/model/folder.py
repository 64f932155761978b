"""Reading a model folder: plans, dataset.json, fingerprint and the folds with their checkpoints. Imports no torch."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from unetrpp.core.digest import digest, file_digest
from unetrpp.core.errors import UserError
from unetrpp.core.files import read_json
from unetrpp.dataset.description import DatasetDescription, read_description
from unetrpp.plans.architecture import Architecture
from unetrpp.plans.fingerprint import Fingerprint
from unetrpp.plans.plans import Configuration, Plans, read_plans

FIRST_STAGE = "previous_stage"  # in a cascade's second stage: the model folder of its first
ARCHITECTURE = "architecture.json"  # of a fold whose attention was learned: its own gates and squeeze-and-excitations


@dataclass(frozen=True)
class ModelFolder:
    """``results/<dataset>/<plans>__<configuration>/``, or a copy of it anywhere. Self-contained."""

    path: Path
    plans: Plans
    configuration_name: str

    @classmethod
    def open(cls, path: Path) -> "ModelFolder":
        """
        Raises:
            UserError: no model folder, or it does not say which configuration it holds.
        """
        if not (path / "plans.json").is_file():
            raise UserError(
                f"{path} is no model folder (it has no plans.json); give results/<dataset>/<plans>__<configuration>"
            )
        plans = read_plans(path / "plans.json")
        return cls(path, plans, _configuration_name(path, plans))

    @property
    def configuration(self) -> Configuration:
        return self.plans.configurations[self.configuration_name]

    @cached_property
    def description(self) -> DatasetDescription:
        return read_description(self.path / "dataset.json", self.plans.dataset)

    @cached_property
    def fingerprint(self) -> Fingerprint:
        return read_json(self.path / "fingerprint.json", Fingerprint, hint="copy it from the preprocessed dataset")

    def folds(self) -> list[str]:
        """Names of the folds that exist, finished or not: "0", "1", ... and "all"."""
        names = [p.name.removeprefix("fold_") for p in self.path.glob("fold_*") if p.is_dir()]
        return sorted(names, key=lambda name: (not name.isdigit(), int(name) if name.isdigit() else 0))

    @cached_property
    def first_stage(self) -> "ModelFolder | None":
        """The first stage of a cascade, which lies inside the second's folder.

        Raises:
            UserError: it is missing there.
        """
        if self.configuration.first_stage is None:
            return None
        if not (self.path / FIRST_STAGE).is_dir():
            raise UserError(
                f"{self.path} is a cascade's second stage without {FIRST_STAGE}/; copy the whole model folder"
            )
        return ModelFolder.open(self.path / FIRST_STAGE)

    def checkpoint(self, fold: str, which: str = "final") -> Path:
        return self.path / f"fold_{fold}" / f"checkpoint_{which}.pt"

    def architecture(self, fold: str) -> Architecture:
        """The fold's own architecture where its attention was learned, else that of the plans.

        Raises:
            UserError: it is not the planned network with other focal modules.
        """
        planned = self.configuration.architecture
        path = self.path / f"fold_{fold}" / ARCHITECTURE
        if not path.is_file():
            return planned
        own = read_json(path, Architecture, hint="copy the fold again from where it was trained")
        if own.with_focal({}) != planned.with_focal({}):
            raise UserError(
                f"{path} differs from {self.path / 'plans.json'} in more than gates and squeeze-and-excitations; "
                "copy both from one training"
            )
        return own

    def choose_folds(self, folds: str | int | Sequence[str | int] = "all", which: str = "final") -> list[str]:
        """The folds to predict with: those asked for, or every fold that is trained ("all").

        The cross-validation folds are taken together; a model trained on all cases (``fold_all``) is taken when it
        is the only one, or by name in a list: ["all"].

        Raises:
            UserError: a fold is not trained, or none is.
        """
        trained = [fold for fold in self.folds() if self.checkpoint(fold, which).is_file()]
        if folds == "all":
            chosen = [fold for fold in trained if fold != "all"] or trained
        else:
            chosen = [str(fold) for fold in ([folds] if isinstance(folds, str | int) else folds)]
        known = ", ".join(trained) or "none"
        missing = [fold for fold in chosen if fold not in trained]
        if missing or not chosen:
            asked = f"fold {missing[0]}" if missing else "any fold"
            raise UserError(
                f"{self.path} has no checkpoint_{which}.pt of {asked} (trained: {known}); finish its training"
            )
        return chosen

    def source_folds(self, folds: Sequence[str]) -> list[str]:
        """Which of this first stage's folds feed these of the second: the same; all of them feed ``fold_all``.

        So a cross-validation's case is never segmented by a first stage that was trained on it.
        """
        return self.choose_folds("all" if "all" in folds else folds)

    def digest(self, folds: Sequence[str], which: str = "final") -> str:
        """Hash of the plans, and of the checkpoints and own architectures of ``folds``: what decides a prediction."""
        parts = [(self.path / "plans.json").read_bytes()]
        for fold in folds:
            own = self.path / f"fold_{fold}" / ARCHITECTURE
            parts += [own.read_bytes() if own.is_file() else b"", file_digest(self.checkpoint(fold, which))]
        if self.first_stage is not None:
            parts.append(self.first_stage.digest(self.first_stage.source_folds(folds)).encode())
        return digest(*parts)


def _configuration_name(path: Path, plans: Plans) -> str:
    """After ``__`` in the folder's name; a renamed folder is clear only when its plans have one configuration."""
    name = path.resolve().name.rpartition("__")[2]
    if name in plans.configurations:
        return name
    if len(plans.configurations) == 1:
        return next(iter(plans.configurations))
    known = ", ".join(plans.configurations)
    raise UserError(
        f"{path} was renamed, and its plans have several configurations ({known}); end its name with __<configuration>"
    )
