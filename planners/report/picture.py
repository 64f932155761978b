"""The plan report's pictures: distributions of the data, and the patch against a median case."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from unetrpp.core.files import write_atomically
from unetrpp.core.text import counted
from unetrpp.io.geometry import reorder
from unetrpp.planners.report.measured import MOST_CLASSES, cropping_matters, found_classes, units_of
from unetrpp.plans.fingerprint import Fingerprint
from unetrpp.plans.picture import Extent, draw_extents, draw_memory, patch_extents
from unetrpp.plans.plans import Plans
from unetrpp.plotting.charts import (
    NAME_LENGTHS,
    Distribution,
    columns_of,
    draw_distributions,
    fill_columns,
    fill_distributions,
    height_of,
    log_axis,
)
from unetrpp.plotting.overlays import fitting_size

PANEL = (4.6, 3.9)  # inches
PAGE = 13.8  # inches of the picture that has all panels


@dataclass(frozen=True)
class Panel:
    """One of the pictures: what it shows in a sentence, and how it is drawn."""

    title: str
    caption: str
    draw: Callable[[Axes], None]


def draw_report(fingerprint: Fingerprint, plans: Plans, path: Path) -> None:
    """All panels in one PNG; classes above fifteen get a wide panel of their own below the others.

    Uses matplotlib's object interface: pyplot keeps global state and needs a display.
    """
    figure = report_figure(fingerprint, plans)
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=90))


def report_figure(fingerprint: Fingerprint, plans: Plans) -> Figure:
    panels, classes = list(plan_panels(fingerprint, plans)), class_distributions(fingerprint)
    few = 0 < len(classes) <= MOST_CLASSES
    if few:
        panels.append(Panel(f"classes: {units_of(fingerprint).what}", "", lambda plot: _draw_classes(plot, classes)))
    across = 4 if len(panels) in (4, 7, 8) else 3
    rows, side = -(-len(panels) // across), PAGE / across
    below = 0.0 if few or not classes else height_of(classes)
    figure = Figure(figsize=(PAGE, side * rows + below + 0.5), layout="constrained")
    title = f"{plans.dataset}: plans {plans.name!r}, {counted(len(fingerprint.cases), 'case')}"
    figure.suptitle(title, fontsize=fitting_size(title, PAGE))
    grid = figure.add_gridspec(rows + bool(below), 1, height_ratios=[side] * rows + [below] * bool(below))
    for row in range(rows):
        part = panels[row * across : (row + 1) * across]
        for plot, panel in zip(grid[row].subgridspec(1, len(part)).subplots(squeeze=False)[0], part, strict=True):
            panel.draw(plot)
            plot.set_title(panel.title, fontsize="medium")
    if below:
        plots = list(grid[rows].subgridspec(1, columns_of(classes)).subplots(squeeze=False)[0])
        fill_columns(plots, classes, label=units_of(fingerprint).what, log=True)
    return figure


def plan_panels(fingerprint: Fingerprint, plans: Plans) -> Iterator[Panel]:
    """The panels that have something to show: no spacing of photographs, no slices of flat images, no memory of one plan."""
    cases, length = fingerprint.cases, fingerprint.length_unit
    cropped = " after cropping" if cropping_matters(fingerprint) else ""
    axes = (1, 2) if fingerprint.flat else (0, 1, 2)
    if len({case.spacing_mm for case in cases}) > 1:  # the table says it where all are the same
        sizes = [Distribution("zyx"[axis], [case.spacing_mm[axis] for case in cases]) for axis in axes]
        caption = "The distance between neighbouring voxels along each axis; every dot is a case."
        yield Panel("voxel size (mm)", caption, lambda plot: _draw_axes(plot, sizes, "mm"))
    unit = fingerprint.voxel_name
    shapes = [Distribution("zyx"[axis], [case.cropped_shape[axis] for case in cases]) for axis in axes]
    caption = f"The size of the images{cropped}, in {unit} along each axis; every dot is a case."
    yield Panel(f"image size{cropped} ({unit})", caption, lambda plot: _draw_axes(plot, shapes, unit))
    caption = "What the network sees at once (coloured frames) inside a median case (grey)."
    yield Panel(
        f"patch and median case ({length})", caption, lambda plot: _draw_patch(plot, fingerprint, plans, (1, 2))
    )
    if any(len(c.patch) == 3 for c in plans.configurations.values()) and not fingerprint.flat:
        caption = "The same patch and case across the slices."
        title = f"patch across the slices ({length})"
        yield Panel(title, caption, lambda plot: _draw_patch(plot, fingerprint, plans, (0, 2)))
    if len(plans.configurations) > 1:
        caption = "Estimated GPU memory of one training step, for each configuration."
        yield Panel("memory of a training step (GB)", caption, lambda plot: draw_memory(plot, plans))


def _draw_axes(plot: Axes, rows: Sequence[Distribution], unit: str) -> None:
    fill_distributions(plot, rows)
    plot.set_xlim(0, max(max(row.values) for row in rows) * 1.06)
    plot.set_xlabel(unit)


def class_distributions(fingerprint: Fingerprint) -> list[Distribution]:
    """Sizes of the classes that are in some case, in the order of dataset.json."""
    return [Distribution(found.name, found.sizes) for found in found_classes(fingerprint) if found.sizes]


def draw_classes(fingerprint: Fingerprint) -> Figure | None:
    """The sizes of the classes, as high as there are classes; None where no case has any."""
    classes = class_distributions(fingerprint)
    return draw_distributions(classes, label=units_of(fingerprint).what, log=True) if classes else None


def draw_panel(panel: Panel) -> Figure:
    """One panel as a picture of its own."""
    figure = Figure(figsize=PANEL, layout="constrained")
    panel.draw(figure.subplots())
    return figure


def _draw_classes(plot: Axes, classes: Sequence[Distribution]) -> None:
    fill_distributions(plot, classes, length=NAME_LENGTHS[2])
    log_axis(plot, [value for row in classes for value in row.values])


def _draw_patch(plot: Axes, fingerprint: Fingerprint, plans: Plans, axes: tuple[int, int]) -> None:
    """The median case and each configuration's patch in mm (pixels), centred; ``axes`` are plan axes (down, right)."""
    cases = np.array([np.array(c.cropped_shape) * c.spacing_mm for c in fingerprint.cases])
    transpose = next(iter(plans.configurations.values())).preprocessing.transpose
    own = reorder(fingerprint.median_spacing_mm, transpose)
    median = Extent("median case", np.median(cases, axis=0)[list(transpose)].tolist(), "0.85", filled=True)
    patches = zip(patch_extents(plans, own), plans.configurations.values(), strict=True)
    seen = [patch for patch, c in patches if len(c.patch) == 3 or axes == (1, 2)]
    draw_extents(plot, [median, *seen], axes, transpose)
