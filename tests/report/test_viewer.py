"""What a page's viewer is told: classes, presets and cases; its program; and cases without a picture."""

import base64
import hashlib
from dataclasses import replace
from typing import Any

import pytest

from tests.helpers.html import Page
from tests.helpers.pictures import LIVER, asymmetric_case
from unetrpp.core.errors import UserError
from unetrpp.report.case_images import CaseImages
from unetrpp.report.case_table import CaseTable, CaseVolumes, warnings_column
from unetrpp.report.page import render_page
from unetrpp.report.viewer import MOST_PICTURES, Load, Pictures, Viewer, embed_cases, page_script

EVIL = '</script><script>alert(1)</script>"><img src=x onerror=alert(2)>'


def viewer(sources: dict[str, Load], channels: tuple[str, ...] = ("CT",), **about) -> Viewer:
    pictures = embed_cases(sources, LIVER, channels)
    return Viewer(LIVER, channels, CaseTable(list(sources), [warnings_column({})]), pictures, **about)


def page_of(shown: Viewer) -> str:
    texts = {"title": "Predictions", "lead": "", "about_cases": ""}
    return render_page("prediction.html", viewer=shown, tiles=[], notices=[], failed=[], facts=[], **texts)


def test_a_ct_has_presets_and_every_class_its_colour():
    settings: Any = viewer({"a": asymmetric_case}, volumes={"a": CaseVolumes({"liver": 1.5})}).settings
    assert settings["classes"] == [{"name": "liver", "color": "#ff3b30"}, {"name": "tumour", "color": "#00c2ff"}]
    assert settings["presets"][0]["lung"] == (-600, 1500)
    assert settings["cases"][0]["sizes"] == {"liver": "1.5 ml"}
    assert viewer({"a": asymmetric_case}, ("MR",)).settings["presets"] == [{}]


def test_a_case_that_cannot_be_read_stops_no_other(caplog):
    def damaged() -> CaseImages:
        raise UserError("b.nii.gz is damaged", case="b")

    def broken() -> CaseImages:
        raise MemoryError

    shown = viewer({"a": asymmetric_case, "b": damaged, "c": broken, "d": asymmetric_case})
    assert [i for i, _ in shown.data] == [0, 3]
    assert shown.coverage == "2 of 4 cases have a picture in this page; the others are listed without one."
    assert shown.left_out[0] == ("b", "b.nii.gz is damaged")
    assert "memory ran out" in shown.left_out[1][1]
    assert "b has no picture in the page: b.nii.gz is damaged" in caplog.text
    page = Page(page_of(shown))
    assert "b: b.nii.gz is damaged" in page.text
    assert [row[0] for row in page.tables[0][1:]] == ["a", "b", "c", "d"]


def test_of_many_cases_the_first_forty_are_read_one_after_the_other(monkeypatch):
    read: list[int] = []
    monkeypatch.setattr("unetrpp.report.viewer.embed_case", lambda images, *_: images)

    def source(i: int) -> Load:
        def load() -> CaseImages:
            read.append(i)
            return asymmetric_case()

        return load

    pictures = embed_cases({f"case_{i}": source(i) for i in range(60)}, LIVER, ("MR",), absent={"gone": "no image"})
    assert read == list(range(MOST_PICTURES)) == list(range(40))
    assert len(pictures.missing) == 21
    assert pictures.missing["case_40"] == "a page holds pictures of at most 40 cases"
    assert pictures.missing["gone"] == "no image"


@pytest.mark.parametrize(("cases", "largest"), [(1, 4_000_000), (12, 2_000_000), (60, 600_000)])
def test_the_room_is_shared_so_that_a_page_stays_below_30_mb(monkeypatch, cases, largest):
    given: list[int] = []
    monkeypatch.setattr("unetrpp.report.viewer.embed_case", lambda images, codes, channels, most: given.append(most))
    embed_cases({str(i): asymmetric_case for i in range(cases)}, LIVER, ("MR",))
    assert set(given) == {largest}
    assert len(given) * largest <= 24_000_000


def test_names_cannot_break_out_of_the_page():
    shown = Viewer(
        LIVER,
        (EVIL,),
        CaseTable([EVIL], [warnings_column({EVIL: (EVIL,)})]),
        Pictures({}, {EVIL: EVIL}),
        warnings={EVIL: (EVIL,)},
    )
    content = page_of(shown)
    page = Page(content)
    assert page.pictures == []
    assert len(page.scripts) == 2
    assert EVIL not in content
    assert page.tables[0][1][0] == EVIL


def test_the_browser_runs_this_program_alone():
    shown = viewer({"a": asymmetric_case})
    digest = base64.b64encode(hashlib.sha256(page_script().encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in shown.policy
    assert shown.policy.startswith("default-src 'none'")
    assert all(word not in page_script() for word in ("http", "eval(", "innerHTML", "</", "<!--"))


def test_how_many_cases_have_pictures_is_said():
    assert viewer({"a": asymmetric_case}).coverage == "This page holds a picture of the case."
    assert viewer({"a": asymmetric_case, "b": asymmetric_case}).coverage == "This page holds a picture of every case."
    none = Viewer(LIVER, ("MR",), CaseTable(["a"], []), Pictures())
    assert none.coverage == "This page holds no pictures of cases."
    assert none.drawn == ""


def test_an_outline_is_explained_where_a_case_has_a_reference():
    def without_reference():
        return replace(asymmetric_case(), reference=None)

    assert viewer({"a": asymmetric_case, "b": without_reference}).drawn == "Prediction: filled. Reference: outline."
    assert viewer({"b": without_reference}).drawn == "Prediction: filled."
