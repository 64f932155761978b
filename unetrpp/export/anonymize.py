"""Records of a model without the names of its training cases: measurements and scores stay, every case gets a number."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from unetrpp.core.files import to_json
from unetrpp.dataset.description import nnunet_json
from unetrpp.evaluation.cross_validation import FILE as CROSS_VALIDATION
from unetrpp.evaluation.cross_validation import CrossValidation, cross_validation_of
from unetrpp.io.formats import ending_of
from unetrpp.model.folder import ModelFolder
from unetrpp.plans.plans import Decision, Plans

SHORT_NUMBER = re.compile(r"\d{1,3}")  # a 1-3 digit id: anonymous, and indistinguishable from counts in text

S = TypeVar("S", bound=msgspec.Struct)


@dataclass(frozen=True)
class Pseudonyms:
    """By case id: its name in the copy, ``case_0001``, ... in the order of the ids."""

    new: dict[str, str]

    @classmethod
    def of(cls, model: ModelFolder) -> "Pseudonyms":
        """Names for all cases that the records of the model or of its first stage mention."""
        ids = sorted({case for part in (model, model.first_stage) if part is not None for case in _ids(part)})
        return cls({case: f"case_{number:04d}" for number, case in enumerate(ids, start=1)})

    def in_text(self, text: str) -> str:
        """``text`` with every id that stands as a word of its own replaced.

        >>> Pseudonyms({"ann": "case_0001", "ann_2": "case_0002", "7": "case_0003"}).in_text("7 cannot scan ann_2, ann.")
        '7 cannot scan case_0002, case_0001.'
        """
        ids = sorted((case for case in self.new if not SHORT_NUMBER.fullmatch(case)), key=len, reverse=True)
        if not ids:
            return text
        words = rf"(?<!\w)({'|'.join(map(re.escape, ids))})(?!\w)"
        return re.sub(words, lambda match: self.new[match[1]], text)


def _ids(model: ModelFolder) -> Iterator[str]:
    yield from (case.case for case in model.fingerprint.cases)
    yield from model.fingerprint.left_out
    yield from model.description.groups or ()
    yield from model.description.files or ()
    if (scores := _cross_validation(model)) is not None:
        yield from (case.case for case in scores.summary.metric_per_case)


def shared_records(model: ModelFolder, names: Pseudonyms) -> dict[str, bytes]:
    """plans.json, dataset.json, fingerprint.json and, if there is one, the cross-validation, as bytes by file name.

    Patients (``groups``), paths of files, the cases that training left out, and the dataset's warnings about single cases are not
    shared. The digest of every case's files is: it is anonymous, and a later training from this model recognises its own cases by it.
    """
    fingerprint = model.fingerprint
    cases = tuple(_with(case, case=names.new[case.case]) for case in fingerprint.cases)
    description = _with(model.description, groups=None, files=None)
    records = {
        "plans.json": _plans(model, names),
        "dataset.json": to_json(nnunet_json(description, len(cases))),
        "fingerprint.json": to_json(_with(fingerprint, cases=cases, warnings=(), left_out={})),
    }
    scores = _cross_validation(model)
    return records if scores is None else records | {CROSS_VALIDATION: _scores(scores, names)}


def _plans(model: ModelFolder, names: Pseudonyms) -> bytes:
    """plans.json, byte for byte the same if no text names a case: the model's digest depends on these bytes."""
    plans = model.plans

    def renamed(decisions: tuple[Decision, ...]) -> tuple[Decision, ...]:
        return tuple(_with(d, value=names.in_text(d.value), why=names.in_text(d.why)) for d in decisions)

    configurations = {name: _with(c, decisions=renamed(c.decisions)) for name, c in plans.configurations.items()}
    shared: Plans = _with(
        plans,
        options={key: names.in_text(value) for key, value in plans.options.items()},
        configurations=configurations,
        warnings=tuple(names.in_text(warning) for warning in plans.warnings),
        decisions=renamed(plans.decisions),
    )
    return (model.path / "plans.json").read_bytes() if shared == plans else to_json(shared)


def _cross_validation(model: ModelFolder) -> CrossValidation | None:
    return cross_validation_of(model.path, model.plans.labels)


def _scores(scores: CrossValidation, names: Pseudonyms) -> bytes:
    """The scores with file names instead of paths, which can contain names of people as well."""
    cases = []
    for case in scores.summary.metric_per_case:
        name = names.new[case.case]
        prediction, reference = (name + ending_of(Path(path)) for path in (case.prediction_file, case.reference_file))
        cases.append(_with(case, case=name, prediction_file=prediction, reference_file=reference))
    return to_json(_with(scores, summary=_with(scores.summary, metric_per_case=tuple(cases))))


def _with(record: S, **changes: object) -> S:
    return msgspec.structs.replace(record, **changes)
