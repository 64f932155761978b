"""Pages: what is escaped, what is left out, and that nothing is fetched from elsewhere."""

import base64
import re

import jinja2
import pytest

from unetrpp.core.errors import UserError
from unetrpp.report.page import data_url, render_page, require_page, word_columns

PNG = b"\x89PNG and so on"
ATTENTION = {
    "title": "Attention of <b>bold</b>",
    "modules": [["module", "gamma"], ["gate@0 & <script>", "1.500"]],
    "maps": PNG,
    "channels": None,
    "temperatures": [],
    "judgement": [["module"], ["se@1"]],
    "gammas": None,
}


def test_text_is_escaped():
    page = render_page("attention.html", **ATTENTION)
    assert page.count("Attention of &lt;b&gt;bold&lt;/b&gt;") == 2  # heading and title
    assert "gate@0 &amp; &lt;script&gt;" in page
    assert "<script" not in page
    assert "<b>" not in page


def test_sections_without_content_are_left_out():
    page = render_page("attention.html", **ATTENTION)
    assert re.findall("<h2>(.*?)</h2>", page) == ["Modules", "Gates", "Judgement"]


def test_rows_and_pictures_are_whole_and_nothing_is_fetched():
    page = render_page("attention.html", **ATTENTION)
    rows = [re.findall("<t[dh].*?>(.*?)</t[dh]>", row) for row in re.findall("<tr>(.*?)</tr>", page)]
    assert rows == [["module", "gamma"], ["gate@0 &amp; &lt;script&gt;", "1.500"], ["module"], ["se@1"]]
    (source,) = re.findall(r'src="data:image/png;base64,([^"]*)"', page)
    assert base64.b64decode(source) == PNG
    assert "http" not in page


def test_columns_of_words_are_aligned_left():
    assert word_columns([["a", "b"], ["1", "0.5 x"], ["-", "2"]]) == [False, True]
    page = render_page("attention.html", **ATTENTION)
    assert '<td class="words">gate@0' in page
    assert "<td>1.500</td>" in page


def test_a_figure_becomes_a_png():
    from matplotlib.figure import Figure

    assert base64.b64decode(data_url(Figure()).removeprefix("data:image/png;base64,")).startswith(b"\x89PNG\r\n")


def test_a_value_missing_from_a_template_is_an_error():
    with pytest.raises(jinja2.UndefinedError, match="gammas"):
        render_page("attention.html", **{name: value for name, value in ATTENTION.items() if name != "gammas"})


def test_a_page_replaces_pages_only(tmp_path):
    page, other = tmp_path / "report.html", tmp_path / "scan.nii.gz"
    require_page(page)  # there is none yet
    page.write_text("<!doctype html>\n<html></html>")
    require_page(page)
    other.write_bytes(b"a scan")
    for path in (other, tmp_path):
        with pytest.raises(UserError, match="is not an HTML page"):
            require_page(path)
