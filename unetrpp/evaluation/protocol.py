"""Published protocols: the test cases and classes of a benchmark's table, and the metrics and figures it reports."""

from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from unetrpp.core.errors import UserError
from unetrpp.core.files import Record, read_edited_json
from unetrpp.core.text import text_table
from unetrpp.dataset.labels import LabelScheme, Region

if TYPE_CHECKING:
    from unetrpp.evaluation.summary import Summary

FOLDER = Path(__file__).parent / "protocols"


class Protocol(Record, frozen=True, kw_only=True):
    """A benchmark: its labels, which of them its table scores, its cases, and its published figures.

    ``scored`` names regions if there are any, else labels. Without ``test``, every case is a test case. ``validation``: cases by
    which settings and checkpoints may be chosen, where the benchmark has such cases beside those of its table.
    """

    source: str
    labels: dict[str, int]
    scored: tuple[str, ...]
    regions: dict[str, tuple[int, ...]] = msgspec.field(default_factory=dict)
    metrics: tuple[str, ...] = ("Dice",)
    train: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    published: dict[str, dict[str, float]] = msgspec.field(default_factory=dict)  # model -> metric; Dice in percent
    published_in: str = ""  # where ``published`` stands

    def __post_init__(self) -> None:
        unknown = [name for name in self.scored if name not in (self.regions or self.labels)]
        values = {value for region in self.regions.values() for value in region} - set(self.labels.values())
        parts = {"training": set(self.train), "validation": set(self.validation), "test": set(self.test)}
        if not self.scored or unknown:
            raise ValueError(f"scored must name labels or regions of the protocol, not {unknown or 'nothing'}")
        if values:
            raise ValueError(f"a region holds label {min(values)}, which is not among the labels")
        for (one, some), (other, others) in combinations(parts.items(), 2):
            if both := sorted(some & others):
                raise ValueError(f"{both[0]} is both a {one} and a {other} case")

    def scheme(self, ignore_value: int | None = None) -> LabelScheme:
        """The protocol's labels, with every scored class as a region."""
        values = (0, *self.labels.values())
        members = {name: (value,) for name, value in self.labels.items()} if not self.regions else self.regions
        regions = tuple(
            Region(name=name, members=tuple(values.index(v) for v in members[name]), value=i + 1)
            for i, name in enumerate(self.scored)
        )
        names = ("background", *self.labels)
        return LabelScheme(names=names, values=values, ignore_value=ignore_value, regions=regions)

    def test_cases(self, references: set[str], folder: Path) -> set[str]:
        """The ids among ``references`` that belong to the table.

        Raises:
            UserError: one of them is missing.
        """
        missing = sorted(set(self.test) - references)
        if missing:
            raise UserError(f"{folder} lacks a reference of a test case of the protocol; add it", case=missing[0])
        return set(self.test) or references


def read_protocol(name: str) -> Protocol:
    """A protocol that comes with the package (synapse, btcv, acdc, brats, lung), or a JSON file of that shape.

    Raises:
        UserError: ``name`` is neither of the two.
    """
    known = {path.stem: path for path in FOLDER.glob("*.json")}
    path = known.get(name, Path(name))
    return read_edited_json(path, Protocol, hint=f"give a file, or one of {', '.join(sorted(known))}")


def protocol_table(protocol: Protocol, summary: "Summary") -> str:
    """The predictions' means, computed as the benchmark does, above its published figures and their source.

    Dice in %, HD95 in voxels.
    """
    means = summary.foreground_mean
    metrics = [m for m in protocol.metrics if f"{m}_published" in means]
    ours = {m: value * (100 if m == "Dice" else 1) for m in metrics if (value := means[f"{m}_published"]) is not None}
    units = {"Dice": "Dice [%]", "HD95": "HD95 [voxels]"}
    rows = [["as published", *(units.get(m, m) for m in metrics)]]
    for name, figures in {"these predictions": ours, **protocol.published}.items():
        rows.append([name, *(f"{figures[m]:.2f}" if m in figures else "-" for m in metrics)])
    return text_table(rows) + (f"\npublished in: {protocol.published_in}" if protocol.published_in else "")


def require_labels(protocol: Protocol, scheme: LabelScheme) -> None:
    """Refuse a dataset with other labels than the protocol's.

    Raises:
        UserError: the label values differ.
    """
    ours, theirs = set(scheme.values) - {0}, set(protocol.labels.values())
    if ours != theirs:
        raise UserError(
            f"the protocol has the labels {sorted(theirs)}, dataset.json has {sorted(ours)}; "
            "renumber the labels, or score without --protocol"
        )
