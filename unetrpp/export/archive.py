"""A model folder as one zip and back: weights only, hashes of every file, and nothing unpacked that is not expected."""

import hashlib
import re
import shutil
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from unetrpp import __version__
from unetrpp.core.errors import UserError
from unetrpp.core.files import Record, to_json, write_atomically
from unetrpp.export.anonymize import Names, shared_records
from unetrpp.export.card import model_card
from unetrpp.model.folder import ARCHITECTURE, FIRST_STAGE, Checkpoint, ModelFolder

MANIFEST = "manifest.json"
EXPECTED = re.compile(
    rf"({FIRST_STAGE}/)?(plans\.json|dataset\.json|fingerprint\.json|crossval_summary\.json|MODEL_CARD\.md|"
    r"fold_(\d+|all)/(checkpoint_final\.pt|architecture\.json))"
)
NAME = re.compile(r"[\w.-]+__[\w.-]+")
MOST_FILES = 100
LARGEST_RECORD = 1 << 30  # bytes of plans, fingerprint, ...: only checkpoints may be larger
CHUNK = 1 << 20


class Manifest(Record, frozen=True, kw_only=True):
    """What the zip holds; ``files`` maps each member to its SHA-256."""

    format: int = 1
    version: str  # of unetrpp
    name: str  # of the model folder
    dataset: str
    files: dict[str, str]


def export_model(
    path: Path, target: Path, folds: str | Sequence[str] = "all", checkpoint: Checkpoint = "final"
) -> None:
    """Write plans, dataset.json, fingerprint, a model card and the networks' weights of ``folds`` into one zip.

    Optimiser states and the names of cases stay behind. Whatever ``checkpoint`` is taken becomes the final one of the
    copy.

    Raises:
        UserError: no model folder, or a fold is not trained.
    """
    model = ModelFolder.open(path)
    chosen = model.choose_folds(folds, checkpoint)
    write_atomically(target, lambda temporary: _write_zip(temporary, model, chosen, checkpoint))


def _write_zip(target: Path, model: ModelFolder, folds: Sequence[str], checkpoint: Checkpoint) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        names = Names.of(model)
        files = _add_model(archive, model, names, folds, checkpoint)
        card = model_card(model, folds, checkpoint, _use(model))
        files["MODEL_CARD.md"] = _add(archive, "MODEL_CARD.md", card.encode())
        first = model.first_stage
        if first is not None:
            files |= _add_model(archive, first, names, first.source_folds(folds), "final", f"{FIRST_STAGE}/")
        manifest = Manifest(version=__version__, name=_name(model), dataset=model.plans.dataset, files=files)
        _add(archive, MANIFEST, to_json(manifest))


def _add_model(
    archive: zipfile.ZipFile,
    model: ModelFolder,
    names: Names,
    folds: Sequence[str],
    checkpoint: Checkpoint,
    within: str = "",
) -> dict[str, str]:
    """Records and weights of one model folder, under ``within``; returns their hashes."""
    files: dict[str, str] = {}
    for name, content in shared_records(model, names).items():
        files[within + name] = _add(archive, within + name, content)
    for fold in folds:
        name = f"{within}fold_{fold}/checkpoint_final.pt"
        files[name] = _add(archive, name, _weights_only(model.checkpoint(fold, checkpoint)))
        own = model.path / f"fold_{fold}" / ARCHITECTURE
        if own.is_file():
            name = f"{within}fold_{fold}/{ARCHITECTURE}"
            files[name] = _add(archive, name, own.read_bytes())
    return files


def _name(model: ModelFolder) -> str:
    """The folder's name in its canonical form, whatever it was renamed to."""
    return f"{model.plans.name}__{model.configuration_name}"


def _use(model: ModelFolder) -> str:
    """The model card's section: how to predict, and what the zip tells of the training cases."""
    folder = f"unetrpp_workspace/results/{model.plans.dataset}/{_name(model)}"
    return (
        f"    unetrpp_import MODEL.zip\n    unetrpp_predict -i IMAGES -o OUT -m {folder}\n\n"
        "The training cases have running numbers instead of their names. Sizes, spacings, class volumes and a hash of the "
        "files of each are in fingerprint.json, its scores (where cross-validated) in crossval_summary.json.\n"
    )


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> str:
    archive.writestr(name, content)
    return hashlib.sha256(content).hexdigest()


def _weights_only(path: Path) -> bytes:
    import io

    import torch

    content = torch.load(path, map_location="cpu", weights_only=True)
    buffer = io.BytesIO()
    torch.save({"format": content["format"], "network": content["network"]}, buffer)
    return buffer.getvalue()


def import_model(source: Path, results: Path, largest_gb: float = 20.0, overwrite: bool = False) -> Path:
    """Unpack a zip of :func:`export_model` into ``results/<dataset>/<name>``; returns the model folder.

    Only members that the manifest lists and that a model folder has are unpacked, each checked against its hash, into
    a temporary folder that is renamed at the end.

    Raises:
        UserError: no such zip, an unexpected member, a wrong hash, too large, or the model is there already.
    """
    try:
        with zipfile.ZipFile(source) as archive:
            manifest = _checked_manifest(source, archive, largest_gb)
            target = results / manifest.dataset / manifest.name
            if target.exists() and not overwrite:
                raise UserError(f"{target} exists already; remove it or import with --overwrite")
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=".import.") as folder:
                unpacked = Path(folder) / manifest.name
                for name, digest in manifest.files.items():
                    _unpack(source, archive, name, digest, unpacked / name)
                _ = ModelFolder.open(unpacked).first_stage  # of a cascade, both stages are there
                _replace(unpacked, target)
    except FileNotFoundError:
        raise UserError(f"{source} does not exist; check the path") from None
    except zipfile.BadZipFile as error:
        raise UserError(f"{source} is damaged or no zip ({error}); copy it again") from None
    return target


def _checked_manifest(source: Path, archive: zipfile.ZipFile, largest_gb: float) -> Manifest:
    infos = {info.filename: info for info in archive.infolist()}
    if MANIFEST not in infos or infos[MANIFEST].file_size > LARGEST_RECORD:
        raise UserError(f"{source} is no exported model (it has no {MANIFEST}); make it with unetrpp_export")
    try:
        manifest = msgspec.json.decode(archive.read(MANIFEST), type=Manifest)
    except msgspec.DecodeError as error:
        raise UserError(f"{source}: {MANIFEST}: {error}; export the model again") from None
    strange = sorted(set(infos) ^ {MANIFEST, *manifest.files}) or [
        n for n in manifest.files if not EXPECTED.fullmatch(n)
    ]
    if strange or len(infos) > MOST_FILES:
        raise UserError(
            f"{source} holds {strange[0] if strange else len(infos)!r} unexpectedly; export the model again"
        )
    for part in (manifest.name, f"{manifest.dataset}__"):
        if not NAME.fullmatch(part + "x") or ".." in part:
            raise UserError(f"{source} names itself {part!r}, which is no folder's name; export the model again")
    total = sum(info.file_size for info in infos.values())
    records = max((i.file_size for n, i in infos.items() if not n.endswith(".pt")), default=0)
    if total > largest_gb * 1e9 or records > LARGEST_RECORD:
        raise UserError(
            f"{source} unpacks to {total / 1e9:.1f} GB, more than {largest_gb:g} GB; raise --largest-gb if you trust it"
        )
    return manifest


def _unpack(source: Path, archive: zipfile.ZipFile, name: str, digest: str, target: Path) -> None:
    """Copy one member in chunks, never more than its header announced, and compare its hash."""
    target.parent.mkdir(parents=True, exist_ok=True)
    left = archive.getinfo(name).file_size
    total = hashlib.sha256()
    with archive.open(name) as member, target.open("wb") as file:
        while (chunk := member.read(CHUNK)) and left >= 0:
            left -= len(chunk)
            total.update(chunk)
            file.write(chunk)
    if left or total.hexdigest() != digest:
        raise UserError(f"{source}: {name} does not match its hash; copy or export the model again")


def _replace(unpacked: Path, target: Path) -> None:
    if target.exists():
        shutil.rmtree(target)
    unpacked.replace(target)
