"""The trained models in a folder or zip of nnU-Net v2, found by their files."""

import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from unetrpp.core.errors import UserError
from unetrpp.core.files import walk
from unetrpp.core.zips import require_plain

PLANS, DATASET, FINGERPRINT = "plans.json", "dataset.json", "dataset_fingerprint.json"
CHECKPOINT = re.compile(r"fold_(\d+|all)/checkpoint_(final|best)\.pth")
POSTPROCESSING = re.compile(
    r"crossval_results_folds_[^/]+/postprocessing\.(json|pkl)"
)  # the .pkl is named, never opened
WANTED = re.compile(rf"{PLANS}|{DATASET}|{FINGERPRINT}|{CHECKPOINT.pattern}|{POSTPROCESSING.pattern}")
DEPTH = 3  # folders between what is given and a model: Dataset004_X/nnUNetTrainer__nnUNetPlans__3d_fullres, and one around it
MOST_FILES = 100_000  # validation predictions of several folds included
LARGEST_RECORD = 1 << 30  # bytes; only checkpoints may be larger


@dataclass(frozen=True)
class Source:
    """A folder, or a zip of which only the files of models are ever unpacked.

    Attributes:
        path: of the folder or zip.
        files: what a model can have, by its path inside.
        archive: the open zip; None for a folder.
    """

    path: Path
    files: tuple[PurePosixPath, ...]
    archive: zipfile.ZipFile | None = None

    def read(self, file: PurePosixPath) -> bytes:
        """The content of a small file."""
        return (self.path / file).read_bytes() if self.archive is None else self.archive.read(str(file))

    @contextmanager
    def on_disk(self, file: PurePosixPath) -> Iterator[Path]:
        """The path of a file; of a zip's member a temporary copy."""
        if self.archive is None:
            yield self.path / file
            return
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / file.name
            with self.archive.open(str(file)) as member, target.open("wb") as copy:
                shutil.copyfileobj(member, copy)
            yield target

    def name(self, file: PurePosixPath) -> str:
        """A file's name for messages."""
        return str(self.path / file) if self.archive is None else f"{self.path}: {file}"


@dataclass(frozen=True)
class Found:
    """The files of one trained model.

    Attributes:
        folder: the model's, inside the source.
        checkpoints: (fold, "final" or "best") -> file.
        postprocessing: files of the cross-validation's post-processing.
    """

    source: Source
    folder: PurePosixPath
    checkpoints: dict[tuple[str, str], PurePosixPath]
    postprocessing: tuple[PurePosixPath, ...]

    @property
    def name(self) -> str:
        """The folder's name for messages."""
        return self.source.name(self.folder).removesuffix(": .")

    def has(self, file: str) -> bool:
        """Whether the model's folder holds ``file``."""
        return self.folder / file in self.source.files

    def read(self, file: str) -> bytes:
        """The content of ``file`` in the model's folder.

        Raises:
            UserError: it is missing.
        """
        if not self.has(file):
            raise UserError(f"{self.name} has no {file}; copy it there from where the model was trained")
        return self.source.read(self.folder / file)


@contextmanager
def opened(path: Path, largest_gb: float) -> Iterator[Source]:
    """A folder or zip, opened.

    Args:
        largest_gb: largest size of the models' files in a zip together, in 10^9 bytes.

    Raises:
        UserError: there is no such folder or zip, the zip is damaged, or it has what an honest one does not.
    """
    if path.is_dir():
        inside = (PurePosixPath(*file.relative_to(path).parts) for file in walk(path) if file.is_file())
        yield Source(path, tuple(file for file in inside if _is_wanted(file)))
        return
    if not path.is_file():
        raise UserError(f"{path} does not exist; check the path")
    if not zipfile.is_zipfile(path):
        raise UserError(
            f"{path} is neither a zip nor a folder; give the folder of a trained model, or its exported zip"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            yield Source(path, _checked_members(path, archive, largest_gb), archive)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise UserError(f"{path} is damaged ({error}); copy it again") from None


def _checked_members(path: Path, archive: zipfile.ZipFile, largest_gb: float) -> tuple[PurePosixPath, ...]:
    require_plain(path, archive, MOST_FILES, folders=True)
    for member in archive.infolist():
        parts = PurePosixPath(member.filename).parts
        if ".." in parts or parts[:1] == ("/",) or "\\" in member.filename or ":" in member.filename:
            raise UserError(f"{path} holds {member.filename[:100]!r}, which lies outside of it; do not use this file")
    wanted = [info for info in archive.infolist() if not info.is_dir() and _is_wanted(PurePosixPath(info.filename))]
    total = sum(info.file_size for info in wanted) / 1e9
    if total > largest_gb:
        raise UserError(
            f"{path} unpacks to {total:.1f} GB, more than {largest_gb:g} GB; raise --largest-gb if you trust it"
        )
    for info in wanted:
        if info.file_size > LARGEST_RECORD and not info.filename.endswith(".pth"):
            raise UserError(f"{path}: {info.filename} is {info.file_size / 1e9:.1f} GB, too large for a record")
    return tuple(PurePosixPath(info.filename) for info in wanted)


def _is_wanted(file: PurePosixPath) -> bool:
    parts = file.parts
    return any(WANTED.fullmatch("/".join(parts[depth:])) for depth in range(min(DEPTH, len(parts) - 1) + 1))


def find_models(source: Source) -> list[Found]:
    """The models of a source: folders with plans.json and a checkpoint of a fold, by name."""
    models = []
    for folder in sorted(file.parent for file in source.files if file.name == PLANS):
        inside = {str(file.relative_to(folder)): file for file in source.files if file.is_relative_to(folder)}
        checkpoints = {(m[1], m[2]): inside[name] for name in sorted(inside) if (m := CHECKPOINT.fullmatch(name))}
        after = tuple(inside[name] for name in sorted(inside) if POSTPROCESSING.fullmatch(name))
        if checkpoints:
            models.append(Found(source, folder, checkpoints, after))
    return models
