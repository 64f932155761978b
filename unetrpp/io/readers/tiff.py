"""TIFF, BigTIFF, ImageJ and OME by tifffile; its spacing only from CASE.json or from units that mean mm."""

import logging
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageSequence
from tifffile import COMPRESSION, PHOTOMETRIC, PREDICTOR, TiffFile, TiffFrame, TiffPage, TiffPageSeries

from unetrpp.core.errors import UserError
from unetrpp.io.geometry import Geometry
from unetrpp.io.readers import itk
from unetrpp.io.readers.content import damaged, require_content, require_format, shown, unreadable
from unetrpp.io.readers.tiff_spacing import metric_spacing, sidecar, spacing_beside
from unetrpp.io.readers.values import exact, without_alpha

LOG = logging.getLogger(__name__)
ENDINGS = (".tiff", ".tif")
# What tifffile decodes without help and quickly; ITK decodes the others (LZW, PackBits, JPEG).
BY_TIFFFILE = {
    COMPRESSION.NONE,
    COMPRESSION.DEFLATE,
    COMPRESSION.ADOBE_DEFLATE,
    COMPRESSION.LZMA,
}
PREDICTORS = (PREDICTOR.NONE, PREDICTOR.HORIZONTAL)
BITS = (1, 8, 16, 32, 64)  # per sample
COLOURS = (PHOTOMETRIC.MINISBLACK, PHOTOMETRIC.RGB, PHOTOMETRIC.PALETTE, PHOTOMETRIC.YCBCR)
MOST_EXPANSION = 10_000  # of a compressed file
ALPHA = (1, 2)  # values of ExtraSamples
BROKEN_TAG = re.compile(r"TiffTag (\d+) @")  # in tifffile's messages
PRIVATE, IMAGEJ = 32768, (50838, 50839)  # tags from here on are private; those of ImageJ's metadata


class Layout(NamedTuple):
    """Which axes of tifffile's array are channels, z, y and x; None where there is none."""

    channels: tuple[int, ...]
    z: int | None
    shape: tuple[int, ...]
    axes: str


def read(path: Path) -> tuple[np.ndarray, Geometry]:
    """Pixels (C, Z, Y, X), whole numbers as they are and all others as float32, and their grid.

    Raises:
        UserError: missing, damaged, several images or time points, a colour space that programs read differently, or
            an alpha channel that is not opaque.
    """
    with _opened(path) as tif:
        series = _only_series(path, tif)
        layout = _layout(path, series)
        geometry = _geometry(path, tif, series, layout)
        _require_pages(path, tif, series)
        _require_segments(path, tif, series)
        array = _decode(path, series)
        if _has_palette(tif, series):
            array, layout = _coloured(array, series, layout)
        array = _arrange(array, layout)
        if _has_alpha(series):
            array = without_alpha(path, array)
    return exact(path, array), geometry


def read_header(path: Path) -> tuple[Geometry, int]:
    """Grid and channels.

    Raises:
        UserError: missing, damaged, or one of the kinds that are not read.
    """
    with _opened(path) as tif:
        series = _only_series(path, tif)
        layout = _layout(path, series)
        channels = math.prod(layout.shape[axis] for axis in layout.channels)
        if _has_palette(tif, series):
            channels *= 1 if _is_gray(series.keyframe.colormap) else 3
        if _has_alpha(series):
            channels -= 1
        return _geometry(path, tif, series, layout), channels


def has_alpha(path: Path) -> bool:
    """Whether the last channel is an alpha channel.

    Raises:
        UserError: as :func:`read_header`.
    """
    with _opened(path) as tif:
        return _has_alpha(_only_series(path, tif))


def _has_alpha(series: TiffPageSeries) -> bool:
    extra = series.keyframe.extrasamples
    return bool(extra) and extra[-1] in ALPHA


def parts(path: Path) -> list[Path]:
    """The file, and CASE.json where there is one."""
    beside = sidecar(path)
    return [path] if beside is None else [path, beside]


class _Messages(logging.Handler):
    """tifffile goes on where a file is broken and says so in its log only."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.faults: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        LOG.debug("tifffile: %s", message)
        tag = BROKEN_TAG.search(message)
        # A malformed private tag concerns nobody, except for ImageJ's.
        concerns = tag is None or int(tag[1]) < PRIVATE or int(tag[1]) in IMAGEJ
        broken = record.levelno >= logging.ERROR or (tag is not None and " raised ValueError" in message)
        if (broken and concerns) or re.search(r"corrupted|missing|incorrect Strip", message):
            self.faults.append(message)

    @contextmanager
    def heard(self) -> Iterator[None]:
        """Listen, also where a program has switched off its logging or that of libraries."""
        log = logging.getLogger("tifffile")
        before = log.propagate, log.disabled, log.level, log.manager.disable
        log.propagate, log.disabled, log.manager.disable = False, False, logging.NOTSET
        log.setLevel(logging.WARNING)
        log.addHandler(self)
        try:
            yield
        finally:
            log.removeHandler(self)
            log.setLevel(before[2])
            log.propagate, log.disabled, _, log.manager.disable = before


@contextmanager
def _opened(path: Path) -> Iterator[TiffFile]:
    """
    Raises:
        UserError: whatever tifffile stumbles over, and what it says of a broken file in its log.
    """
    require_format(path, require_content(path), *ENDINGS)
    messages = _Messages()
    try:
        with messages.heard(), path.open("rb") as file, TiffFile(file, _multifile=False) as tif:
            yield tif
    except (UserError, MemoryError):
        raise
    except Exception as error:  # tifffile raises whatever its parsing met
        LOG.debug("tifffile on %s", shown(path), exc_info=error)
        raise unreadable(path, error, f"{type(error).__name__} while it was read") from None
    if messages.faults:
        LOG.debug("tifffile on %s: %s", shown(path), messages.faults[0])
        raise damaged(path, "its pages or its metadata are broken")


def _only_series(path: Path, tif: TiffFile) -> TiffPageSeries:
    if tif.is_ome and (others := _other_files(path, tif)):
        raise UserError(
            f"{shown(path)} is one of several OME files that belong together (such as {others[0]}); save them as one file"
        )
    if not tif.series:
        raise damaged(path, "none of its pages can be read")
    if len(tif.series) != 1:
        shapes = ", ".join(" x ".join(map(str, series.shape)) for series in tif.series[:3])
        raise UserError(f"{shown(path)} holds {len(tif.series)} images ({shapes}, ...); save one of them as a file")
    series = tif.series[0]
    page = series.keyframe
    if page.photometric == PHOTOMETRIC.MINISWHITE:
        raise UserError(f"{shown(path)} stores white as 0, which programs read differently; save it with black as 0")
    if page.photometric not in COLOURS:
        name = getattr(page.photometric, "name", page.photometric)
        raise UserError(f"{shown(path)} has the colour space {name}; save it as gray or RGB")
    if (turned := page.tags.valueof(274, 1)) != 1:
        raise UserError(f"{shown(path)} is stored turned or mirrored (orientation {turned}); save it upright")
    if series.dtype is not None and series.dtype.kind == "c":
        raise UserError(f"{shown(path)} holds complex numbers; write the magnitude")
    if series.dtype is None or series.dtype.kind not in "biuf" or page.bitspersample not in BITS:
        raise UserError(f"{shown(path)} has values of {page.bitspersample} bits; save it with 8, 16 or 32 bits")
    return series


def _other_files(path: Path, tif: TiffFile) -> list[str]:
    named = re.findall(r'FileName="([^"]+)"', tif.ome_metadata or "")
    return sorted({name for name in named if name != path.name} if len(set(named)) > 1 else ())


def _layout(path: Path, series: TiffPageSeries) -> Layout:
    shape, axes = series.get_shape(squeeze=True), series.get_axes(squeeze=True)
    if axes.count("Y") != 1 or axes.count("X") != 1:
        raise UserError(
            f"{shown(path)} has the axes {axes}, which are not those of an image; save it with the axes ZYX"
        )
    if "T" in axes:
        n = shape[axes.index("T")]
        raise UserError(
            f"{shown(path)} holds {n} time points according to its metadata (axes {axes}); save each as a file, or the planes as slices (Z)"
        )
    stacked = [i for i, axis in enumerate(axes) if axis not in "CSYX"]
    if len(stacked) > 1:
        sizes = " x ".join(map(str, shape))
        raise UserError(
            f"{shown(path)} has the axes {axes} ({sizes}), of which only one may be a stack; save it with the axes ZCYX"
        )
    channels = tuple(i for i, axis in enumerate(axes) if axis in "CS")
    return Layout(channels, stacked[0] if stacked else None, shape, axes)


def _geometry(path: Path, tif: TiffFile, series: TiffPageSeries, layout: Layout) -> Geometry:
    y, x = (layout.shape[layout.axes.index(axis)] for axis in "YX")
    z = 1 if layout.z is None else layout.shape[layout.z]
    spacing = spacing_beside(path)
    if spacing is None and layout.z is not None:
        spacing = metric_spacing(tif, series.keyframe)
    return Geometry(
        shape_zyx=(z, y, x), spacing_zyx_mm=spacing or (1.0, 1.0, 1.0), dimensions=2 if layout.z is None else 3
    )


def _require_pages(path: Path, tif: TiffFile, series: TiffPageSeries) -> None:
    """Whether all pages are as the first one says; tifffile takes that for granted. ImageJ may describe only the first."""
    count = len(tif.pages)
    if count > 1 and count != len(series.pages):
        raise damaged(path, f"it holds {count} of its {len(series.pages)} pages")
    first = series.keyframe
    for number in range(1, count):
        page = tif.pages.get(number, aspage=True, cache=False)
        if page.hash != first.hash or _orientation(page) != _orientation(first):
            raise damaged(path, f"page {number + 1} is described differently from the first page")
        if series.dataoffset is not None and page.dataoffsets[0] != series.dataoffset + number * page.nbytes:
            raise damaged(path, f"page {number + 1} does not follow the page before it")
        expected = math.prod(first.chunked)
        _require_segments_of_page(path, page, number=number, expected=expected, size=tif.filehandle.size)


def _orientation(page: TiffPage | TiffFrame) -> int:
    """How the pixels are turned or mirrored; 1 is upright. It is not in the page's hash."""
    return int(page.tags.valueof(274, 1)) if isinstance(page, TiffPage) else 1


def _require_segments(path: Path, tif: TiffFile, series: TiffPageSeries) -> None:
    """Whether all strips and tiles of all pages are there and within the file; tifffile fills others with zeros."""
    size = tif.filehandle.size
    if series.dataoffset is not None and series.keyframe.compression == COMPRESSION.NONE:
        if series.dataoffset + series.nbytes > size:
            raise damaged(path, f"it holds {size} of {series.dataoffset + series.nbytes} bytes")
        return
    if series.nbytes > MOST_EXPANSION * size:
        raise damaged(path, f"it claims {series.nbytes} bytes of pixels, more than {size} compressed bytes can hold")
    expected = math.prod(series.keyframe.chunked)
    for number, page in enumerate(series.pages):
        if page is None:
            raise damaged(path, f"page {number + 1} of {len(series.pages)} is missing")
        _require_segments_of_page(path, page, number=number, expected=expected, size=size)


def _require_segments_of_page(path: Path, page: TiffPage | TiffFrame, *, number: int, expected: int, size: int) -> None:
    pieces = list(zip(page.dataoffsets, page.databytecounts, strict=True))
    if len(pieces) < expected or any(n == 0 or start == 0 for start, n in pieces[:expected]):
        raise damaged(path, f"page {number + 1} lacks strips or tiles")
    if any(start + n > size for start, n in pieces):
        raise damaged(path, f"page {number + 1} reaches beyond the file's end")


def _decode(path: Path, series: TiffPageSeries) -> np.ndarray:
    """In the axes of the series. ITK would look colours up in a palette, Pillow cut those of 16 bits to 8."""
    page = series.keyframe
    if page.compression in BY_TIFFFILE and page.photometric != PHOTOMETRIC.YCBCR and page.predictor in PREDICTORS:
        return np.asarray(series.asarray(squeeze=True))
    in_order = all(p is not None and p.index == i for i, p in enumerate(series.pages))
    array = (
        _by_pillow(path)
        if page.photometric == PHOTOMETRIC.PALETTE
        else itk.memory_of(itk.read_voxels(path, "TIFFImageIO"))
    )
    if not in_order or array.size != math.prod(series.shape):
        name = getattr(page.compression, "name", page.compression)
        raise UserError(
            f"{shown(path)} is compressed with {name} in a layout that is not supported; save it with deflate"
        )
    return array.reshape(series.get_shape(squeeze=True))


def _by_pillow(path: Path) -> np.ndarray:
    with path.open("rb") as file, Image.open(file) as image:
        return np.stack([np.asarray(page) for page in ImageSequence.Iterator(image)])


def _has_palette(tif: TiffFile, series: TiffPageSeries) -> bool:
    """Whether the values are numbers of colours; of ImageJ's, whose table only serves the display, they are not."""
    page = series.keyframe
    return page.photometric == PHOTOMETRIC.PALETTE and page.colormap is not None and not tif.is_imagej


def _is_gray(colormap: np.ndarray | None) -> bool:
    return colormap is not None and bool((colormap == colormap[:1]).all())


def _coloured(array: np.ndarray, series: TiffPageSeries, layout: Layout) -> tuple[np.ndarray, Layout]:
    """Colours (..., 3) of 8 bits, or one gray, for numbers of colours."""
    colormap = np.asarray(series.keyframe.colormap)
    array = (np.moveaxis(colormap[:, array], 0, -1) >> 8).astype(np.uint8)
    if _is_gray(colormap):
        return array[..., 0], layout
    channels = (*layout.channels, len(layout.shape))
    return array, Layout(channels, layout.z, (*layout.shape, 3), layout.axes + "S")


def _arrange(array: np.ndarray, layout: Layout) -> np.ndarray:
    """(C, Z, Y, X) from the axes in the file's order."""
    y, x = layout.axes.index("Y"), layout.axes.index("X")
    order: Sequence[int] = (*layout.channels, *(() if layout.z is None else (layout.z,)), y, x)
    z = 1 if layout.z is None else layout.shape[layout.z]
    return array.transpose(order).reshape(-1, z, layout.shape[y], layout.shape[x])
