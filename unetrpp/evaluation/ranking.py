"""The candidates of unetrpp_find_best in the order of their scores, and the reasons for the choice in words."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from unetrpp.core.text import counted, text_table
from unetrpp.dataset.labels import LabelScheme
from unetrpp.evaluation.cross_validation import CrossValidation
from unetrpp.inference.postprocessing import PostProcessing
from unetrpp.inference.selection import FILE, Candidate, Selection

Members: TypeAlias = tuple[str, ...]  # names of one or two model folders
MOST = 10  # candidates in the table


def rank(scores: Mapping[Members, CrossValidation]) -> list[Candidate]:
    """The candidates by mean Dice over all cases, best first; of equal ones the single model first; undefined Dice last."""
    candidates = [
        Candidate(
            members=members,
            cases=len(result.summary.metric_per_case),
            foreground_mean=result.summary.foreground_mean,
            mean=result.summary.mean,
        )
        for members, result in scores.items()
    ]
    return sorted(candidates, key=_place)


def _place(candidate: Candidate) -> tuple[bool, float, int]:
    return candidate.dice is None, -(candidate.dice or 0.0), len(candidate.members)


def reasons(ranked: Sequence[Candidate], postprocessing: PostProcessing, labels: LabelScheme) -> tuple[str, ...]:
    """Why the first of ``ranked`` and the post-processing were chosen, one sentence each."""
    best, *others = ranked
    sentences = [f"{best.name}: mean Dice {_spelled(best.dice)} over {counted(best.cases, 'case')}"]
    if best.dice is None:
        sentences[0] += ", because neither references nor predictions have any foreground; the choice is arbitrary"
    if others:
        sentences.append(f"next best {others[0].name}: {_spelled(others[0].dice)}")
    groups = ", then ".join(_together(group, labels) for group in postprocessing.largest_component)
    sentences.append(
        f"only the largest component is kept of {groups}: a class gains and none loses"
        if groups
        else "no post-processing: keeping the largest component helps no class without harming another"
    )
    return tuple(sentences)


def _spelled(dice: float | None) -> str:
    return "undefined" if dice is None else f"{dice:.4f}"


def _together(group: Sequence[int], labels: LabelScheme) -> str:
    """The classes of these label values, by name."""
    names = dict(zip(labels.values, labels.names, strict=True))
    if len(group) > 1 and set(group) == {labels.values[index] for index in labels.foreground}:
        return f"all {len(group)} classes together"
    return names[group[0]] if len(group) == 1 else f"{' + '.join(names[value] for value in group)} together"


def selection_table(selection: Selection) -> str:
    """The best candidates, how many more there are, and the reasons."""
    rows = [["candidate", "cases", "mean Dice"]]
    rows += [[c.name, str(c.cases), _spelled(c.dice)] for c in selection.candidates[:MOST]]
    lines = [text_table(rows)]
    if others := selection.candidates[MOST:]:
        lines.append(f"and {len(others)} more down to {_spelled(others[-1].dice)}, which {FILE} lists")
    return "\n".join([*lines, "", *selection.why])
