"""Batch i is a function of (seed, fold, i); a failing case arrives as its own error."""

import errno

import msgspec
import numpy as np
import pytest

from tests.helpers.tiny import configuration, store_balls
from unetrpp.augmentation import spatial
from unetrpp.augmentation.pipeline import Sample
from unetrpp.core.errors import UserError
from unetrpp.core.randomness import Stream
from unetrpp.patches.loader import PatchLoader, prefetch


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    store = store_balls(tmp_path_factory.mktemp("store"), 3)
    return [store.open(case) for case in store.cases()]


def loader(cases, **changed) -> PatchLoader:
    return PatchLoader(cases, configuration(), **({"seed": 0, "fold": 0} | changed))


def same(a, b) -> bool:
    return all(
        x.case == y.case and np.array_equal(x.image, y.image) and np.array_equal(x.label, y.label)
        for x, y in zip(a, b, strict=True)
    )


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_threads_change_nothing(cases, threads):
    expected = [loader(cases).batch(i) for i in range(3, 12)]
    read = list(prefetch(loader(cases), range(3, 12), threads))
    assert len(read) == len(expected)
    assert all(same(a, b) for a, b in zip(read, expected, strict=True))


def test_iterating_as_a_batchgenerators_loader(cases):
    source = loader(cases)
    assert same(next(source), source.batch(0))
    assert same(next(source), source.batch(1))


def test_seed_fold_and_iteration_matter(cases):
    first = loader(cases).batch(0)
    others = [loader(cases).batch(1), loader(cases, seed=1).batch(0), loader(cases, fold=1).batch(0)]
    assert not any(
        same(first, other)
        for other in others
        if all(x.image.shape == y.image.shape for x, y in zip(first, other, strict=True))
    )


def test_what_is_read_has_the_size_its_draw_needs(cases):
    sizes = {
        (s.draw is None or s.draw.affine is None, s.image.shape[1:]) for i in range(20) for s in loader(cases).batch(i)
    }
    assert (True, (8, 16, 16)) in sizes
    assert any(not still and size != (8, 16, 16) for still, size in sizes)
    assert {size for still, size in sizes if still} == {(8, 16, 16)}


def test_a_read_that_would_be_too_large_is_cut_and_closed(cases, monkeypatch):
    monkeypatch.setattr(spatial, "MOST_READ", 2)
    cut = 0
    for sample in (sample for i in range(40) for sample in loader(cases).batch(i)):
        image, label = np.asarray(sample.image), np.asarray(sample.label)
        assert image[0].size <= 2 * np.prod((8, 16, 16))
        assert sample.draw is not None
        box = spatial.read_box(sample.draw.affine, (8, 16, 16))
        assert box.size == label.shape
        for axis in box.cut:
            cut += 1
            assert (image.take([0, -1], axis + 1) == 0).all()
            assert (label.take([0, -1], axis) == -1).all()
    assert cut


def test_validation_patches_are_not_augmented(cases):
    batch = loader(cases, stream=Stream.VALIDATION_PATCHES).batch(0)
    assert all(sample.draw is None for sample in batch)


def test_the_first_stage_segmentation_of_a_cascade_is_read_with_mistakes(tmp_path):
    store = store_balls(tmp_path, 2)
    for case in store.cases():
        opened = store.open(case)
        label = opened.read((0, 0, 0), opened.shape)[1]
        store.write_first_stage(case, label.astype(np.uint8), "none", (8, 16, 16))
    cases = [store.open(case) for case in store.cases()]
    second = msgspec.structs.replace(configuration(), first_stage="3d_lowres")

    def previous(sample: Sample) -> np.ndarray:
        assert sample.first_stage is not None
        return np.asarray(sample.first_stage)

    def loader(stream: Stream = Stream.PATCHES) -> PatchLoader:
        return PatchLoader(cases, second, seed=0, fold=0, stream=stream)

    expected = [loader().batch(i) for i in range(12)]
    for batch, again in zip(expected, prefetch(loader(), range(12), 3), strict=True):
        assert same(batch, again)
        assert all(np.array_equal(previous(a), previous(b)) for a, b in zip(batch, again, strict=True))
    plain = PatchLoader(cases, configuration(), seed=0, fold=0)
    assert all(same(batch, plain.batch(i)) for i, batch in enumerate(expected))  # nothing else is drawn otherwise
    samples = [sample for batch in expected for sample in batch]
    changed = [not np.array_equal(previous(s), np.maximum(s.label, 0)) for s in samples if (s.label > 0).any()]
    assert 0 < sum(changed) < len(changed)
    for sample in (s for i in range(6) for s in loader(Stream.VALIDATION_PATCHES).batch(i)):
        np.testing.assert_array_equal(previous(sample), np.maximum(sample.label, 0))


def test_a_damaged_case_arrives_with_its_id(tmp_path):
    store = store_balls(tmp_path, 2)
    (tmp_path / "ball_1.image.b2nd").write_bytes(b"damaged")
    damaged = PatchLoader([store.open("ball_1")], configuration(), seed=0, fold=0)
    with pytest.raises(UserError, match="ball_1"):
        list(prefetch(damaged, range(3), 2))


@pytest.mark.parametrize("stream", [Stream.PATCHES, Stream.VALIDATION_PATCHES])
def test_shares_are_parts_of_the_same_batch(cases, stream):
    for i in range(4):
        first, second = (loader(cases, stream=stream, share=slice(k, k + 1)).batch(i) for k in range(2))
        assert same(first + second, loader(cases, stream=stream).batch(i))


def test_what_the_system_refuses_is_named(cases, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(type(cases[0]), "read", refuse)
    with pytest.raises(OSError, match="Too many open files: 'the preprocessed case ball_"):
        loader(cases).batch(0)


def test_draws_name_the_channels_that_were_normalised_inside_a_mask(cases):
    plain = configuration()
    channel = msgspec.structs.replace(plain.preprocessing.normalization[0], masked=True)
    preprocessing = msgspec.structs.replace(plain.preprocessing, normalization=(channel,))
    masked = msgspec.structs.replace(plain, preprocessing=preprocessing)
    batches = [PatchLoader(cases, plan, seed=0, fold=0).batch(0) for plan in (plain, masked)]
    drawn = [[sample.draw and sample.draw.masked for sample in batch] for batch in batches]
    assert drawn == [[(), ()], [(0,), (0,)]]
