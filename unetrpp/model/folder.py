"""A trained model on disk: its plans, dataset.json, fingerprint and the checkpoints of its folds. Imports no torch."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeAlias

from unetrpp.core.digest import digest, file_digest
from unetrpp.core.errors import UserError
from unetrpp.core.files import read_json
from unetrpp.core.workspace import Workspace
from unetrpp.dataset.description import DatasetDescription, read_description
from unetrpp.model.folds import Folds, fold_names, spell_folds
from unetrpp.plans.architecture import Architecture
from unetrpp.plans.fingerprint import Fingerprint
from unetrpp.plans.plans import Configuration, Plans, read_plans

FIRST_STAGE = "previous_stage"  # inside the model folder of a cascade's second stage: that of its first
ARCHITECTURE = "architecture.json"  # in a fold that learned where to place attention: its own architecture

Checkpoint: TypeAlias = Literal["final", "best", "latest"]


@dataclass(frozen=True)
class ModelFolder:
    """A model folder, opened for reading: ``results/<dataset>/<plans>__<configuration>`` or a copy of it anywhere.

    It is complete in itself: prediction needs nothing from the workspace it was trained in.

    >>> ModelFolder.open("results/Hippocampus/unetrpp__3d_fullres").folds()  # doctest: +SKIP
    ['0', '1', '2', '3', '4']
    """

    path: Path
    plans: Plans
    configuration_name: str

    @classmethod
    def open(cls, path: Path | str) -> "ModelFolder":
        """Read the plans of the model folder at ``path``.

        Raises:
            UserError: it is not a model folder, or its name does not say which configuration it holds.
        """
        path = Path(path)
        if not (path / "plans.json").is_file():
            inside = ", ".join(sorted(plans.parent.name for plans in path.glob("*__*/plans.json")))
            give = f"give one of those in it: {inside}" if inside else "give results/<dataset>/<plans>__<configuration>"
            raise UserError(f"{path} is not a model folder (it has no plans.json); {give}")
        plans = read_plans(path / "plans.json")
        return cls(path, plans, _configuration_name(path, plans))

    @property
    def dataset(self) -> str:
        """The dataset's name, which in a workspace is its folder's.

        Plans of release 0.1.0 may have the free text that dataset.json gives as a name instead.
        """
        return Workspace.dataset_of(self.path) or self.plans.dataset

    def workspace(self, given: Path | None = None) -> Workspace:
        """Where the raw dataset is looked up: the workspace ``given``, else the one that the model lies in where the dataset is
        there, else the default one."""
        around = Workspace.of_model(self.path)
        inside = given is None and (around.raw(self.dataset) / "dataset.json").is_file()
        return around if inside else Workspace.find(given)

    @property
    def configuration(self) -> Configuration:
        """The configuration that the model was trained with."""
        return self.plans.configurations[self.configuration_name]

    @cached_property
    def description(self) -> DatasetDescription:
        """The dataset.json of the training data.

        Raises:
            UserError: it is missing or malformed.
        """
        return read_description(self.path / "dataset.json", self.dataset)

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """What was measured on the training cases.

        Raises:
            UserError: it is missing or malformed.
        """
        return read_json(self.path / "fingerprint.json", Fingerprint, hint="copy it from the preprocessed dataset")

    def folds(self) -> list[str]:
        """Names of the folds, finished or not: "0", "1", ... and "all" (trained on all cases)."""
        names = [p.name.removeprefix("fold_") for p in self.path.glob("fold_*") if p.is_dir()]
        folds = [name for name in names if re.fullmatch(r"\d+|all", name)]
        return sorted(folds, key=lambda name: (name == "all", int(name) if name != "all" else 0))

    def trained(self, which: Checkpoint = "final") -> list[str]:
        """Names of the folds that have this checkpoint."""
        return [fold for fold in self.folds() if self.checkpoint(fold, which).is_file()]

    @cached_property
    def first_stage(self) -> "ModelFolder | None":
        """The first stage of a cascade, stored inside the folder of the second; None for any other model.

        Raises:
            UserError: this is a second stage and its first is missing.
        """
        if self.configuration.first_stage is None:
            return None
        if not (self.path / FIRST_STAGE).is_dir():
            raise UserError(
                f"{self.path} is a cascade's second stage without {FIRST_STAGE}/; copy the whole model folder"
            )
        return ModelFolder.open(self.path / FIRST_STAGE)

    def checkpoint(self, fold: str, which: Checkpoint = "final") -> Path:
        """Path of a fold's checkpoint, whether it exists or not."""
        return self.path / f"fold_{fold}" / f"checkpoint_{which}.pt"

    def architecture(self, fold: str) -> Architecture:
        """The fold's own architecture if it learned where to place attention, else that of the plans.

        Raises:
            UserError: the fold's own architecture differs from the plans' in more than its focal modules.
        """
        planned = self.configuration.architecture
        path = self.path / f"fold_{fold}" / ARCHITECTURE
        if not path.is_file():
            return planned
        own = read_json(path, Architecture, hint="copy the fold again from where it was trained")
        if own.with_focal({}) != planned.with_focal({}):
            raise UserError(
                f"{path} differs from {self.path / 'plans.json'} in more than gates and squeeze-and-excitations; "
                "copy both from the same training"
            )
        return own

    def choose_folds(self, folds: Folds | None = None, which: Checkpoint = "final") -> list[str]:
        """Names of the folds to predict with: those requested, or with None every trained one of the cross-validation.

        ``fold_all``, trained on all cases, is taken by its name ("all"), and with None where no other fold is trained.

        Raises:
            UserError: a requested fold is not trained, or none is.
        """
        trained = self.trained(which)
        default = [fold for fold in trained if fold != "all"] or trained
        chosen = default if folds is None else fold_names(folds)
        missing = [fold for fold in chosen if fold not in trained]
        if missing or not chosen:
            asked = "any fold" if not missing else "fold_all" if missing[0] == "all" else f"fold {missing[0]}"
            known = ", ".join("fold_all" if fold == "all" else fold for fold in trained) or "none"
            repair = "finish its training, or choose trained folds"
            if not trained and self.trained():
                repair = "take the final one, which it has"
            elif not trained and which == "final" and self.trained("best"):
                repair = "take the best one, which it has (--checkpoint best)"
            raise UserError(f"{self.path} has no checkpoint_{which}.pt of {asked} (trained: {known}); {repair}")
        return chosen

    def source_folds(self, folds: Sequence[str]) -> list[str]:
        """The folds of this first stage whose segmentations ``folds`` of the second take: those of the same names; all for ``fold_all``.

        So in cross-validation no case is segmented by a first stage that was trained on it.
        """
        return self.choose_folds(None if "all" in folds else folds)

    def digest(self, folds: Sequence[str], which: Checkpoint = "final") -> str:
        """Hash of everything that determines a prediction: plans, checkpoints and architectures of ``folds``, and a first stage."""
        parts = []
        for fold in folds:
            own = self.path / f"fold_{fold}" / ARCHITECTURE
            parts += [own.read_bytes() if own.is_file() else b"", file_digest(self.checkpoint(fold, which))]
        first = "" if self.first_stage is None else self.first_stage.digest(self.first_stage.source_folds(folds))
        return content_digest((self.path / "plans.json").read_bytes(), parts, first)


def content_digest(plans: bytes, folds: Sequence[bytes], first_stage: str) -> str:
    """:meth:`ModelFolder.digest`, from the content of plans.json, of every fold's architecture (empty where it has none of its
    own) the content and of its checkpoint the SHA-256, and from the digest of the first stage (empty where there is none)."""
    return digest(plans, *folds, first_stage.encode())


def typed_folds(
    typed: Sequence[str] | None, models: Iterable[Path | str], which: Checkpoint = "final"
) -> list[str] | None:
    """What ``--folds`` of a command means for ``models``, as :meth:`ModelFolder.choose_folds` takes it.

    "all" is fold_all for some users (nnU-Net's ``-f all``) and every fold for others, so it is refused where a model has
    both, and stands for whichever there is otherwise.

    Raises:
        UserError: "all" has two meanings, or stands beside other folds.
    """
    if typed is None or "all" not in typed:
        return None if typed is None else list(typed)
    if list(typed) != ["all"]:
        raise UserError(
            f"--folds {' '.join(typed)}: all cannot be combined with others; give numbers, ranges such as 0-4, or fold_all"
        )
    for path in models:
        trained = ModelFolder.open(path).trained(which)
        numbered = spell_folds([fold for fold in trained if fold != "all"])
        if "all" in trained and numbered:
            raise UserError(
                f"--folds all has two meanings, as {path} has fold_all and others ({numbered}); "
                f"give --folds fold_all or --folds {numbered}"
            )
    return None


def _configuration_name(path: Path, plans: Plans) -> str:
    """The part of the folder's name after ``__``; a renamed folder must have plans with a single configuration."""
    name = path.resolve().name.rpartition("__")[2]
    if name in plans.configurations:
        return name
    if len(plans.configurations) == 1:
        return next(iter(plans.configurations))
    known = ", ".join(plans.configurations)
    raise UserError(
        f"{path} was renamed, and its plans have several configurations ({known}); end its name with __<configuration>"
    )
