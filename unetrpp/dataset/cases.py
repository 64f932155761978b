"""The cases of a raw dataset: which files belong to which case, and which image files belong to none."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from unicodedata import normalize

from unetrpp.core.errors import UserError
from unetrpp.core.text import composed, is_utf8
from unetrpp.dataset.description import DatasetDescription, read_description
from unetrpp.io.formats import FILE_ENDINGS, strip_ending

_CHANNEL = re.compile(r".+_\d{4}", re.DOTALL)


@dataclass(frozen=True)
class Case:
    """One case of a raw dataset. ``label`` is None for a test case."""

    id: str
    images: tuple[Path, ...]
    label: Path | None


@dataclass(frozen=True)
class RawDataset:
    """A raw dataset folder: its dataset.json and its training cases, sorted by id."""

    folder: Path
    description: DatasetDescription
    cases: tuple[Case, ...]


def read_dataset(folder: Path, name: str) -> RawDataset:
    """The description and all training cases of a raw dataset folder, sorted by id.

    A case is listed even where some of its files are missing; verification reports them.

    Raises:
        UserError: there is no dataset.json, or not a single case.
    """
    description = read_description(folder / "dataset.json", name)
    ids = sorted(description.files or ()) or _by_composed_name(
        [*image_ids(folder / "imagesTr", description), *_label_ids(folder / "labelsTr", description.file_ending)]
    )
    if not ids:
        others = ignored_images(folder / "imagesTr", description)
        found = f"; imagesTr has {others[0]}, so rename the images or correct 'file_ending'" if others else ""
        raise UserError(
            f"{folder} has no training case: no *_0000{description.file_ending} in imagesTr and nothing in labelsTr{found}"
        )
    return RawDataset(folder, description, tuple(_case(folder, description, i) for i in ids))


def with_references(dataset: RawDataset, folder: Path) -> RawDataset:
    """The dataset with the labels that folds are validated against: the copies in ``folder``, which --fix may have repaired."""
    ending = dataset.description.file_ending

    def with_copy(case: Case) -> Case:
        copy = folder / f"{case.id}{ending}"
        return replace(case, label=copy) if copy.is_file() else case

    return replace(dataset, cases=tuple(map(with_copy, dataset.cases)))


def _case(folder: Path, description: DatasetDescription, case: str) -> Case:
    if description.files:
        entry = description.files[case]
        return Case(case, tuple(folder / p for p in entry.images), folder / entry.label)
    images = channel_paths(folder / "imagesTr", case, description)
    return Case(case, images, in_either_form(folder / "labelsTr" / f"{case}{description.file_ending}"))


def unrecordable(case: str) -> str | None:
    r"""Why no record can hold a case of this name, in words; None where it can.

    >>> unrecordable("case_1"), unrecordable("images\\case_1")
    (None, 'the file name holds a backslash, which divides folders on Windows')
    """
    if not is_utf8(case):
        return "the file name is not UTF-8"
    if case in ("", ".", ".."):
        return "the file name is nothing but an ending"
    return "the file name holds a backslash, which divides folders on Windows" if "\\" in case else None


def channel_paths(folder: Path, case: str, description: DatasetDescription) -> tuple[Path, ...]:
    """One file per channel, or ``_0000`` alone where no other exists, because it may hold all channels (RGB, 4D)."""
    names = [f"{case}_{i:04d}{description.file_ending}" for i in range(len(description.channel_names))]
    paths = [in_either_form(folder / name) for name in names]
    several = len(paths) > 1 and paths[0].exists() and not any(p.exists() for p in paths[1:])
    return tuple(paths[:1] if several else paths)


def image_ids(folder: Path, description: DatasetDescription) -> list[str]:
    """Case ids of a folder of images named CASE_0000.ending, with the numbers of channels that the dataset has.

    Names that are equal but for the Unicode form of their letters are one case.
    """
    ending = description.file_ending
    names = [name for name in _names(folder) if name.endswith(ending)]
    names.sort(key=lambda name: (name.removesuffix(ending)[-4:], name))  # a case is named as its first channel is
    return _by_composed_name([case for name in names if (case := _case_of_image(name, description)) is not None])


def in_either_form(path: Path) -> Path:
    """``path``, or where it does not exist, the file of the same name in Unicode's other form, as macOS may have written it."""
    if not path.name.isascii() and not path.exists():
        forms = (path.with_name(normalize(form, path.name)) for form in ("NFC", "NFD"))
        return next((other for other in forms if other.exists()), path)
    return path


def channel_number(name: str) -> int | None:
    """The channel number at the end of an image's name without its ending, whether the dataset has such a channel or not.

    >>> channel_number("case_0002"), channel_number("case_2")
    (2, None)
    """
    return int(name[-4:]) if _CHANNEL.fullmatch(name) else None


def _case_of_image(name: str, description: DatasetDescription) -> str | None:
    """The case of an image file; None where the name has another ending or no number of a channel of the dataset."""
    stem = name.removesuffix(description.file_ending)
    number = channel_number(stem)
    is_channel = stem != name and number is not None and number < len(description.channel_names)
    return stem[:-5] if is_channel else None


def _by_composed_name(ids: Iterable[str]) -> list[str]:
    """Sorted ids, of those with equal composed names only the first."""
    found: dict[str, str] = {}
    for case in ids:
        found.setdefault(composed(case), case)
    return sorted(found.values())


def ignored_images(folder: Path, description: DatasetDescription) -> list[str]:
    """Names of the image files that :func:`image_ids` ignores: without number of a channel, or with another ending."""
    return sorted(name for name in _image_names(folder) if _case_of_image(name, description) is None)


def image_endings(folder: Path) -> list[str]:
    """The endings of a folder's images, in the letters of their names."""
    return sorted({name.removeprefix(strip_ending(name)) for name in _image_names(folder)})


def _image_names(folder: Path) -> set[str]:
    return {name for name in _names(folder) if name.lower().endswith(FILE_ENDINGS)}


def _label_ids(folder: Path, ending: str) -> list[str]:
    return [name.removesuffix(ending) for name in sorted(_names(folder)) if name.endswith(ending)]


def _names(folder: Path) -> list[str]:
    """Names of what a folder holds, without hidden files; none where there is no folder.

    Raises:
        OSError: the folder may not be opened (``Path.glob`` would find nothing in it).
    """
    return [path.name for path in folder.iterdir() if not path.name.startswith(".")] if folder.is_dir() else []
