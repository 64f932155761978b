"""COCO in miniature: polygons and run lengths of several files, from the JSON to training."""

import json

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import binary_fill_holes
from skimage import measure

from tests.helpers.downloads import convert, train_two_steps
from unetrpp.core.errors import UserError
from unetrpp.dataset.cases import read_dataset
from unetrpp.io.images import read_label

RNG = np.random.default_rng(3)
SIZE = (20, 24)  # height, width


def photograph(path, size=SIZE, *, gray=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 255, size if gray else (*size, 3)).astype(np.uint8)).save(path)


def box(left, top, right, bottom):
    return [left, top, right, top, right, bottom, left, bottom]


def image(number, name):
    return {"id": number, "file_name": name, "height": SIZE[0], "width": SIZE[1]}


def annotation(number, picture, category, segmentation, **more):
    return {"id": number, "image_id": picture, "category_id": category, "segmentation": segmentation, **more}


def write(path, images, annotations, categories):
    path.parent.mkdir(parents=True, exist_ok=True)
    named = [{"id": number, "name": name} for number, name in categories.items()]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": named}))


@pytest.fixture
def root(tmp_path):
    """Two files of annotations with four photographs: a crowd as run lengths, an overlap, an object of two parts."""
    folder = tmp_path / "Zellen der Müllers"
    for name in ("000000000009.jpg", "000000000025.jpg", "000000000030.JPG"):
        photograph(folder / "train2017" / name)
    photograph(folder / "val2017/000000000139.jpg")
    photograph(folder / "train2017/._000000000009.jpg")
    runs = {"size": list(SIZE), "counts": [40, 20, 20 * 24 - 60]}  # the third column
    objects = [
        annotation(1, 9, 62, [box(2, 3, 12, 13)], area=100, iscrowd=0),
        annotation(2, 9, 88, [box(4, 5, 6, 7)], area=4, iscrowd=0),
        annotation(3, 9, 62, runs, area=20, iscrowd=1),
        annotation(4, 25, 88, [box(0, 0, 3, 3), box(1, 1, 8, 2)]),
        annotation(5, 30, 62, {"size": list(SIZE), "counts": "d1d0h<"}),
    ]
    images = [image(9, "000000000009.jpg"), image(25, "000000000025.jpg"), image(30, "000000000030.jpg")]
    categories = {1: "person", 62: "chair", 88: "teddy bear"}
    write(folder / "annotations/instances_train2017.json", images, objects, categories)
    tests = [annotation(6, 139, 88, [box(1, 1, 2, 2)])]
    write(folder / "annotations/instances_val2017.json", [image(139, "000000000139.jpg")], tests, categories)
    (folder / "annotations/captions_train2017.json").write_text('{"images": [], "annotations": []}')
    return folder


BOTH = {
    "annotations": ["annotations/instances_train2017.json"],
    "test_annotations": ["annotations/instances_val2017.json"],
}


def label_of(folder, part, case):
    return read_label(folder / part / f"{case}.png").array[0, 0]


def test_small_objects_lie_on_large_ones_and_a_dataset_can_be_trained(root, tmp_path, caplog):
    caplog.set_level("INFO")
    train, val = (f"annotations/instances_{part}2017.json" for part in ("train", "val"))
    converted = convert("coco", root, tmp_path / "w", annotations=[train], test_annotations=[val])
    assert converted.errors == ()
    assert converted.test_cases == ("000000000139",)
    description = read_dataset(converted.folder, "x").description
    assert description.channel_names == ("R", "G", "B")
    assert description.labels.names == ("background", "chair", "teddy bear")
    expected = np.zeros(SIZE, int)
    expected[3:13, 2:12] = 1
    expected[:, 2] = 1
    expected[5:7, 4:6] = 2
    np.testing.assert_array_equal(label_of(converted.folder, "labelsTr", "000000000009"), expected)
    expected = np.zeros(SIZE, int)
    expected[:3, :3] = expected[1:2, 1:8] = 2
    np.testing.assert_array_equal(label_of(converted.folder, "labelsTr", "000000000025"), expected)
    assert label_of(converted.folder, "labelsTs", "000000000139").sum() == 2
    assert "no annotation has the category person, so it is no class" in caplog.text
    assert train_two_steps(converted, tmp_path / "w", configuration="2d").is_file()


def test_a_workspace_in_the_source_does_not_count(root):
    for _ in range(2):
        converted = convert("coco", root, root / "w", **BOTH)
        assert (len(converted.cases), converted.errors) == (4, ())


def test_compressed_run_lengths_go_down_the_columns(root, tmp_path):
    folder = convert("coco", root, tmp_path / "w", **BOTH).folder
    lengths = (52, 20, 20 * 24 - 72)
    flat = np.repeat([0, 1, 0], lengths)
    found = label_of(folder, "labelsTr", "000000000030")
    np.testing.assert_array_equal(found, flat.reshape(SIZE[::-1]).T)


def test_several_files_have_to_be_chosen_from(root, tmp_path):
    with pytest.raises(
        UserError, match=r"2 files of annotations \(annotations/instances_train2017.json and annotations/"
    ):
        convert("coco", root, tmp_path / "w")
    with pytest.raises(UserError, match="has no JSON file with images, annotations, categories"):
        convert("coco", root / "train2017", tmp_path / "w")


def test_what_cannot_be_painted_or_found_is_named_with_its_reason(root, tmp_path):
    file = root / "annotations/instances_train2017.json"
    content = json.loads(file.read_text())
    content["images"] += [image(40, "gone.jpg"), image(41, "small.jpg"), image(42, "turned.jpg"), image(43, "box.jpg")]
    content["annotations"].append(annotation(9, 43, 62, []))
    bad = {"unknown": (99, box(0, 0, 2, 2)), "short": (62, [1, 2, 3, 4]), "text": (62, ["a"] * 6), "runs": (62, None)}
    for i, (name, (category, ring)) in enumerate(bad.items(), 50):
        photograph(root / f"train2017/{name}.jpg")
        content["images"].append(image(i, f"{name}.jpg"))
        runs = {"size": list(SIZE), "counts": [9, 999]}
        content["annotations"].append(annotation(i, i, category, [ring] if ring else runs))
    file.write_text(json.dumps(content))
    photograph(root / "train2017/small.jpg", (5, 5))
    photograph(root / "train2017/box.jpg")
    photograph(root / "train2017/extra.jpg")
    turned = Image.fromarray(np.zeros((*SIZE, 3), np.uint8))
    exif = turned.getexif()
    exif[274] = 3
    turned.save(root / "train2017/turned.jpg", exif=exif)
    reasons = {e.case: e.message for e in convert("coco", root, tmp_path / "w", **BOTH).errors}
    assert reasons.keys() == {"gone", "small", "turned", "box", "train2017/extra.jpg", *bad}
    assert "gone.jpg is not there; complete the download" in reasons["gone"]
    assert "has an image of 24 x 20 pixels, but small.jpg has 5 x 5" in reasons["small"]
    assert "turned.jpg is stored turned or mirrored (EXIF orientation 3)" in reasons["turned"]
    assert "annotation 9 has no outline, at most a box" in reasons["box"]
    assert "annotation 50 has the category 99, which the file does not list" in reasons["unknown"]
    assert "has an outline of 4 numbers" in reasons["short"]
    assert "annotation 52 is malformed (ValueError" in reasons["text"]
    assert "run lengths of 1008 pixels do not fill 20 x 24 pixels" in reasons["runs"]
    assert "is not in the annotations" in reasons["train2017/extra.jpg"]


def test_images_of_one_name_in_several_folders_keep_their_folders_in_the_names(tmp_path):
    root = tmp_path / "video"
    for folder in ("a", "b"):
        photograph(root / folder / "frame_0001.png", gray=True)
    images = [image(1, "a/frame_0001.png"), image(2, "b/frame_0001.png")]
    write(root / "_annotations.coco.json", images, [annotation(1, 1, 0, [box(0, 0, 2, 2)])], {0: "cell", 1: "cell"})
    converted = convert("coco", root, tmp_path / "w")
    assert converted.cases == ("a_frame_0001", "b_frame_0001")
    assert converted.errors == ()
    assert read_dataset(converted.folder, "x").description.channel_names == ("gray",)
    assert label_of(converted.folder, "labelsTr", "a_frame_0001").sum() == 4
    assert label_of(converted.folder, "labelsTr", "b_frame_0001").sum() == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"categories": [{"name": "a"}]}, "every category must have a number as its id"),
        ({"categories": [{"id": 1, "name": " "}]}, "every category must have a number as its id, and a name"),
        ({"categories": [{"id": 0, "name": "a"}, {"id": 0, "name": "b"}]}, "has the category 0 twice"),
        ({"images": [image(9, "000000000009.jpg"), image(9, "000000000025.jpg")]}, "has the image 9 twice"),
        ({"annotations": [{"image_id": 77}]}, "has annotations of image 77, which is not among its images"),
        ({"annotations": [3]}, r"is not in COCO's format \(TypeError"),
        ({"annotations": []}, "has no annotation"),
        ({"images": {}}, "has no list of images"),
    ],
)
def test_a_malformed_file_is_refused(root, tmp_path, change, message):
    file = root / "annotations/instances_train2017.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(UserError, match=message):
        convert("coco", root, tmp_path / "w", annotations=["annotations/instances_train2017.json"])


def test_a_file_of_annotations_that_is_no_json_is_named(tmp_path):
    photograph(tmp_path / "src/a.png")
    (tmp_path / "src/a.json").write_text('{"images": [], "annotations": [{"area": NaN}], "categories": []}')
    with pytest.raises(UserError, match=r"no JSON file with images, .*a\.json: JSON is malformed"):
        convert("coco", tmp_path / "src", tmp_path / "w")


def test_images_that_differ_in_their_ending_only_or_lack_a_size_are_named(tmp_path):
    for name in ("a.png", "a.bmp", "b.png", "c.png"):
        photograph(tmp_path / "src" / name)
    sizeless = {"id": 3, "file_name": "b.png"}
    images = [image(1, "a.png"), image(2, "a.bmp"), sizeless, image(4, "c.png")]
    objects = [annotation(n, n, 1, [box(0, 0, 3, 3)]) for n in (1, 2, 3, 4)]
    write(tmp_path / "src/a.json", images, objects, {1: "cell"})
    converted = convert("coco", tmp_path / "src", tmp_path / "w")
    assert converted.cases == ("c",)
    reasons = {e.case: e.message for e in converted.errors}
    assert "would be the case of several images (a.png and a.bmp); rename them apart" in reasons["a"]
    assert "has no width and height in a.json" in reasons["b"]


def outlines(mask):
    """The outlines of a mask half-way between the centres of its pixels and of those around it, by scikit-image."""
    found = measure.find_contours(np.pad(mask, 1), 0.5)
    return [(contour[:-1, ::-1] - 1 + 0.5).reshape(-1).tolist() for contour in found]


def run_lengths(mask):
    column = np.concatenate([[0], mask.T.reshape(-1), [1 - mask[-1, -1]]])
    return np.diff(np.concatenate([[0], np.flatnonzero(np.diff(column)), [mask.size]])).tolist()


@pytest.mark.slow
@pytest.mark.parametrize("polygons", [True, False])
def test_real_nuclei_come_back_from_their_outlines(test_data, tmp_path, polygons):
    """Outlines of whole pixels and run lengths hold all pixels of a nucleus, so nothing may be lost or added."""
    images: list[dict[str, object]] = []
    objects: list[dict[str, object]] = []
    for path in sorted((test_data / "nuclei_2d/images").glob("*.png"))[:6]:
        (tmp_path / "src").mkdir(exist_ok=True)
        (tmp_path / "src" / path.name).symlink_to(path)
        instances = np.asarray(Image.open(test_data / "nuclei_2d/labels" / path.name))
        images.append({"id": len(images), "file_name": path.name, "height": 256, "width": 256})
        for value in np.unique(instances[instances > 0]):
            mask = binary_fill_holes(instances == value).astype(int)  # COCO's polygons have no holes
            drawn = outlines(mask) if polygons else {"size": [256, 256], "counts": run_lengths(mask)}
            objects.append(annotation(len(objects), len(images) - 1, 1, drawn))
    write(tmp_path / "src/a.json", images, objects, {1: "nucleus"})
    converted = convert("coco", tmp_path / "src", tmp_path / "w")
    assert converted.errors == ()
    for case in converted.cases:
        instances = np.asarray(Image.open(test_data / f"nuclei_2d/labels/{case}.png"))
        expected = np.any(
            [binary_fill_holes(instances == value) for value in np.unique(instances[instances > 0])], axis=0
        )
        np.testing.assert_array_equal(label_of(converted.folder, "labelsTr", case), expected)
