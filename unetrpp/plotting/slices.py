"""Slices of an image with its labels painted on it; a notebook that has ipywidgets scrolls through them."""

from base64 import b64encode
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

from unetrpp.core.errors import UserError
from unetrpp.dataset.labels import present_values
from unetrpp.io.geometry import GRID_LIMIT_VOXELS, Geometry, canonical_orientation, same_grid
from unetrpp.io.images import Volume
from unetrpp.plotting.overlays import (
    COLUMNS,
    NARROWEST,
    brightness,
    draw_contours,
    informative_slices,
    legend_growth,
    legend_lines,
    painted,
    slicing_axis,
)
from unetrpp.plotting.picture import Picture

if TYPE_CHECKING:
    from ipywidgets import VBox

LONGEST = 5.0  # inches of a slice's longer side
DIRECTIONS = (("F", "H"), ("A", "P"), ("R", "L"))  # where the canonical axes z, y and x come from and go to
FIRST = "RAH"  # sides of the body that are drawn at the left or at the top, as radiologists expect them


@dataclass(frozen=True)
class Slices:
    """An image and its labels, cut along one axis, which comes first in both arrays."""

    image: np.ndarray  # (n, rows, columns) between 0 and 1, or (n, rows, columns, 3)
    labels: np.ndarray  # (n, rows, columns)
    names: Mapping[int, str]  # of the label values that are painted
    size_mm: tuple[float, float]  # of a pixel: down, right
    sides: (
        tuple[tuple[str, str], tuple[str, str]] | None
    )  # letters at the first and last row, and column; None: no patient


class SlicePicture(Picture):
    """One slice. In a notebook with ipywidgets, a slider goes through the others."""

    slices: Slices
    index: int  # of the slice that is drawn

    def _repr_mimebundle_(
        self, include: Collection[str] | None = None, exclude: Collection[str] | None = None
    ) -> dict[str, object]:
        """What IPython shows: the slice, and for front ends with widgets the slider."""
        plain: dict[str, object] = {"image/png": b64encode(self._repr_png_()).decode(), "text/plain": repr(self)}
        if len(self.slices.image) == 1 or find_spec("ipywidgets") is None:
            return plain
        return {**slider(self.slices, self.index)._repr_mimebundle_(), **plain}


def cut_slices(
    labels: np.ndarray, geometry: Geometry, image: Volume | None, names: Mapping[int, str], *, axis: int | None = None
) -> Slices:
    """
    Args:
        labels: (Z, Y, X) on the grid of ``geometry``.
        image: what the labels are painted on: its first channel, or its colours; None paints them on black.
        names: label value -> name, in the order of the colours; a value that has none is called "label 3".
        axis: 0 to 2, which the slices are cut across; by default the one with the coarsest voxels.

    Raises:
        UserError: ``image`` is on another grid.
    """
    if image is not None:
        require_same_grid(geometry, image)
    cut = slicing_axis(geometry.shape_zyx, geometry.spacing_zyx_mm) if axis is None else axis
    down, right = (a for a in range(3) if a != cut)
    grey = np.zeros(geometry.shape_zyx) if image is None else brightness(image.array)
    return Slices(
        image=np.moveaxis(grey, cut, 0),
        labels=np.moveaxis(labels, cut, 0),
        names=all_names(labels, names),
        size_mm=(geometry.spacing_zyx_mm[down], geometry.spacing_zyx_mm[right]),
        sides=(ends(geometry, down), ends(geometry, right)) if geometry.dimensions == 3 else None,
    )


def require_same_grid(geometry: Geometry, image: Volume) -> None:
    """
    Raises:
        UserError: ``image`` is on another grid than the segmentation, which is on that of ``geometry``.
    """
    if differences := same_grid(geometry, image.geometry, GRID_LIMIT_VOXELS):
        raise UserError(
            f"the image and its segmentation are on different grids: {differences[0]}; give the segmented image"
        )


def all_names(labels: np.ndarray, names: Mapping[int, str]) -> dict[int, str]:
    """``names``, and "label 3" for a value of ``labels`` that has none."""
    unnamed = [value for value in present_values(labels) if value not in (0, *names)]
    return {**names, **{value: f"label {value}" for value in unnamed}}


def ends(geometry: Geometry, axis: int) -> tuple[str, str]:
    """The sides of the body where an array axis begins and ends: R, L, A, P, F (feet) or H (head).

    >>> ends(Geometry(shape_zyx=(2, 3, 4), spacing_zyx_mm=(1, 1, 1)), 2)
    ('R', 'L')
    """
    orientation = canonical_orientation(geometry)
    world = orientation.axes.index(axis)
    first, last = DIRECTIONS[world]
    return (last, first) if world in orientation.flips else (first, last)


def draw_slice(slices: Slices, index: int | None = None) -> SlicePicture:
    """
    Args:
        slices: of which one is drawn.
        index: its number; by default that of the slice which shows most of every class.

    Raises:
        UserError: there is no slice of this number.
    """
    if index is None:
        (index,) = informative_slices(slices.labels, None, list(slices.names) or [0], 1)
    if not 0 <= index < len(slices.image):
        raise UserError(f"there is no slice {index}; give a number from 0 to {len(slices.image) - 1}")
    high, wide = (n * mm for n, mm in zip(slices.labels.shape[1:], slices.size_mm, strict=True))
    inches = LONGEST / max(high, wide)
    legend = legend_lines(slices.names, [slices.labels], with_reference=False)
    height = max(high * inches, 1.0) + 0.8 + legend_growth(legend)
    figure = SlicePicture(figsize=(max(wide * inches, NARROWEST), height), layout="constrained")
    figure.slices, figure.index = slices, index
    _paint(figure.subplots(), slices, index)
    if legend:
        figure.legend(handles=legend, loc="outside lower center", ncols=COLUMNS, fontsize="small", frameon=False)
    return figure


def _paint(plot: Axes, slices: Slices, index: int) -> None:
    down, right = slices.size_mm
    plot.imshow(slices.image[index], cmap="gray", vmin=0, vmax=1, aspect=down / right)
    plot.imshow(painted(slices.labels[index], slices.names), aspect=down / right, interpolation="nearest")
    draw_contours(plot, slices.labels[index], slices.names, "solid")
    plot.set(xlim=(-0.5, slices.labels.shape[2] - 0.5), ylim=(slices.labels.shape[1] - 0.5, -0.5))
    if len(slices.image) > 1:
        plot.set_title(f"slice {index} of 0 to {len(slices.image) - 1}", fontsize="small")
    plot.set_axis_off()
    if slices.sides is not None:
        _turn(plot, *slices.sides)


def _turn(plot: Axes, rows: tuple[str, str], columns: tuple[str, str]) -> None:
    """Draw the patient's right, front or head at the left or at the top, whichever way the array runs, and name the sides."""
    if rows[0] not in FIRST:
        plot.invert_yaxis()
    if columns[0] not in FIRST:
        plot.invert_xaxis()
    top, bottom = sorted(rows, key=lambda side: side not in FIRST)
    left, right = sorted(columns, key=lambda side: side not in FIRST)
    for side, x, y in ((top, 0.5, 0.97), (bottom, 0.5, 0.03), (left, 0.03, 0.5), (right, 0.97, 0.5)):
        text = plot.text(
            x, y, side, transform=plot.transAxes, color="white", ha="center", va="center", fontsize="small"
        )
        text.set_path_effects([withStroke(linewidth=2, foreground="black")])


def slider(slices: Slices, index: int) -> "VBox":
    """An ipywidgets slider below which the chosen slice is drawn."""
    import ipywidgets

    shown = ipywidgets.Image(value=draw_slice(slices, index)._repr_png_(), format="png")
    chosen = ipywidgets.IntSlider(value=index, max=len(slices.image) - 1, description="slice")

    def redraw(change: Mapping[str, int]) -> None:
        shown.value = draw_slice(slices, change["new"])._repr_png_()

    chosen.observe(redraw, names="value")
    return ipywidgets.VBox([chosen, shown])
