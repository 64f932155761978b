"""The header of one DICOM image file: what it is, its series, and how its pixels are stored."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pydicom.valuerep import VR

from unetrpp.core.errors import UserError, system_refusal
from unetrpp.core.text import counted

PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
DEFERRED = 1 << 16  # bytes; pydicom passes over longer values, so that headers are read without their pixels
# What may tell apart two images of one position: times, echoes, diffusion weightings, reconstructions.
DISTINGUISHING = (
    "TemporalPositionIndex", "TemporalPositionIdentifier", "EffectiveEchoTime", "EchoTime", "EchoNumbers",
    "DiffusionBValue", "DiffusionGradientOrientation", "TriggerTime", "NominalCardiacTriggerDelayTime", "StackID",
    "InversionTime", "FlipAngle", "FrameType", "ImageType", "ComplexImageComponent", "AcquisitionNumber",
    "ConvolutionKernel", "FrameReferenceDateTime", "FrameReferenceTime", "AcquisitionTime", "DimensionIndexValues",
)  # fmt: skip
PER_FRAME, SHARED = "PerFrameFunctionalGroupsSequence", "SharedFunctionalGroupsSequence"
LAYOUT = (
    "Rows", "Columns", "SamplesPerPixel", "PlanarConfiguration", "BitsAllocated", "BitsStored", "HighBit",
    "PixelRepresentation", "NumberOfFrames", "PhotometricInterpretation",
)  # fmt: skip
OTHER_SCALES = ("ModalityLUTSequence", "DoseGridScaling")
TAGS = (
    "SOPClassUID", "SOPInstanceUID", "Modality", "SeriesInstanceUID", "SeriesNumber", "SeriesDescription",
    "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "ImagerPixelSpacing", "SliceThickness",
    "SpacingBetweenSlices", "RescaleSlope", "RescaleIntercept", *OTHER_SCALES, *DISTINGUISHING, *LAYOUT,
    *PIXELS, SHARED, PER_FRAME,
)  # fmt: skip
UNDEFINED = 0xFFFFFFFF  # length of a value that ends with a delimiter
MEDIA_DIRECTORY = "1.2.840.10008.1.3.10"


@dataclass(frozen=True, eq=False)
class Header:
    """What one image file says of itself; ``offset`` and ``length`` (bytes) place its pixels in the file."""

    path: Path
    dataset: Dataset
    syntax: UID
    pixels: str  # keyword of the element that holds them
    offset: int
    length: int
    rows: int
    columns: int
    samples: int
    bits_allocated: int
    bits_stored: int
    high_bit: int
    signed: bool
    frames: int
    photometric: str


def read_dataset(path: Path) -> Dataset:
    """The elements of ``TAGS`` of a DICOM file, without its pixels.

    Raises:
        UserError: what starts as DICOM cannot be parsed.
    """
    with damage_named(path):
        dataset = pydicom.dcmread(path, defer_size=DEFERRED, specific_tags=list(TAGS), force=not has_preamble(path))
        elements = (*dataset.file_meta.values(), *dataset.values())
        for element in elements:
            _require_known(element)
    size = path.stat().st_size
    if any(_is_cut_off(element) or _reaches_beyond(element, size) for element in elements):
        raise UserError(f"{path.name} is truncated: it ends within its header; export or copy this file again")
    return dataset


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Name the file whatever pydicom raises, for a damaged one makes it raise nearly anything.

    Raises:
        UserError: in place of any other error.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        # A header is small: one that asks for much memory states a wrong length.
        refusal = None if isinstance(error, MemoryError) else system_refusal(error, path.name)
        raise refusal or UserError(
            f"{path.name} is damaged or truncated: as DICOM it cannot be parsed ({reason}); "
            "export or copy this file again"
        ) from error


def _require_known(element: DataElement | RawDataElement | None) -> None:
    """
    Raises:
        ValueError: a value representation that DICOM does not know.
    """
    if isinstance(element, RawDataElement) and element.VR is not None:
        VR(element.VR)


def _is_cut_off(element: DataElement | RawDataElement) -> bool:
    value = element.value
    return isinstance(element, RawDataElement) and isinstance(value, bytes) and len(value) < element.length < UNDEFINED


def _reaches_beyond(element: DataElement | RawDataElement, size: int) -> bool:
    """Whether a value that was passed over, other than pixels, claims more bytes than the whole file has."""
    if not isinstance(element, RawDataElement) or element.value is not None:
        return False
    return size < element.length < UNDEFINED and keyword_for_tag(element.tag) not in PIXELS


def has_preamble(path: Path) -> bool:
    """Whether a file starts as DICOM files do: 128 bytes of anything, then ``DICM``."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def read_header(path: Path, dataset: Dataset) -> Header:
    """The layout of an image.

    Raises:
        UserError: no image, or a value that does not fit the others.
    """
    with damage_named(path):
        _require_image(path, dataset)
        header = _layout(path, dataset)
        _require_layout(header)
    return header


def _layout(path: Path, dataset: Dataset) -> Header:
    pixels = next((keyword for keyword in PIXELS if keyword in dataset), None)
    if pixels is None:
        raise UserError(
            f"{path.name} has no pixel data, so it is truncated or not an image; export or copy this file again"
        )
    element = dataset.get_item(pixels, keep_deferred=True)
    allocated = _whole(path, dataset, "BitsAllocated")
    whole = pixels == "PixelData"  # floats have neither stored bits nor a sign
    stored = _whole(path, dataset, "BitsStored", None if whole else allocated)
    return Header(
        path=path,
        dataset=dataset,
        syntax=_syntax(path, dataset),
        pixels=pixels,
        offset=getattr(element, "value_tell", 0),
        length=getattr(element, "length", 0),
        rows=_whole(path, dataset, "Rows"),
        columns=_whole(path, dataset, "Columns"),
        samples=_whole(path, dataset, "SamplesPerPixel"),
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=_whole(path, dataset, "HighBit", None if whole else stored - 1, least=0),
        signed=_whole(path, dataset, "PixelRepresentation", None if whole else 1, least=0, most=1) == 1,
        frames=_whole(path, dataset, "NumberOfFrames", 1),
        photometric=text(dataset, "PhotometricInterpretation"),
    )


def text(dataset: Dataset, keyword: str) -> str:
    """The characters of a text element; "" where it is missing or empty.

    They are taken as stored: pydicom's own conversion warns of the many numbers that are longer than the standard's
    16 characters.

    Raises:
        ValueError: a value representation that DICOM does not know, as of a damaged element.
    """
    element = dataset.get_item(keyword)
    _require_known(element)
    value = None if element is None else element.value
    found = value.decode("latin-1") if isinstance(value, bytes) else "" if value is None else str(value)
    return found.strip(" \0")


def class_name(dataset: Dataset) -> str:
    """What a DICOM object is, in the standard's words."""
    return UID(text(dataset, "SOPClassUID")).name.removesuffix(" Storage") or "no SOP class"


def is_directory(dataset: Dataset) -> bool:
    """Whether it is a DICOMDIR, the index of a medium, which holds no image."""
    return text(dataset.file_meta, "MediaStorageSOPClassUID") == MEDIA_DIRECTORY


def _require_image(path: Path, dataset: Dataset) -> None:
    if is_directory(dataset):
        raise UserError(f"{path.name} is the index of a medium (DICOMDIR), not an image; give the folder of a series")
    name, modality = class_name(dataset), text(dataset, "Modality")
    if modality == "SEG" or "Segmentation" in name:
        raise UserError(
            f"{path.name} holds labels, not an image (DICOM SEG); `unetrpp_convert dicom` reads it together with its image"
        )
    if name == "RT Structure Set":
        raise UserError(
            f"{path.name} holds contours, not an image (DICOM {name}); `unetrpp_convert dicom` reads them together with "
            "their image"
        )
    if "Rows" not in dataset and not any(keyword in dataset for keyword in PIXELS):
        raise UserError(
            f"{path.name} is not an image, or is truncated (DICOM {name}, no pixel data); remove it or copy it again"
        )
    scale = next((keyword for keyword in OTHER_SCALES if keyword in dataset), None)
    if scale is not None:
        raise UserError(
            f"{path.name} (DICOM {name}) scales its values by {scale}, which is not supported; "
            "export it with RescaleSlope and RescaleIntercept, or convert it to NIfTI"
        )


def _syntax(path: Path, dataset: Dataset) -> UID:
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax is None and len(dataset.file_meta):
        raise UserError(f"{path.name} does not say how its pixels are written (TransferSyntaxUID); export it again")
    if syntax is None:  # an old file without file meta: pydicom told its encoding from the first element
        implicit, little = dataset.original_encoding
        return UID("1.2.840.10008.1.2" if implicit else "1.2.840.10008.1.2.1" if little else "1.2.840.10008.1.2.2")
    if not UID(syntax).is_transfer_syntax:
        raise UserError(f"{path.name} has the unknown transfer syntax {syntax}; export it uncompressed")
    return UID(syntax)


def _require_layout(header: Header) -> None:
    """
    Raises:
        UserError: bits, samples or the number of bytes contradict each other.
    """
    name, stored, allocated = header.path.name, header.bits_stored, header.bits_allocated
    if header.pixels != "PixelData":
        return
    if allocated not in (8, 16, 32) or not 1 <= stored <= header.high_bit + 1 <= allocated:
        raise UserError(
            f"{name} has BitsAllocated {allocated}, BitsStored {stored} and HighBit {header.high_bit}, "
            "which contradict each other; export it again"
        )
    if header.samples not in (1, 3) or (header.samples == 1) != header.photometric.startswith("MONOCHROME"):
        raise UserError(
            f"{name} has {header.samples} samples per pixel in {header.photometric or 'an unnamed colour space'}; "
            "export it in MONOCHROME2 or RGB"
        )
    if header.syntax.is_encapsulated or header.syntax.is_deflated:
        return
    samples = 2 if header.photometric == "YBR_FULL_422" else header.samples
    expected = (header.frames * header.rows * header.columns * samples * allocated + 7) // 8
    held = min(header.length, header.path.stat().st_size - header.offset)
    if held < expected or (held > expected + 1 and not _is_filling(header, expected, held)):
        state = "is truncated" if held < expected else "contradicts itself"
        raise UserError(
            f"{name} {state}: it holds {counted(held, 'byte')} of pixels, and {header.frames} x {header.rows} x {header.columns} "
            f"pixels need {expected}; export or copy this file again"
        )


def _is_filling(header: Header, expected: int, held: int) -> bool:
    """Whether the bytes behind the pixels are zeros, which some writers append."""
    with header.path.open("rb") as file:
        file.seek(header.offset + expected)
        return not any(file.read(min(held - expected, DEFERRED)))


def _whole(
    path: Path, dataset: Dataset, keyword: str, default: int | None = None, *, least: int = 1, most: int = UNDEFINED
) -> int:
    value = dataset.get(keyword)
    if value is None and default is not None:
        return default
    if not isinstance(value, int) or not least <= value <= most:
        span = f"of at least {least}" if most == UNDEFINED else f"from {least} to {most}"
        raise UserError(f"{path.name} has {keyword} {value!r} instead of a whole number {span}; export it again")
    return int(value)
