"""A model folder as one zip and back: weights only, a hash of every file; unexpected members are refused."""

import hashlib
import io
import logging
import re
import shutil
import zipfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from unetrpp import __version__
from unetrpp.core.digest import file_digest
from unetrpp.core.errors import UserError, limit_of
from unetrpp.core.files import Record, to_json, write_atomically, write_folder_atomically
from unetrpp.core.leftovers import remove_leftovers
from unetrpp.core.workspace import Workspace, as_folder_name, is_folder_name
from unetrpp.core.zips import require_plain
from unetrpp.export.anonymize import Pseudonyms, shared_records
from unetrpp.export.card import FILE as CARD
from unetrpp.export.card import model_card
from unetrpp.model.folder import ARCHITECTURE, FIRST_STAGE, Checkpoint, ModelFolder
from unetrpp.model.folds import Folds, spell_folds

LOG = logging.getLogger(__name__)
MANIFEST = "manifest.json"
EXPECTED = re.compile(
    rf"({FIRST_STAGE}/)?(plans\.json|dataset\.json|fingerprint\.json|crossval_summary\.json|MODEL_CARD\.md|"
    r"fold_([0-9]+|all)/(checkpoint_final\.pt|architecture\.json))"
)
MOST_FILES = 100
LARGEST_MANIFEST = 1 << 20  # bytes
LARGEST_RECORD = 1 << 30  # bytes of plans, fingerprint, ...: only checkpoints may be larger
CHUNK = 1 << 20


class Manifest(Record, frozen=True, kw_only=True):
    """What the zip holds; ``files`` maps each member to its SHA-256."""

    format: int = 1
    version: str  # of unetrpp
    name: str  # of the model folder
    dataset: str
    files: dict[str, str]


class HashingZip:
    """A zip file that is being written; ``hashes`` holds the SHA-256 of every member by its name."""

    def __init__(self, archive: zipfile.ZipFile):
        self.archive = archive
        self.hashes: dict[str, str] = {}

    def add(self, name: str, content: bytes) -> None:
        self.archive.writestr(name, content)
        self.hashes[name] = hashlib.sha256(content).hexdigest()


def export_model(
    model: Path | str,
    output: Path | str,
    *,
    folds: Folds | None = None,
    checkpoint: Checkpoint = "final",
    overwrite: bool = False,
) -> Path:
    """Write plans, dataset.json, fingerprint, a model card and the networks' weights into one zip, as `unetrpp_export -o` does.

    Optimiser states and the names of cases are left out.

    Args:
        model: a model folder.
        output: the zip file.
        folds: as :func:`unetrpp.predict` takes them.
        checkpoint: final, best or latest; it becomes the final one of the copy.
        overwrite: replace a file of the same name.

    Returns:
        The zip file's path.

    Raises:
        UserError: no model folder, a fold is not trained, or the file exists already.
    """
    opened, target = ModelFolder.open(Path(model)), Path(output)
    if target.is_dir() or (target.exists() and not overwrite):
        hint = "give the name of a file" if target.is_dir() else "give another name or --overwrite"
        raise UserError(f"{target} exists already; {hint}")
    chosen = opened.choose_folds(folds, checkpoint)
    LOG.info("%s: folds exported: %s", opened.path.resolve().name, spell_folds(chosen))
    write_atomically(target, lambda temporary: _write_zip(temporary, opened, chosen, checkpoint))
    return target


def _write_zip(target: Path, model: ModelFolder, folds: Sequence[str], checkpoint: Checkpoint) -> None:
    names = Pseudonyms.of(model)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as file:
        archive = HashingZip(file)
        _add_model(archive, model, names, folds=folds, checkpoint=checkpoint)
        archive.add(CARD, model_card(model, folds, checkpoint, _use(model)).encode())
        first = model.first_stage
        if first is not None:
            folds = first.source_folds(folds)
            _add_model(archive, first, names, folds=folds, checkpoint="final", prefix=f"{FIRST_STAGE}/")
        name, dataset = _name(model), as_folder_name(model.dataset)
        archive.add(
            MANIFEST, to_json(Manifest(version=__version__, name=name, dataset=dataset, files=dict(archive.hashes)))
        )


def _add_model(
    archive: HashingZip,
    model: ModelFolder,
    names: Pseudonyms,
    *,
    folds: Sequence[str],
    checkpoint: Checkpoint,
    prefix: str = "",
) -> None:
    """Records and weights of one model folder; ``prefix`` stands before the names of the members."""
    for name, content in shared_records(model, names).items():
        archive.add(f"{prefix}{name}", content)
    for fold in folds:
        archive.add(f"{prefix}fold_{fold}/checkpoint_final.pt", _weights_only(model.checkpoint(fold, checkpoint)))
        own = model.path / f"fold_{fold}" / ARCHITECTURE
        if own.is_file():
            archive.add(f"{prefix}fold_{fold}/{ARCHITECTURE}", own.read_bytes())


def _name(model: ModelFolder) -> str:
    """The name that training gave the folder, even if it was renamed."""
    return f"{model.plans.name}__{model.configuration_name}"


def _use(model: ModelFolder) -> str:
    """The model card's section: how to predict, and what the zip reveals about the training cases."""
    folder = f"unetrpp_workspace/results/{as_folder_name(model.dataset)}/{_name(model)}"
    return (
        f"    unetrpp_import MODEL.zip\n    unetrpp_predict -i IMAGES -o OUT -m {folder}\n\n"
        "The training cases have running numbers instead of their names. Sizes, spacings, class volumes and a hash of the "
        "files of each are in fingerprint.json, its scores (where cross-validated) in crossval_summary.json.\n"
    )


def _weights_only(path: Path) -> bytes:
    import torch  # importing a model needs no torch

    content = torch.load(path, map_location="cpu", weights_only=True)
    buffer = io.BytesIO()
    torch.save({"format": content["format"], "network": content["network"]}, buffer)
    return buffer.getvalue()


def import_model(
    file: Path | str, *, workspace: Path | str | None = None, largest_gb: float = 20.0, overwrite: bool = False
) -> Path:
    """Unpack a zip of :func:`export_model` into ``results/<dataset>/<name>`` of the workspace, as `unetrpp_import ZIP` does.

    Only members that the manifest lists and that a model folder can have are unpacked, each compared with its hash. The
    model folder appears when it is complete. The same call again leaves it as it is.

    Args:
        file: the zip.
        workspace: by default $UNETRPP_WORKSPACE, else ./unetrpp_workspace.
        largest_gb: largest size of all members together, in 10^9 bytes.
        overwrite: replace a model of the same name.

    Returns:
        The model folder.

    Raises:
        UserError: no such zip, an unexpected member, a wrong hash, too large, or another model of this name exists already.
    """
    source = Path(file)
    results = Workspace.find(None if workspace is None else Path(workspace)).root / "results"
    if not source.is_file():
        raise UserError(
            f"{source} {'is a folder' if source.is_dir() else 'does not exist'}; give the path of an exported zip"
        )
    try:
        with zipfile.ZipFile(source) as archive:
            manifest = _checked_manifest(source, archive, largest_gb)
            target = results / manifest.dataset / manifest.name

            def unpack(folder: Path) -> None:
                _require_space(source, archive, folder)
                for name, expected in manifest.files.items():
                    if not _unpack(archive, name, folder / name, expected):
                        raise UserError(f"{source}: {name} does not match its hash; copy or export the model again")
                _require_readable(folder)

            if overwrite or not _is_unpacked(manifest, target):
                hint = "remove it or import with --overwrite"
                write_folder_atomically(target, unpack, replace=overwrite, hint=hint)
    except UserError:
        raise
    except Exception as error:  # zipfile raises whatever its parsing met
        if limit_of(error) is not None or isinstance(error, FileExistsError | NotADirectoryError):
            raise
        raise UserError(f"{source} is damaged or not a zip file ({error}); copy it again") from None
    return target


def _require_readable(folder: Path) -> None:
    """Open everything that a use of the model would: records, both stages of a cascade, and all checkpoints.

    Raises:
        UserError: one cannot be read, or a checkpoint holds more than tensors, numbers and strings.
    """
    import torch

    from unetrpp.model import checkpoint

    model = ModelFolder.open(folder)
    for stage in (model, model.first_stage):
        for path in () if stage is None else sorted(stage.path.glob("fold_*/checkpoint_final.pt")):
            checkpoint.load(path, torch.device("cpu"))
        if stage is not None:
            _ = stage.description, stage.fingerprint


def _require_space(source: Path, archive: zipfile.ZipFile, folder: Path) -> None:
    needed, free = sum(info.file_size for info in archive.infolist()), shutil.disk_usage(folder).free
    if needed > free:
        raise UserError(
            f"{source} unpacks to {needed / 1e9:.1f} GB, but {free / 1e9:.1f} GB are free in {folder.parent.parent}; free space"
        )


def _is_unpacked(manifest: Manifest, target: Path) -> bool:
    """Whether ``target`` holds all files of the zip: an earlier import may have been killed after its last step."""
    remove_leftovers(target.parent)
    return all(
        (target / name).is_file() and file_digest(target / name).hex() == expected
        for name, expected in manifest.files.items()
    )


def _checked_manifest(source: Path, archive: zipfile.ZipFile, largest_gb: float) -> Manifest:
    require_plain(source, archive, MOST_FILES)
    infos = {info.filename: info for info in archive.infolist()}
    if MANIFEST not in infos or infos[MANIFEST].file_size > LARGEST_MANIFEST:
        raise UserError(f"{source} is not an exported model (it has no {MANIFEST}); make it with unetrpp_export")
    try:
        manifest = msgspec.json.decode(archive.read(MANIFEST), type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(f"{source}: {MANIFEST}: {error}; export the model again") from None
    unlisted = sorted(set(infos) ^ {MANIFEST, *manifest.files})
    unexpected = unlisted or [name for name in manifest.files if not EXPECTED.fullmatch(name)]
    if unexpected:
        raise UserError(f"{source} has the unexpected member {unexpected[0]!r}; export the model again")
    for part in (manifest.name, manifest.dataset):
        if not is_folder_name(part):
            raise UserError(f"{source} has the name {part!r}, which cannot be a folder's name; export the model again")
    _require_size(source, archive, largest_gb)
    return manifest


def _require_size(source: Path, archive: zipfile.ZipFile, largest_gb: float) -> None:
    sizes = {info.filename: info.file_size for info in archive.infolist()}
    total = sum(sizes.values()) / 1e9
    if total > largest_gb:
        raise UserError(
            f"{source} unpacks to {total:.1f} GB, more than {largest_gb:g} GB; raise --largest-gb if you trust it"
        )
    for name, size in sizes.items():
        if size > LARGEST_RECORD and not name.endswith(".pt"):
            raise UserError(f"{source}: {name} is {size / 1e9:.1f} GB, too large for a record; export the model again")


def _unpack(archive: zipfile.ZipFile, name: str, target: Path, expected: str) -> bool:
    """Copy one member in chunks, stopping soon after the size that its header states; returns whether size and SHA-256 are right."""
    target.parent.mkdir(parents=True, exist_ok=True)
    left = archive.getinfo(name).file_size
    total = hashlib.sha256()
    with archive.open(name) as member, target.open("wb") as file:
        while (chunk := member.read(CHUNK)) and left >= 0:
            left -= len(chunk)
            total.update(chunk)
            file.write(chunk)
    return not left and total.hexdigest() == expected
