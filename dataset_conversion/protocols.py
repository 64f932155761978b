"""`--protocol`: what a converter found, divided as a published benchmark divides it.

By default the cases of the benchmark's table go to imagesTs, and nothing of the training sees them. The published code of most
benchmarks validates on these same cases instead; `--validate-on-test` divides the dataset in that way.
"""

import logging
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from unetrpp.core.errors import UserError, refuse
from unetrpp.core.files import write_json
from unetrpp.core.text import counted
from unetrpp.dataset.splits import Fold, Splits
from unetrpp.dataset.splits_file import read_splits
from unetrpp.dataset_conversion.source import Source
from unetrpp.evaluation.protocol import Protocol, read_protocol, require_labels

if TYPE_CHECKING:
    from unetrpp.core.command_line import Parser

LOG = logging.getLogger(__name__)
PUBLISHED = "published lists of the protocol"  # begins the reason that splits.json states for its folds


def with_protocol(
    source: Source, name: str | None, *, known: Collection[str], validate_on_test: bool = False
) -> Source:
    """``source`` with the cases of a protocol's lists alone, divided into training and test, and with its published folds.

    Args:
        name: of the protocol; None returns ``source``.
        known: the protocols that are of this dataset.
        validate_on_test: the cases of the table are validation cases of fold 0 instead of test cases.

    Raises:
        UserError: the protocol is of another dataset, the labels differ, or listed cases are missing (all are named).
    """
    if name is None:
        if validate_on_test:
            raise UserError("--validate-on-test is for the cases of a --protocol; give one, or leave it out")
        return source
    if name not in known:
        raise UserError(f"protocol {name!r} is not of this dataset; take one of {', '.join(known)}")
    protocol = read_protocol(name)
    require_labels(protocol, source.labels)
    held_out, validation = protocol.test, protocol.validation
    if validate_on_test:
        held_out, validation = validation, held_out
    _require_listed(source, name, protocol)
    listed = {*protocol.train, *held_out, *validation}
    cases = tuple(replace(case, test=case.id in held_out) for case in source.cases if case.id in listed)
    others = len(source.cases) + len(source.left_out) - len(cases)
    splits = Splits(folds=(Fold(train=protocol.train, validation=validation),), why=f"{PUBLISHED} {name}")
    notes = (*source.notes, _division(name, protocol, validate_on_test))
    if others:
        notes = (*notes, f"{counted(others, 'case is', 'cases are')} in none of its lists and not converted")
    return replace(source, cases=cases, left_out={}, splits=splits if validation else None, notes=notes)


def _require_listed(source: Source, name: str, protocol: Protocol) -> None:
    """
    Raises:
        UserError: a listed case is missing or has no label.
    """
    found = {case.id for case in source.cases if case.labelled}
    listed = sorted({*protocol.train, *protocol.validation, *protocol.test})
    missing = [case for case in listed if case not in found]
    if len(missing) == len(listed):
        raise UserError(
            f"no case of the protocol {name} (such as {listed[0]}) is there with its label; give the dataset that it is of"
        )
    why = [
        f"{case} {source.left_out.get(case, 'is not there with its label; complete the download')}" for case in missing
    ]
    refuse(why, f"protocol {name}")


def _division(name: str, protocol: Protocol, validate_on_test: bool) -> str:
    """What is trained and scored, in a sentence."""
    training, tests = counted(len(protocol.train), "training case"), counted(len(protocol.test), "case")
    if validate_on_test:
        return (
            f"protocol {name}: fold 0 trains on its {training} and validates on the {tests} of the published table, as the published "
            "code does; whatever is chosen by this validation is chosen on the cases that the table scores"
        )
    if protocol.validation:
        return (
            f"protocol {name}: fold 0 trains on its {training} and validates on {counted(len(protocol.validation), 'other')}; "
            f"the {tests} of the published table are test cases"
        )
    return (
        f"protocol {name}: fold_all trains on its {training}, folds 0 to 4 cross-validate among them; "
        f"the {tests} of the published table are test cases"
    )


def require_no_other_splits(path: Path, splits: Splits | None) -> None:
    """
    Raises:
        UserError: ``path`` has other folds than those to be written, or those of a protocol where none are to be written.
    """
    if not path.exists():
        return
    if splits is None:
        if _is_published(path):
            raise UserError(
                f"{path} still has the folds of an earlier --protocol, which training would take; remove the file, or give "
                "another --name"
            )
    elif read_splits(path).folds != splits.folds:
        raise UserError(f"{path} has other folds than the {splits.why}; remove the file, or give another --name")


def _is_published(path: Path) -> bool:
    """Whether :func:`write_splits` wrote the folds; a file that cannot be read is left to those who need it."""
    try:
        return read_splits(path).why.startswith(PUBLISHED)
    except UserError:
        return False


def write_splits(path: Path, splits: Splits | None, cases: Collection[str]) -> None:
    """Write published folds where planning and training read them, unless they are there, once all of their cases are converted."""
    if splits is None or path.exists():
        return
    if missing := sorted(splits.cases() - set(cases)):
        LOG.warning(
            "warning: %s not written, because %s not converted; repair and convert again",
            path,
            counted(len(missing), f"case ({missing[0]}) was", f"cases (such as {missing[0]}) were"),
        )
        return
    write_json(path, splits)


def add_options(parser: "Parser", *known: str) -> None:
    """The options of a dataset that protocols are of."""
    what = (
        "divide the cases as a published benchmark does: those that its table scores become test cases (docs/benchmarks.md); "
        "only listed cases are converted"
    )
    parser.add_argument("--protocol", choices=known, help=what)
    what = (
        "with --protocol: validate fold 0 on the cases that the table scores, as published code does, "
        "instead of keeping them from the training"
    )
    parser.add_argument("--validate-on-test", action="store_true", help=what)
