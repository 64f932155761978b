"""Self-contained HTML pages with tables and pictures, rendered from the Jinja2 files in templates/."""

import base64
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure
from PIL import Image

from unetrpp.core.errors import UserError

Rows: TypeAlias = list[list[str]]  # of a table, the header first
Picture: TypeAlias = Figure | bytes  # to draw, or a PNG file's content

DOTS_PER_INCH = 140  # of a picture shown in its full size
LARGEST_PNG = 250_000  # bytes
SHOWN_PER_INCH = 105  # of a picture on the page, in CSS pixels


@dataclass(frozen=True)
class Shaded:
    """A table whose cells have the colours of their values; ``shades`` (#rrggbb, or "" for none) has no header row."""

    rows: Rows
    shades: list[list[str]]


@dataclass(frozen=True)
class Card:
    """One of several parts of equal weight: what it is about, its value, a note on it, and a reason or consequence."""

    about: str
    value: str
    note: str
    text: str


def render_page(template: str, **values: object) -> str:
    """The page of ``templates/<template>``; text is escaped, and every name that the template uses must be given."""
    pages = Environment(
        loader=PackageLoader("unetrpp.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters |= {"word_columns": word_columns, "data_url": data_url, "css_width": css_width}
    return pages.get_template(template).render(values)


def require_page(path: Path) -> None:
    """Protect files of other kinds: a page may replace an earlier page only.

    Raises:
        UserError: ``path`` is a folder, or a file that is not an HTML page.
    """
    if path.is_dir() or (path.is_file() and not path.read_bytes()[:100].lstrip().lower().startswith(b"<!doctype html")):
        raise UserError(f"{path} exists already and is not an HTML page; give the page another name")


def word_columns(rows: Sequence[Sequence[str]]) -> list[bool]:
    """Which columns hold words, which are aligned left: those with a letter below the header.

    >>> word_columns([["class", "Dice", "note"], ["liver", "0.91", "-"]])
    [True, False, False]
    """
    return [any(re.search("[A-Za-z]", text) for text in column[1:]) for column in zip(*rows, strict=True)]


def data_url(picture: Picture) -> str:
    """The picture as a data: address, so that the page needs no other file."""
    kind, content = ("png", picture) if isinstance(picture, bytes) else _drawn(picture)
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def css_width(picture: Picture) -> int:
    """The width in CSS pixels at which a picture is shown where the page has room for it."""
    if isinstance(picture, bytes):
        return int.from_bytes(picture[16:20], "big")  # PNG's header
    return round(picture.get_figwidth() * SHOWN_PER_INCH)


def _drawn(figure: Figure) -> tuple[str, bytes]:
    """A PNG; a JPEG where that would be large, as it is for photographs."""
    png, jpeg = io.BytesIO(), io.BytesIO()
    figure.savefig(png, format="png", dpi=DOTS_PER_INCH)
    with Image.open(png) as image:
        colors = image.convert("RGB")
    png = io.BytesIO()
    colors.save(png, format="PNG", optimize=True)  # without the channel of transparency
    if len(png.getvalue()) <= LARGEST_PNG:
        return "png", png.getvalue()
    colors.save(jpeg, format="JPEG", quality=88, subsampling=0)
    return "jpeg", jpeg.getvalue()
