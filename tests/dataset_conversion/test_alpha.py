"""Photographs with an alpha channel: left out where it is opaque, and one line about 200 files in either case."""

import numpy as np
import pytest
import tifffile
from PIL import Image

from tests.helpers.source_folder import convert

RNG = np.random.default_rng(0)
PHOTOGRAPHS = ("--channel", "R,G,B", "--label", "cell=1")


def make(root, cases, alpha=255, ending="png"):
    for part in ("images", "labels"):
        (root / part).mkdir(parents=True, exist_ok=True)
    colours = {}
    for i in range(cases):
        array = RNG.integers(0, 255, (6, 7, 4)).astype(np.uint8)
        array[..., 3] = 255
        array[0, : i % 7 + 1, 3] = alpha
        if ending == "png":
            Image.fromarray(array, "RGBA").save(root / "images" / f"c{i}.png")
        else:
            tifffile.imwrite(root / "images" / f"c{i}.tif", array, photometric="rgb", extrasamples=["unassalpha"])
        Image.fromarray((array[..., 0] > 99).astype(np.uint8)).save(root / "labels" / f"c{i}.{ending}")
        colours[f"c{i}"] = array[..., :3]
    return colours


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_an_opaque_alpha_channel_is_left_out_with_one_line(tmp_path, caplog, ending):
    colours = make(tmp_path / "src", 3, ending=ending)
    assert convert(tmp_path / "src", *PHOTOGRAPHS) == 0
    lines = [record.getMessage() for record in caplog.records]
    assert lines == ["the alpha channel of 3 cases is opaque and was left out"]
    for case, array in colours.items():
        path = tmp_path / "w/raw/Made/imagesTr" / f"{case}_0000.{ending}"
        written = np.asarray(Image.open(path)) if ending == "png" else tifffile.imread(path)
        np.testing.assert_array_equal(written, array)


def test_transparent_pixels_and_wrong_channels_are_one_line(tmp_path, capsys):
    make(tmp_path / "src", 30, alpha=7)
    assert convert(tmp_path / "src", *PHOTOGRAPHS) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("c0, c1, c10, c11, c12 and 25 more  CASE.png has transparent pixels")
    make(tmp_path / "src", 30)
    assert convert(tmp_path / "src", "--channel", "R,G,B,A", "--label", "cell=1") == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[1].endswith(
        "CASE.png has 3 channels beside its alpha channel, which is no channel, but 4 are named (R,G,B,A); "
        "correct --channel or the files"
    )
    assert convert(tmp_path / "src", *PHOTOGRAPHS) == 0  # nothing was converted before


def test_gray_images_saved_in_colour_are_said_once(tmp_path, caplog):
    root = tmp_path / "src"
    make(root, 3)
    for path in (root / "images").iterdir():
        Image.open(path).convert("L").convert("RGB").save(path)
    assert convert(root, *PHOTOGRAPHS) == 0
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.startswith("R, G and B are equal in every image: saved as gray and converted with one --channel,")
    caplog.clear()
    Image.fromarray(RNG.integers(0, 255, (6, 7, 3)).astype(np.uint8)).save(root / "images" / "c1.png")
    assert convert(root, *PHOTOGRAPHS, "--overwrite") == 0
    assert caplog.records == []  # one image has colours
