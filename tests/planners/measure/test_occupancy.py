"""Patches for the attention rule come from a store as in training, and are the same every time."""

import numpy as np
import pytest

from unetrpp.io.geometry import Geometry, Orientation
from unetrpp.planners.measure.occupancy import any_in_cells, training_patches
from unetrpp.preprocessing.case import PreprocessedCase
from unetrpp.preprocessing.grid import CaseProperties
from unetrpp.preprocessing.store import Store


def stored(folder, names, shape=(6, 20, 24), labels=None):
    rng = np.random.default_rng(0)
    store = Store(folder)
    z, y, x = shape
    for name in names:
        label = np.zeros(shape, np.uint8)
        label[2:4, 5:9, rng.integers(2, 20) :][..., :3] = 1
        label = label if labels is None else labels[name].astype(np.uint8)
        properties = CaseProperties(
            case=name,
            geometry=Geometry(shape_zyx=shape, spacing_zyx_mm=(3, 1, 1)),
            orientation=Orientation(axes=(0, 1, 2), flips=()),
            crop=((0, z), (0, y), (0, x)),
            cropped_shape=shape,
            cropped_spacing_mm=(3, 1, 1),
            shape=shape,
        )
        case = PreprocessedCase(np.zeros((1, *shape), np.float32), label, properties)
        store.write(case, "digest", "inputs", (4, 8, 8))
    return [store.open(name) for name in names]


def test_a_third_of_the_patches_is_on_foreground_and_all_repeat(tmp_path):
    cases = stored(tmp_path, ["a", "b", "c"])
    patches = list(training_patches(cases, (4, 8, 8), 1 / 3, None))
    assert {p.shape for p in patches} == {(4, 8, 8)}
    assert sum((p > 0).any() for p in patches) >= len(patches) // 3
    np.testing.assert_array_equal(patches, list(training_patches(cases, (4, 8, 8), 1 / 3, None)))


def test_two_dimensional_patches_are_single_slices(tmp_path):
    patches = list(training_patches(stored(tmp_path, ["a"]), (8, 8), 1 / 3, None))
    assert {p.shape for p in patches} == {(1, 8, 8)}


@pytest.mark.parametrize("stride", [(1, 1, 1), (1, 2, 2), (2, 4, 3)])
def test_cells_against_a_loop(stride):
    mask = np.random.default_rng(1).random((4, 8, 6)) < 0.1
    got = any_in_cells(mask, stride)
    for cell in np.ndindex(got.shape):
        block = tuple(slice(i * s, (i + 1) * s) for i, s in zip(cell, stride, strict=True))
        assert got[cell] == mask[block].any()


def test_names_of_cases_and_numbers_of_classes_do_not_matter(tmp_path):
    rng = np.random.default_rng(0)
    labels = [
        (rng.random((6, 20, 24)) < 0.02).astype(np.uint8) + 2 * (rng.random((6, 20, 24)) < 0.01) for _ in range(4)
    ]
    found = []
    for names, order in (("abcd", (0, 1, 2, 3)), ("dbca", (0, 2, 3, 1))):
        folder = tmp_path / names
        cases = stored(
            folder, sorted(names), labels={n: np.array(order)[x] for n, x in zip(names, labels, strict=True)}
        )
        found.append([patch > 0 for patch in training_patches(cases, (4, 8, 8), 1 / 3, None)])
    np.testing.assert_array_equal(found[0], found[1])
