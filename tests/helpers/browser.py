"""Pages in a real browser: Chromium without a window, driven by playwright, and what was painted on a canvas."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PAINTED = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done())))"
PIXELS = """(name) => {
  const canvas = document.querySelector(`[data-plane=${name}] canvas`);
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return [canvas.height, canvas.width, Array.from(data)];
}"""


def chromium_path() -> str | None:
    """The browser's program: UNETRPP_CHROMIUM, else one of the usual names."""
    return os.environ.get("UNETRPP_CHROMIUM") or next(filter(None, map(shutil.which, PROGRAMS)), None)


@contextmanager
def chromium() -> Iterator["Browser"]:
    """A browser; the test is skipped where Chromium or playwright is missing."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (pip install playwright)")
    program = chromium_path()
    if program is None:
        pytest.skip("there is no Chromium (apt-get install chromium, or its path in UNETRPP_CHROMIUM)")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(browser: "Browser", file: Path, **context: object) -> Iterator["Page"]:
    """The page of ``file``; at the end, nothing was asked of the network and there was no error."""
    faults: list[str] = []
    with browser.new_context(**context) as place:
        page = place.new_page()
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("dialog", lambda dialog: faults.append(f"a dialog says {dialog.message}"))
        page.on("request", lambda request: faults.append(request.url) if not is_own(request.url, file) else None)
        page.goto(file.as_uri())
        yield page
        assert faults == []


def is_own(address: str, file: Path) -> bool:
    return address == file.as_uri() or address.startswith("data:")


def painted(page: "Page") -> None:
    """Wait until the browser has drawn what was asked for."""
    page.evaluate(PAINTED)


def pixels(page: "Page", plane: str) -> np.ndarray:
    """What is on the canvas of a plane, (rows, columns, 3)."""
    painted(page)
    rows, columns, data = page.evaluate(PIXELS, plane)
    values = np.array(data, np.uint8).reshape(rows, columns, 4)
    assert (values[..., 3] == 255).all()
    colours: np.ndarray = values[..., :3]
    return colours
