"""Self-contained HTML pages with tables and pictures, rendered from the Jinja2 files in templates/."""

import base64
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from unetrpp.core.errors import UserError

Rows: TypeAlias = list[list[str]]  # of a table, the header first
Picture: TypeAlias = Figure | bytes  # to draw, or a PNG file's content

DOTS_PER_INCH = 80


def render_page(template: str, **values: object) -> str:
    """The page of ``templates/<template>``; text is escaped, and every name that the template uses must be given."""
    pages = Environment(
        loader=PackageLoader("unetrpp.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters |= {"word_columns": word_columns, "png_base64": png_base64}
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


def png_base64(picture: Picture) -> str:
    """The picture as the text of a data: address."""
    if not isinstance(picture, bytes):
        buffer = io.BytesIO()
        picture.savefig(buffer, format="png", dpi=DOTS_PER_INCH)
        picture = buffer.getvalue()
    return base64.b64encode(picture).decode()
