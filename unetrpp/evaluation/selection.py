"""inference.json: which model or pair of models `unetrpp_predict --best` follows, with the scores it was chosen by."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from unetrpp.core.files import Record
from unetrpp.core.text import text_table
from unetrpp.evaluation.cross_validation import CrossValidation
from unetrpp.evaluation.metrics import Scores
from unetrpp.inference.postprocessing import PostProcessing

FILE = "inference.json"

Members: TypeAlias = tuple[str, ...]  # names of one or two model folders


class Candidate(Record, frozen=True, kw_only=True):
    """One model or a pair of them, with its scores in cross-validation."""

    members: Members
    cases: int
    foreground_mean: Scores
    mean: dict[str, Scores]

    @property
    def name(self) -> str:
        return " + ".join(self.members)

    @property
    def dice(self) -> float:
        return self.foreground_mean.get("Dice") or 0.0


class Selection(Record, frozen=True, kw_only=True):
    """The chosen models, how to predict with them, and why."""

    format: int = 1
    dataset: str
    members: Members
    mirroring: bool  # of the cross-validation, and so of every score below
    postprocessing: PostProcessing
    why: tuple[str, ...]
    candidates: tuple[Candidate, ...]  # best first
    dice_before_postprocessing: dict[str, float | None]
    dice_after_postprocessing: dict[str, float | None]


def rank(scores: Mapping[Members, CrossValidation]) -> list[Candidate]:
    """The candidates by mean Dice over all cases, best first; of equal ones the single model first."""
    candidates = [
        Candidate(
            members=members,
            cases=len(result.summary.metric_per_case),
            foreground_mean=result.summary.foreground_mean,
            mean=result.summary.mean,
        )
        for members, result in scores.items()
    ]
    return sorted(candidates, key=lambda candidate: (-candidate.dice, len(candidate.members)))


def reasons(ranked: Sequence[Candidate], postprocessing: PostProcessing) -> tuple[str, ...]:
    """Why the first of ``ranked`` and the post-processing were chosen, a sentence each."""
    best, *others = ranked
    sentences = [f"{best.name}: mean Dice {best.dice:.4f} over {best.cases} cases"]
    if others:
        sentences.append(f"next best {others[0].name}: {others[0].dice:.4f}")
    groups = ", ".join("+".join(map(str, group)) for group in postprocessing.largest_component)
    sentences.append(
        f"largest component of labels {groups}: a class gains and none loses"
        if groups
        else "no post-processing: keeping the largest component helps no class without harming another"
    )
    return tuple(sentences)


def selection_table(selection: Selection) -> str:
    """The candidates, best first, and the reasons."""
    rows = [["candidate", "cases", "mean Dice"]]
    rows += [[c.name, str(c.cases), f"{c.dice:.4f}"] for c in selection.candidates]
    return text_table(rows) + "\n\n" + "\n".join(selection.why)
