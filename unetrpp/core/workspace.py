"""The workspace: the folder with raw datasets, preprocessed datasets and results, and finding a dataset in it by name."""

import difflib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unetrpp.core.errors import UserError
from unetrpp.core.text import escaped, is_utf8, quoted

VARIABLE = "UNETRPP_WORKSPACE"
NNUNETS_VARIABLE = "nnUNet_raw"
DEFAULT = "unetrpp_workspace"
NOT_IN_NAMES = '/\\<>:"|?*$`%'  # of a file, on Windows; and what a shell expands within quotes
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # names of Windows' own
NO_PLANS = ("dataset", "fingerprint", "splits")  # names of other files beside the plans


@dataclass(frozen=True)
class Workspace:
    """The folders of a workspace; none needs to exist.

    >>> Workspace(Path("w")).model("Liver", "unetrpp", "3d_fullres").as_posix()
    'w/results/Liver/unetrpp__3d_fullres'
    """

    root: Path

    @classmethod
    def find(cls, given: str | Path | None = None) -> "Workspace":
        """The workspace at ``given`` (``--workspace``), else at ``$UNETRPP_WORKSPACE``, else at ./unetrpp_workspace.

        Raises:
            UserError: its path is not UTF-8, which the libraries of the stores cannot open.
        """
        root = str(given or os.environ.get(VARIABLE) or DEFAULT)
        if not is_utf8(root):
            raise UserError(
                f"the path of the workspace, {escaped(root)}, is not UTF-8; rename the folders or choose another workspace"
            )
        return cls(Path(root))

    @classmethod
    def of_model(cls, folder: Path) -> "Workspace":
        """The workspace that a model folder lies in, or would if it lay in one: a copy may be anywhere, as high as in the root.

        A part of the workspace may be a link to another disk, and so may the model folder.
        """
        roots = [path.parent.parent.parent for path in (folder.absolute(), folder.resolve())]
        return cls(
            next((root for root in roots if (root / "raw").is_dir() or (root / "preprocessed").is_dir()), roots[1])
        )

    @property
    def option(self) -> str:
        """What a command line that is shown needs to find this workspace: nothing where commands find it by themselves."""
        found = self.root.resolve() == Workspace.find().root.resolve()
        return "" if found else f" --workspace {quoted(self.root)}"

    def raw(self, dataset: str) -> Path:
        """The folder of a raw dataset: dataset.json, imagesTr, labelsTr, imagesTs."""
        return self.root / "raw" / dataset

    def preprocessed(self, dataset: str) -> Path:
        """The folder of a preprocessed dataset: fingerprint, splits, plans and stores."""
        return self.root / "preprocessed" / dataset

    def plans(self, dataset: str, plans_name: str) -> Path:
        """The file of the plans called ``plans_name``.

        Raises:
            UserError: the name cannot be a file name, or another file of the folder has it.
        """
        if not is_folder_name(plans_name) or plans_name in NO_PLANS:
            raise UserError(
                f"plans cannot be called {plans_name!r}; give a name without / other than {', '.join(NO_PLANS)}"
            )
        return self.preprocessed(dataset) / f"{plans_name}.json"

    def store(self, dataset: str, plans_name: str, configuration: str) -> Path:
        """The folder of the preprocessed cases of one configuration."""
        return self.preprocessed(dataset) / f"{plans_name}_{configuration}"

    def model(self, dataset: str, plans_name: str, configuration: str) -> Path:
        """The model folder of one configuration."""
        return self.root / "results" / dataset / f"{plans_name}__{configuration}"

    @staticmethod
    def dataset_of(path: Path) -> str | None:
        """The dataset whose plans or model folder ``path`` is, by the folder that it lies in; None outside of a workspace.

        A copy elsewhere, or in a workspace without the dataset, knows its dataset only from its plans.
        """
        folder = path.absolute().parent  # not resolved: a link in the workspace belongs to it
        root = folder.parent.parent
        inside = folder.parent.name in ("preprocessed", "results")
        known = any((root / part / folder.name).is_dir() for part in ("raw", "preprocessed"))
        return folder.name if inside and known else None

    def find_dataset(self, given: str, parts: Sequence[str] = ("raw", "preprocessed")) -> str:
        """The name of the dataset that is given by its name, with or without nnU-Net's ``DatasetNNN_``, or by its number.

        Args:
            parts: of the workspace, in one of which it must be.

        Raises:
            UserError: no dataset in the workspace has this name or number, or several have it.
        """
        known = sorted({p.name for part in parts for p in (self.root / part).glob("*") if p.is_dir()})
        matches = [given] if given in known else [name for name in known if _matches(name, given)]
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise UserError(f"dataset {given!r} is ambiguous in {self.root}: {', '.join(matches)}; give the full name")
        found = f"it has {', '.join(known)}" if known else "it has none yet"
        repair = self._models_of(given) or _in_nnunets_raw(given) or _advice(given, known)
        raise UserError(f"dataset {given!r} is not in the workspace {self.root} ({found}); {repair}")

    def _models_of(self, given: str) -> str | None:
        """What to do about a dataset of which there are only models, such as imported ones; None where there are none."""
        folders = sorted(p for p in (self.root / "results").glob("*") if p.is_dir() and _is_named(p.name, given))
        return f"{folders[0]} has only models of it; predict with -m and one of them" if folders else None

    def find_raw(self, given: str) -> tuple[str, Path]:
        """Name and raw folder of a dataset given as in :meth:`find_dataset`, or by the path of any raw folder.

        Raises:
            UserError: no dataset in the workspace has this name, or the path is not a raw dataset or has no usable name.
        """
        path = Path(given)
        if (path / "dataset.json").is_file():
            inside = (p.name for p in (self.root / "raw").glob("*") if p.is_dir() and p.samefile(path))
            return _required_name(next(inside, path.resolve().name)), path
        if path.name != given and path.exists():
            raise UserError(f"{path} is not a raw dataset: it has no dataset.json (docs/dataset_format.md shows one)")
        name = _required_name(self.find_dataset(given))
        if not (self.raw(name) / "dataset.json").is_file():
            raise UserError(
                f"{self.raw(name)} holds no raw dataset; give the path of {name}'s raw folder, or link it there"
            )
        return name, self.raw(name)


def _required_name(folder: str) -> str:
    """
    Raises:
        UserError: no dataset can have this name, which records and other folders must hold.
    """
    if not is_folder_name(folder):
        raise UserError(f"{escaped(folder)!r} cannot be the name of a dataset; rename its folder")
    return folder


def is_folder_name(name: str) -> bool:
    """Whether a text can be the name of one visible folder.

    >>> [is_folder_name(name) for name in ("KiTS 2023 (kidney)", "CT/MR", "..", "")]
    [True, False, False, False]
    """
    return bool(name) and is_utf8(name) and name.isprintable() and name[0] != "." and not set(name) & set("/\\")


def require_folder_name(name: str | None) -> None:
    """
    Raises:
        UserError: a name is given that cannot be a folder's.
    """
    if name is not None and not is_folder_name(name):
        raise UserError(f"the name {escaped(name)!r} cannot be that of a folder; give another --name")


def as_folder_name(text: str) -> str:
    """A free text as the name of a folder on any system.

    >>> as_folder_name("KiTS 2023 (kidney)"), as_folder_name("../CT/MR"), as_folder_name("C:CT"), as_folder_name("")
    ('KiTS 2023 (kidney)', '_CT_MR', 'C_CT', 'unnamed')
    """
    safe = "".join("_" if c in NOT_IN_NAMES or not c.isprintable() else c for c in text)
    name = safe.lstrip(".").rstrip(" .") or "unnamed"
    return f"_{name}" if RESERVED.fullmatch(name) else name


def _is_named(name: str, given: str) -> bool:
    return name == given or _matches(name, given)


def _matches(name: str, given: str) -> bool:
    """Whether ``given`` is the dataset's name without its prefix, its name with a prefix of nnU-Net, or its number."""
    return given == plain_name(name) or name == plain_name(given) or _number(name) == given.lstrip("0")


def _in_nnunets_raw(given: str) -> str | None:
    """What to do about a dataset that lies in the raw folder of nnU-Net, which its users have in a variable; None elsewhere."""
    raw = os.environ.get(NNUNETS_VARIABLE)
    folders = sorted(p for p in Path(raw).glob("*") if p.is_dir() and _is_named(p.name, given)) if raw else []
    return f"${NNUNETS_VARIABLE} has it: plan with the path {folders[0]}" if folders else None


def _advice(given: str, known: list[str]) -> str:
    # Plain names are compared, because a common prefix would make unlike names similar.
    near = difflib.get_close_matches(given.lower(), [plain_name(name).lower() for name in known], n=1)
    match = next((name for name in known if near and plain_name(name).lower() == near[0]), None)
    return f"did you mean {match}?" if match else "convert it, give its path, or name another --workspace"


def plain_name(folder: str) -> str:
    """A dataset's name from its folder's.

    >>> plain_name("Task04_Hippocampus"), plain_name("Dataset004_Hippocampus"), plain_name("mine")
    ('Hippocampus', 'Hippocampus', 'mine')
    """
    head, _, tail = folder.partition("_")
    prefix = head.rstrip("0123456789")
    return tail if tail and prefix in ("Task", "Dataset") and prefix != head else folder


def dataset_name(given: str | None, folder: str) -> str:
    """The name of a dataset that is to be made: the one given, else that of the folder it is made from.

    Raises:
        UserError: no dataset can have this name.
    """
    name = given or plain_name(folder)
    if not is_folder_name(name):
        raise UserError(
            f"a dataset cannot be called {escaped(name)!r}; give a --name without / that does not begin with a dot"
        )
    return name


def _number(folder: str) -> str | None:
    """The number in ``DatasetNNN_Name`` or ``TaskNN_Name``, without leading zeros."""
    head, _, _ = folder.partition("_")
    digits = head.removeprefix("Dataset").removeprefix("Task")
    return digits.lstrip("0") if digits.isdigit() and digits != head else None
