"""Names of channels where the files tell them: colours of photographs, and the modality of DICOM series."""

from collections.abc import Sequence
from pathlib import Path

from unetrpp.core.errors import UserError
from unetrpp.dataset_conversion.case_files import read_item
from unetrpp.dataset_conversion.source import Made, SourceCase
from unetrpp.io.dicom import channel_of, dicom_files, is_dicom
from unetrpp.io.formats import ending_of, is_picture
from unetrpp.io.images import read_channels

COLOURS = ("R", "G", "B")


def inferred_channels(cases: Sequence[SourceCase]) -> tuple[str, ...]:
    """The names of the channels, where every image says what it is.

    Photographs are R, G, B or gray, by the first that can be read; a DICOM series is what its Modality says. Nothing is
    inferred from intensities: an MR image that looks like a CT would be normalised as one.

    Raises:
        UserError: the files do not tell, or the cases differ.
    """
    images = list(zip(*(case.images for case in cases), strict=False))
    names = [_photograph(column) if _is_photograph(column[0]) else _modality(cases, column) for column in images]
    found = tuple(name for of_column in names for name in of_column)
    if twice := next((name for name in found if found.count(name) > 1), None):
        raise UserError(f"two channels are {twice}; name them with --channel, such as --channel T1,FLAIR")
    return found


def _is_photograph(image: Path | Made) -> bool:
    return not isinstance(image, Path) or (image.is_file() and is_picture(ending_of(image)))


def _photograph(images: Sequence[Path | Made]) -> tuple[str, ...]:
    reasons: list[str] = []
    for image in images:
        try:
            channels = read_channels(image)[0] if isinstance(image, Path) else len(read_item(image).array)
        except UserError as error:  # who reads the image reports it, if another one can be read
            reasons.append(str(error))
            continue
        if channels in (1, 3):
            return COLOURS if channels == 3 else ("gray",)
        raise UserError(f"the images have {channels} channels; name them with --channel, such as --channel DAPI,actin")
    raise UserError(f"no image of {len(images)} can be read, the first because of {reasons[0]}")


def _modality(cases: Sequence[SourceCase], images: Sequence[Path | Made]) -> tuple[str, ...]:
    first: dict[str, str] = {}  # modality -> a case that has it
    for case, image in zip(cases, images, strict=True):
        if isinstance(image, Path) and (modality := _of_dicom(image)) is not None:
            first.setdefault(modality, case.id)
    if len(first) > 1:
        both = " and ".join(f"{case} is {modality}" for modality, case in list(first.items())[:2])
        raise UserError(f"the cases are of several modalities ({both}); separate them, or give --channel")
    if not first:
        raise UserError(
            "the image files do not say what their channels are; give --channel with a name for each, such as CT "
            "(only for Hounsfield units), MR, or T1,FLAIR"
        )
    return tuple(first)


def _of_dicom(image: Path) -> str | None:
    """The Modality of a series or a file; None where it is no DICOM, or does not say."""
    try:
        file = next(dicom_files(image), None) if image.is_dir() else (image if is_dicom(image) else None)
    except OSError:
        return None
    if file is None:
        return None
    import pydicom

    try:
        header = pydicom.dcmread(file, specific_tags=["Modality"], stop_before_pixels=True, force=True)
    except Exception:  # who reads the image says what is wrong with it
        return None
    return channel_of(str(header.get("Modality") or "")) or None
