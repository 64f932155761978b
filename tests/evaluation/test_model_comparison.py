"""Two models' summaries compared: differences by class and over classes, files, and what cannot be compared."""

import numpy as np
import pytest

from unetrpp.cli.evaluate import main
from unetrpp.core.errors import UserError
from unetrpp.core.files import write_json
from unetrpp.dataset.labels import LabelScheme
from unetrpp.evaluation.cross_validation import CrossValidation
from unetrpp.evaluation.metrics import overlap_scores
from unetrpp.evaluation.model_comparison import compare_models, compare_summaries, comparison_table
from unetrpp.evaluation.summary import CaseScores, summarize, write_summary

SCHEME = LabelScheme(names=("background", "ball"), values=(0, 1))


def summary(hits):
    """Case i has ``hits[i]`` of ten voxels right."""
    true = np.ones((1, 1, 10), bool)
    cases = []
    for i, n in enumerate(hits):
        predicted = np.arange(10).reshape(1, 1, 10) < n
        metrics = {"1": overlap_scores(predicted, true)}
        cases.append(CaseScores(case=f"c{i}", prediction_file="p", reference_file="r", metrics=metrics))
    return summarize(cases, SCHEME)


def test_two_summaries(tmp_path, capsys):
    first, second = summary([5, 6, 7, 8, 5, 6, 7]), summary([7, 8, 9, 9, 8, 7, 9])
    result = compare_summaries(first, second)
    assert result["ball"].difference == result["mean"].difference
    assert result["ball"].p_value == pytest.approx(0.0156, abs=1e-3)
    assert first.intervals["1"]["Dice"] == first.intervals["foreground"]["Dice"]
    assert "+0." in comparison_table(result)
    write_summary(tmp_path / "one", first)
    write_summary(tmp_path / "two", second)
    assert main(["--compare", *(str(tmp_path / name / "summary.json") for name in ("one", "two"))]) == 0
    assert "Wilcoxon" in capsys.readouterr().out


def test_summaries_without_a_common_case_are_refused():
    first = summary([5])
    with pytest.raises(UserError, match="share 0 cases"):
        compare_summaries(first, summary([]))


def test_a_cross_validation_is_compared_by_its_cases(tmp_path):
    first, second = summary([5, 6, 7, 8, 5, 6, 7]), summary([7, 8, 9, 9, 8, 7, 9])
    write_summary(tmp_path, first)
    pooled = CrossValidation(folds=(), mean_over_folds={}, summary=second)
    write_json(tmp_path / "crossval_summary.json", pooled)
    found = compare_models(tmp_path / "summary.json", tmp_path / "crossval_summary.json")
    assert found == compare_summaries(first, second)
    with pytest.raises(UserError, match="score the predictions with unetrpp_evaluate"):
        compare_models(tmp_path / "nowhere.json", tmp_path / "summary.json")
