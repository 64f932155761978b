"""The store against plain arrays, and what an interruption leaves."""

import json
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unetrpp.core.errors import UserError
from unetrpp.io.geometry import Geometry, Orientation
from unetrpp.preprocessing.case import PreprocessedCase
from unetrpp.preprocessing.grid import CaseProperties
from unetrpp.preprocessing.store import ANNOTATED, INDEX_FLOOR, OUTSIDE, Store, foreground_index

SHAPE = (9, 20, 13)


def make_case(name="a", shape=SHAPE, seed=0):
    random = np.random.default_rng(seed)
    image = random.normal(size=(2, *shape)).astype(np.float32)
    label = random.choice([0, 0, 0, 1, 3], shape).astype(np.uint8)
    properties = CaseProperties(
        case=name,
        geometry=Geometry(shape_zyx=shape, spacing_zyx_mm=(1.0, 1.0, 1.0)),
        orientation=Orientation(axes=(0, 1, 2), flips=()),
        crop=((0, shape[0]), (0, shape[1]), (0, shape[2])),
        cropped_shape=shape,
        cropped_spacing_mm=(1.0, 1.0, 1.0),
        shape=shape,
    )
    return PreprocessedCase(image, label, properties)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("store"))
    case = make_case()
    store.write(case, "plans", "inputs", (4, 8, 8))
    return case, store.open("a")


@settings(max_examples=40, deadline=None)
@given(st.tuples(*[st.integers(-12, 25)] * 3), st.tuples(*[st.integers(1, 12)] * 3))
def test_a_patch_equals_a_padded_array(stored, start, size):
    case, opened = stored
    pad = 40
    image = np.pad(case.image, [(0, 0), *[(pad, pad)] * 3])
    label = np.pad(case.label.astype(int), pad, constant_values=OUTSIDE)
    where = tuple(slice(s + pad, s + pad + n) for s, n in zip(start, size, strict=True))
    read_image, read_label = opened.read(start, size)
    np.testing.assert_array_equal(read_image, image[:, *where])
    np.testing.assert_array_equal(read_label, label[where])
    assert read_label.dtype == np.int16


def test_foreground_is_the_sorted_voxels_of_a_class(stored):
    case, opened = stored
    assert opened.classes == (1, 3)
    for index in (1, 2, 3):
        np.testing.assert_array_equal(opened.foreground(index), np.argwhere(case.label == index))
    assert opened.foreground(1).dtype == np.int32
    assert not opened.has_annotated


def test_a_drawn_voxel_is_one_of_the_class(tmp_path):
    store = Store(tmp_path)
    case = make_case("a")
    store.write(case, "plans", "inputs", (8, 8, 8), ignore_index=3)
    opened = store.open("a")
    rng = np.random.default_rng(0)
    assert opened.has_annotated
    assert all(case.label[tuple(opened.draw_voxel(rng, 1))] == 1 for _ in range(20))
    drawn = {int(case.label[tuple(opened.draw_voxel(rng, ANNOTATED))]) for _ in range(200)}
    assert drawn == {0, 1}


def test_properties_survive(stored):
    case, opened = stored
    assert (opened.case, opened.shape, opened.channels) == ("a", SHAPE, 2)
    assert opened.properties == case.properties


def test_large_classes_are_thinned_and_ignored_voxels_are_not_indexed():
    label = np.ones((60, 60, 60), np.uint8)
    label[:30] = 2
    index, offsets = foreground_index(label, ignore_index=2, seed=1)
    assert set(offsets) == {1, -1}
    start, stop = offsets[1]
    assert stop - start == INDEX_FLOOR + 108_000 // 100
    assert (np.diff(index[start:stop]) > 0).all()
    assert (label.ravel()[index] == 1).all()
    again, _ = foreground_index(label, ignore_index=2, seed=1)
    np.testing.assert_array_equal(index, again)


def test_only_complete_cases_count(tmp_path):
    store = Store(tmp_path)
    store.write(make_case("a"), "plans", "inputs", (8, 8, 8))
    store.write(make_case("b"), "plans", "inputs", (8, 8, 8))
    (tmp_path / "b.json").unlink()  # as a kill before the last step leaves it
    (tmp_path / ".123.c.json").write_text("{")
    assert store.cases() == ["a"]
    assert store.is_current("a", "plans", "inputs")
    assert not store.is_current("a", "other plans", "inputs")
    assert not store.is_current("a", "plans", "other inputs")
    assert not store.is_current("b", "plans", "inputs")
    with pytest.raises(UserError, match="run unetrpp_plan_and_preprocess again"):
        store.open("b")


def test_a_killed_rewrite_leaves_no_complete_case(tmp_path, monkeypatch):
    store = Store(tmp_path)
    store.write(make_case("a"), "plans", "inputs", (8, 8, 8))

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("unetrpp.preprocessing.store.write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        store.write(make_case("a", seed=1), "plans", "inputs", (8, 8, 8))
    assert store.cases() == []


def test_the_first_stages_segmentation_is_read_by_patch(stored, tmp_path):
    case = make_case("a")
    store = Store(tmp_path)
    store.write(case, "plans", "inputs", (8, 8, 8))
    store.write_first_stage("a", case.label, "digest", (8, 8, 8))
    opened = store.open("a")
    for start, size in (((0, 0, 0), SHAPE), ((-3, 5, 9), (6, 30, 8)), ((50, 0, 0), (4, 4, 4))):
        expected = np.maximum(opened.read(start, size)[1], 0)
        np.testing.assert_array_equal(opened.read_first_stage(start, size), expected)
    assert store.cases() == ["a"]
    assert (store.has_first_stage("a", "digest"), store.has_first_stage("a", "other")) == (True, False)
    store.remove("a")
    assert not store.has_first_stage("a", "digest")
    with pytest.raises(UserError, match="is missing or damaged"):
        stored[1].read_first_stage((0, 0, 0), (1, 1, 1))


def test_a_missing_array_is_named(tmp_path):
    store = Store(tmp_path)
    store.write(make_case("a"), "plans", "inputs", (8, 8, 8))
    (tmp_path / "a.image.b2nd").unlink()
    with pytest.raises(UserError, match=r"a\.image\.b2nd is missing or damaged"):
        store.open("a").read((0, 0, 0), (1, 1, 1))


def test_half_precision_and_no_foreground(tmp_path):
    store = Store(tmp_path)
    case = make_case("a")
    empty = PreprocessedCase(case.image, np.zeros(SHAPE, np.uint8), case.properties)
    store.write(empty, "plans", "inputs", (8, 8, 8), dtype="float16")
    opened = store.open("a")
    assert opened.classes == ()
    assert opened.foreground(1).shape == (0, 3)
    image, _ = opened.read((0, 0, 0), SHAPE)
    np.testing.assert_array_equal(image, case.image.astype(np.float16))


@pytest.mark.parametrize("linked", [True, False])
def test_a_case_of_the_same_preprocessing_is_shared(tmp_path, monkeypatch, linked):
    if not linked:  # a file system without hard links
        monkeypatch.setattr("os.link", lambda *_: (_ for _ in ()).throw(OSError))
    first, second = Store(tmp_path / "first"), Store(tmp_path / "second")
    first.write(make_case(), "plans", "inputs", (8, 8, 8))
    second.write(make_case(seed=1), "old plans", "inputs", (8, 8, 8))
    assert second.adopt("a", first)
    assert second.adopt("a", first)  # once more, over the same files
    assert second.is_current("a", "plans", "inputs")
    assert not list((tmp_path / "second").glob(".*"))
    whole = ((0, 0, 0), SHAPE)
    for ours, theirs in zip(second.open("a").read(*whole), first.open("a").read(*whole), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    image = "a.image.b2nd"
    assert (tmp_path / "first" / image).samefile(tmp_path / "second" / image) == linked
    # Writing the case again in one store leaves the other's copy as it is.
    first.write(make_case(seed=2), "new plans", "inputs", (8, 8, 8))
    np.testing.assert_array_equal(second.open("a").read(*whole)[0], make_case().image)
    (tmp_path / "first" / image).write_bytes(b"")  # damaged
    assert not second.adopt("a", first)
    assert second.is_current("a", "plans", "inputs")


def test_a_damaged_case_is_not_shared(tmp_path):
    first, second = Store(tmp_path / "first"), Store(tmp_path / "second")
    first.write(make_case(), "plans", "inputs", (8, 8, 8))
    (tmp_path / "first" / "a.foreground.b2nd").unlink()
    assert not second.adopt("a", first)
    assert second.cases() == []
    first.write(make_case(), "plans", "inputs", (8, 8, 8))
    path = tmp_path / "first" / "a.image.b2nd"
    content = bytearray(path.read_bytes())
    content[len(content) // 4 : len(content) * 3 // 4] = bytes(len(content) * 3 // 4 - len(content) // 4)
    path.write_bytes(content)
    assert not second.adopt("a", first)


def test_the_image_is_known_by_its_voxels_and_its_grid(tmp_path):
    """A corrected label leaves the image as it was; the whole case is another one."""
    store, case = Store(tmp_path), make_case()

    def digests(changed, inputs):
        store.write(changed, "plans", inputs, (4, 8, 8))
        return store.image_digest("a"), store.open("a").digest

    first = digests(case, "one")
    assert digests(case, "one") == first
    corrected = digests(replace(case, label=1 - (case.label > 0)), "two")
    assert (corrected[0] == first[0], corrected[1] == first[1]) == (True, False)
    assert digests(replace(case, image=case.image + 1), "three")[0] != first[0]
    farther = msgspec.structs.replace(case.properties, cropped_spacing_mm=(2.0, 1.0, 1.0))
    assert digests(replace(case, properties=farther), "one")[0] != first[0]
    image = store.image_digest("a", with_first_stage=True)
    store.write_first_stage("a", np.zeros(SHAPE, np.uint8), "segmentation", (4, 8, 8))
    assert store.image_digest("a", with_first_stage=True) != image
    assert store.image_digest("a") == digests(replace(case, properties=farther), "one")[0]


def test_an_image_of_release_0_1_0_is_known_by_all_that_its_case_was_made_from(tmp_path):
    store, path = Store(tmp_path), tmp_path / "a.json"
    found = set()
    for inputs in ("one", "two"):
        store.write(make_case(), "plans", inputs, (4, 8, 8))
        record = json.loads(path.read_text())
        del record["image_digest"]
        path.write_text(json.dumps(record))
        found.add(store.image_digest("a"))
    assert len(found) == 2
