"""What a folder of inputs holds in addition to the cases found in it: every image is predicted or named with a reason."""

from collections.abc import Mapping
from pathlib import Path

from unetrpp.core.errors import UserError
from unetrpp.core.files import is_dangling, walk
from unetrpp.core.text import composed, escaped
from unetrpp.dataset.cases import channel_number
from unetrpp.dataset.description import DatasetDescription
from unetrpp.inference.record import earlier_runs
from unetrpp.io.dicom import is_dicom, is_series
from unetrpp.io.formats import ending_of, files_of_image, strip_ending

RESULTS = "predictions*.json"  # marks a folder of results, which may hold images too
DICOM_ENDINGS = (".dcm", ".ima", ".dicom")


def left_out(folder: Path, cases: Mapping[str, tuple[Path, ...]], description: DatasetDescription) -> dict[str, str]:
    """Images in ``folder`` that none of the ``cases`` found there uses: escaped name -> reason and repair.

    A subfolder counts where it holds images at any depth, or where the cases are subfolders themselves. Hidden files,
    results of earlier predictions and files that are no images do not count.
    """
    used = {path for files in cases.values() for path in files}
    if folder in used:  # the folder is a series, whose reader accounts for its files
        entries = subfolders(folder)
    else:
        written = _results(folder)
        visible = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        entries = [path for path in visible if not path.is_dir() and path.name not in written] + subfolders(folder)
    of_folders = any(path.is_dir() for path in used) and folder not in used
    found: dict[str, str] = {}
    for path in (path for path in entries if path not in used):
        reason = _folder_reason(path, used, of_folders) if path.is_dir() else _file_reason(path, used, description)
        if reason is not None:
            found[escaped(path.name)] = reason
    parts = {escaped(part.name) for path in used if found and path.is_file() for part in files_of_image(path)}
    return {name: reason for name, reason in found.items() if name not in parts}


def subfolders(folder: Path) -> list[Path]:
    """The folders in ``folder`` without hidden ones and results of predictions."""
    with_results = any(folder.glob(RESULTS))
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_dir() and not path.name.startswith(".") and not any(path.glob(RESULTS))
        if not (with_results and path.name == "fixed")
    )


def holds_series(folder: Path) -> bool:
    """Whether a folder holds a DICOM series itself; one that cannot be opened does not."""
    try:
        return is_series(folder)
    except OSError:
        return False


def folder_with_images(top: Path) -> Path | None:
    """The first folder that holds an image: ``top`` itself or one below it."""
    return next((path.parent for path in walk(top) if _is_image(path)), None)


def rename(path: Path, description: DatasetDescription) -> str:
    """What to do with a file whose name is that of no case, for a message."""
    if not path.name.endswith(description.file_ending):
        return f"convert it to {description.file_ending}, or give the file itself in place of the folder"
    stem = strip_ending(path.name)
    target = path.with_name(f"{stem}_0000{description.file_ending}")
    if target.exists():
        return f"move it to another folder, because the case {escaped(stem)} has {escaped(target.name)}"
    if len(description.channel_names) == 1:
        return f"rename it to {escaped(target.name)}"
    return "rename the files of a case to CASE_0000, CASE_0001 and so on"


def _results(folder: Path) -> set[str]:
    """Names of the files that earlier predictions wrote into ``folder``."""
    try:
        runs = earlier_runs(folder).values()
    except UserError:  # another program's file of this name
        return set()
    records = [record for run in runs for record in run.cases.values()]
    outputs = {name for record in records for name in (record.output, *record.maps)}
    return outputs | {name for run in runs for name in run.pending} | {f"{strip_ending(name)}.dcm" for name in outputs}


def _is_image(path: Path) -> bool:
    """Whether a path is a file, or a link that should lead to one, whose name or first bytes are those of an image."""
    if path.name.startswith(".") or path.is_dir() or path.name.upper() == "DICOMDIR":
        return False
    if ending_of(path) or path.suffix.lower() in DICOM_ENDINGS:
        return True
    try:
        return path.is_file() and is_dicom(path)
    except OSError:
        return False


def _file_reason(path: Path, used: set[Path], description: DatasetDescription) -> str | None:
    if is_dangling(path):
        return "is a link to something that is not there; fetch it (such as with git annex get)"
    if not _is_image(path):
        return None
    if not ending_of(path):
        return "is a DICOM file next to the cases; move the files of its series into a folder of their own"
    if any(composed(path.name) == composed(other.name) for other in used):
        return "is named as another file here but for the Unicode form of its letters; rename one of them"
    number, channels = channel_number(strip_ending(path.name)), description.channel_names
    if not path.name.endswith(description.file_ending):
        found = f"does not end in {description.file_ending} as the model's images do"
    elif number is None:
        found = "has no channel number in its name"
    else:
        found = f"ends in {number:04d}, but the model's channels end at {len(channels) - 1:04d} ({', '.join(channels)})"
    return f"{found}; {rename(path, description)}"


def _folder_reason(path: Path, used: set[Path], of_folders: bool) -> str | None:
    """``of_folders``: the cases are folders."""
    if holds_series(path):
        if not of_folders:
            return "is a folder with a DICOM series next to other images; give this folder itself"
        same = path.name.removesuffix("_0000")
        if any(other.name.removesuffix("_0000") == same for other in used):
            return f"would be the case {escaped(same)} as another folder is; rename one of them"
        return "is a DICOM series without a channel number of the model in its name; rename it to CASE_0000, CASE_0001 and so on"
    inner = folder_with_images(path)
    if inner is None:
        return "holds no DICOM series; remove it, or complete it" if of_folders else None
    if inner == path and of_folders:
        return "holds no readable file of a DICOM series; copy it again, or give this folder itself"
    deeper = escaped(str(inner.relative_to(path.parent)))
    return f"is not searched, because folders in the folder of images are cases; its images are in {deeper}: give that folder"
