"""The page of the service in a real browser: a file is dropped, and the viewer of prediction reports shows it."""

import base64
import re
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from tests.helpers.browser import PIXELS, chromium, painted
from tests.helpers.model import make_model, write_images
from tests.helpers.service import LARGEST, running, service_of
from tests.helpers.tiny import LABELS
from unetrpp.inference.predictor import Predictor
from unetrpp.io.images import read_image
from unetrpp.report.case_images import CaseImages
from unetrpp.report.embedding import embed_case
from unetrpp.report.label_codes import LabelCodes

TOKEN = "a-secret-of-the-clinic"
DROP = """([name, content]) => {
  const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([bytes], name));
  document.dispatchEvent(new DragEvent("drop", { dataTransfer, bubbles: true, cancelable: true }));
}"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    write_images(folder / "images", 1)
    make_model(folder, folds=1)
    return folder


@pytest.fixture(scope="module")
def scan(place):
    return place / "images" / "case_0_0000.nii.gz"


@pytest.fixture(scope="module")
def browser():
    with chromium() as program:
        yield program


@contextmanager
def shown(browser, service, allowed=()) -> Iterator:
    """The page; at the end, nothing was asked of another address and there was no error but ``allowed`` ones."""
    faults: list[str] = []
    with running(service) as client, browser.new_context(accept_downloads=True) as context:
        page, address = context.new_page(), str(client.base_url)
        page.on(
            "console", lambda message: faults.append(message.text) if message.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("dialog", lambda dialog: faults.append(f"a dialog says {dialog.message}"))
        page.on("request", lambda request: None if own(request.url, address) else faults.append(request.url))
        page.goto(address)
        yield page
        assert [fault for fault in faults if not any(text in fault for text in allowed)] == []


def own(url: str, address: str) -> bool:
    return url.startswith((address, "data:", "blob:", "about:srcdoc"))


def says(page, pattern: str) -> None:
    """Wait for what the page says. (``wait_for_function`` would evaluate text in the page, which its policy forbids.)"""
    from playwright.sync_api import expect

    expect(page.locator("#status")).to_have_text(re.compile(pattern), timeout=30_000)


def inner(page):
    """The page with the viewer, inside the service's."""
    page.wait_for_selector("#result:not([hidden])")
    frame = page.frames[1]
    frame.wait_for_selector("#planes:not([hidden])")
    painted(frame)
    return frame


def test_a_dropped_file_is_shown_in_the_viewer(browser, place, scan):
    expected = Predictor(place / "unetrpp__3d_fullres", device="cpu", mirroring=False)(scan)
    with shown(browser, service_of(place / "unetrpp__3d_fullres", place / "s")) as page:
        page.evaluate(DROP, [scan.name, base64.b64encode(scan.read_bytes()).decode()])
        frame = inner(page)
        assert page.locator("#status").text_content().startswith("Segmented in ")
        assert "1 case segmented in upload" in frame.locator(".lead").text_content()
        assert frame.locator("#legend").text_content().strip().startswith("ball")
        rows, columns, data = frame.evaluate(PIXELS, "axial")
        with page.expect_download() as download:
            page.locator("#save").click()
        assert download.value.suggested_filename == "case_0_segmentation.nii.gz"
        download.value.save_as(place / "saved.nii.gz")
    np.testing.assert_array_equal(read_image(place / "saved.nii.gz").array[0], expected.array)
    image = read_image(scan)
    embedded = embed_case(CaseImages(image, expected.array), LabelCodes.of(LABELS), ["MRI"], 10**6)
    assert (rows, columns) == embedded.about.shape[1:]
    painted_ball = np.array(data, np.uint8).reshape(rows, columns, 4)[..., :3]
    coloured = (painted_ball.max(axis=-1) != painted_ball.min(axis=-1)).mean()
    assert (coloured > 0) == expected.array.any()


def test_a_chosen_file_with_the_token(browser, place, scan):
    with shown(browser, service_of(place / "unetrpp__3d_fullres", place / "t", token=TOKEN), ["401"]) as page:
        page.set_input_files("#files", scan)
        says(page, "^the request has no valid token")
        page.fill("#token", TOKEN)
        page.set_input_files("#files", scan)
        inner(page)
        assert page.locator("#token").get_attribute("type") == "password"


def test_what_cannot_be_segmented_is_said_in_the_page(browser, place, tmp_path):
    evil = "<img src=x onerror=alert(1)>.nii.gz"
    with shown(browser, service_of(place / "unetrpp__3d_fullres", place / "u"), ["400"]) as page:
        page.evaluate(DROP, [evil, base64.b64encode(b"hello").decode()])
        says(page, "is not a NIfTI file")
        (tmp_path / "large.nii").write_bytes(bytes(LARGEST + 1))
        page.set_input_files("#files", tmp_path / "large.nii")
        says(page, "^The files have 2 MB, and")
        assert page.locator("#result").is_hidden()


def test_a_service_that_has_ended_is_said_in_the_page(browser, place, scan):
    faults: list[str] = []
    with browser.new_context() as context:
        with running(service_of(place / "unetrpp__3d_fullres", place / "v")) as client:
            page = context.new_page()
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.goto(str(client.base_url))
        page.set_input_files("#files", scan)
        says(page, r"^The service does not answer\.$")
    assert faults == []
