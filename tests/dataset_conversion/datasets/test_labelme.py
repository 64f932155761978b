"""labelme in miniature: shapes of every kind, embedded images, from the JSON files to training."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image

from tests.helpers.downloads import convert, train_two_steps
from unetrpp.core.errors import UserError
from unetrpp.dataset.cases import read_dataset
from unetrpp.io.images import read_image, read_label

RNG = np.random.default_rng(4)
SIZE = (20, 24)  # height, width


def pixels():
    return RNG.integers(0, 255, (*SIZE, 3)).astype(np.uint8)


def encoded(array):
    content = io.BytesIO()
    Image.fromarray(array).save(content, "PNG")
    return base64.b64encode(content.getvalue()).decode()


def shape(label, points, kind="polygon", **more):
    return {"label": label, "points": points, "group_id": None, "shape_type": kind, "flags": {}, **more}


def write(path, shapes, image, *, data=None, size=SIZE):
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": image, "imageData": data}
    path.write_text(json.dumps(content | {"imageHeight": size[0], "imageWidth": size[1]}))


@pytest.fixture
def root(tmp_path):
    """Three photographs with all kinds of shapes; the annotations lie in a folder of their own."""
    folder = tmp_path / "nuclei"
    (folder / "Bilder").mkdir(parents=True)
    for name in ("Zelle ä 1.PNG", "b.png", "c.png"):
        Image.fromarray(pixels()).save(folder / "Bilder" / name)
    square = [[2, 3], [12, 3], [12, 13], [2, 13]]
    first = [
        shape("cell", square),
        shape("nucleus", [[4, 5], [6, 7]], "rectangle"),
        shape("_background_", [[9, 9], [11, 11]], "rectangle"),
        shape("__ignore__", [[20, 0], [24, 20]], "rectangle"),
    ]
    write(folder / "json/Zelle ä 1.json", first, "..\\Bilder\\Zelle ä 1.PNG")
    mask = np.array([[True, False], [True, True]])
    second = [
        shape("nucleus", [[10, 10], [13, 10]], "circle"),
        shape("cell", [[4.7, 5.0], [5, 6]], "mask", mask=encoded(mask)),
    ]
    write(folder / "json/b.json", second, "../Bilder/b.png")
    old = {"shapes": [{"label": "cell", "points": square}], "imagePath": "c.png"}  # without kinds and sizes
    (folder / "json/c.json").write_text(json.dumps(old))
    (folder / "json/._c.json").write_bytes(b"\0")
    (folder / "json/other.json").write_text('{"shapes": 3}')
    return folder


def label_of(folder, case):
    return read_label(folder / "labelsTr" / f"{case}.png").array[0, 0]


def test_later_shapes_lie_on_top_and_a_dataset_can_be_trained(root, tmp_path):
    converted = convert("labelme", root, tmp_path / "w")
    assert converted.errors == ()
    assert converted.cases == ("Zelle ä 1", "b", "c")
    description = read_dataset(converted.folder, "x").description
    assert description.labels.names == ("background", "cell", "nucleus")
    assert description.labels.ignore_value == 3
    expected = np.zeros(SIZE, int)
    expected[3:13, 2:12] = 1
    expected[5:7, 4:6] = 2
    expected[9:11, 9:11] = 0
    expected[:, 20:] = 3
    np.testing.assert_array_equal(label_of(converted.folder, "Zelle ä 1"), expected)
    y, x = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    expected = np.where(np.hypot(x - 10, y - 10) <= 3, 2, 0)
    expected[5, 4] = expected[6, 4] = expected[6, 5] = 1
    np.testing.assert_array_equal(label_of(converted.folder, "b"), expected)
    assert label_of(converted.folder, "c").sum() == 100
    assert train_two_steps(converted, tmp_path / "w", configuration="2d").is_file()


@pytest.mark.parametrize("others", [True, False])
def test_an_embedded_image_counts_where_no_file_is_there(root, tmp_path, others):
    array = pixels()
    write(root / "json/d.json", [shape("cell", [[0, 0], [5, 5]], "rectangle")], "d.jpg", data=encoded(array))
    if not others:
        for path in [*root.glob("Bilder/*"), *(root / "json" / f"{name}.json" for name in ("Zelle ä 1", "b", "c"))]:
            path.unlink()
    converted = convert("labelme", root, tmp_path / "w")
    assert converted.errors == ()
    case = next(case for case in read_dataset(converted.folder, "x").cases if case.id == "d")
    np.testing.assert_array_equal(read_image(case.images).array[:, 0], np.moveaxis(array, -1, 0))
    assert case.label is not None
    assert read_label(case.label).array.sum() == 25


def test_what_has_no_area_or_no_image_is_named(root, tmp_path):
    triangle = [[0, 0], [5, 0], [0, 5]]
    for name, shapes in {
        "point": [shape("cell", triangle), shape("cell", [[3, 3]], "point")],
        "two": [shape("cell", triangle[:2])],
        "broken": [{"points": triangle}],
        "sized": [shape("cell", triangle)],
        "none": [],
    }.items():
        write(root / f"json/{name}.json", shapes, f"../Bilder/{name}.png", size=(9, 9) if name == "sized" else SIZE)
        Image.fromarray(pixels()).save(root / f"Bilder/{name}.png")
    write(root / "json/gone.json", [], "gone.png")
    write(root / "json/damaged.json", [shape("cell", triangle)], "damaged.png", data="AAAA")
    Image.fromarray(pixels()).save(root / "Bilder/forgotten.png")
    converted = convert("labelme", root, tmp_path / "w")
    reasons = {error.case: error.message for error in converted.errors}
    assert reasons.keys() == {"point", "two", "broken", "sized", "gone", "damaged", "Bilder/forgotten.png"}
    assert "shape 2 of point.json is a point, which has no area" in reasons["point"]
    assert "is a polygon of 2 points, but needs three points at least" in reasons["two"]
    assert "is malformed (KeyError: 'label')" in reasons["broken"]
    assert "an image of 9 x 9 pixels, but sized.png has 24 x 20" in reasons["sized"]
    assert "gone.png is not there" in reasons["gone"]
    assert "the embedded image is none of PNG, JPEG, BMP" in reasons["damaged"]
    assert not label_of(converted.folder, "none").any()


def test_a_folder_without_annotations_is_refused(root, tmp_path):
    with pytest.raises(UserError, match="has no JSON file with shapes and imagePath"):
        convert("labelme", root / "Bilder", tmp_path / "w")
    for path in root.glob("json/*.json"):
        path.unlink()
    write(root / "json/b.json", [], "../Bilder/b.png")
    with pytest.raises(UserError, match="no class but the background"):
        convert("labelme", root, tmp_path / "w")


def test_a_file_below_the_folder_counts_before_an_embedded_image(root, tmp_path, caplog):
    caplog.set_level("INFO")
    write(root / "json/d.json", [], "somewhere/else/d.png", data=encoded(pixels()))
    Image.fromarray(pixels()).save(root / "Bilder/d.png")
    converted = convert("labelme", root, tmp_path / "w")
    assert converted.errors == ()
    np.testing.assert_array_equal(
        read_image([converted.folder / "imagesTr/d_0000.png"]).array[:, 0].transpose(1, 2, 0),
        np.asarray(Image.open(root / "Bilder/d.png")),
    )
    assert "1 image without annotations counts as an image without objects" in caplog.text


@pytest.mark.parametrize("absolute", [True, False])
def test_images_outside_of_the_folder_are_not_read(root, tmp_path, absolute):
    Image.fromarray(pixels()).save(tmp_path / "secret.png")
    image = str(tmp_path / "secret.png") if absolute else "../../secret.png"
    write(root / "json/s.json", [shape("cell", [[2, 2], [9, 9]], "rectangle")], image)
    converted = convert("labelme", root, tmp_path / "w")
    assert {e.case: e.message for e in converted.errors}.keys() == {"secret"}
    assert "secret" not in converted.cases


def test_malformed_files_are_named_and_the_others_converted(root, tmp_path):
    square = [[2, 3], [12, 3], [12, 13]]
    bad: dict[str, dict[str, object]] = {
        "no class": {"shapes": [shape("", square)]},
        "null": {"shapes": [shape(None, square)]},
        "size": {"shapes": [shape("cell", square)], "imageHeight": "twenty", "imageWidth": 24},
        "number": {"shapes": [shape({}, square)]},
    }
    for name, content in bad.items():
        Image.fromarray(pixels()).save(root / f"Bilder/{name}.png")
        (root / f"json/{name}.json").write_text(json.dumps({"imagePath": f"../Bilder/{name}.png", **content}))
    (root / "json/cut.json").write_text('{"shapes": [], "imagePath": ')
    converted = convert("labelme", root, tmp_path / "w")
    assert len(converted.cases) == 3
    reasons = {e.case: e.message for e in converted.errors}
    assert reasons.keys() == {*bad, "json/cut.json"}
    assert "shape 1 of no class.json has no class" in reasons["no class"]
    assert "no whole number" in reasons["size"]
    assert "truncated" in reasons["json/cut.json"]
