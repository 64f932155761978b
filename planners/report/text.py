"""The plan report as text: what was measured, every decision with its reason, warnings."""

import textwrap
from collections.abc import Iterator, Sequence
from itertools import zip_longest

from unetrpp.core.text import counted, text_table
from unetrpp.planners.report.measured import (
    MOST_CLASSES,
    class_header,
    class_rows,
    class_summary,
    found_classes,
    intensity_rows,
    regions_sentence,
    size_rows,
)
from unetrpp.planners.report.resampling import resampling_rows
from unetrpp.planners.rules.wording import axis_names
from unetrpp.plans.fingerprint import Fingerprint
from unetrpp.plans.plans import Decision, Plans
from unetrpp.report.page import Rows

WIDTH = 118
INDENT = "  "
CELL = 22  # widest cell of the table of resampling; longer ones continue on the next line
MOST_LISTED = 10  # warnings, or cases left out, in the text; the page has all


def report_text(fingerprint: Fingerprint, plans: Plans, folds: str = "") -> str:
    """The whole report; ``folds`` is the sentence in splits.json on how the cases were split."""
    names = axis_names(plans.file_ending)
    lines = [f"{plans.dataset}: plans {plans.name!r} by the planner {plans.planner!r}"]
    if plans.options:
        lines.append("asked for: " + ", ".join(f"{key} {value}" for key, value in plans.options.items()))
    lines += [f"folds: {folds}"] if folds else []
    lines += ["", f"Measured on {counted(len(fingerprint.cases), 'case')}"]
    lines += [text_table(size_rows(fingerprint, names), indent=INDENT)]
    lines += ["", "Intensities inside the labelled structures"]
    lines += [text_table(intensity_rows(fingerprint, plans), indent=INDENT)]
    lines += ["", *_classes(fingerprint)]
    regions = regions_sentence(plans.labels)
    lines += textwrap.wrap(regions, WIDTH, initial_indent=INDENT, subsequent_indent=INDENT)
    lines += ["", "Decided for every configuration", *decisions(plans.decisions)]
    for name, configuration in plans.configurations.items():
        lines += ["", f"Decided for {name}", *decisions(configuration.decisions)]
        resampling = resampling_rows(fingerprint, configuration, names)
        lines += ["", f"Resampling for {name}", text_table(list(_folded(resampling)), "l", indent=INDENT)]
    left_out = [f"{case}: {left.reason}" for case, left in fingerprint.left_out.items()]
    for title, items in (("Left out", left_out), ("Warnings", plans.warnings)):
        lines += ["", *_listed(title, items)] if items else []
    return "\n".join(lines)


def _folded(rows: Rows) -> Iterator[list[str]]:
    """The rows of a table with long cells continued on further rows."""
    for row in rows:
        cells = [textwrap.wrap(cell, CELL) or [""] for cell in row]
        yield from (list(line) for line in zip_longest(*cells, fillvalue=""))


def _classes(fingerprint: Fingerprint) -> list[str]:
    """A table of the classes; above fifteen, of the largest, the smallest and the rarest."""
    found = found_classes(fingerprint)
    if len(found) <= MOST_CLASSES:
        title = "Classes (medians over the cases that have them)"
        return [title, text_table(class_rows(fingerprint), indent=INDENT)]
    everywhere = sum(each.share == 1 for each in found)
    missing = sum(each.cases == 0 for each in found)
    where = f"{everywhere} are in every case" + (f", {missing} in none" if missing else "")
    title = f"{len(found)} classes, of which {where} (medians over the cases that have them; --html lists all)"
    rows = [["", *class_header(fingerprint)]]
    rows += [
        [kind if not i else "", *each.row] for kind, group in class_summary(fingerprint) for i, each in enumerate(group)
    ]
    return [title, text_table(rows, "llr", indent=INDENT)]


def _listed(title: str, items: Sequence[str]) -> list[str]:
    """The first ten, and how many more there are."""
    lines = [title, *(line for item in items[:MOST_LISTED] for line in _wrapped(item, "- "))]
    more = len(items) - MOST_LISTED
    return [*lines, f"{INDENT}- and {more} more; --html lists them all"] if more > 0 else lines


def decisions(items: Sequence[Decision]) -> list[str]:
    """Subject and value on one line, or on several if the value is long, and the reason below."""
    about = max((len(d.about) for d in items), default=0)
    lines = []
    for decision in items:
        lines += _wrapped(decision.value, f"{decision.about:{about}s}  ")
        lines += _wrapped(decision.why, " " * (about + 2))
    return lines


def _wrapped(text: str, start: str) -> list[str]:
    rest = INDENT + " " * len(start)
    return textwrap.wrap(text, WIDTH, initial_indent=INDENT + start, subsequent_indent=rest, break_on_hyphens=False)
