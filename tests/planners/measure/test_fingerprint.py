"""Fingerprint extraction: what is measured again, and values on volumes whose answer is known."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.helpers.raw_dataset import make_case, write_case, write_dataset
from unetrpp.core.files import write_json
from unetrpp.dataset.cases import read_dataset
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
