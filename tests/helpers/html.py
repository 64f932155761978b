"""An HTML page taken apart, for tests of reports."""

import base64
import hashlib
import re
from html import unescape
from html.parser import HTMLParser


class Page(HTMLParser):
    """What a reader of the page gets: its text, the tables' cells, pictures, and every address in it."""

    def __init__(self, content: str):
        super().__init__()
        self.words: list[str] = []
        self.tables: list[list[list[str]]] = []
        self.pictures: list[dict[str, str]] = []
        self.addresses: list[str] = []
        self.open: list[str] = []
        self.scripts: list[tuple[str, str]] = []  # type and content
        self.feed(content)
        self.close()

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        self.addresses += [given[name] for name in ("src", "href", "srcset", "action", "data") if name in given]
        if tag == "img":
            self.pictures.append(given)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag == "script":
            self.scripts.append((given.get("type", ""), ""))
        if tag not in ("img", "meta", "input", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)
        if self.open and self.open[-1] not in ("style", "script"):
            self.words.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1][-1][-1] += data


def require_self_contained(content: str, script: str = "") -> Page:
    """The page, which fetches nothing, runs nothing but ``script``, and describes every picture."""
    page = Page(content)
    assert page.open == []
    assert all(address.startswith(("data:image/png;base64,", "data:image/jpeg;base64,")) for address in page.addresses)
    assert "url(" not in content
    assert "@import" not in content
    data = ("application/json", "text/plain")
    assert [code for kind, code in page.scripts if kind not in data] == [script] * bool(script)
    assert bool(script) or "<script" not in content
    policy = re.findall('http-equiv="Content-Security-Policy" content="(.*?)"', content)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    allowed = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert [unescape(each) for each in policy] == [allowed] * bool(script)
    assert all(picture["alt"] for picture in page.pictures)
    return page
