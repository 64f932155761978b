"""The table of cases of a page, which a reader sorts by any column."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from unetrpp.core.text import format_score
from unetrpp.inference.record import CaseRecord

MOST_CLASSES = 5  # with a column of their own in the table of cases
MISSING = "-"


@dataclass(frozen=True)
class Cell:
    """``value`` is what a column is sorted by; a cell with neither number nor word comes last. ``lines`` are behind a click."""

    text: str
    value: float | str | None
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Column:
    """A column of the table: a heading, and a cell by case; a case without one has a dash."""

    heading: str
    cells: Mapping[str, Cell]
    words: bool = False  # aligned left


@dataclass(frozen=True)
class CaseTable:
    """The rows are the ``cases`` in this order, each with its cell of every column."""

    cases: Sequence[str]
    columns: Sequence[Column]

    def rows(self) -> Iterable[tuple[str, list[Cell]]]:
        for case in self.cases:
            yield case, [column.cells.get(case, Cell(MISSING, None)) for column in self.columns]


@dataclass(frozen=True)
class CaseVolumes:
    """The size of every class of a case: ml, or pixels of a photograph."""

    sizes: Mapping[str, float] = field(default_factory=dict)
    unit: str = "ml"

    @classmethod
    def of(cls, record: CaseRecord) -> "CaseVolumes":
        """As the prediction record has them."""
        return cls(record.areas_pixels, "pixels") if record.areas_pixels else cls(record.volumes_ml)

    def texts(self) -> dict[str, str]:
        """By class, its size with its unit."""
        return {name: f"{format_size(size)} {self.unit}" for name, size in self.sizes.items()}


def format_size(size: float) -> str:
    """Four digits, without an exponent for large sizes.

    >>> format_size(15234.4), format_size(1.23456), format_size(0)
    ('15234', '1.235', '0')
    """
    return f"{size:.0f}" if size >= 1000 else f"{size:.4g}"


def score_column(heading: str, scores: Mapping[str, float | None]) -> Column:
    """A score by case, with three decimals."""
    return Column(heading, {case: Cell(format_score(score), score) for case, score in scores.items()})


def word_column(heading: str, words: Mapping[str, str]) -> Column:
    """A word by case."""
    return Column(heading, {case: Cell(word, word) for case, word in words.items()}, words=True)


def warnings_column(warnings: Mapping[str, Sequence[str]]) -> Column:
    """How many warnings a case has; they are behind a click."""
    return Column("warnings", {case: Cell(str(len(w)), len(w), tuple(w)) for case, w in warnings.items()})


def class_names(volumes: Mapping[str, CaseVolumes]) -> list[str]:
    """The classes, or chosen regions, that the cases have sizes of."""
    return list(dict.fromkeys(name for volume in volumes.values() for name in volume.sizes))


def volume_columns(volumes: Mapping[str, CaseVolumes], names: Sequence[str]) -> list[Column]:
    """The size of every class of ``names``; of more than five classes that of all together."""
    units = sorted({volume.unit for volume in volumes.values() if volume.sizes})
    unit = units[0] if len(units) == 1 else "ml or pixels"
    if len(names) > MOST_CLASSES:
        totals = {case: sum(volume.sizes.values()) for case, volume in volumes.items() if volume.sizes}
        found = {case: sum(size > 0 for size in v.sizes.values()) for case, v in volumes.items() if v.sizes}
        return [
            Column(f"all classes ({unit})", {case: Cell(format_size(size), size) for case, size in totals.items()}),
            Column("classes found", {case: Cell(str(count), count) for case, count in found.items()}),
        ]
    return [
        Column(
            f"{name} ({unit})",
            {case: Cell(format_size(v.sizes[name]), v.sizes[name]) for case, v in volumes.items() if name in v.sizes},
        )
        for name in names
    ]
