"""The two figures of docs/viewer.md: the viewer of a page on a screen, and on a phone that is dark.

    python benchmarks/reports/viewer_pictures.py report.html docs/images --chromium /usr/bin/chromium

Needs playwright (in the extra "test") and Chromium.
"""

import argparse
import io
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

SCREEN, PHONE = {"width": 1120, "height": 1180}, {"width": 375, "height": 860}
INTO_VIEW = "(element) => element.scrollIntoView()"


def opened(browser: Browser, file: Path, size: dict[str, int], scheme: str, *, phone: bool = False) -> Page:
    context = browser.new_context(viewport=size, color_scheme=scheme, is_mobile=phone, has_touch=phone)
    page = context.new_page()
    page.goto(file.resolve().as_uri())
    page.wait_for_selector("#planes:not([hidden])")
    return page


def save(page: Page, path: Path) -> None:
    page.wait_for_timeout(300)
    with Image.open(io.BytesIO(page.screenshot())) as picture:
        picture.convert("RGB").save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--chromium", default="/usr/bin/chromium", help="the browser's program")
    arguments = parser.parse_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=arguments.chromium)
        page = opened(browser, arguments.page, SCREEN, "light")
        page.locator("xpath=//table[contains(@class, 'cases')]/preceding::h2[1]").evaluate(INTO_VIEW)
        page.locator("table.cases thead button").nth(2).click()
        page.locator("[data-overlay=difference]").click()
        save(page, arguments.folder / "viewer_model.png")
        page = opened(browser, arguments.page, PHONE, "dark", phone=True)
        page.locator("#viewer").evaluate(INTO_VIEW)
        page.locator("[data-overlay=uncertainty]").click()
        save(page, arguments.folder / "viewer_phone.png")
        browser.close()


if __name__ == "__main__":
    main()
