"""Two models' summaries compared: differences by class and over classes, files, and what cannot be compared."""

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unetrpp.cli.evaluate import main
from unetrpp.core.errors import UserError
from unetrpp.core.files import write_json
from unetrpp.dataset.labels import LabelScheme
from unetrpp.evaluation.cross_validation import CrossValidation
from unetrpp.evaluation.metrics import overlap_scores
from unetrpp.evaluation.model_comparison import compare_models, compare_summaries, comparison_table
from unetrpp.evaluation.summary import CaseScores, summarize, write_summary

SCHEME = LabelScheme(names=("background", "ball"), values=(0, 1))


TWO = {"liver": 1, "tumour": 2}


def two_classes(hits, values):
    """Case i has ``hits[name][i]`` of ten voxels right of the class that has the label ``values[name]``."""
    names = sorted(values, key=lambda name: values[name])
    scheme = LabelScheme(names=("background", *names), values=(0, *(values[name] for name in names)))
    single = {name: summary(found).metric_per_case for name, found in hits.items()}
    cases = [
        msgspec.structs.replace(case, metrics={str(values[name]): single[name][i].metrics["1"] for name in names})
        for i, case in enumerate(single[names[0]])
    ]
    return summarize(cases, scheme)


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


@given(st.lists(st.tuples(st.integers(1, 10), st.integers(1, 10)), min_size=1, max_size=8), st.permutations([1, 2]))
@settings(max_examples=20, deadline=None)
def test_classes_are_matched_by_name_whatever_their_label(hits, values):
    found = {"liver": [a for a, _ in hits], "tumour": [b for _, b in hits]}
    numbers = dict(zip(TWO, values, strict=True))
    differences = compare_summaries(two_classes(found, TWO), two_classes(found, numbers))
    assert list(differences) == ["liver", "tumour", "mean"]
    for name, by_hand in (*found.items(), ("mean", [(a + b) / 2 for a, b in hits])):
        difference = differences[name]
        assert difference.difference == 0
        assert name == "mean" or difference.first == pytest.approx(np.mean([2 * n / (n + 10) for n in by_hand]))


def test_a_difference_is_of_the_class_of_that_name():
    first = two_classes({"liver": [5, 6], "tumour": [9, 9]}, {"liver": 1, "tumour": 2})
    second = two_classes({"liver": [7, 8], "tumour": [9, 9]}, {"liver": 5, "tumour": 1})
    differences = compare_summaries(first, second)
    assert differences["tumour"].difference == 0
    assert differences["liver"].difference == pytest.approx((14 / 17 + 16 / 18 - 10 / 15 - 12 / 16) / 2)


@pytest.mark.parametrize("other", [("organ",), ("ball", "tumour")])
def test_other_class_names_are_refused(other):
    first = summary([5])
    case = first.metric_per_case[0]
    metrics = {str(k): case.metrics["1"] for k in range(1, 1 + len(other))}
    scheme = LabelScheme(names=("background", *other), values=tuple(range(1 + len(other))))
    second = summarize([msgspec.structs.replace(case, metrics=metrics)], scheme)
    with pytest.raises(UserError, match=f"{other[-1]}.*: in only one of them.*by name"):
        compare_summaries(first, second)


def test_one_name_of_two_classes_is_refused():
    both = two_classes({"liver": [5], "tumour": [9]}, TWO)
    same = msgspec.structs.replace(both, classes={"1": "liver", "2": "liver"})
    with pytest.raises(UserError, match=r"two classes of one summary have the same name \(liver, liver\)"):
        compare_summaries(same, same)


def test_a_cross_validation_is_compared_by_its_cases(tmp_path):
    first, second = summary([5, 6, 7, 8, 5, 6, 7]), summary([7, 8, 9, 9, 8, 7, 9])
    write_summary(tmp_path, first)
    pooled = CrossValidation(folds=(), mean_over_folds={}, summary=second)
    write_json(tmp_path / "crossval_summary.json", pooled)
    found = compare_models(tmp_path / "summary.json", tmp_path / "crossval_summary.json")
    assert found == compare_summaries(first, second)
    with pytest.raises(UserError, match="score the predictions with unetrpp_evaluate"):
        compare_models(tmp_path / "nowhere.json", tmp_path / "summary.json")


def test_false_positives_that_no_difference_tells_about_are_counted():
    """Of twenty cases half have the class; in the other half the second model invents it."""

    def scored(invented):
        masks = [(np.arange(10) < 7, np.arange(10) < 10)] * 10 + [
            (np.arange(10) < 3 * invented, np.zeros(10, bool))
        ] * 10
        cases = [
            CaseScores(
                case=f"c{i}",
                prediction_file="p",
                reference_file="r",
                metrics={"1": overlap_scores(p[None, None], t[None, None])},
            )
            for i, (p, t) in enumerate(masks)
        ]
        return summarize(cases, SCHEME)

    result = compare_summaries(scored(False), scored(True))
    assert (result["ball"].cases, result["ball"].difference) == (10, 0)
    assert (result["ball"].first_only, result["ball"].second_only) == (0, 10)
    assert "ball: left out are 10 cases without it in the reference" in comparison_table(result)
    assert "(the first in 0, the second in 10)" in comparison_table(result)
    assert "left out" not in comparison_table(compare_summaries(scored(False), scored(False)))


def test_cases_of_one_summary_alone_are_named(caplog):
    first, second = summary([5, 6, 7, 8, 9]), summary([7, 8])
    assert compare_summaries(first, second)["ball"].cases == 2
    assert "only in the first summary and not compared: 3 cases (c2, c3 and c4)" in caplog.text
    assert "second summary" not in caplog.text
    caplog.clear()
    compare_summaries(first, first)
    assert not caplog.text
