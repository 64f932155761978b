"""The list of what an exported model holds, and what is checked by it before anything is unpacked."""

import math
import re
import zipfile
from pathlib import Path

import msgspec

from unetrpp.core.errors import UserError
from unetrpp.core.files import Record
from unetrpp.core.workspace import is_folder_name
from unetrpp.core.zips import require_plain
from unetrpp.model.folder import FIRST_STAGE

MANIFEST = "manifest.json"
EXPECTED = re.compile(
    rf"({FIRST_STAGE}/)?(plans\.json|dataset\.json|fingerprint\.json|crossval_summary\.json|calibration\.json|postprocessing\.json|"
    r"MODEL_CARD\.md|fold_([0-9]+|all)/(checkpoint_final\.pt|architecture\.json))"
)
MOST_FILES = 100
LARGEST_MANIFEST = 1 << 20  # bytes
LARGEST_RECORD = 1 << 30  # bytes of plans, fingerprint, ...: only checkpoints may be larger


class Manifest(Record, frozen=True, kw_only=True):
    """What the zip holds; ``files`` maps each member to its SHA-256."""

    format: int = 1
    version: str  # of unetrpp
    name: str  # of the model folder
    dataset: str
    files: dict[str, str]


def checked_manifest(source: Path, archive: zipfile.ZipFile, largest_gb: float = math.inf) -> Manifest:
    """The manifest of an exported model, compared with the directory of the zip; no other member is read.

    Args:
        largest_gb: largest size of all members together, in 10^9 bytes.

    Raises:
        UserError: the zip is not an exported model, has members that one cannot have, or is too large.
    """
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
