"""File names of BIDS: entities such as `sub-01` and words such as `T1w`, joined by underscores.

pybids would read them, too, but it indexes a whole dataset into a database with pandas and SQLAlchemy, and refuses the names
that derivatives really have (`sub-01_T1w_labels-disc-manual.nii.gz`). Names are all that is needed here.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from unetrpp.core.errors import UserError
from unetrpp.core.files import is_system, walk
from unetrpp.core.text import composed
from unetrpp.io.formats import ending_of, strip_ending
from unetrpp.io.listing import entries

# The entities of raw files; a label repeats those of the image that it was drawn on, and adds others (desc, label, space, ...).
# bids-specification.readthedocs.io, appendix "Entities".
SOURCE = (
    "sub", "ses", "sample", "task", "tracksys", "acq", "nuc", "voi", "ce", "trc", "stain", "rec", "dir", "run", "mod", "echo",
    "flip", "inv", "mt", "part", "proc", "split", "recording", "chunk",
)  # fmt: skip
# Words and keys by which labels are told from images and maps of other kinds.
LABEL_WORDS = ("dseg", "mask", "roi", "seg", "lesion", "label", "labels", "segmentation")


@dataclass(frozen=True)
class Name:
    """An image or a label with the parts of its name.

    >>> found = Name(Path("sub-M1_ses-2_acq-spc3_T2w_desc-lesion_mask.nii.gz"))
    >>> found.entities, found.words
    ({'sub': 'M1', 'ses': '2', 'acq': 'spc3', 'desc': 'lesion'}, ('T2w', 'mask'))
    """

    path: Path

    @cached_property
    def stem(self) -> str:
        return composed(strip_ending(self.path.name))

    @cached_property
    def parts(self) -> tuple[str, ...]:
        return tuple(self.stem.split("_"))

    @cached_property
    def entities(self) -> dict[str, str]:
        return {key: value for key, dash, value in (part.partition("-") for part in self.parts) if dash}

    @cached_property
    def words(self) -> tuple[str, ...]:
        return tuple(part for part in self.parts if "-" not in part)

    @property
    def suffix(self) -> str:
        """What the file is, such as T1w; in names that are not BIDS', the last entity."""
        return self.parts[-1]

    @property
    def source(self) -> dict[str, str]:
        """The entities of the image."""
        return {key: value for key, value in self.entities.items() if key in SOURCE}

    def has(self, parts: Collection[str]) -> bool:
        return set(parts) <= set(self.parts)

    def kind(self, suffixes: Collection[str]) -> tuple[str, ...]:
        """The parts that a label adds to the name of its image.

        >>> Name(Path("sub-M1_acq-spc3_T2w_desc-lesion_mask.nii.gz")).kind({"T1w", "T2w"})
        ('desc-lesion', 'mask')
        """
        return tuple(p for p in self.parts if p.partition("-")[0] not in SOURCE and p not in suffixes)

    def belongs_to(self, image: "Name", suffixes: Collection[str]) -> bool:
        """Whether a label was drawn on an image: its source entities are the image's, and it names no other suffix."""
        other = set(self.words) & set(suffixes) - {image.suffix}
        return not other and self.source.items() <= image.entities.items()


def names_below(folder: Path) -> Iterator[Name]:
    """The images of subjects in a folder, also links to nothing; `.git`, which holds as many files again, is passed over."""
    for top in entries(folder):
        for path in walk(top) if top.is_dir() else ():
            if path.name.startswith("sub-") and ending_of(path) and not is_system(path) and not path.is_dir():
                yield Name(path)


def looks_like_label(name: Name) -> bool:
    """By its last word, or by an entity that is called as such words are.

    >>> [looks_like_label(Name(Path(p))) for p in ("sub-1_T1w_seg-manual.nii", "sub-1_desc-brain_mask.nii", "sub-1_T1w.nii")]
    [True, True, False]
    """
    suffix, keys = name.suffix.casefold(), {key.casefold() for key in name.entities}
    if suffix.partition("-")[0] in LABEL_WORDS:
        return True
    return bool(keys & {*LABEL_WORDS}) and suffix in LABEL_WORDS


class Wanted(NamedTuple):
    """Images or labels that the user asks for, by parts of their names."""

    name: str  # of the channel or the class
    parts: frozenset[str]

    @property
    def suffix(self) -> str:
        return next((part for part in self.parts if "-" not in part), "")


@dataclass(frozen=True)
class Tree:
    """The images and labels of a dataset."""

    raw: tuple[Name, ...]
    derived: tuple[Name, ...]

    @cached_property
    def suffixes(self) -> set[str]:
        """Of raw images, such as T1w."""
        return {name.suffix for name in self.raw if "-" not in name.suffix and name.suffix not in LABEL_WORDS}

    @cached_property
    def labels(self) -> list[Name]:
        """What can be a label: everything whose last part is not that of an image."""
        return [name for name in (*self.raw, *self.derived) if name.suffix not in self.suffixes]

    def images(self, wanted: Wanted) -> list[Name]:
        """Those of the raw dataset; where there is none, those of the derivatives, such as skull-stripped ones."""
        for names in (self.raw, self.derived):
            if found := [name for name in names if name.suffix == wanted.suffix and name.has(wanted.parts)]:
                return found
        return []

    def kind(self, name: Name) -> str:
        return "_".join(name.kind(self.suffixes))


def parsed(text: str, *, named: bool = False) -> Wanted:
    """
    Raises:
        UserError: nothing is named.
    """
    name, equals, parts = text.rpartition("=")
    found = [part for part in parts.split("_") if part]
    if not found or (equals and not (name and named)):
        raise UserError(
            f"{text!r} is not a part of a name, such as {'lesion=desc-lesion_mask' if named else 'acq-spc3_T2w'}"
        )
    return Wanted(name or (class_name(found) if named else "_".join(found)), frozenset(found))


def class_name(parts: Sequence[str]) -> str:
    """
    >>> class_name(["label-L", "desc-lesion", "mask"]), class_name(["seg-manual"]), class_name(["dseg"])
    ('L', 'seg-manual', 'dseg')
    """
    entities = dict(part.split("-", 1) for part in parts if "-" in part)
    return entities.get("label") or entities.get("desc") or "_".join(parts)


def by_subject(names: Iterable[Name]) -> dict[str, list[Name]]:
    found: dict[str, list[Name]] = {}
    for name in names:
        found.setdefault(name.entities["sub"], []).append(name)
    return found
