"""The workspace: raw, preprocessed and results under one folder, and how a dataset is named in a command."""

import difflib
import os
from dataclasses import dataclass
from pathlib import Path

from unetrpp.core.errors import UserError

VARIABLE = "UNETRPP_WORKSPACE"
DEFAULT = "unetrpp_workspace"
NO_PLANS = ("dataset", "fingerprint", "splits")  # other files of a preprocessed dataset


@dataclass(frozen=True)
class Workspace:
    root: Path

    @classmethod
    def find(cls, given: Path | None) -> "Workspace":
        """``--workspace``, else ``$UNETRPP_WORKSPACE``, else ./unetrpp_workspace."""
        return cls(given or Path(os.environ.get(VARIABLE) or DEFAULT))

    def raw(self, dataset: str) -> Path:
        return self.root / "raw" / dataset

    def preprocessed(self, dataset: str) -> Path:
        return self.root / "preprocessed" / dataset

    def plans(self, dataset: str, plans_name: str) -> Path:
        """
        Raises:
            UserError: no file may be called so, or another one is.
        """
        if Path(plans_name).name != plans_name or plans_name.startswith(".") or plans_name in NO_PLANS:
            raise UserError(
                f"plans cannot be called {plans_name!r}; give a name without / that is none of {', '.join(NO_PLANS)}"
            )
        return self.preprocessed(dataset) / f"{plans_name}.json"

    def store(self, dataset: str, plans_name: str, configuration: str) -> Path:
        return self.preprocessed(dataset) / f"{plans_name}_{configuration}"

    def model(self, dataset: str, plans_name: str, configuration: str) -> Path:
        return self.root / "results" / dataset / f"{plans_name}__{configuration}"

    def find_dataset(self, given: str) -> str:
        """The dataset's name from a name, nnU-Net's ``DatasetNNN_Name`` or its number.

        Raises:
            UserError: nothing in the workspace answers to it.
        """
        known = sorted({p.name for part in ("raw", "preprocessed") for p in (self.root / part).glob("*") if p.is_dir()})
        matches = [given] if given in known else [name for name in known if _answers(name, given)]
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise UserError(f"dataset {given!r} is ambiguous in {self.root}: {', '.join(matches)}; give the full name")
        found = f"it has {', '.join(known)}" if known else "it has none yet"
        raise UserError(f"dataset {given!r} is not in the workspace {self.root} ({found}); {_advice(given, known)}")

    def find_raw(self, given: str) -> tuple[str, Path]:
        """Name and raw folder of a dataset given by name or by path; a path's folder gives the name.

        Raises:
            UserError: nothing in the workspace answers to the name, or the path is no raw dataset.
        """
        path = Path(given)
        if (path / "dataset.json").is_file():
            inside = (p.name for p in (self.root / "raw").glob("*") if p.is_dir() and p.samefile(path))
            return next(inside, path.resolve().name), path
        if path.name != given and path.exists():
            raise UserError(f"{path} is no raw dataset: it has no dataset.json (docs/dataset_format.md shows one)")
        name = self.find_dataset(given)
        if not (self.raw(name) / "dataset.json").is_file():
            raise UserError(
                f"{self.raw(name)} holds no raw dataset; give the path of {name}'s raw folder, or link it there"
            )
        return name, self.raw(name)


def _answers(name: str, given: str) -> bool:
    """Whether the dataset ``name`` may be called so: without its prefix, with nnU-Net's, or by its number."""
    return given == plain_name(name) or name == plain_name(given) or _number(name) == given.lstrip("0")


def _advice(given: str, known: list[str]) -> str:
    # By their plain names, so that prefixes do not hide how near two names are.
    near = difflib.get_close_matches(given.lower(), [plain_name(name).lower() for name in known], n=1)
    match = next((name for name in known if near and plain_name(name).lower() == near[0]), None)
    return f"did you mean {match}?" if match else "convert it or give a path"


def plain_name(folder: str) -> str:
    """A dataset's name from its folder's.

    >>> plain_name("Task04_Hippocampus"), plain_name("Dataset004_Hippocampus"), plain_name("mine")
    ('Hippocampus', 'Hippocampus', 'mine')
    """
    head, _, tail = folder.partition("_")
    prefix = head.rstrip("0123456789")
    return tail if tail and prefix in ("Task", "Dataset") and prefix != head else folder


def _number(folder: str) -> str | None:
    head, _, _ = folder.partition("_")
    digits = head.removeprefix("Dataset").removeprefix("Task")
    return digits.lstrip("0") if digits.isdigit() and digits != head else None
