"""The scores in a folder, made again where a prediction, a reference or the classes have changed since."""

from pathlib import Path

import msgspec

from unetrpp.core.digest import digest, file_digest, read_current
from unetrpp.core.errors import UserError
from unetrpp.core.files import read_json, write_json
from unetrpp.dataset.labels import LabelScheme
from unetrpp.evaluation.evaluate import Pairs, evaluate_pairs, scoring_processes
from unetrpp.evaluation.metrics import OVERLAP_ONLY, MetricOptions
from unetrpp.evaluation.summary import Summary, write_summary
from unetrpp.io.formats import files_of_image

FILE = "summary.json"
OPTIONS = "metrics.json"  # of scores that were removed
CASES_A_PROCESS = 16  # scoring this many cases takes less time than starting another process


def current_scores(
    folder: Path,
    pairs: Pairs,
    scheme: LabelScheme,
    options: MetricOptions | None = None,
    *,
    processes: int | None = None,
) -> Summary:
    """The scores of ``pairs``: those in ``folder`` where they were made from exactly these files, else new ones.

    New ones are written as summary.json and summary.csv, unless they are the recorded ones: release 0.1.0 did not record
    what its scores were made from.

    Args:
        pairs: by case, its prediction and its reference.
        options: None takes those of the recorded scores, so that distances which somebody asked for are kept.
        processes: that score; by default few.

    Raises:
        UserError: a file is missing, or a case could not be scored.
    """
    earlier = _recorded(folder / FILE)
    options = options or recorded_options(folder)
    made_from = scores_digest(pairs, scheme, options)
    found = read_current(folder / FILE, Summary, made_from)
    if found is not None:
        return found
    processes = processes or min(scoring_processes(pairs, options), 1 + len(pairs) // CASES_A_PROCESS)
    summary, errors = evaluate_pairs(pairs, scheme, options=options, processes=processes)
    if errors:
        raise UserError(f"it could not be scored: {errors[0].message}", case=errors[0].case)
    summary = msgspec.structs.replace(summary, made_from=made_from)
    alike = earlier is not None and not earlier.made_from and earlier.options == options
    if earlier is not None and alike and _has_scores(summary, earlier):
        return earlier
    write_summary(folder, summary)
    (folder / OPTIONS).unlink(missing_ok=True)
    return summary


def recorded_options(folder: Path) -> MetricOptions:
    """What the scores in ``folder`` were made with, or the next ones are to be (:func:`keep_options`); else the overlap alone."""
    earlier = _recorded(folder / FILE)
    if earlier is not None:
        return earlier.options
    path = folder / OPTIONS
    return read_json(path, MetricOptions) if path.is_file() else OVERLAP_ONLY


def keep_options(folder: Path, options: MetricOptions) -> None:
    """Record, where scores are removed because their predictions are made again, what the next ones are made with."""
    if options != OVERLAP_ONLY:
        write_json(folder / OPTIONS, options)


def scores_digest(pairs: Pairs, scheme: LabelScheme, options: MetricOptions = OVERLAP_ONLY) -> str:
    """Digest of all that scores depend on: the bytes of predictions and references, the classes and the options.

    Raises:
        UserError: a file is missing.
    """
    content: list[object] = [scheme, options]
    for case, paths in sorted(pairs.items()):
        content.append(case)
        for path in paths:
            if not path.exists():
                raise UserError(f"{path} does not exist, so the case cannot be scored; restore it", case=case)
            content += [file_digest(file) for file in files_of_image(path)]
    return digest(*content)


def _recorded(path: Path) -> Summary | None:
    try:
        return read_json(path, Summary)
    except UserError:
        return None


def _has_scores(summary: Summary, earlier: Summary) -> bool:
    """Whether an earlier release scored the same cases and classes alike, as far as it had the metrics."""
    ours, theirs = ({case.case: case.metrics for case in each.metric_per_case} for each in (summary, earlier))
    return (summary.classes, ours.keys()) == (earlier.classes, theirs.keys()) and all(
        scores.items() <= ours[case].get(key, {}).items()
        for case, metrics in theirs.items()
        for key, scores in metrics.items()
    )
