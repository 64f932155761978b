"""CVAT's XML in miniature: shapes of every kind, from the file to training."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.helpers.downloads import convert, train_two_steps
from unetrpp.core.errors import UserError
from unetrpp.dataset.cases import read_dataset
from unetrpp.io.images import read_label

RNG = np.random.default_rng(6)
SIZE = (20, 24)  # height, width
TASK = "<meta><task><labels>{}</labels></task></meta>".format(
    "".join(
        f"<label><name>{name}</name><color>#f00</color></label>" for name in ("tumour", "background", "stroma", "fat")
    )
)


def xml(images):
    return f'<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>{TASK}{images}</annotations>'


def image(name, shapes, size=SIZE):
    return f'<image id="0" name="{name}" subset="Train" width="{size[1]}" height="{size[0]}">{shapes}</image>'


def polygon(label, points, z=0):
    return f'<polygon label="{label}" source="manual" occluded="0" points="{points}" z_order="{z}"></polygon>'


def box(label, corners, **more):
    named = " ".join(f'{key}="{value}"' for key, value in zip(("xtl", "ytl", "xbr", "ybr"), corners, strict=True))
    return f'<box label="{label}" {named} {" ".join(f"{k}={v!r}" for k, v in more.items())} z_order="0"/>'


SQUARE = "2.00,3.00;12.00,3.00;12.00,13.00;2.00,13.00"


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "project 1"
    (folder / "images/Train").mkdir(parents=True)
    for name in ("a.png", "b.png", "ü c.PNG"):
        Image.fromarray(RNG.integers(0, 255, (*SIZE, 3)).astype(np.uint8)).save(folder / "images/Train" / name)
    top = polygon("stroma", "0.00,0.00;6.00,0.00;6.00,6.00;0.00,6.00", z=1)
    first = top + polygon("tumour", SQUARE) + box("background", (8, 8, 10, 10)) + '<tag label="seen"/>'
    runs = '<mask label="stroma" rle="1, 2, 3" left="20" top="18" width="3" height="2" z_order="0"/>'
    turned = box("tumour", (5, 5, 15, 9), rotation="90.0")
    ellipse = '<ellipse label="tumour" cx="10.0" cy="16.0" rx="4.0" ry="1.5" rotation="30.0" z_order="0"/>'
    images = image("a.png", first) + image("b.png", runs + turned + ellipse) + image("Train/ü c.PNG", "")
    (folder / "annotations.xml").write_text(xml(images), encoding="utf-8")
    return folder


def label_of(folder, case):
    return read_label(folder / "labelsTr" / f"{case}.png").array[0, 0]


def test_the_higher_shape_lies_on_top_and_a_dataset_can_be_trained(root, tmp_path):
    converted = convert("cvat", root, tmp_path / "w")
    assert converted.errors == ()
    assert converted.cases == ("a", "b", "ü c")
    assert read_dataset(converted.folder, "x").description.labels.names == ("background", "tumour", "stroma")
    expected = np.zeros(SIZE, int)
    expected[3:13, 2:12] = 1
    expected[8:10, 8:10] = 0
    expected[:6, :6] = 2
    np.testing.assert_array_equal(label_of(converted.folder, "a"), expected)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    expected = np.zeros(SIZE, int)
    expected[18, 21:23] = 2
    expected[2:12, 8:12] = 1  # 10 x 4 pixels about (10, 7), turned by a right angle
    # y points downwards, so an ellipse that is turned clockwise rises to the left.
    angle = math.radians(30)
    along, across = np.array([math.cos(angle), math.sin(angle)]), np.array([-math.sin(angle), math.cos(angle)])
    offsets = np.stack([x - 10, y - 16], axis=-1)
    expected[((offsets @ along) / 4) ** 2 + ((offsets @ across) / 1.5) ** 2 <= 1] = 1
    np.testing.assert_array_equal(label_of(converted.folder, "b"), expected)
    assert not label_of(converted.folder, "ü c").any()
    assert train_two_steps(converted, tmp_path / "w", configuration="2d").is_file()


def test_the_export_is_taken_as_it_was_downloaded(root, tmp_path):
    archive = shutil.make_archive(str(tmp_path / "project_1_annotations"), "zip", root)
    converted = convert("cvat", Path(archive), tmp_path / "w")
    folder = convert("cvat", root, tmp_path / "w2").folder
    assert (converted.cases, converted.errors) == (("a", "b", "ü c"), ())
    assert not (tmp_path / "w/unpacked").exists() or not any((tmp_path / "w/unpacked").iterdir())
    for case in converted.cases:
        np.testing.assert_array_equal(label_of(converted.folder, case), label_of(folder, case))


def test_what_cannot_be_painted_is_named(root, tmp_path):
    shapes = {
        "line": '<polyline label="tumour" points="1,1;2,2" z_order="0"/>',
        "two": polygon("tumour", "1,1;2,2"),
        "runs": '<mask label="tumour" rle="9" left="0" top="0" width="2" height="2" z_order="0"/>',
        "lacks": '<ellipse label="tumour" cx="1" z_order="0"/>',
        "nan": polygon("tumour", "1,1;2,2;nan,3"),
        "huge": '<mask label="tumour" rle="9" left="0" top="0" width="999999" height="999999" z_order="0"/>',
        "flat": '<ellipse label="tumour" cx="1" cy="1" rx="0" ry="1" z_order="0"/>',
        "gone": polygon("tumour", SQUARE),
    }
    for name in list(shapes)[:-1]:
        Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(root / f"images/{name}.png")
    images = image("a.png", polygon("tumour", SQUARE)) + "".join(image(f"{n}.png", s) for n, s in shapes.items())
    (root / "annotations.xml").write_text(xml(images), encoding="utf-8")
    reasons = {error.case: error.message for error in convert("cvat", root, tmp_path / "w").errors}
    assert reasons.keys() == {*shapes, "images/Train/b.png", "images/Train/ü c.PNG"}
    assert "has a shape 'polyline' of 'tumour', which has no area" in reasons["line"]
    assert "has a polygon that is malformed (ValueError: 2 corners)" in reasons["two"]
    assert "run lengths of 9 pixels do not fill 2 x 2 pixels" in reasons["runs"]
    assert "KeyError: 'cy'" in reasons["lacks"]
    assert "a coordinate that is no number" in reasons["nan"]
    assert "a mask of 999999 x 999999 pixels is larger than its image (24 x 20)" in reasons["huge"]
    assert "a radius that is not above 0" in reasons["flat"]
    assert "gone.png is not there" in reasons["gone"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('<!DOCTYPE a [<!ENTITY b "x">]><annotations>&b;</annotations>', "has a document type"),
        ("<annotations><image></annotations>", "is damaged"),
        (xml('<track id="0" label="tumour"></track>'), "has tracks of a video"),
        ("<html/>", "has no XML file of CVAT"),
    ],
)
def test_other_files_are_refused(root, tmp_path, text, message):
    (root / "annotations.xml").write_text(text)
    with pytest.raises(UserError, match=message):
        convert("cvat", root, tmp_path / "w")


def test_several_exports_are_refused(root, tmp_path):
    (root / "images/annotations.xml").write_bytes((root / "annotations.xml").read_bytes())
    with pytest.raises(UserError, match=r"several XML files of CVAT \(annotations.xml and images/annotations.xml\)"):
        convert("cvat", root, tmp_path / "w")
