"""DICOM images: the series of a folder or one file, single- or multi-frame, as an array with its grid.

pydicom reads the headers and the plain pixels, and GDCM decodes the compressed ones. What would give a wrong grid or
wrong values is refused with the name of the file.
"""

import logging
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from unetrpp.core.errors import UserError
from unetrpp.core.files import own_name
from unetrpp.io.geometry import Geometry
from unetrpp.io.readers.content import shown
from unetrpp.io.readers.dicom_files import series_headers
from unetrpp.io.readers.dicom_frames import Frame, frames
from unetrpp.io.readers.dicom_header import Header, damage_named, read_dataset
from unetrpp.io.readers.dicom_header import read_header as read_file_header
from unetrpp.io.readers.dicom_pixels import read_pixels
from unetrpp.io.readers.dicom_stack import stack

LOG = logging.getLogger(__name__)
ONE_AT_A_TIME = threading.RLock()  # of those who change what warnings do
logging.getLogger("pydicom").setLevel(logging.CRITICAL)  # it logs every warning a second time


def read(source: Path | Sequence[Path]) -> tuple[np.ndarray, Geometry]:
    """The array (C, Z, Y, X) of a folder with one series, of one file, or of the files of one series, and its grid in LPS.

    The slices come in the order of their positions along the normal. Whole numbers where every rescale is whole,
    otherwise the true values as float32; a colour image has three channels.

    Raises:
        UserError: a damaged file, several volumes, missing or uneven slices, a tilt, or what is no image.
    """
    ordered, geometry = _slices(source)
    path = _place(source)
    if any(frame.header.photometric == "MONOCHROME1" for frame in ordered):
        LOG.warning("%s is MONOCHROME1 (low values shown white); its values are kept as stored", path.name)
    with pydicom_warns_the_log(path):
        return read_pixels(ordered), geometry


def read_header(source: Path | Sequence[Path]) -> tuple[Geometry, int]:
    """The grid of what ``read`` takes, and its number of channels, from the headers alone.

    Raises:
        UserError: as ``read``, except for pixels that cannot be decoded.
    """
    ordered, geometry = _slices(source)
    return geometry, ordered[0].header.samples


def source_slices(path: Path) -> list[tuple[Path, int]]:
    """For each slice of ``read``'s array, in order, the file and the frame in it (from 0 on) that it comes from.

    Raises:
        UserError: as ``read_header``.
    """
    return [(frame.header.path, frame.index) for frame in _slices(path)[0]]


def _slices(source: Path | Sequence[Path]) -> tuple[list[Frame], Geometry]:
    path = _place(source)
    with pydicom_warns_the_log(path):
        headers = _headers(source)
        _require_one_multiframe(path, headers)
        found: list[Frame] = []
        for header in headers:
            with damage_named(header.path):
                found += frames(header)
    with damage_named(path):
        return stack(own_name(path), found)


def _place(source: Path | Sequence[Path]) -> Path:
    """What messages name: the folder or file, or the folder of the first of several files."""
    return source if isinstance(source, Path) else source[0].parent


def _headers(source: Path | Sequence[Path]) -> list[Header]:
    if isinstance(source, Path) and source.is_dir():
        return series_headers(source)
    files = [source] if isinstance(source, Path) else source
    return [read_file_header(file, read_dataset(file)) for file in files]


@contextmanager
def pydicom_warns_the_log(path: Path) -> Iterator[None]:
    """pydicom's and highdicom's warnings, which do not name the file, go to the debug log; what matters of them is checked here.

    One thread at a time: what ``warnings`` records belongs to the process, and a series is read while another one's results are
    written.
    """
    with ONE_AT_A_TIME, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for warning in caught:
        LOG.debug("pydicom on %s: %s", shown(path), warning.message)


def _require_one_multiframe(path: Path, headers: Sequence[Header]) -> None:
    several = [header for header in headers if header.frames > 1]
    if several and len(headers) > 1:
        names = ", ".join(header.path.name for header in several[:3])
        raise UserError(
            f"{path.name} holds {len(headers)} files of one series, of which {len(several)} are multi-frame images "
            f"({names}), each a volume of its own; give one of these files"
        )
