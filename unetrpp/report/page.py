"""A self-contained HTML page of headings, sentences, tables and pictures."""

import base64
import html
import io
from collections.abc import Sequence
from typing import TypeAlias

from matplotlib.figure import Figure

Rows: TypeAlias = list[list[str]]
Section: TypeAlias = tuple[str, str, Rows | Figure | bytes | None]  # heading, sentence, table or picture
WORDS = 24  # a cell of more characters holds words, not a number

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
    pairs = len(rows[0]) == 2  # a fact and its value

    def cell(text: str, kind: str) -> str:
        words = ' class="words"' if pairs or len(text) > WORDS else ""
        return f"<{kind}{words}>{html.escape(text)}</{kind}>"

    def line(cells: Sequence[str], kind: str) -> str:
        return "<tr>" + "".join(cell(text, kind) for text in cells) + "</tr>"

    return f"<table>{line(rows[0], 'th')}{''.join(line(row, 'td') for row in rows[1:])}</table>"


def _picture(content: Figure | bytes) -> str:
    if not isinstance(content, bytes):
        buffer = io.BytesIO()
        content.savefig(buffer, format="png", dpi=80)
        content = buffer.getvalue()
    return f'<img alt="" src="data:image/png;base64,{base64.b64encode(content).decode()}">'
