"""Pictures of a case: its most informative slices with the contours of prediction and reference."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from unetrpp.core.files import write_atomically
from unetrpp.dataset.labels import present_values, value_counts
from unetrpp.io.images import Volume
from unetrpp.plotting.charts import shortened
from unetrpp.plotting.colors import LineStyle, color, line_style

SLICES = 4
MOST_TOGETHER = 8  # classes in a picture whose prediction and reference share a panel; more get a panel each
SIDE, TALLEST, NARROWEST = 4.7, 4.3, 6.5  # inches of a panel at most, and of the picture at least
COLUMNS, LINE = 4, 0.2  # of the legend; inches that one of its lines takes
OPACITY = 0.4  # of classes that are filled
NAME_LENGTH = 28  # characters of a name in the legend


@dataclass(frozen=True)
class Panel:
    """One slice with the contours that are drawn on it."""

    title: str
    image: np.ndarray  # (Y, X) between 0 and 1, or (Y, X, 3)
    contours: tuple[
        tuple[np.ndarray, bool], ...
    ]  # labels (Y, X), and whether they are the reference on top of a prediction
    filled: bool = False


def write_overlay(
    path: Path,
    image: Volume,
    prediction: np.ndarray,
    reference: np.ndarray | None,
    *,
    names: Mapping[int, str],
    title: str,
) -> None:
    """The picture of :func:`draw_overlay` as a PNG."""
    figure = draw_overlay(image, prediction, reference, names=names, title=title)
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=100))


def draw_overlay(
    image: Volume, prediction: np.ndarray, reference: np.ndarray | None, *, names: Mapping[int, str], title: str = ""
) -> Figure:
    """Solid lines are the prediction, dashed ones the reference; every class has its colour.

    Where more than eight classes are in the slices, prediction and reference lie beside each other. A photograph is
    shown without contours as well. Only classes that are in the slices get a line in the legend.

    ``prediction`` and ``reference`` (Z, Y, X) hold the values that are keys of ``names``. Slices are cut along the
    coarsest axis of ``image``, whose first channel is shown, or its colours.
    """
    axis = slicing_axis(image.geometry.shape_zyx, image.geometry.spacing_zyx_mm)
    height, width = (s for i, s in enumerate(image.geometry.spacing_zyx_mm) if i != axis)
    shown, predicted = np.moveaxis(brightness(image.array), axis, 0), np.moveaxis(prediction, axis, 0)
    truth = None if reference is None else np.moveaxis(reference, axis, 0)
    panels = _panels(shown, predicted, truth, names)
    legend = legend_lines(names, [labels for panel in panels for labels, _ in panel.contours], _both(panels))
    columns = 2 if len(panels) > 1 else 1
    rows, (high, wide) = -(-len(panels) // columns), _panel_size(shown.shape[1] * height, shown.shape[2] * width)
    size = max(columns * (wide + 0.1), NARROWEST), rows * (high + 0.3) + 0.4 + legend_growth(legend) + 0.4 * bool(title)
    figure = Figure(figsize=size, layout="constrained")
    plots = figure.subplots(rows, columns, squeeze=False).flat
    for plot, panel in zip(plots, panels, strict=False):
        _draw_panel(plot, panel, names, height / width)
    for plot in list(plots)[len(panels) :]:
        plot.set_axis_off()
    if title:
        figure.suptitle(title, fontsize=fitting_size(title, size[0]))
    if legend:
        figure.legend(handles=legend, loc="outside lower center", ncols=COLUMNS, fontsize="small", frameon=False)
    return figure


def fitting_size(text: str, inches: float, largest: float = 12.0) -> float:
    """The font size (points) at which one line of ``text`` is not wider than ``inches``."""
    return min(largest, 72 * inches / (0.68 * max(len(text), 1)))


def brightness(array: np.ndarray) -> np.ndarray:
    """(C, Z, Y, X) -> what is shown of it, 0 to 1: colours (Z, Y, X, 3) of a photograph, else the first channel (Z, Y, X)."""
    if len(array) == 3 and array.shape[1] == 1:
        return np.moveaxis(np.clip(array / max(float(array.max()), 1), 0, 1), 0, -1)
    low, high = brightness_limits(array[0])
    scaled: np.ndarray = np.clip((array[0] - low) / max(float(high - low), 1e-9), 0, 1)
    return scaled


def brightness_limits(channel: np.ndarray) -> np.ndarray:
    """The intensities that are drawn black and white, (2,)."""
    limits: np.ndarray = np.percentile(channel, (0.5, 99.5))
    return limits


def _panels(
    shown: np.ndarray, predicted: np.ndarray, truth: np.ndarray | None, names: Mapping[int, str]
) -> list[Panel]:
    present = set(present_values(predicted)) | (set() if truth is None else set(present_values(truth)))
    apart = truth is not None and len(present & set(names)) > MOST_TOGETHER
    photograph = len(shown) == 1
    panels = []
    for z in informative_slices(predicted, truth, list(names), 2 if apart else SLICES):
        title = "" if photograph else f"slice {z}"
        panels += [Panel("image", shown[z], ())] if photograph and not apart else []
        if apart and truth is not None:
            panels += [Panel(f"{title} prediction".strip(), shown[z], ((predicted[z], False),), True)]
            panels += [Panel(f"{title} reference".strip(), shown[z], ((truth[z], False),), True)]
        else:
            both = ((predicted[z], False), *(() if truth is None else ((truth[z], True),)))
            panels.append(
                Panel(title or ("prediction and reference" if len(both) > 1 else "prediction"), shown[z], both)
            )
    return panels


def _both(panels: Sequence[Panel]) -> bool:
    return any(len(panel.contours) > 1 for panel in panels)


def _panel_size(height_mm: float, width_mm: float) -> tuple[float, float]:
    """Height and width of a panel in inches, for a slice of this size."""
    inches = min(SIDE / width_mm, TALLEST / height_mm)
    return max(height_mm * inches, 1.0), max(width_mm * inches, 1.0)


def _draw_panel(plot: Axes, panel: Panel, names: Mapping[int, str], aspect: float) -> None:
    plot.imshow(panel.image, cmap="gray", vmin=0, vmax=1, aspect=aspect)
    for labels, dashed in panel.contours:
        if panel.filled:
            plot.imshow(painted(labels, names), aspect=aspect, interpolation="nearest")
        draw_contours(plot, labels, names, "dashed" if dashed else "solid")
    plot.set_title(panel.title, fontsize="small")
    plot.set_axis_off()


def painted(labels: np.ndarray, names: Mapping[int, str]) -> np.ndarray:
    """Every class of ``labels`` (Y, X) in its colour, (Y, X, 4), half transparent; the rest is invisible."""
    colours = np.zeros((*labels.shape, 4))
    for i, value in enumerate(names):
        colours[labels == value] = (*color(i), OPACITY)
    return colours


def slicing_axis(shape: tuple[int, ...], spacing_mm: tuple[float, ...]) -> int:
    """The axis with the coarsest voxels, along which slices were acquired. A photograph has one slice.

    >>> slicing_axis((20, 40, 40), (3.0, 1.2, 1.2)), slicing_axis((1, 256, 256), (1.0, 2.0, 1.0))
    (0, 0)
    """
    return 0 if shape[0] == 1 else int(np.argmax(spacing_mm))


def informative_slices(predicted: np.ndarray, truth: np.ndarray | None, values: Sequence[int], count: int) -> list[int]:
    """At most ``count`` slices of axis 0, sorted, that together show most of every class and of the disagreement.

    A slice's value for a class (or for the disagreement) is the area it shows, relative to the slice that shows most of
    it. Slices are chosen greedily by how much they raise the best value of each class.
    """
    areas = [area for a in (predicted, truth) if a is not None for area in _areas(a, values)]
    if truth is not None:
        areas.append((predicted != truth).sum((1, 2)))
    shares = np.stack([area / max(area.max(), 1) for area in areas])  # (things to see, slices)
    chosen: list[int] = []
    shown = np.zeros(len(shares))
    for _ in range(min(count, shares.shape[1])):
        gain = (np.maximum(shares, shown[:, None]) - shown[:, None]).sum(0)
        # Once every class is shown at its best: the slices with the largest areas.
        gain = gain + 1e-6 * shares.sum(0)
        gain[chosen] = -1
        chosen.append(int(gain.argmax()))
        shown = np.maximum(shown, shares[:, chosen[-1]])
    return sorted(chosen)


def _areas(labels: np.ndarray, values: Sequence[int]) -> np.ndarray:
    """Pixels (values, slices) of each value in each slice of axis 0; counted in one pass, as there may be a hundred."""
    counts = [value_counts(image) for image in labels]
    return np.array([[count.get(value, 0) for count in counts] for value in values])


def draw_contours(plot: Axes, labels: np.ndarray, names: Mapping[int, str], style: str) -> None:
    """Outline every class of ``labels`` (Y, X) on matplotlib axes, also where it touches the picture's edge.

    ``style`` "dashed" is the reference beside a prediction; other lines have the style of their class.
    """
    rows, columns = (np.arange(-1, n + 1) for n in labels.shape)
    present = set(present_values(labels))
    for i, value in enumerate(names):
        if value not in present:
            continue
        inside = np.pad(labels == value, 1)
        line = style if style == "dashed" else line_style(i)
        plot.contour(columns, rows, inside, levels=[0.5], colors=[color(i)], linestyles=[line], linewidths=1.2)


def legend_growth(legend: Sequence[Artist]) -> float:
    """Inches that a legend in ``COLUMNS`` needs below its first line; for a hundred classes more than the slices do."""
    return LINE * ((len(legend) - 1) // COLUMNS)


def legend_lines(names: Mapping[int, str], drawn: Sequence[np.ndarray], with_reference: bool) -> list[Line2D]:
    """A line for every class that is in one of the ``drawn`` labels, and for the two kinds of line where both are drawn."""
    present = {value for labels in drawn for value in present_values(labels)}
    handles = [
        _line(shortened(name, NAME_LENGTH), color(i), line_style(i))
        for i, (value, name) in enumerate(names.items())
        if value in present
    ]
    if with_reference:
        handles += [_line("prediction", "gray", "solid"), _line("reference", "gray", "dashed")]
    return handles


def _line(label: str, drawn_in: str | tuple[float, float, float], style: LineStyle) -> Line2D:
    return Line2D([], [], color=drawn_in, linestyle=style, label=label)
