"""A cross-validation with random scores, of any number of classes and cases."""

import numpy as np

from unetrpp.dataset.labels import LabelScheme
from unetrpp.evaluation.cross_validation import CrossValidation, FoldScores
from unetrpp.evaluation.metrics import Scores
from unetrpp.evaluation.summary import CaseScores, Counts, Summary, mean_scores

FOLDS = 5


def label_scheme(classes: int) -> LabelScheme:
    return LabelScheme(
        names=("background", *(f"class {i}" for i in range(1, classes + 1))), values=tuple(range(classes + 1))
    )


def summary_of(cases: list[CaseScores], scheme: LabelScheme) -> Summary:
    """What summarize makes, without its bootstrap, which takes a minute for 120 classes in 1000 cases."""
    classes = {str(value): name for value, name in zip(scheme.values[1:], scheme.names[1:], strict=True)}
    means = {key: mean_scores([case.metrics[key] for case in cases]) for key in classes}
    return Summary(
        classes=classes,
        foreground_mean=mean_scores(list(means.values())),
        mean=means,
        counts={key: Counts(cases=len(cases), undefined=0, missed=0, invented=0) for key in classes},
        metric_per_case=tuple(cases),
        intervals={"foreground": {"Dice": (0.25, 0.75)}},
    )


def cross_validation(classes: int, cases: int, *, distances: bool = False, folds: int = FOLDS) -> CrossValidation:
    """``distances``: class 1 has HD95 in every case, class 2 in the first two, the others in none."""
    rng, scheme = np.random.default_rng(0), label_scheme(classes)
    scored = []
    for i in range(cases):
        metrics: dict[str, Scores] = {}
        for k in range(1, classes + 1):
            metrics[str(k)] = {"Dice": float(rng.uniform()), "IoU": float(rng.uniform()), "n_pred": 1.0, "n_ref": 1.0}
            if distances:
                metrics[str(k)]["HD95"] = float(rng.uniform(1, 9)) if k == 1 or (k == 2 and i < 2) else None
        scored.append(
            CaseScores(case=f"case_{i:04d}", fold=i % folds, prediction_file="", reference_file="", metrics=metrics)
        )
    summaries = {
        fold: summary_of([case for case in scored if case.fold == fold], scheme)
        for fold in range(folds)
        if any(case.fold == fold for case in scored)
    }
    fold_scores = tuple(
        FoldScores(fold=fold, cases=len(s.metric_per_case), mean=s.mean, foreground_mean=s.foreground_mean)
        for fold, s in summaries.items()
    )
    means = mean_scores([fold.foreground_mean for fold in fold_scores])
    return CrossValidation(folds=fold_scores, mean_over_folds=means, summary=summary_of(scored, scheme))
