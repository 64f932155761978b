"""What a converter finds in a download: cases with their files, and what dataset.json will say about them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from unetrpp.core.errors import UserError
from unetrpp.core.text import counted, escaped
from unetrpp.dataset.label_definitions import read_labels
from unetrpp.dataset.labels import LabelScheme
from unetrpp.dataset.splits import Splits
from unetrpp.io.formats import ending_of
from unetrpp.io.images import Volume, read_channels

# Endings of lossless formats with one file per image, which can be copied as they are.
KEPT_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha", ".tiff", ".tif", ".png", ".bmp")
PHOTOGRAPHS = (".png", ".bmp", ".jpeg", ".jpg")


class Made(Protocol):
    """An image or a label that is made from files, where no file holds it as the raw dataset needs it.

    Records of made.py and of single datasets: frozen, so that worker processes get copies, and equal where they make the same.
    """

    @property
    def files(self) -> tuple[Path, ...]:
        """What it is made from; a file's name begins messages, and its time says whether an earlier result is current."""

    def read(self) -> Volume:
        """
        Raises:
            UserError: a file cannot be read, or does not hold what is expected.
        """


@dataclass(frozen=True)
class Mask:
    """A file that is 0 outside of one class and one other value inside."""

    name: str
    value: int  # of the class in the label map
    file: Path


@dataclass(frozen=True)
class SourceCase:
    """A case: its images in channel order, one per channel or a single one with all, and its label, if it has one.

    A path is a file or a folder with one DICOM series. The label is one file, something made, or masks, of which a later one
    counts where two overlap.
    """

    id: str
    images: tuple[Path | Made, ...]
    label: Path | Made | None = None
    masks: tuple[Mask, ...] = ()
    test: bool = False  # goes to imagesTs and labelsTs

    @property
    def labelled(self) -> bool:
        return self.label is not None or bool(self.masks)

    @property
    def files(self) -> tuple[Path, ...]:
        label = () if self.label is None else files_of(self.label)
        return (*self.image_files, *label, *(mask.file for mask in self.masks))

    @property
    def image_files(self) -> tuple[Path, ...]:
        return tuple(file for image in self.images for file in files_of(image))


def scheme_of(classes: Mapping[str, int | list[int]], order: list[int] | None = None) -> LabelScheme:
    """The labels of a dataset: class -> value, without the background; a list is a region.

    Args:
        order: with regions, the value that is written for each.
    """
    return read_labels(Path("dataset.json"), {"background": 0, **classes}, order)


def files_of(item: Path | Made) -> tuple[Path, ...]:
    return (item,) if isinstance(item, Path) else item.files


@dataclass(frozen=True)
class Source:
    """A dataset as a converter found it."""

    channel_names: tuple[str, ...]
    labels: LabelScheme
    cases: tuple[SourceCase, ...]
    reference: str | None = None
    licence: str | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)  # images and cases that are not among ``cases`` -> why
    unused: Mapping[Path, str] = field(default_factory=dict)  # the same by file, for the caller to name
    groups: Mapping[str, str] | None = None  # case -> patient, where one has several cases
    known_broken: Mapping[str, str] = field(default_factory=dict)  # case -> what its publishers or users found
    notes: tuple[str, ...] = ()  # what a user should know about this conversion, said once
    splits: Splits | None = None  # folds that are published; None leaves them to planning


def common_ending(cases: tuple[SourceCase, ...]) -> str:
    """The file ending of the raw dataset: that of the files where all have the same lossless format, so that they are copied.

    Otherwise .png for photographs, .tif for other 2D images and .nii.gz for volumes.

    Raises:
        UserError: no image has a readable header.
    """
    whole = [item for case in cases for item in (*case.images, case.label, *(mask.file for mask in case.masks))]
    endings = {ending_of(item) for item in whole if isinstance(item, Path)}
    if len(endings) == 1 and endings <= set(KEPT_ENDINGS):
        return endings.pop()
    if endings and endings <= set(PHOTOGRAPHS):
        return ".png"
    return ".tif" if _dimensions(cases) == 2 else ".nii.gz"


def _dimensions(cases: tuple[SourceCase, ...]) -> int:
    """Dimensions of the first image that can be read, so that a damaged file does not decide."""
    reasons: list[str] = []
    for case in cases:
        image = case.images[0]
        try:
            return read_channels(image)[1] if isinstance(image, Path) else image.read().geometry.dimensions
        except UserError as error:
            reasons.append(f"{escaped(case.id)}: {error}")
    raise UserError(f"no image of {counted(len(cases), 'case')} can be read, the first because of {reasons[0]}")
