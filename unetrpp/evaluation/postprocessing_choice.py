"""Whether keeping only the largest component raises Dice: measured on cross-validation predictions, class by class."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import msgspec

from unetrpp.core.errors import UserError
from unetrpp.core.machine import default_processes
from unetrpp.core.parallel import run_cases
from unetrpp.dataset.labels import LabelScheme
from unetrpp.evaluation.evaluate import Pairs
from unetrpp.evaluation.metrics import Scores, score_case, scored_classes
from unetrpp.evaluation.summary import mean_scores
from unetrpp.inference.postprocessing import NOTHING, PostProcessing
from unetrpp.io.images import most_voxels, read_label

BYTES_A_VOXEL = 24  # of a case's peak memory

Groups: TypeAlias = Sequence[tuple[int, ...]]
Means: TypeAlias = dict[str, float | None]  # class key -> mean Dice


class Trial(msgspec.Struct, frozen=True):
    """Scores of one case by class, without and with each of several post-processings."""

    without: dict[str, Scores]
    treated: list[dict[str, Scores]]


def choose_components(
    pairs: Pairs, scheme: LabelScheme, processes: int | None = None
) -> tuple[PostProcessing, Means, Means]:
    """The post-processing that raises Dice, and the mean Dice of every class before and after it.

    A group (all foreground together, or one class or region) is chosen when some class gains and none loses in mean
    Dice over the cases. The chosen groups together must do at least as well as the best one alone, which is taken
    otherwise.
    """
    groups = candidate_groups(scheme)
    single = [PostProcessing(largest_component=(group,)) for group in groups]
    before, after = mean_dice(pairs, scheme, single, processes)
    gains = {group: gain(before, means) for group, means in zip(groups, after, strict=True)}
    helpful = tuple(group for group in groups if gains[group] > 0)
    if not helpful:
        return NOTHING, before, before
    best = max(helpful, key=lambda group: gains[group])
    options = [PostProcessing(largest_component=helpful), PostProcessing(largest_component=(best,))]
    _, (together, alone) = mean_dice(pairs, scheme, options, processes)
    if gain(before, together) >= gain(before, alone):
        return options[0], before, together
    return options[1], before, alone


def candidate_groups(scheme: LabelScheme) -> Groups:
    """Label values: all foreground together, then those of every scored class; without repetition."""
    everything = tuple(scheme.values[i] for i in scheme.foreground)
    return list(dict.fromkeys([everything, *(scored.values for scored in scored_classes(scheme))]))


def gain(before: Means, after: Means) -> float:
    """Mean gain in Dice over the classes; minus infinity when a class loses."""
    changes = [b - a for key, a in before.items() if a is not None and (b := after[key]) is not None]
    return sum(changes) / len(changes) if changes and min(changes) >= 0 else float("-inf")


def mean_dice(
    pairs: Pairs, scheme: LabelScheme, options: Sequence[PostProcessing], processes: int | None
) -> tuple[Means, list[Means]]:
    """Mean Dice of every class without and with each of ``options``.

    Raises:
        UserError: a case cannot be read.
    """
    jobs = {case: (*files, scheme, options) for case, files in pairs.items()}
    trials = []
    voxels = most_voxels(reference for _, reference in pairs.values())
    processes = processes or default_processes(voxels * BYTES_A_VOXEL)
    for outcome in run_cases(try_options, jobs, "post-processing", processes):
        if outcome.value is None:
            raise UserError(outcome.error.message if outcome.error else "no result", case=outcome.case)
        trials.append(outcome.value)
    keys = [scored.key for scored in scored_classes(scheme)]
    without = {key: mean_scores([t.without[key] for t in trials])["Dice"] for key in keys}
    treated = [
        {key: mean_scores([t.treated[i][key] for t in trials])["Dice"] for key in keys} for i in range(len(options))
    ]
    return without, treated


def try_options(prediction: Path, reference: Path, scheme: LabelScheme, options: Sequence[PostProcessing]) -> Trial:
    """Score one case without post-processing, and after each of ``options``."""
    predicted, true = read_label(prediction), read_label(reference).array[0]
    without, *treated = (  # one treated copy at a time
        score_case(option.apply(predicted.array[0]), true, predicted.geometry, scheme) for option in (NOTHING, *options)
    )
    return Trial(without, treated)
