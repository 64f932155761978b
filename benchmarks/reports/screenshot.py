"""The top of a report at 1200 and at 400 pixels beside each other, as headless Chromium shows it.

    python benchmarks/reports/screenshot.py report.html report.jpg --chromium chromium

Exits with 1 where the page is wider than the window, so that a reader would have to scroll sideways.
"""

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

WIDTHS, HEIGHT, GAP = (1200, 400), 2000, 24
SCALE, QUALITY = 0.6, 70  # of the picture that is written
TITLE = '<script>document.title = "width " + document.documentElement.scrollWidth</script></body>'


def frame(source: Path, width: int, folder: Path) -> Path:
    """A page that shows ``source`` in a frame of this width, as a browser's own window has a least width."""
    page = folder / "frame.html"
    size = f"border:0;width:{width}px;height:{HEIGHT}px"
    after = 'onload="document.title=this.contentDocument.title"'
    page.write_text(
        f'<body style="margin:0"><iframe style="{size}" src="{source.resolve().as_uri()}" {after}></iframe>'
    )
    return page


def chromium(program: str, page: Path, *options: str) -> str:
    command = [program, "--headless=new", "--no-sandbox", "--hide-scrollbars", "--allow-file-access-from-files"]
    command += ["--virtual-time-budget=3000", f"--window-size={max(WIDTHS)},{HEIGHT}", *options, str(page)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--chromium", default="chromium", help="the browser's program")
    arguments = parser.parse_args()
    fits, shown = True, Image.new("RGB", (sum(WIDTHS) + GAP, HEIGHT), "#94a3b8")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        probe = folder / "probe.html"
        probe.write_text(arguments.page.read_text().replace("</body>", TITLE))
        for left, width in zip((0, WIDTHS[0] + GAP), WIDTHS, strict=True):
            found = re.search(
                r"<title>width (\d+)", chromium(arguments.chromium, frame(probe, width, folder), "--dump-dom")
            )
            fits &= found is not None and int(found[1]) <= width
            chromium(arguments.chromium, frame(arguments.page, width, folder), f"--screenshot={folder / 'shot.png'}")
            with Image.open(folder / "shot.png") as picture:
                shown.paste(picture.crop((0, 0, width, HEIGHT)), (left, 0))
    smaller = shown.resize((round(shown.width * SCALE), round(shown.height * SCALE)), Image.Resampling.LANCZOS)
    smaller.save(arguments.picture, quality=QUALITY)
    return 0 if fits else 1


if __name__ == "__main__":
    sys.exit(main())
