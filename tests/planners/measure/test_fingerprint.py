"""Fingerprint extraction: what is measured again, and values on volumes whose answer is known."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.helpers.raw_dataset import make_case, write_case, write_dataset
from unetrpp.core.files import write_json
from unetrpp.dataset.cases import read_dataset
from unetrpp.io.geometry import Geometry
from unetrpp.planners.measure import fingerprint
from unetrpp.planners.measure.fingerprint import load_or_measure, survey


def test_a_fingerprint_is_measured_again_only_where_a_file_changed(tmp_path, monkeypatch):
    raw = read_dataset(write_dataset(tmp_path / "raw" / "Blocks"), "Blocks")
    calls = []

    def counted(*arguments, **options):
        calls.append(arguments)
        return survey(*arguments, **options)

    monkeypatch.setattr(fingerprint, "survey", counted)
    with ThreadPoolExecutor(1) as pool:
        first, digests = load_or_measure(raw, tmp_path, pool)
        assert not (tmp_path / "fingerprint.json").exists()
        write_json(tmp_path / "fingerprint.json", first)
        assert load_or_measure(raw, tmp_path, pool) == (first, digests)
        assert len(calls) == 1
        write_case(tmp_path / "raw" / "Blocks", "case_1", *make_case(50))
        second, others = load_or_measure(raw, tmp_path, pool)
        assert len(calls) == 2
        assert {case for case in digests if digests[case] != others[case]} == {"case_1"}
        assert second != first
        assert load_or_measure(raw, tmp_path, pool, overwrite=True) == (second, others)
        assert len(calls) == 3


def test_intensities_are_those_of_the_foreground(tmp_path):
    """10,000 draws a case; the percentiles of the four cases' own foreground voxels are known."""
    raw = read_dataset(write_dataset(tmp_path / "raw" / "Blocks"), "Blocks")
    with ThreadPoolExecutor(1) as pool:
        measured = survey(raw, pool).fingerprint
    assert measured is not None
    voxels = np.concatenate([image[label > 0] for image, label in (make_case(i) for i in range(4))])
    (found,) = measured.intensities
    assert found.mean == pytest.approx(voxels.mean(), rel=0.005)
    assert found.median == pytest.approx(np.median(voxels), rel=0.005)
    assert found.std == pytest.approx(voxels.std(), rel=0.05)
    assert (found.minimum, found.maximum) == pytest.approx((voxels.min(), voxels.max()))
    assert measured.median_relative_size_after_crop == 1
    assert measured.median_spacing_mm == (2.0, 1.0, 1.0)
    assert [case.classes["organ"].voxels for case in measured.cases] == [int((make_case(0)[1] == 1).sum())] * 4


def test_the_body_is_measured_within_the_crop(tmp_path):
    """A ball of noise in air: its box, its place in the image, and the half of the box that it fills."""
    radius, start, shape = 16, (5, 3, 20), (40, 48, 64)
    grid = np.indices((33, 33, 33)) - radius
    ball = (grid**2).sum(axis=0) <= radius**2
    image, label = np.zeros(shape, np.float32), np.zeros(shape, np.uint8)
    box = tuple(slice(s, s + 33) for s in start)
    image[box], label[box] = ball * np.random.default_rng(0).uniform(1, 2, ball.shape), ball
    geometry = Geometry(shape_zyx=shape, spacing_zyx_mm=(2.0, 1.0, 0.5))
    folder = write_dataset(tmp_path / "raw" / "Blocks", cases=1)
    write_case(folder, "case_0", image, label, geometry)
    with ThreadPoolExecutor(1) as pool:
        measured = survey(read_dataset(folder, "Blocks"), pool).fingerprint
    assert measured is not None
    (case,) = measured.cases
    z, y, x = (s + 16 - (n - 1) / 2 for s, n in zip(start, shape, strict=True))
    assert case.cropped_shape == (33, 33, 33)
    assert case.crop_center_lps_mm == pytest.approx((x * 0.5, y * 1.0, z * 2.0))
    assert case.classes["organ"].center_lps_mm == pytest.approx(case.crop_center_lps_mm)  # of the ball: its box's
    assert case.body_share == pytest.approx(np.pi / 6, abs=0.1)  # cells that the surface crosses count whole


def test_intensities_do_not_depend_on_the_names_of_cases(tmp_path):
    found = []
    for order in (range(3), (2, 0, 1)):
        folder = write_dataset(tmp_path / f"first_{order[0]}" / "raw" / "Blocks", cases=3)
        for number, seed in enumerate(order):
            write_case(folder, f"case_{number}", *make_case(seed))
        with ThreadPoolExecutor(1) as pool:
            measured = survey(read_dataset(folder, "Blocks"), pool).fingerprint
        assert measured is not None
        found.append(measured.intensities)
    assert found[0] == found[1]
