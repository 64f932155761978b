"""What a converter finds in a download: cases with their files, and what dataset.json will say about them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from unetrpp.core.errors import UserError
from unetrpp.core.text import counted
from unetrpp.dataset.labels import LabelScheme
from unetrpp.io.formats import ending_of
from unetrpp.io.images import read_channels

# Endings of lossless formats with one file per image, which can be copied as they are.
KEPT_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha", ".tiff", ".tif", ".png", ".bmp")
PHOTOGRAPHS = (".png", ".bmp", ".jpeg", ".jpg")


@dataclass(frozen=True)
class Mask:
    """A file that is 0 outside of one class and one other value inside."""

    name: str
    value: int  # of the class in the label map
    file: Path


@dataclass(frozen=True)
class SourceCase:
    """A case: its images in channel order, one file per channel or a single file with all, and its label, if it has one.

    The label is one file, or masks, of which a later one counts where two overlap.
    """

    id: str
    images: tuple[Path, ...]
    label: Path | None = None
    masks: tuple[Mask, ...] = ()
    test: bool = False  # goes to imagesTs and labelsTs

    @property
    def labelled(self) -> bool:
        return self.label is not None or bool(self.masks)

    @property
    def files(self) -> tuple[Path, ...]:
        label = () if self.label is None else (self.label,)
        return (*self.images, *label, *(mask.file for mask in self.masks))


@dataclass(frozen=True)
class Source:
    """A dataset as a converter found it."""

    channel_names: tuple[str, ...]
    labels: LabelScheme
    cases: tuple[SourceCase, ...]
    reference: str | None = None
    licence: str | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)  # images and cases that are not among ``cases`` -> why


def common_ending(cases: tuple[SourceCase, ...]) -> str:
    """The file ending of the raw dataset: that of the files where all have the same lossless format, so that they are copied.

    Otherwise .png for photographs, .tif for other 2D images and .nii.gz for volumes.

    Raises:
        UserError: no image has a readable header.
    """
    endings = {ending_of(file) for case in cases for file in case.files}
    if len(endings) == 1 and endings <= set(KEPT_ENDINGS):
        return endings.pop()
    if endings <= set(PHOTOGRAPHS):
        return ".png"
    return ".tif" if _dimensions(cases) == 2 else ".nii.gz"


def _dimensions(cases: tuple[SourceCase, ...]) -> int:
    """Dimensions of the first image whose header can be read, so that a damaged file does not decide."""
    for case in cases:
        try:
            return read_channels(case.images[0])[1]
        except UserError:
            continue
    raise UserError(f"no image of {counted(len(cases), 'case')} can be read; check the download")
