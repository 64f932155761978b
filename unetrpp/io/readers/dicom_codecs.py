"""Decoding JPEG, JPEG-LS and JPEG 2000 in DICOM files, and what shows that such an image is damaged."""

import logging
import re
import struct
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import JPEGBaseline8Bit, SecondaryCaptureImageStorage, generate_uid

from unetrpp.io.readers.dicom_header import LAYOUT, Header
from unetrpp.io.readers.native_output import native_output

LOG = logging.getLogger(__name__)

# GDCM prints what its four decoders say, which is any text; a progress bar of another thread has no line of its own.
ANY_LINE = re.compile(rb"[^\r\n]+\n")
END_OF_IMAGE = b"\xff\xd9"  # of JPEG, JPEG-LS and JPEG 2000 alike
START_OF_FRAME = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}  # second byte of the marker
FILLING = b"\0\xff"  # bytes that make a fragment's length even
JPEG_LEVELS = 16  # by which the brightness of a lossy image may differ between two decoders


def decode(header: Header) -> np.ndarray:
    """Decode JPEG, JPEG-LS and JPEG 2000 by the GDCM in ITK, which pydicom alone cannot without more packages.

    GDCM gets a file of just the layout and the compressed pixels, so that it changes no value: no rescale, no
    inversion of MONOCHROME1.

    Raises:
        ValueError: a damaged image, with the reason.
    """
    source = pydicom.dcmread(header.path, force=True)
    images = list(generate_frames(source.PixelData, number_of_frames=header.frames))
    for image in images:
        _require_sound(header, image)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "image.dcm"
        _bare(header, source, images).save_as(path, enforce_file_format=True)
        decoded = _by_gdcm(path, header.path.name)
    if header.syntax == JPEGBaseline8Bit and get_decoder(JPEGBaseline8Bit).is_available:
        _require_agreement(decoded, source.pixel_array)
    return decoded


def _by_gdcm(path: Path, name: str) -> np.ndarray:
    """
    Raises:
        ValueError: it cannot be decoded.
    """
    printed: list[str] = []
    try:
        with native_output(ANY_LINE) as printed:
            decoded: np.ndarray = sitk.GetArrayFromImage(sitk.ReadImage(str(path), imageIO="GDCMImageIO"))
    except RuntimeError as error:
        LOG.debug("GDCM on %s: %s", name, error)
        raise ValueError("the compressed data are damaged") from error
    finally:
        for line in printed:
            LOG.debug("GDCM on %s: %s", name, line)
    return decoded


def _bare(header: Header, source: Dataset, images: Sequence[bytes]) -> Dataset:
    """The layout and the images alone, as a secondary capture."""
    bare = Dataset()
    for keyword in LAYOUT:
        if keyword in source:
            bare[keyword] = source[keyword]
    bare.PixelData = encapsulate(list(images))
    bare["PixelData"].VR = "OB"
    bare["PixelData"].is_undefined_length = True
    if header.samples == 1:
        bare.PhotometricInterpretation = "MONOCHROME2"
    bare.file_meta = FileMetaDataset()
    bare.file_meta.TransferSyntaxUID = header.syntax
    bare.file_meta.MediaStorageSOPClassUID = bare.SOPClassUID = SecondaryCaptureImageStorage
    bare.file_meta.MediaStorageSOPInstanceUID = bare.SOPInstanceUID = generate_uid()
    return bare


def _require_sound(header: Header, image: bytes) -> None:
    """
    Raises:
        ValueError: an image that is cut off, or of another size than the header says: decoders take memory by that.
    """
    if not image.rstrip(FILLING).endswith(END_OF_IMAGE):
        raise ValueError("the compressed image has no end, so it is truncated")
    if _size(image) != (header.rows, header.columns):
        raise ValueError(f"it says {_size(image)} pixels where the header says {(header.rows, header.columns)}")


def _require_agreement(decoded: np.ndarray, other: np.ndarray) -> None:
    """
    Raises:
        ValueError: pydicom's decoder sees another image; a lossy JPEG has no checksum, and decoders guess what is lost.
    """
    one, two = decoded.astype(float), other.reshape(decoded.shape).astype(float)
    if decoded.ndim > 3:  # decoders spread the colours of neighbours differently, but not their brightness
        one, two = one.mean(axis=-1), two.mean(axis=-1)
    if np.abs(one - two).max() > JPEG_LEVELS:
        raise ValueError("two decoders read different images, so it is damaged")


def _size(image: bytes) -> tuple[int, int] | None:
    """Rows and columns by the start of a frame in JPEG and JPEG-LS, or by JPEG 2000's size marker."""
    if image.startswith(b"\xff\x4f\xff\x51"):
        right, bottom, left, top = struct.unpack_from(">4I", image, 8)
        return bottom - top, right - left
    at = 2
    while at + 9 <= len(image) and image[at] == 0xFF:
        marker, length = image[at + 1], int.from_bytes(image[at + 2 : at + 4], "big")
        if marker in START_OF_FRAME:
            rows, columns = struct.unpack_from(">2H", image, at + 5)
            return rows, columns
        at += 2 + length
    return None
