"""Masks that mark classes by colours: named ones become values, all others are named with their counts."""

import json

import numpy as np
import pytest
from PIL import Image

from unetrpp.core.errors import UserError
from unetrpp.dataset_conversion.convert import main
from unetrpp.dataset_conversion.folder import convert_folder
from unetrpp.io.images import read_label

RNG = np.random.default_rng(12)
RED, GREEN, WHITE, BLACK = (255, 0, 0), (0, 255, 0), (255, 255, 255), (0, 0, 0)


@pytest.fixture
def root(tmp_path):
    """Three photographs; of the masks one is in colours, one has a palette, and one is only black and saved as gray."""
    folder = tmp_path / "skin"
    (folder / "photos").mkdir(parents=True)
    (folder / "masks").mkdir()
    for name in "abc":
        Image.fromarray(RNG.integers(0, 255, (6, 7, 3)).astype(np.uint8)).save(folder / f"photos/{name}.jpg")
    Image.fromarray(colours()).save(folder / "masks/a.png")
    palette = Image.fromarray((np.arange(42).reshape(6, 7) % 3).astype(np.uint8), "P")
    palette.putpalette([*BLACK, *GREEN, *RED])
    palette.save(folder / "masks/b.png")
    Image.fromarray(np.zeros((6, 7), np.uint8)).save(folder / "masks/c.png")
    return folder


def colours():
    return np.array([BLACK, RED, GREEN], np.uint8)[np.arange(42).reshape(6, 7) % 3]


def convert(root, *labels, more=()):
    where = ["--images", "photos", "--labels", "masks", "--workspace", str(root.parent / "w"), "--processes", "1"]
    return main(["folder", str(root), *where, *(("--label", *labels) if labels else ()), *more])


def label_of(root, case):
    return read_label(root.parent / f"w/raw/skin/labelsTr/{case}.png").array[0, 0]


def test_colours_get_values_in_their_order(root):
    assert convert(root, "naevus=#ff0000", "melanoma=#00FF00") == 0
    content = json.loads((root.parent / "w/raw/skin/dataset.json").read_text())
    assert content["labels"] == {"background": 0, "naevus": 1, "melanoma": 2}
    assert content["channel_names"] == {"0": "R", "1": "G", "2": "B"}
    pattern = np.arange(42).reshape(6, 7) % 3
    np.testing.assert_array_equal(label_of(root, "a"), pattern)
    np.testing.assert_array_equal(label_of(root, "b"), np.array([0, 2, 1])[pattern])
    assert not label_of(root, "c").any()


def test_background_and_ignored_pixels_may_have_colours(root):
    array = colours()
    array[0, 0] = WHITE
    Image.fromarray(array).save(root / "masks/a.png")
    assert convert(root, "naevus=#ff0000", "ignore=#ffffff", "background=#00ff00") == 1  # black has no name now
    assert (
        convert(root, "naevus=#ff0000", "ignore=#ffffff", "background=#00ff00", "hair=#000000", more=["--overwrite"])
        == 0
    )
    content = json.loads((root.parent / "w/raw/skin/dataset.json").read_text())
    assert content["labels"] == {"background": 0, "naevus": 1, "hair": 3, "ignore": 2}
    expected = np.array([3, 1, 0])[np.arange(42).reshape(6, 7) % 3]
    expected[0, 0] = 2
    np.testing.assert_array_equal(label_of(root, "a"), expected)


def test_unknown_colours_are_named_with_their_counts(root, capsys):
    array = colours()
    array[1, 1] = array[1, 2] = (254, 0, 0)
    array[2, 2] = (0, 1, 2)
    Image.fromarray(array).save(root / "masks/a.png")
    assert convert(root, "naevus=#ff0000", "melanoma=#00ff00") == 1
    error = capsys.readouterr().err
    assert "a.png has colours that --label does not name: #fe0000 (2 pixels) and #000102 (1 pixel)" in error
    assert "2 training cases converted" not in error


def test_other_colours_are_another_conversion(root, capsys):
    assert convert(root, "naevus=#ff0000", "melanoma=#00ff00") == 0
    assert convert(root, "naevus=#00ff00", "melanoma=#ff0000") == 2
    assert "with other options" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("labels", "more", "message"),
    [
        (["a=#ff0000", "b=2"], [], "has both values and colours"),
        (["a=#ff0000", "b=#FF0000"], [], "gives two classes one colour"),
        (["a=#red"], [], "'a=#red' is no colour; write it as #RRGGBB"),
        (["a=#ff0000"], ["--foreground-from-instances"], "leave it out with colours"),
    ],
)
def test_contradictions_are_refused(root, capsys, labels, more, message):
    assert convert(root, *labels, more=more) == 2
    assert message in capsys.readouterr().err


def test_numbers_in_a_label_file_are_no_colours(root, tmp_path):
    Image.fromarray(np.full((6, 7), 40000, np.uint16)).save(root / "masks/a.png")
    result = convert_folder(
        root,
        images=["photos"],
        labels="masks",
        label={"a": "#ff0000", "b": "#00ff00"},
        workspace=tmp_path / "w",
        processes=1,
    )
    [error] = result.errors
    assert "a.png has 1 channel of 16 bits, but colours are three of 8 bits" in error.message
    with pytest.raises(UserError, match="colours"):
        convert_folder(
            root, images=["photos"], labels="masks", label={"a": "#ff0000", "b": 2}, workspace=tmp_path / "w"
        )
