"""What a converter finds: the cases of a download and what dataset.json must say about them."""

from dataclasses import dataclass
from pathlib import Path

from unetrpp.core.errors import UserError
from unetrpp.dataset.labels import LabelScheme
from unetrpp.io.formats import ending_of
from unetrpp.io.images import read_channels

# Endings that hold a whole image in one file without loss, so that a file can be copied as it is.
KEPT_ENDINGS = (".nii.gz", ".nii", ".nrrd", ".mha", ".tiff", ".tif", ".png", ".bmp")
PHOTOGRAPHS = (".png", ".bmp", ".jpeg", ".jpg")


@dataclass(frozen=True)
class SourceCase:
    """Images in channel order: one file a channel, or a single file with all of them. No label: a test case."""

    id: str
    images: tuple[Path, ...]
    label: Path | None

    @property
    def files(self) -> tuple[Path, ...]:
        return self.images if self.label is None else (*self.images, self.label)


@dataclass(frozen=True)
class Source:
    channel_names: tuple[str, ...]
    labels: LabelScheme
    cases: tuple[SourceCase, ...]
    reference: str | None = None
    licence: str | None = None


def common_ending(cases: tuple[SourceCase, ...]) -> str:
    """The one ending of the raw dataset: the files' own where they agree and lose nothing, so that they are copied.

    Raises:
        UserError: the first image has no readable header.
    """
    endings = {ending_of(file) for case in cases for file in case.files}
    if len(endings) == 1 and endings <= set(KEPT_ENDINGS):
        return endings.pop()
    if endings <= set(PHOTOGRAPHS):
        return ".png"
    return ".tif" if _dimensions(cases) == 2 else ".nii.gz"


def _dimensions(cases: tuple[SourceCase, ...]) -> int:
    """Of the first image whose header can be read: one damaged file must not decide for the others."""
    for case in cases:
        try:
            return read_channels(case.images[0])[1]
        except UserError:
            continue
    raise UserError(f"none of the {len(cases)} images can be read; check the download")
