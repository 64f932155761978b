"""PNG, JPEG and BMP: pixels of 1 x 1, whatever density a file claims, in its colours without an alpha channel.

Pillow reads them, except for colours of 16 bits. PNG is verified by its checksums; JPEG, which has none, by a second
decoder, ITK's: both go on where data is missing or wrong, but ITK's prints that it does.
"""

import contextlib
import logging
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from unetrpp.core.errors import UserError
from unetrpp.io.geometry import Geometry
from unetrpp.io.readers import itk
from unetrpp.io.readers.content import damaged, require_content, shown, unreadable
from unetrpp.io.readers.detached import read_from
from unetrpp.io.readers.values import exact, without_alpha

LOG = logging.getLogger(__name__)
ENDINGS = (".png", ".bmp", ".jpeg", ".jpg")
FORMATS = ("PNG", "JPEG", "BMP", "DIB")
CHANNELS = {"1": 1, "L": 1, "I;16": 1, "I;16B": 1, "I": 1, "LA": 1, "La": 1, "RGB": 3, "RGBA": 3, "RGBX": 3}
BMP_HEADER = 26  # bytes, at least
BMP_FIELDS = 54  # bytes of the file's header and of the image's usual one
BMP_RUN_LENGTHS = (1, 2)  # values of its field for compression
ORIENTATION = 274  # the tag of EXIF that says how the camera was held
TURNED = range(2, 9)  # its values for pixels to be turned or mirrored; 1 is upright, and programs pass over all others
JPEG_LEVELS, JPEG_SHARE = 32, 0.01  # by which two decoders may differ, and in how many pixels
# libjpeg's words for data that it replaced; it decodes on.
JPEG_FAULTS = re.compile("Corrupt JPEG|Premature end|Inconsistent|Invalid|Bogus|Unsupported|Application")


def read(path: Path) -> tuple[np.ndarray, Geometry]:
    """Pixels (C, 1, Y, X) as whole numbers, and their grid of spacing 1.

    Raises:
        UserError: missing, damaged, another format, a colour space such as CMYK, stored turned, or transparent pixels.
    """
    with _opened(path) as image:
        geometry, channels = _header(path, image)
        if image.format == "PNG" and _is_deep_colour(image):
            _verify(path)
            array = np.moveaxis(itk.memory_of(itk.read_voxels(path, "PNGImageIO")), -1, 0)
        else:
            _verify(path)
            array = _pixels(path, image)
            if image.format == "JPEG":
                _require_same_by_itk(path, array)
        image.load()  # a PNG may have its EXIF behind the pixels
        _require_upright(path, image)
    array = array.reshape(-1, *geometry.shape_zyx)
    if len(array) == channels + 1:
        array = without_alpha(path, array)
    return exact(path, array), geometry


def read_header(path: Path) -> tuple[Geometry, int]:
    """Grid and channels, an alpha channel not counted.

    Raises:
        UserError: missing, another format, a colour space such as CMYK, or stored turned (by what stands before the pixels).
    """
    with _opened(path) as image:
        found = _header(path, image)
        _require_upright(path, image)
        return found


def has_alpha(path: Path) -> bool:
    """Whether there is an alpha channel, or a transparent colour.

    Raises:
        UserError: as :func:`read_header`.
    """
    with _opened(path) as image:
        return image.mode in ("LA", "La", "RGBA") or "transparency" in image.info


def parts(path: Path) -> list[Path]:
    return [path]


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """
    Raises:
        UserError: no picture of these formats, or bytes that Pillow stumbles over.
    """
    require_content(path)
    try:
        with path.open("rb") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of size and of metadata
            image = Image.open(file)
            if image.format not in FORMATS:
                raise UserError(
                    f"{shown(path)} is a {image.format} image; save it as {path.suffix.lstrip('.').upper()}"
                )
            yield image
    except UnidentifiedImageError:
        raise UserError(
            f"{shown(path)} cannot be read as an image (damaged, truncated or of another format); copy it again"
        ) from None
    except Image.DecompressionBombError:
        raise UserError(f"{shown(path)} claims more than 178 million pixels; cut it into pieces") from None
    except (UserError, MemoryError):
        raise
    except Exception as error:  # Pillow raises whatever its parsing met
        LOG.debug("Pillow on %s", shown(path), exc_info=error)
        raise unreadable(path, error) from None


def _header(path: Path, image: Image.Image) -> tuple[Geometry, int]:
    if getattr(image, "n_frames", 1) > 1:
        raise UserError(f"{shown(path)} is an animation; save one of its frames")
    mode = image.mode
    if "LA;16B" in str(getattr(image, "tile", "")):
        raise UserError(f"{shown(path)} has 16 bits and an alpha channel; save it without the alpha channel")
    if mode == "P":
        channels = 1 if _is_gray_table(image) else 3
    elif mode in CHANNELS:
        channels = CHANNELS[mode]
    else:
        raise UserError(f"{shown(path)} has the colour space {mode}; save it as gray or RGB")
    x, y = image.size
    return Geometry(shape_zyx=(1, y, x), spacing_zyx_mm=(1.0, 1.0, 1.0), dimensions=2), channels


def _require_upright(path: Path, image: Image.Image) -> None:
    """
    Raises:
        UserError: its EXIF or XMP says how it is to be turned, which viewers do and readers of pixels do not.
    """
    try:
        # Of the base class: a PNG's own method decodes the pixels for what stands behind them.
        orientation = Image.Image.getexif(image).get(ORIENTATION)
    except (SyntaxError, ValueError) as error:  # no EXIF, so no program turns by it
        LOG.debug("EXIF of %s", shown(path), exc_info=error)
        return
    if orientation in TURNED:
        raise UserError(
            f"{shown(path)} is stored turned or mirrored (EXIF orientation {orientation}), which viewers undo and programs "
            "that read pixels do not; save it upright, such as with `mogrify -auto-orient`"
        )


def _is_gray_table(image: Image.Image) -> bool:
    table = np.array(image.getpalette("RGB")).reshape(-1, 3)
    return bool((table == table[:, :1]).all())


def _is_deep_colour(image: Image.Image) -> bool:
    """Pillow would cut colours of 16 bits to 8."""
    return "16B" in str(getattr(image, "tile", "")) and image.mode not in ("I;16", "I;16B", "I")


def _pixels(path: Path, image: Image.Image) -> np.ndarray:
    """(C, Y, X), the alpha channel last where there is one."""
    if image.mode == "P":
        channels = 1 if _is_gray_table(image) else 3
        colours = np.moveaxis(np.asarray(image.convert("RGBA")), -1, 0)
        return np.concatenate([colours[:channels], colours[3:]])
    if image.mode == "1":
        return np.asarray(image.convert("L"))[None]
    if "transparency" in image.info and image.mode in ("L", "RGB"):
        colours = np.moveaxis(np.asarray(image.convert("RGBA")), -1, 0)
        return np.concatenate([colours[: CHANNELS[image.mode]], colours[3:]])
    array = np.asarray(image)
    return array[None] if array.ndim == 2 else np.moveaxis(array, -1, 0)


def _verify(path: Path) -> None:
    """By the checksums of a PNG's pieces, of which Pillow itself passes over those of the pixels; by a BMP's offset.

    Raises:
        UserError: a BMP whose pixels would start within its header.
    """
    with path.open("rb") as file:
        image = Image.open(file)
        image.verify()
    if image.format == "BMP":
        _verify_bmp(path, image)


def _verify_bmp(path: Path, image: Image.Image) -> None:
    """
    Raises:
        UserError: pixels that would start within the header or its palette, or that cannot all be in the file.
    """
    header, size = read_from(path, 0, BMP_FIELDS), path.stat().st_size
    start, length = (int.from_bytes(header[at : at + 4], "little") for at in (10, 14))
    if start < BMP_HEADER:
        raise damaged(path, f"its pixels start at byte {start}, inside its header")
    if image.mode in ("P", "1", "L"):
        bits, used = int.from_bytes(header[28:30], "little"), int.from_bytes(header[46:50], "little")
        if length >= BMP_FIELDS - 14 and start < 14 + length + 4 * (used or 1 << min(bits, 8)):
            raise damaged(path, f"its pixels start at byte {start}, inside its palette")
    x, y = image.size
    if image.info.get("compression") not in BMP_RUN_LENGTHS and start + x * y // 8 > size:
        raise damaged(path, f"its header claims {x} x {y} pixels, more than {size} bytes can hold")


def _require_same_by_itk(path: Path, array: np.ndarray) -> None:
    """
    Raises:
        UserError: the end of a JPEG is missing, its decoder had to guess, or two decoders see different images.
    """
    if not path.read_bytes().rstrip(b"\0").endswith(b"\xff\xd9"):  # some cameras pad with zeros
        raise damaged(path, "its end is missing")
    image, printed = itk.read_and_listen(path, "JPEGImageIO")
    if faults := [line for line in printed if JPEG_FAULTS.match(line)]:
        raise damaged(path, faults[0])
    other = np.moveaxis(np.atleast_3d(itk.memory_of(image)), -1, 0)
    if other.shape != array.shape:
        raise damaged(path, "two decoders read different sizes or colours")
    # Decoders spread the colours of neighbours differently, so only brightness is compared; a sixteenth of it will do.
    ours, theirs = (pixels[:, ::4, ::4].mean(axis=0) for pixels in (array, other))
    apart = np.abs(ours - theirs) > JPEG_LEVELS
    if apart.mean() > JPEG_SHARE:
        raise damaged(path, f"two decoders read {apart.mean():.0%} of its pixels differently")
