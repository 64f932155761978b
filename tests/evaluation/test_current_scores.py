"""Scores are read where nothing has changed, and made again where a file or the classes have."""

import json

import numpy as np
import pytest

from unetrpp.core.errors import UserError
from unetrpp.dataset.labels import LabelScheme
from unetrpp.evaluation.current_scores import current_scores
from unetrpp.evaluation.evaluate import BYTES_WITH_DISTANCES, evaluate_pairs
from unetrpp.evaluation.metrics import MetricOptions
from unetrpp.io.geometry import Geometry
from unetrpp.io.images import write_segmentation

SCHEME = LabelScheme(names=("background", "ball"), values=(0, 1))
GEOMETRY = Geometry(shape_zyx=(1, 2, 10), spacing_zyx_mm=(1.0, 1.0, 1.0))


def write_row(path, hits):
    """The first ``hits`` of ten voxels in both rows."""
    write_segmentation(path, np.broadcast_to(np.arange(10) < hits, (1, 2, 10)).astype(np.uint8), GEOMETRY)


@pytest.fixture
def pairs(tmp_path):
    """Dice 2 * 5 / (10 + 5) and 1."""
    found = {}
    for case, hits in (("a", 5), ("b", 10)):
        found[case] = (tmp_path / "predicted" / f"{case}.nii.gz", tmp_path / "true" / f"{case}.nii.gz")
        write_row(found[case][0], hits)
        write_row(found[case][1], 10)
    return found


def dice(summary):
    return {case.case: round(case.metrics["1"]["Dice"], 4) for case in summary.metric_per_case}


def test_unchanged_files_are_not_scored_again(tmp_path, pairs, monkeypatch):
    first = current_scores(tmp_path, pairs, SCHEME)
    assert dice(first) == {"a": 0.6667, "b": 1.0}
    assert json.loads((tmp_path / "summary.json").read_text())["made_from"] == first.made_from
    monkeypatch.setattr("unetrpp.evaluation.current_scores.evaluate_pairs", None)
    assert dice(current_scores(tmp_path, pairs, SCHEME)) == dice(first)


@pytest.mark.parametrize("which", [0, 1])
def test_another_prediction_or_reference_is_scored(tmp_path, pairs, which):
    current_scores(tmp_path, pairs, SCHEME)
    write_row(pairs["b"][which], 5)
    assert dice(current_scores(tmp_path, pairs, SCHEME)) == {"a": 0.6667, "b": 0.6667}
    assert "b,1,ball,0.666667" in (tmp_path / "summary.csv").read_text()


def test_other_cases_classes_and_metrics_are_scored(tmp_path, pairs):
    current_scores(tmp_path, pairs, SCHEME)
    assert dice(current_scores(tmp_path, {"a": pairs["a"]}, SCHEME)) == {"a": 0.6667}
    renamed = LabelScheme(names=("background", "cube"), values=(0, 1))
    assert current_scores(tmp_path, pairs, renamed).classes == {"1": "cube"}
    more = current_scores(tmp_path, pairs, renamed, MetricOptions(distances=True))
    assert "HD95" in more.metric_per_case[0].metrics["1"]


def test_scores_without_their_origin_are_compared_and_kept_where_they_are_right(tmp_path, pairs):
    path = tmp_path / "summary.json"
    current_scores(tmp_path, pairs, SCHEME)
    record = json.loads(path.read_text())
    del record["made_from"]  # as release 0.1.0 wrote it
    path.write_text(json.dumps(record))
    before = path.read_bytes()
    current_scores(tmp_path, pairs, SCHEME)
    assert path.read_bytes() == before
    write_row(pairs["b"][1], 5)
    assert dice(current_scores(tmp_path, pairs, SCHEME)) == {"a": 0.6667, "b": 0.6667}
    assert json.loads(path.read_text())["made_from"]


def test_a_missing_or_unfit_file_is_named(tmp_path, pairs):
    write_row(pairs["b"][1], 10)
    pairs["b"][0].unlink()
    with pytest.raises(UserError, match=r"b: .*does not exist"):
        current_scores(tmp_path, pairs, SCHEME)
    write_segmentation(pairs["b"][0], np.full((1, 2, 10), 7, np.uint8), GEOMETRY)
    with pytest.raises(UserError, match=r"b: it could not be scored: .*label 7"):
        current_scores(tmp_path, pairs, SCHEME)
    assert not (tmp_path / "summary.json").exists()


def test_distances_that_somebody_asked_for_are_kept(tmp_path, pairs):
    """Training and unetrpp_find_best ask for the overlap; a fold that was scored with distances keeps them, and their tolerance."""
    asked = current_scores(tmp_path, pairs, SCHEME, MetricOptions(distances=True, tolerance=2.0))
    assert current_scores(tmp_path, pairs, SCHEME) == asked
    write_row(pairs["b"][1], 5)
    again = current_scores(tmp_path, pairs, SCHEME)
    assert again.options == MetricOptions(distances=True, tolerance=2.0)
    assert again.made_from != asked.made_from


def test_scoring_starts_no_more_processes_than_memory_holds(tmp_path, pairs, monkeypatch):
    many = {f"{case}_{i}": files for case, files in pairs.items() for i in range(40)}
    monkeypatch.setattr("unetrpp.core.machine.usable_cores", lambda: 16)
    started = []

    def scored(pairs, scheme, *, options, processes):
        started.append(processes)
        return evaluate_pairs(pairs, scheme, options=options, processes=1)

    monkeypatch.setattr("unetrpp.evaluation.current_scores.evaluate_pairs", scored)
    voxels = 20
    for i, cases_in_memory in enumerate((2, 100)):
        room = cases_in_memory * voxels * BYTES_WITH_DISTANCES
        monkeypatch.setattr("unetrpp.core.machine.available_memory", lambda room=room: room)
        current_scores(tmp_path / str(i), many, SCHEME, MetricOptions(distances=True))
    assert started == [2, 6]  # of 80 cases, 16 for each further process
