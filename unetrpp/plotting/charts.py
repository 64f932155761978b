"""Charts that scale: their height follows the number of rows, and long names are shortened instead of cut."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from unetrpp.plotting.colors import ACCENT, PALETTE

WIDTH = 9.5  # inches of a picture that is as wide as the page
ROW, MARGINS = 0.24, 0.95  # inches of one row, and of title and axis
MOST_DOTS = 5000  # above, only outliers are dots
MOST_COLUMNS = 150  # of a heat map
PER_COLUMN = 40  # rows; more are drawn in columns beside each other
NAME_LENGTHS = (34, 24, 18)  # characters of a row's name with one, two, three or more columns


@dataclass(frozen=True)
class Distribution:
    """The values of one row of a chart, such as a class's Dice in every case."""

    name: str
    values: Sequence[float]
    groups: Sequence[int] = ()  # of each value, such as its fold: every group has a colour


def shortened(name: str, length: int) -> str:
    """A name of at most ``length`` characters; the middle goes, as names differ at their ends.

    >>> shortened("left anterior cingulate cortex", 20)
    'left anter…te cortex'
    """
    if len(name) <= length:
        return name
    kept = length - 1
    return f"{name[: kept - kept // 2]}…{name[len(name) - kept // 2 :]}"


def draw_distributions(
    rows: Sequence[Distribution], *, label: str, limits: tuple[float, float] | None = None, log: bool = False
) -> Figure:
    """A box and one dot per value in each row, the first row on top; more than 40 rows fill several columns.

    Of more than 5000 values only the outliers are dots (beyond 1.5 times the interquartile range from the box).

    Args:
        label: of the value axis, with its unit.
        limits: of the value axis; by default those of the values.
        log: whether the value axis is logarithmic, as in :func:`log_axis`.
    """
    figure = Figure(figsize=(WIDTH, height_of(rows)), layout="constrained")
    panels = figure.subplots(1, columns_of(rows), sharex=True, squeeze=False)[0]
    fill_columns(panels, rows, label=label, limits=limits, log=log)
    groups = sorted({group for row in rows for group in row.groups})
    if len(groups) > 1 and _with_dots(rows):
        _group_legend(figure, groups)
    return figure


def columns_of(rows: Sequence[Distribution]) -> int:
    """Into how many columns the rows go."""
    return max(1, -(-len(rows) // PER_COLUMN))


def height_of(rows: Sequence[Distribution]) -> float:
    """The height in inches that the rows need in their columns."""
    return MARGINS + ROW * max(1, -(-len(rows) // columns_of(rows)))


def fill_columns(
    panels: Sequence[Axes],
    rows: Sequence[Distribution],
    *,
    label: str,
    limits: tuple[float, float] | None = None,
    log: bool = False,
) -> None:
    """The rows in panels beside each other, on one value axis, as :func:`draw_distributions` does."""
    tallest = max(1, -(-len(rows) // len(panels)))
    length, dots = NAME_LENGTHS[min(len(panels), 3) - 1], _with_dots(rows)
    for column, panel in enumerate(panels):
        fill_distributions(panel, rows[column * tallest : (column + 1) * tallest], length=length, dots=dots)
        panel.set_ylim(tallest + 0.6, 0.4)
        panel.set_xlabel(label)
        _value_axis(panel, [value for row in rows for value in row.values], limits, log)


def _with_dots(rows: Sequence[Distribution]) -> bool:
    return sum(len(row.values) for row in rows) <= MOST_DOTS


def fill_distributions(
    panel: Axes, rows: Sequence[Distribution], *, length: int = NAME_LENGTHS[0], dots: bool = True
) -> None:
    """Draw the rows on a panel, the first on top; without ``dots`` only the outliers are drawn as such."""
    rng = np.random.default_rng(0)
    for place, row in enumerate(rows, 1):
        if not row.values:
            continue
        if len(row.values) > 2:
            style = {
                "medianprops": {"color": "black"},
                "boxprops": {"color": "#475569"},
                "showfliers": not dots,
                "flierprops": {"marker": ".", "markersize": 2},
            }
            panel.boxplot(row.values, positions=[place], orientation="horizontal", widths=0.62, **style)  # type: ignore[arg-type]
        if not dots and len(row.values) > 2:
            continue
        colors = [PALETTE[group % len(PALETTE)] for group in row.groups] or ACCENT
        heights = place + rng.uniform(-0.2, 0.2, len(row.values)) * (len(row.values) > 1)
        many = len(row.values) > 100
        panel.scatter(row.values, heights, s=5 if many else 12, c=colors, alpha=0.35 if many else 0.75, linewidths=0)
    panel.set_yticks(range(1, len(rows) + 1), [shortened(row.name, length) for row in rows], fontsize="small")
    panel.set_ylim(len(rows) + 0.6, 0.4)
    clean(panel, grid="x")


def clean(panel: Axes, grid: str = "both") -> None:
    """Only the left and lower edge, and a light grid."""
    panel.spines[["top", "right"]].set_visible(False)
    panel.grid(axis=grid, alpha=0.25)  # type: ignore[arg-type]
    panel.set_axisbelow(True)


def log_axis(panel: Axes, values: Sequence[float]) -> None:
    """A logarithmic value axis with few plain numbers, beyond the smallest and the largest value, so that no box is cut.

    Values within a factor of ten get a linear one from 0 on.
    """
    low, high = min(values) / 1.5, max(values) * 1.5
    if high < 10 * low:
        panel.set_xlim(0, max(values) * 1.06)
        return
    panel.set_xscale("log")
    panel.set_xlim(low, high)
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 3) if high / low < 1000 else (1,), numticks=8))
    panel.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    panel.xaxis.set_minor_formatter(NullFormatter())


def _value_axis(panel: Axes, values: Sequence[float], limits: tuple[float, float] | None, log: bool) -> None:
    if log:
        log_axis(panel, values)
    elif limits is not None:
        margin = 0.02 * (limits[1] - limits[0])  # or a dot at the limit would be cut in half
        panel.set_xlim(limits[0] - margin, limits[1] + margin)


def _group_legend(figure: Figure, groups: Sequence[int]) -> None:
    handles = [
        Line2D([], [], color=PALETTE[group % len(PALETTE)], marker="o", linestyle="", label=f"fold {group}")
        for group in groups
    ]
    figure.legend(handles=handles, loc="outside upper right", ncols=min(len(groups), 10), fontsize="small")


def draw_heat(values: np.ndarray, names: Sequence[str], *, label: str, below: str) -> Figure:
    """Values between 0 and 1 (rows, columns) as colours, undefined (NaN) ones grey; a row has a name, a column has none.

    Of more than 150 columns, neighbours are averaged, and the text below says so.

    Args:
        label: what the colours mean.
        below: what the columns are.
    """
    together = -(-values.shape[1] // MOST_COLUMNS)
    shown = np.ma.masked_invalid(values)
    if together > 1:
        shown = np.ma.stack(
            [shown[:, i : i + together].mean(axis=1) for i in range(0, values.shape[1], together)], axis=1
        )
        below += f"; a column is the mean of {together}"
    figure = Figure(figsize=(WIDTH, MARGINS + 0.2 * max(len(names), 4)), layout="constrained")
    panel = figure.subplots()
    colours = colormaps["viridis"].with_extremes(bad="#d1d5db")
    picture = panel.imshow(shown, cmap=colours, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    panel.set_yticks(range(len(names)), [shortened(name, NAME_LENGTHS[0]) for name in names], fontsize="small")
    panel.set_xticks([])
    panel.set_xlabel(below)
    figure.colorbar(picture, label=label, pad=0.01, aspect=30, shrink=min(1.0, 6 / figure.get_figheight()))
    return figure
