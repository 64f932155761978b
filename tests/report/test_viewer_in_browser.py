"""The viewer in a real browser: what it paints against numpy and SimpleITK, keys, clicks, sorting, and small screens."""

import numpy as np
import pytest
import SimpleITK as sitk

from tests.helpers.browser import chromium, opened, painted, pixels
from tests.helpers.pictures import LIVER, PHOTO, TURNED, asymmetric_case, reference_of
from unetrpp.core.errors import UserError
from unetrpp.io.images import to_sitk
from unetrpp.report.case_images import CaseImages
from unetrpp.report.case_table import CaseTable, CaseVolumes, score_column, warnings_column
from unetrpp.report.page import render_page
from unetrpp.report.viewer import Viewer, embed_cases

EVIL = '</script><script>alert(1)</script>"><img src=x onerror=alert(2)>'
CLASSES = np.array([[0xFF, 0x3B, 0x30], [0x00, 0xC2, 0xFF]], float)  # liver, tumour
ADDED, MISSED, OTHER = ((0xFF, 0x95, 0x00), (0x3B, 0x82, 0xFF), (0xFF, 0x00, 0xF0))
FOCUSED = "(({ id, dataset, ariaLabel }) => id || dataset.overlay || ariaLabel)(document.activeElement)"
UNNAMED = """() => Array.from(document.querySelectorAll("button, input, select, canvas"))
  .filter((element) => !(element.ariaLabel || element.textContent.trim() || element.labels?.length)).length"""
PHONE = {"width": 375, "height": 740}


def gone() -> CaseImages:
    raise UserError("its image is gone")


SOURCES = {
    "case_10": asymmetric_case,
    "case_9": lambda: asymmetric_case(seed=1),
    EVIL: lambda: asymmetric_case(seed=2),
    "gone": gone,
    "photo": lambda: asymmetric_case(PHOTO, channels=3, maps=False),
}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A page about five cases; the third has no Dice, the fourth no picture."""
    names = list(SOURCES)
    columns = [
        score_column("Dice", dict(zip(names, (0.5, 0.25, None, 0.75, 0.1), strict=True))),
        warnings_column({names[0]: ("one", EVIL), names[1]: ()}),
    ]
    viewer = Viewer(
        labels=LIVER,
        channels=("CT", "PET", EVIL),
        table=CaseTable(names, columns),
        pictures=embed_cases(SOURCES, LIVER, ("MR", "PET", EVIL)),
        volumes={names[0]: CaseVolumes({"liver": 12.5, "tumour": 0.5})},
        warnings={names[0]: ("one", EVIL)},
    )
    page = tmp_path_factory.mktemp("page") / "report.html"
    texts = {"title": EVIL, "lead": "", "about_cases": ""}
    page.write_text(
        render_page("prediction.html", viewer=viewer, tiles=[], notices=[EVIL], failed=[], facts=[], **texts),
        encoding="utf8",
    )
    return page


@pytest.fixture(scope="module")
def browser():
    with chromium() as program:
        yield program


@pytest.fixture
def page(browser, file):
    with opened(browser, file, viewport={"width": 1200, "height": 1000}) as page:
        loaded(page)
        yield page


def loaded(page) -> None:
    """Wait until the chosen case is unpacked and painted."""
    page.wait_for_selector("#planes:not([hidden])")
    painted(page)


def in_lps(values: np.ndarray) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.DICOMOrient(to_sitk(values, TURNED), "LPS"))


def planes_of(volume: np.ndarray, z: int, y: int, x: int) -> dict[str, np.ndarray]:
    """The slices as a radiologist sees them: the head on top, the patient's right on the left, the nose on top or left."""
    return {"axial": volume[z], "coronal": volume[::-1, y], "sagittal": volume[::-1, :, x]}


def grey(values: np.ndarray, low: float, high: float) -> np.ndarray:
    shades = np.floor(255 * np.clip((values - low) / (high - low), 0, 1) + 0.5)
    return np.repeat(shades[..., None], 3, axis=-1)


def blended(below: np.ndarray, color: np.ndarray | tuple[int, ...], alpha: float) -> np.ndarray:
    return np.floor(below * (1 - alpha) + np.array(color) * alpha + 0.5)


def position(page) -> tuple[int, int, int]:
    """z, y and x, from the sliders."""
    z, y, x = (
        int(page.locator(f"[data-plane={name}] input").input_value()) for name in ("axial", "coronal", "sagittal")
    )
    return z, y, x


def window(page) -> tuple[float, float]:
    level, width = (float(page.locator(name).input_value()) for name in ("#level", "#width"))
    return level - width / 2, level + width / 2


def move(page, z: int, y: int, x: int) -> None:
    for name, index in (("axial", z), ("coronal", y), ("sagittal", x)):
        page.locator(f"[data-plane={name}] input").fill(str(index))
    painted(page)


def hide_labels(page) -> None:
    page.locator("[data-overlay=prediction]").click()
    page.locator("[data-overlay=reference]").click()


def test_every_plane_is_the_slice_that_simpleitk_gives(page):
    hide_labels(page)
    volume = in_lps(asymmetric_case().image.array[0])
    for place in ((0, 0, 0), (3, 2, 7), tuple(n - 1 for n in volume.shape)):
        move(page, *place)
        for name, expected in planes_of(volume, *place).items():
            np.testing.assert_array_equal(pixels(page, name), grey(expected, *window(page)), err_msg=name)
    label = page.locator("[data-plane=axial] canvas").get_attribute("aria-label")
    assert label == f"axial slice {volume.shape[0]} of {volume.shape[0]}"


def test_planes_have_the_proportions_of_the_body(page):
    sizes = np.array(in_lps(asymmetric_case().prediction).shape) * (3.0, 1.5, 0.75)
    for name, height, width in (("axial", 1, 2), ("coronal", 0, 2), ("sagittal", 0, 1)):
        box = page.locator(f"[data-plane={name}] canvas").bounding_box()
        assert box["width"] / box["height"] == pytest.approx(sizes[width] / sizes[height], rel=0.01)


def test_overlays_are_painted_in_the_colours_of_the_classes(page):
    case = asymmetric_case()
    z = position(page)[0]
    predicted, truth = (in_lps(values)[z] for values in (case.prediction, reference_of(case)))
    assert predicted.any()
    assert truth.any()
    below = grey(in_lps(case.image.array[0])[z], *window(page))
    page.keyboard.press("r")
    filled = np.where((predicted > 0)[..., None], blended(below, CLASSES[predicted.astype(int) - 1], 0.4), below)
    np.testing.assert_array_equal(pixels(page, "axial"), filled)
    page.keyboard.press("p")
    np.testing.assert_array_equal(pixels(page, "axial"), below)
    page.keyboard.press("r")
    padded = np.pad(truth, 1)
    inner = np.logical_and.reduce([np.roll(padded, s, axis)[1:-1, 1:-1] == truth for s in (-1, 1) for axis in (0, 1)])
    border = (truth > 0) & ~inner
    outlined = np.where(border[..., None], CLASSES[truth.astype(int) - 1], below)
    np.testing.assert_array_equal(pixels(page, "axial"), outlined)


def test_the_difference_tells_three_kinds_of_errors_apart(page):
    case = asymmetric_case()
    y = position(page)[1]
    predicted, truth = (in_lps(values)[:, y][::-1] for values in (case.prediction, reference_of(case)))
    expected = grey(in_lps(case.image.array[0])[::-1, y], *window(page))
    kinds = (
        ((predicted > 0) & (truth == 0), ADDED),
        ((predicted == 0) & (truth > 0), MISSED),
        ((predicted > 0) & (truth > 0) & (predicted != truth), OTHER),
    )
    for where, color in kinds:
        assert where.any()
        expected = np.where(where[..., None], blended(expected, color, 0.85), expected)
    hide_labels(page)
    assert page.locator("#differences").is_hidden()
    page.locator("[data-overlay=difference]").click()
    np.testing.assert_array_equal(pixels(page, "coronal"), expected)
    assert page.locator("#differences").inner_text().split("\n") == [
        "predicted only",
        "in the reference only",
        "another class",
    ]
    assert page.locator("[data-overlay=difference]").get_attribute("aria-pressed") == "true"


def heat(shares: np.ndarray) -> np.ndarray:
    stops = np.array([[59, 15, 112], [222, 73, 104], [252, 253, 191]], float)
    return np.stack([np.interp(shares, (0, 0.5, 1), stops[:, k]) for k in range(3)], axis=-1)


def test_uncertainty_and_gates_have_a_scale(page):
    case = asymmetric_case()
    z = position(page)[0]
    below = grey(in_lps(case.image.array[0])[z], *window(page))
    hide_labels(page)
    page.keyboard.press("u")
    share = np.rint(255 * in_lps(case.maps["entropy"])[z]) / 255
    expected = below + (heat(share) - below) * np.minimum(0.8 * share, 1)[..., None]
    assert np.abs(pixels(page, "axial") - expected).max() <= 2
    assert page.locator("#scale").inner_text().split() == ["entropy", "0", "1"]
    page.keyboard.press("g")
    gate = in_lps(case.maps["gate@0"])[z]
    low, high = (float(page.locator(f"#scale-{name}").inner_text()) for name in ("low", "high"))
    assert (low, high) == pytest.approx(np.percentile(case.maps["gate@0"], (1, 99)), abs=1e-4)
    expected = below + (heat(np.clip((gate - low) / (high - low), 0, 1)) - below) * 0.4
    assert np.abs(pixels(page, "axial") - expected).max() <= 2
    page.keyboard.press("g")
    np.testing.assert_array_equal(pixels(page, "axial"), below)
    page.locator("#opacity").fill("100")
    page.keyboard.press("g")
    assert not (pixels(page, "axial") == below).all()


def test_window_and_level_by_numbers_by_presets_and_by_a_drag(page):
    hide_labels(page)
    values = in_lps(asymmetric_case().image.array[0])[position(page)[0]]
    for field, number in (("#level", "100"), ("#width", "50")):
        page.locator(field).fill(number)
        page.locator(field).press("Enter")
    np.testing.assert_array_equal(pixels(page, "axial"), grey(values, 75, 125))
    page.locator("#preset").select_option("lung")  # the first channel is called CT
    np.testing.assert_array_equal(pixels(page, "axial"), grey(values, -1350, 150))
    page.locator("#preset").select_option("all")
    np.testing.assert_array_equal(pixels(page, "axial"), grey(values, 0, 200))
    box = page.locator("[data-plane=axial] canvas").bounding_box()
    before = position(page)
    page.mouse.move(box["x"] + 50, box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + 150, box["y"] + 70, steps=4)
    page.mouse.up()
    painted(page)
    assert float(page.locator("#width").input_value()) == pytest.approx(400)
    assert float(page.locator("#level").input_value()) == pytest.approx(120)
    assert position(page) == before


def test_keys_the_wheel_and_clicks_go_through_the_slices(page):
    shape = in_lps(asymmetric_case().prediction).shape
    canvas = page.locator("[data-plane=sagittal] canvas")
    canvas.focus()
    move(page, 1, 1, 1)
    canvas.focus()
    for key, expected in (
        ("ArrowUp", 2),
        ("ArrowDown", 1),
        ("End", shape[2] - 1),
        ("ArrowRight", shape[2] - 1),
        ("Home", 0),
    ):
        page.keyboard.press(key)
        painted(page)
        assert position(page) == (1, 1, expected)
    canvas.hover()
    page.mouse.wheel(0, -100)
    painted(page)
    assert position(page)[2] == 1
    box = page.locator("[data-plane=axial] canvas").bounding_box()
    row, column = 3, 5
    page.mouse.click(
        box["x"] + (column + 0.5) * box["width"] / shape[2], box["y"] + (row + 0.5) * box["height"] / shape[1]
    )
    painted(page)
    assert position(page) == (1, row, column)
    value = in_lps(asymmetric_case().image.array[0])[1, row, column]
    assert (
        page.locator("#readout")
        .inner_text()
        .startswith(f"x {column + 1}, y {row + 1}, z 2 · CT: {value:.0f} · predicted: ")
    )
    box = page.locator("[data-plane=coronal] canvas").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.5 / shape[2], box["y"] + 1)
    painted(page)
    assert position(page) == (shape[0] - 1, row, 0)  # the head is on top


def first_cells(page) -> list[str]:
    return page.locator("table.cases tbody th").all_inner_texts()


def test_every_column_sorts_both_ways_and_cases_without_a_value_stay_last(page):
    heading = page.locator("table.cases thead th")
    names = list(SOURCES)
    heading.nth(1).get_by_role("button").click()
    assert first_cells(page) == ["photo", "case_9", "case_10", "gone", EVIL]
    assert heading.nth(1).get_attribute("aria-sort") == "ascending"
    heading.nth(1).get_by_role("button").press("Enter")
    assert first_cells(page) == ["gone", "case_10", "case_9", "photo", EVIL]
    assert heading.nth(1).get_attribute("aria-sort") == "descending"
    heading.nth(0).get_by_role("button").click()
    assert [name for name in first_cells(page) if name.startswith("case_")] == ["case_9", "case_10"]
    assert heading.nth(1).get_attribute("aria-sort") == "none"
    heading.nth(2).get_by_role("button").click()
    assert first_cells(page)[:2] == ["case_9", "case_10"]
    assert sorted(first_cells(page)) == sorted(names)


def test_cases_are_chosen_in_the_table_by_the_list_and_by_keys(page):
    hide_labels(page)
    volume = in_lps(asymmetric_case(seed=1).image.array[0])
    page.get_by_role("button", name="case_9", exact=True).click()
    loaded(page)
    np.testing.assert_array_equal(pixels(page, "axial"), grey(volume[position(page)[0]], *window(page)))
    page.locator("#previous").click()
    loaded(page)
    assert page.locator("#case-warnings li").all_inner_texts() == ["one", EVIL]
    assert page.locator("#legend li").all_inner_texts() == ["liver 12.5 ml", "tumour 0.5 ml"]
    page.locator("body").press(".")
    page.locator("body").press(".")
    assert page.locator("#case option:checked").inner_text() == EVIL
    page.locator("table.cases thead button").nth(1).click()  # by Dice: photo, case_9, case_10, gone
    page.locator("#previous").click()
    assert page.locator("#case option:checked").inner_text() == "gone"
    page.locator("#previous").click()
    assert page.locator("tr[aria-current=true] th").inner_text() == "case_10"
    page.locator("#case").select_option("3")
    assert page.locator("#status").inner_text() == "its image is gone"
    assert page.locator("#planes").is_hidden()
    page.locator("body").press("d")  # there is nothing to change


def test_a_photograph_has_one_plane_and_its_colours(page):
    page.locator("#case").select_option("4")
    page.wait_for_selector("figure.flat")
    loaded(page)
    assert page.locator("figure.plane:visible").count() == 1
    hide_labels(page)
    values = asymmetric_case(PHOTO, channels=3).image.array[:, 0]
    np.testing.assert_array_equal(pixels(page, "axial")[..., 1], grey(values[1], *window(page))[..., 0])
    np.testing.assert_array_equal(pixels(page, "axial")[..., 2], grey(values[2], *window(page))[..., 0])
    page.locator("#channel").select_option("1")
    np.testing.assert_array_equal(pixels(page, "axial"), grey(values[1], *window(page)))
    assert page.locator("[data-overlay=uncertainty]").is_disabled()


def test_nothing_is_hidden_from_a_keyboard(page):
    reached = set()
    page.locator("#previous").focus()
    for _ in range(30):
        reached.add(page.evaluate(FOCUSED))
        page.keyboard.press("Tab")
    wanted = {
        "previous",
        "case",
        "next",
        "level",
        "width",
        "preset",
        "prediction",
        "reference",
        "difference",
        "opacity",
    }
    assert wanted <= reached
    assert {name for name in reached if name and "slice" in name}
    assert page.evaluate(UNNAMED) == 0
    page.locator("#case").focus()
    page.keyboard.press("p")  # in a list, letters choose an entry
    assert page.locator("[data-overlay=prediction]").get_attribute("aria-pressed") == "true"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_scrolls_only_up_and_down_in_dark_and_light(browser, file, scheme):
    with opened(browser, file, viewport=PHONE, color_scheme=scheme, has_touch=True, is_mobile=True) as page:
        loaded(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        background = "getComputedStyle(document.body).backgroundColor"
        white = page.evaluate(background) == "rgb(255, 255, 255)"
        assert white == (scheme == "light")
        page.locator("#theme").click()
        assert (page.evaluate(background) == "rgb(255, 255, 255)") != white


def test_a_browser_that_cannot_unpack_says_so(browser, file):
    with browser.new_context() as place:
        place.add_init_script("delete window.DecompressionStream")
        page = place.new_page()
        page.goto(file.as_uri())
        assert "This browser cannot unpack the pictures; open the page with" in page.locator("#status").inner_text()
        assert page.locator("#planes").is_hidden()
        page.locator("table.cases thead th").nth(1).get_by_role("button").click()  # the table works
        assert first_cells(page)[0] == "photo"
