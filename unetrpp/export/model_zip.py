"""A model folder as one zip and back: weights only, a hash of every file; unexpected members are refused."""

import hashlib
import io
import logging
import shutil
import zipfile
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

from unetrpp import __version__
from unetrpp.core.digest import file_digest
from unetrpp.core.errors import UserError, limit_of
from unetrpp.core.files import to_json, write_atomically, write_folder_atomically
from unetrpp.core.leftovers import remove_leftovers
from unetrpp.core.workspace import Workspace, as_folder_name, require_folder_name
from unetrpp.export.anonymize import Pseudonyms, shared_records
from unetrpp.export.card import FILE as CARD
from unetrpp.export.card import model_card
from unetrpp.export.manifest import MANIFEST, Manifest, checked_manifest
from unetrpp.inference.calibration import FILE as CALIBRATION
from unetrpp.inference.calibration import calibration_of_copy
from unetrpp.inference.postprocessing import FILE as POSTPROCESSING
from unetrpp.model.folder import ARCHITECTURE, FIRST_STAGE, Checkpoint, ModelFolder, content_digest
from unetrpp.model.folds import Folds, spell_folds

LOG = logging.getLogger(__name__)
CHUNK = 1 << 20


def export_model(
    model: Path | str,
    output: Path | str,
    *,
    folds: Folds | None = None,
    checkpoint: Checkpoint = "final",
    overwrite: bool = False,
) -> Path:
    """Write plans, dataset.json, fingerprint, a model card and the networks' weights into one zip, as `unetrpp_export -o` does.

    Optimiser states and the names of cases are left out. The same call again leaves the zip as it is.

    Args:
        model: a model folder.
        output: the zip file.
        folds: as :func:`unetrpp.predict` takes them.
        checkpoint: final, best or latest; it becomes the final one of the copy.
        overwrite: replace a file of the same name.

    Returns:
        The zip file's path.

    Raises:
        UserError: no model folder, a fold is not trained, or another file of this name exists already.
    """
    opened, target = ModelFolder.open(Path(model)), Path(output)
    if target.is_dir():
        raise UserError(f"{target} exists already; give the name of a file")
    chosen = opened.choose_folds(folds, checkpoint)
    LOG.info("%s: folds exported: %s", opened.path.resolve().name, spell_folds(chosen))
    if target.exists() and not overwrite:
        if not _is_written(target, _members(opened, chosen, checkpoint), opened):
            raise UserError(f"{target} exists already; give another name or --overwrite")
        return target
    write_atomically(target, lambda temporary: _write_zip(temporary, _members(opened, chosen, checkpoint), opened))
    return target


def _write_zip(target: Path, members: Iterator[tuple[str, bytes]], model: ModelFolder) -> None:
    hashes = {}
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
            hashes[name] = _sha256(content)
        archive.writestr(MANIFEST, to_json(_manifest(model, hashes)))


def _is_written(file: Path, members: Iterator[tuple[str, bytes]], model: ModelFolder) -> bool:
    """Whether ``file`` is a whole zip of just these members: an earlier export may have been killed after its last step."""
    if not zipfile.is_zipfile(file):
        return False
    wanted = _manifest(model, {name: _sha256(content) for name, content in members})
    try:
        with zipfile.ZipFile(file) as archive:
            return checked_manifest(file, archive) == wanted and archive.testzip() is None
    except Exception:  # zipfile raises whatever its parsing met
        return False


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _manifest(model: ModelFolder, hashes: dict[str, str]) -> Manifest:
    return Manifest(version=__version__, name=_name(model), dataset=as_folder_name(model.dataset), files=hashes)


def _members(model: ModelFolder, folds: Sequence[str], checkpoint: Checkpoint) -> Iterator[tuple[str, bytes]]:
    """Name and content of everything in the zip but its manifest; the same model gives the same bytes."""
    names, first_digest = Pseudonyms.of(model), ""
    if (first := model.first_stage) is not None:
        inside = f"{FIRST_STAGE}/"
        first_digest = yield from _of_folder(first, names, first.source_folds(folds), "final", inside=inside)
    weights = yield from _of_folder(model, names, folds, checkpoint, first_stage=first_digest)
    calibration = calibration_of_copy(model, folds, weights) if checkpoint == "final" else None
    if calibration is not None:
        yield CALIBRATION, to_json(calibration)
    yield CARD, model_card(model, folds, checkpoint, _use(model)).encode()


def _of_folder(
    model: ModelFolder,
    names: Pseudonyms,
    folds: Sequence[str],
    checkpoint: Checkpoint,
    *,
    inside: str = "",
    first_stage: str = "",
) -> Generator[tuple[str, bytes], None, str]:
    """Records and weights of one model folder, with the folder ``inside`` the zip before their names; returns the copy's
    ``ModelFolder.digest``, given that of its ``first_stage``."""
    records = shared_records(model, names)
    for name, content in records.items():
        yield inside + name, content
    if (model.path / POSTPROCESSING).is_file():
        yield inside + POSTPROCESSING, (model.path / POSTPROCESSING).read_bytes()
    parts = []
    for fold in folds:
        weights = _weights_only(model.checkpoint(fold, checkpoint))
        yield f"{inside}fold_{fold}/checkpoint_final.pt", weights
        own = model.path / f"fold_{fold}" / ARCHITECTURE
        architecture = own.read_bytes() if own.is_file() else b""
        if architecture:
            yield f"{inside}fold_{fold}/{ARCHITECTURE}", architecture
        parts += [architecture, hashlib.sha256(weights).digest()]
    return content_digest(records["plans.json"], parts, first_stage)


def _name(model: ModelFolder) -> str:
    """The name that training gave the folder, even if it was renamed, as any system takes it."""
    return as_folder_name(f"{model.plans.name}__{model.configuration_name}")


def _use(model: ModelFolder) -> str:
    """The model card's section: how to predict, and what the zip reveals about the training cases."""
    folder = f"unetrpp_workspace/results/{as_folder_name(model.dataset)}/{_name(model)}"
    return (
        f"    unetrpp_import MODEL.zip\n    unetrpp_predict -i IMAGES -o OUT -m {folder}\n\n"
        "The training cases have running numbers instead of their names. Sizes, spacings, class volumes and a hash of the "
        "files of each are in fingerprint.json, its scores (where cross-validated) in crossval_summary.json; calibration.json (of a "
        "calibrated model) says how far its Dice was from the expected one.\n"
    )


def _weights_only(path: Path) -> bytes:
    import torch  # importing a model needs no torch

    content = torch.load(path, map_location="cpu", weights_only=True)
    buffer = io.BytesIO()
    torch.save({"format": content["format"], "network": content["network"]}, buffer)
    return buffer.getvalue()


def import_model(
    file: Path | str,
    *,
    name: str | None = None,
    workspace: Path | str | None = None,
    largest_gb: float = 20.0,
    overwrite: bool = False,
) -> Path:
    """Unpack a zip of :func:`export_model` into ``results/<dataset>/<name>`` of the workspace, as `unetrpp_import ZIP` does.

    Only members that the manifest lists and that a model folder can have are unpacked, each compared with its hash. The
    model folder appears when it is complete. The same call again leaves it as it is.

    Args:
        file: the zip.
        name: of the dataset; by default the one it was trained on.
        workspace: by default $UNETRPP_WORKSPACE, else ./unetrpp_workspace.
        largest_gb: largest size of all members together, in 10^9 bytes.
        overwrite: replace a model of the same name.

    Returns:
        The model folder.

    Raises:
        UserError: no such zip, an unexpected member, a wrong hash, too large, or another model of this name exists already.
    """
    source = Path(file)
    require_folder_name(name)
    results = Workspace.find(None if workspace is None else Path(workspace)).root / "results"
    if not source.is_file():
        raise UserError(
            f"{source} {'is a folder' if source.is_dir() else 'does not exist'}; give the path of an exported zip"
        )
    try:
        with zipfile.ZipFile(source) as archive:
            manifest = checked_manifest(source, archive, largest_gb)
            # Names that the system which wrote the zip took may be none here.
            target = results / (name or as_folder_name(manifest.dataset)) / as_folder_name(manifest.name)

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


def is_exported_model(file: Path) -> bool:
    """Whether a file is a zip with the manifest of :func:`export_model`, or no zip of which that could be said."""
    if not file.is_file():
        return False
    try:
        with zipfile.ZipFile(file) as archive:
            return MANIFEST in archive.namelist() or not archive.namelist()
    except Exception:  # zipfile raises whatever its parsing met; import_model says what is wrong
        return True


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
