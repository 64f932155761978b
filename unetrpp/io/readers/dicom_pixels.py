"""The values of DICOM images: decoding the stored numbers, and each frame's own rescale."""

import warnings
from collections.abc import Sequence

import numpy as np
import pydicom
from pydicom.uid import RLELossless

from unetrpp.core.errors import UserError, system_refusal
from unetrpp.io.readers.dicom_codecs import decode
from unetrpp.io.readers.dicom_frames import Frame
from unetrpp.io.readers.dicom_header import Header

SURPLUS = "contains non-conformant padding"  # pydicom's warning of run lengths
LONGEST_RUN = 64  # bytes that one byte of run lengths stands for at most: a pair of bytes stands for 128
WHOLE = (np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64)


def read_pixels(ordered: Sequence[Frame]) -> np.ndarray:
    """Rescaled values (C, Z, Y, X) of frames that are alike, in their order.

    Whole numbers of the least type that holds every value that may come, where all rescales are whole; otherwise the
    true values as float32. Padding stays as stored, and so do the values of MONOCHROME1, which only says how to show
    them.

    Raises:
        UserError: the pixels of a file cannot be decoded.
    """
    first = ordered[0].header
    for header in {frame.header: None for frame in ordered}:
        _require_enough(header)
    out = np.empty((first.samples, len(ordered), first.rows, first.columns), _value_type(ordered))
    places: dict[Header, list[int]] = {}
    for z, frame in enumerate(ordered):
        places.setdefault(frame.header, []).append(z)
    for header, slices in places.items():
        stored = _stored(header)
        for z in slices:
            _rescale(ordered[z], stored[ordered[z].index], out[:, z])
    return out


def _require_enough(header: Header) -> None:
    """Refuse run lengths that are too short for the pixels of the header, by which decoders take their memory.

    Raises:
        UserError: they are.
    """
    size = header.frames * header.rows * header.columns * header.samples * header.bits_allocated // 8
    if header.syntax == RLELossless and size > LONGEST_RUN * header.path.stat().st_size:
        raise UserError(
            f"{header.path.name}: its {header.rows} x {header.columns} pixels need more run lengths than the file holds; "
            "copy this file again, or export it uncompressed"
        )


def _value_type(ordered: Sequence[Frame]) -> np.dtype:
    """The type of the rescaled values, by what the headers allow."""
    if any(frame.header.pixels != "PixelData" for frame in ordered):
        return np.dtype(np.float32)
    kinds = {(f.slope, f.intercept, f.header.bits_stored, f.header.signed) for f in ordered}
    if not all(slope.is_integer() and intercept.is_integer() for slope, intercept, _, _ in kinds):
        return np.dtype(np.float32)
    ends = [
        int(slope) * value + int(intercept)
        for slope, intercept, bits, signed in kinds
        for value in ((-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1))
    ]
    fitting = (kind for kind in WHOLE if np.iinfo(kind).min <= min(ends) and max(ends) <= np.iinfo(kind).max)
    return np.dtype(next(fitting, np.float32))


def _rescale(frame: Frame, stored: np.ndarray, out: np.ndarray) -> None:
    """Write slope * stored (Y, X, C) + intercept into ``out`` (C, Y, X); in double precision unless whole."""
    values = np.moveaxis(stored, -1, 0)
    if frame.slope == 1 and frame.intercept == 0:
        out[...] = values
    elif out.dtype.kind == "f":
        out[...] = values * np.float64(frame.slope) + frame.intercept
    elif frame.slope == 1:
        np.add(values, out.dtype.type(frame.intercept), out=out, dtype=out.dtype, casting="unsafe")
    else:
        out[...] = values.astype(np.int64) * int(frame.slope) + int(frame.intercept)


def _stored(header: Header) -> np.ndarray:
    """The stored numbers (frames, Y, X, C) of a file, without the bits that belong to none."""
    shape = (header.frames, header.rows, header.columns, header.samples)
    if _is_plain(header):
        kind = np.dtype(f"<{'i' if header.signed else 'u'}{header.bits_allocated // 8}")
        with header.path.open("rb") as file:  # numpy leaves a file open where the system gives it no second descriptor
            stored = np.fromfile(file, kind, int(np.prod(shape)), offset=header.offset)
        return _used_bits(header, stored.reshape(shape))
    try:
        stored = decode(header) if _needs_gdcm(header) else _by_pydicom(header)
    except Exception as error:  # decoders raise nearly anything
        reason = str(error).strip().rpartition("\n")[2].strip() or type(error).__name__  # pydicom's comes last
        raise system_refusal(error, header.path.name) or UserError(
            f"{header.path.name}: its pixels ({header.syntax.name}) cannot be decoded ({reason}); "
            "copy this file again, or export it uncompressed"
        ) from error
    if stored.size != np.prod(shape):
        raise UserError(
            f"{header.path.name} decodes to {stored.shape}, but its header says {shape}; export or copy this file again"
        )
    return stored.reshape(shape)


def _is_plain(header: Header) -> bool:
    """Whether the pixels stand in the file as a little-endian array of one sample."""
    return (
        header.pixels == "PixelData"
        and header.syntax.is_little_endian
        and not (header.syntax.is_encapsulated or header.syntax.is_deflated)
        and header.samples == 1
        and header.bits_allocated in (8, 16, 32)
    )


def _used_bits(header: Header, stored: np.ndarray) -> np.ndarray:
    """Clear the bits above HighBit and below the stored ones, which old files use for overlays."""
    above = header.bits_allocated - header.high_bit - 1
    below = header.high_bit + 1 - header.bits_stored
    if above:
        np.left_shift(stored, above, out=stored)
    if above or below:
        np.right_shift(stored, above + below, out=stored)
    return stored


def _needs_gdcm(header: Header) -> bool:
    return header.syntax.is_encapsulated and header.syntax != RLELossless


def _by_pydicom(header: Header) -> np.ndarray:
    """
    Raises:
        ValueError: run lengths of more pixels than the image has, which pydicom cuts off with a warning.
    """
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        pixels = pydicom.dcmread(header.path, force=True).pixel_array
    if any(SURPLUS in str(warning.message) for warning in caught):
        raise ValueError("its run lengths hold more pixels than the image")
    return pixels
