"""What a folder of CASE_0000.ending, or of labels, holds in addition to its cases: every image is used or named with a reason."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import msgspec

from unetrpp.core.text import composed, escaped
from unetrpp.dataset.cases import channel_number
from unetrpp.dataset.description import DatasetDescription
from unetrpp.io.formats import ending_of, is_folder, is_picture, strip_ending
from unetrpp.io.listing import (
    beside_slices,
    entries,
    folder_with_images,
    holds_series,
    is_image,
    parts_of,
    unreadable,
)


@dataclass(frozen=True)
class _Folder:
    """A folder of images, or of ``labels``, and the files in it that cases use."""

    path: Path
    used: Collection[Path]
    description: DatasetDescription
    labels: bool
    whose: str

    @property
    def of_folders(self) -> bool:
        """Whether its cases are folders, each with a DICOM series."""
        return any(map(is_folder, self.used))

    def expected(self, path: Path) -> DatasetDescription:
        """The description with the ending that an image at ``path`` should have: any, where no case has the dataset's."""
        ending = self.description.file_ending
        others = self.used and not any(is_folder(path) or path.name.endswith(ending) for path in self.used)
        return with_ending_of(path, self.description) if others else self.description


def left_out(
    path: Path,
    used: Collection[Path],
    description: DatasetDescription,
    *,
    labels: bool = False,
    whose: str = "the dataset's",
    ignored: Collection[str] = (),
) -> dict[str, str]:
    """Images in the folder ``path`` that no case uses: escaped name -> reason and repair.

    A subfolder counts where it holds images at any depth, or where the cases are subfolders themselves. System files and
    files that are no images do not count.

    Args:
        used: the files of the cases, or folders of DICOM series; ``path`` itself where it is the only series.
        labels: the folder is one of labels, named CASE.ending.
        whose: channels ``description`` has, for messages.
        ignored: names of entries that do not count either.

    Raises:
        OSError: the folder may not be opened.
    """
    used = set(used)
    if path in used:  # the folder is a series, whose reader accounts for its slices
        return _named(beside_slices(path), path)
    folder, parts = _Folder(path, used, description, labels, whose), parts_of(used)
    found: dict[Path, str] = {}
    for entry in entries(path):
        if entry in used and entry.is_dir():
            found |= beside_slices(entry) if holds_series(entry) else {}
        elif entry not in parts and entry.name not in ignored and (reason := _reason(entry, folder)) is not None:
            found[entry] = reason
    return _named(found, path)


def _named(found: dict[Path, str], folder: Path) -> dict[str, str]:
    return {escaped(path.relative_to(folder).as_posix()): reason for path, reason in found.items()}


def with_ending_of(path: Path, description: DatasetDescription) -> DatasetDescription:
    """The description of a dataset whose images have the ending of ``path``, in the same letters."""
    return msgspec.structs.replace(description, file_ending=path.name.removeprefix(strip_ending(path.name)))


def rename(path: Path, description: DatasetDescription) -> str:
    """What to do with a file whose name is that of no case, for a message."""
    if ending_of(path) == description.file_ending != path.name[-len(description.file_ending) :]:
        return f"rename it to {escaped(strip_ending(path.name))}{description.file_ending}"
    if not path.name.endswith(description.file_ending):
        return f"convert it to {description.file_ending}, or give the file itself in place of the folder"
    stem = strip_ending(path.name)
    target = path.with_name(f"{stem}_0000{description.file_ending}")
    if target.exists():
        return f"move it to another folder, because the case {escaped(stem)} has {escaped(target.name)}"
    if len(description.channel_names) == 1:
        return f"rename it to {escaped(target.name)}"
    several = "the files of a case to CASE_0000, CASE_0001 and so on"
    if is_picture(description.file_ending):
        return f"rename it to {escaped(target.name)} if it holds all channels, or else {several}"
    return f"rename {several}"


def _reason(path: Path, folder: _Folder) -> str | None:
    if (reason := unreadable(path)) is not None:
        return reason
    if is_folder(path):
        return _folder_reason(path, folder)
    return _file_reason(path, folder) if is_image(path) else None


def _file_reason(path: Path, folder: _Folder) -> str:
    if not ending_of(path):
        return "is a DICOM file next to the cases; move the files of its series into a folder of their own"
    if any(composed(path.name) == composed(other.name) for other in folder.used):
        return "has the same name as another file here except for the Unicode form of the letters; rename one of them"
    number, channels = channel_number(strip_ending(path.name)), folder.description.channel_names
    description = folder.expected(path)
    ending = description.file_ending
    if folder.labels:
        return f"does not end in {ending} as {folder.whose} labels do; convert it"
    if not path.name.endswith(ending):
        found = f"does not end in {ending} as {folder.whose} images do"
    elif number is None:
        found = "has no channel number in its name"
    elif number < len(channels) and (other := _of_same_case(path, folder.used)) is not None:
        return f"is another image of the case of {escaped(other.name)}; give both one ending, or move one of them"
    else:
        found = (
            f"ends in {number:04d}, but {folder.whose} channels end at {len(channels) - 1:04d} ({', '.join(channels)})"
        )
    return f"{found}; {rename(path, description)}"


def _of_same_case(path: Path, used: Collection[Path]) -> Path | None:
    case = composed(strip_ending(path.name)[:-5])
    return next((other for other in sorted(used) if composed(strip_ending(other.name)[:-5]) == case), None)


def _folder_reason(path: Path, folder: _Folder) -> str | None:
    if holds_series(path):
        if not folder.of_folders:
            return "is a folder with a DICOM series next to other images; give this folder itself"
        same = path.name.removesuffix("_0000")
        if any(other.name.removesuffix("_0000") == same for other in folder.used):
            return f"would be the case {escaped(same)}, as another folder already is; rename one of them"
        found = f"is a DICOM series without the number of one of {folder.whose} channels in its name"
        return f"{found}; rename it to CASE_0000, CASE_0001 and so on"
    inner = folder_with_images(path)
    if inner is None:
        return "holds no DICOM series; remove it, or complete it" if folder.of_folders else None
    if inner == path and folder.of_folders:
        return "holds no readable file of a DICOM series; copy it again, or give this folder itself"
    deeper = escaped(str(inner.relative_to(path.parent)))
    return f"is not searched, because every folder among the images is a case; its images are in {deeper}: give that folder"
