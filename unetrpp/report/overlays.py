"""Pictures of a case: its most informative slices with the contours of prediction and reference."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unetrpp.core.files import write_atomically
from unetrpp.dataset.labels import value_counts
from unetrpp.io.images import Volume

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

SLICES = 4
COLUMNS, LINE = 5, 0.2  # of the legend; inches that one of its lines takes


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
    image: Volume, prediction: np.ndarray, reference: np.ndarray | None, *, names: Mapping[int, str], title: str
) -> "Figure":
    """Solid lines are the prediction, dashed ones the reference; every class has its colour.

    ``prediction`` and ``reference`` (Z, Y, X) hold the values that are keys of ``names``. Slices are cut along the
    coarsest axis of ``image``, whose first channel is shown.
    """
    from matplotlib.figure import Figure

    axis = slicing_axis(image.geometry.shape_zyx, image.geometry.spacing_zyx_mm)
    height, width = (s for i, s in enumerate(image.geometry.spacing_zyx_mm) if i != axis)
    grey, predicted = np.moveaxis(image.array[0], axis, 0), np.moveaxis(prediction, axis, 0)
    truth = None if reference is None else np.moveaxis(reference, axis, 0)
    low, high = np.percentile(grey, (0.5, 99.5))
    chosen = informative_slices(predicted, truth, list(names), SLICES)
    legend = _legend(names, truth is not None)
    figure = Figure(figsize=(3.2 * len(chosen), 3.9 + legend_growth(legend)), layout="constrained")
    for plot, index in zip(figure.subplots(1, len(chosen), squeeze=False)[0], chosen, strict=True):
        plot.imshow(grey[index], cmap="gray", vmin=low, vmax=high, aspect=height / width)
        draw_contours(plot, predicted[index], names, "solid")
        if truth is not None:
            draw_contours(plot, truth[index], names, "dashed")
        plot.set_title(f"slice {index}", fontsize="small")
        plot.set_axis_off()
    figure.suptitle(title)
    figure.legend(handles=legend, loc="outside lower center", ncols=COLUMNS, fontsize="small")
    return figure


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


def draw_contours(plot: "Axes", labels: np.ndarray, names: Mapping[int, str], style: str) -> None:
    """Outline every class of ``labels`` (Y, X) on matplotlib axes, also where it touches the picture's edge."""
    rows, columns = (np.arange(-1, n + 1) for n in labels.shape)
    for i, value in enumerate(names):
        inside = np.pad(labels == value, 1)
        if inside.any():
            plot.contour(columns, rows, inside, levels=[0.5], colors=[color(i)], linestyles=style, linewidths=1.2)


def color(i: int) -> tuple[float, float, float]:
    """The i-th class colour; golden-ratio hues stay apart for any number of classes."""
    from matplotlib.colors import hsv_to_rgb

    red, green, blue = hsv_to_rgb(((0.02 + i * 0.618034) % 1, 0.85, 1.0))
    return float(red), float(green), float(blue)


def legend_growth(legend: "Sequence[Artist]") -> float:
    """Inches that a legend in ``COLUMNS`` needs below its first line; for a hundred classes more than the slices do."""
    return LINE * ((len(legend) - 1) // COLUMNS)


def _legend(names: Mapping[int, str], with_reference: bool) -> "list[Line2D]":
    from matplotlib.lines import Line2D

    handles = [Line2D([], [], color=color(i), label=name) for i, name in enumerate(names.values())]
    if with_reference:
        handles += [
            Line2D([], [], color="gray", label="prediction"),
            Line2D([], [], color="gray", linestyle="dashed", label="reference"),
        ]
    return handles
