"""The synthetic dataset: reproducible, readable as a raw dataset, with organs that differ in size and contrast."""

import numpy as np
from scipy.ndimage import label as components

from unetrpp.dataset.cases import read_dataset
from unetrpp.dataset.synthetic import ORGANS, synthetic_case, write_synthetic_dataset
from unetrpp.io.images import read_image, read_label


def test_equal_seeds_give_equal_voxels_and_others_do_not():
    first, again, other = synthetic_case(0, 3), synthetic_case(0, 3), synthetic_case(1, 3)
    np.testing.assert_array_equal(first[0].array, again[0].array)
    np.testing.assert_array_equal(first[1].array, again[1].array)
    assert first[0].array.shape != other[0].array.shape or (first[0].array != other[0].array).any()


def test_every_case_has_its_three_organs_inside_the_body_and_one_is_small():
    for number in range(24):
        image, label = synthetic_case(0, number)
        volumes = np.bincount(label.array.ravel(), minlength=4)[1:]
        assert len(volumes) == len(ORGANS) == 3
        assert volumes.min() > 20
        assert volumes[2] < 0.25 * volumes[0]
        assert components(label.array[0] == 1)[1] <= 2
        assert (image.array[label.array > 0] > 0).all()
        assert 0.02 < (image.array == 0).mean() < 0.6


def test_organs_differ_from_their_surroundings_but_noise_overlaps():
    image, label = synthetic_case(0, 0)
    body = image.array[(label.array == 0) & (image.array > 0)]
    for value, darker in ((1, False), (2, True), (3, False)):
        organ = image.array[label.array == value]
        assert (organ.mean() < body.mean()) == darker
        assert abs(organ.mean() - body.mean()) > body.std()
        assert organ.min() < body.max()
        assert organ.max() > body.min()


def test_it_is_written_as_a_raw_dataset_with_held_out_labels(tmp_path):
    write_synthetic_dataset(tmp_path / "tiny", training=2, held_out=1, seed=4)
    dataset = read_dataset(tmp_path / "tiny", "tiny")
    assert [c.id for c in dataset.cases] == ["case_000", "case_001"]
    assert (tmp_path / "tiny/imagesTs/case_002_0000.nii.gz").is_file()
    image, label = synthetic_case(4, 2)
    np.testing.assert_array_equal(read_label(tmp_path / "tiny/labelsTs/case_002.nii.gz").array, label.array)
    read = read_image(dataset.cases[0].images)
    np.testing.assert_array_equal(read.array, synthetic_case(4, 0)[0].array)
    assert read.geometry.spacing_zyx_mm[0] > 2 * read.geometry.spacing_zyx_mm[2]
    assert image.geometry == label.geometry
