"""A self-contained HTML page of headings, sentences, tables and pictures."""

import base64
import html
import io
import re
from collections.abc import Sequence
from typing import TypeAlias

from matplotlib.figure import Figure

Rows: TypeAlias = list[list[str]]
Section: TypeAlias = tuple[str, str, Rows | Figure | bytes | None]  # heading, sentence, table or picture

STYLE = """
body { font-family: sans-serif; max-width: 70em; margin: 2em auto; color: #222; }
table { border-collapse: collapse; } td, th { padding: .2em .8em; text-align: right; border-bottom: 1px solid #ddd; }
td:first-child, th:first-child, .words { text-align: left; } td { vertical-align: top; } img { max-width: 100%; }
"""


def page(title: str, sections: Sequence[Section]) -> str:
    """The page; a section is a heading, a sentence and a table or picture. Empty ones are left out."""
    name = html.escape(title)
    parts = [f"<h1>{name}</h1>"]
    for heading, sentence, content in sections:
        if content:
            shown = _table(content) if isinstance(content, list) else _picture(content)
            parts += [f"<h2>{html.escape(heading)}</h2>", f"<p>{html.escape(sentence)}</p>", shown]
    head = f'<head><meta charset="utf-8"><title>{name}</title><style>{STYLE}</style></head>'
    body = "\n".join(parts)
    return f'<!doctype html>\n<html lang="en">{head}\n<body>{body}</body></html>\n'


def _table(rows: Rows) -> str:
    # A column with a letter in it holds words, which stand to the left.
    words = [any(re.search("[A-Za-z]", text) for text in column[1:]) for column in zip(*rows, strict=True)]

    def cell(text: str, kind: str, left: bool) -> str:
        place = ' class="words"' if left else ""
        return f"<{kind}{place}>{html.escape(text)}</{kind}>"

    def line(cells: Sequence[str], kind: str) -> str:
        return f"<tr>{''.join(cell(*c) for c in zip(cells, [kind] * len(cells), words, strict=True))}</tr>"

    return f"<table>{line(rows[0], 'th')}{''.join(line(row, 'td') for row in rows[1:])}</table>"


def _picture(content: Figure | bytes) -> str:
    if not isinstance(content, bytes):
        buffer = io.BytesIO()
        content.savefig(buffer, format="png", dpi=80)
        content = buffer.getvalue()
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(content).decode()}">'
