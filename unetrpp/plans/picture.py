"""Plans drawn with matplotlib: what the network sees at once, and what a training step needs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.transforms import ScaledTranslation

from unetrpp.core.text import GIGABYTE, counted, format_bytes, format_shape, text_table
from unetrpp.io.formats import is_picture
from unetrpp.plans.plans import Configuration, Plans
from unetrpp.plotting.charts import clean
from unetrpp.plotting.colors import ACCENT
from unetrpp.plotting.overlays import fitting_size
from unetrpp.plotting.picture import Picture

NARROWEST = 0.6  # of the axes' width to their height, or the reverse, so that tick labels have room
LEGEND_BELOW = 0.45  # inches from the axes to their legend: below tick labels and the name of the axis
PANEL = 3.9  # inches
LINE = 0.19  # inches of a line of the table


@dataclass(frozen=True)
class Extent:
    """A box around the origin; ``size`` has one length for each plan axis."""

    name: str
    size: Sequence[float]
    color: str
    filled: bool = False


def draw_plans(plans: Plans) -> Picture:
    """The patch of every configuration in the plane of the slices and across them, memory, and a table of the main numbers."""
    extents, unit = list(patch_extents(plans)), "pixels" if is_picture(plans.file_ending) else "mm"
    transpose = next(iter(plans.configurations.values())).preprocessing.transpose
    deep = any(len(c.patch) == 3 for c in plans.configurations.values())
    views = [((1, 2), f"patch ({unit})"), *([((0, 2), f"patch across the slices ({unit})")] if deep else [])]
    table = text_table(_rows(plans, unit), "lr")
    width, below = PANEL * (len(views) + 1), LINE * (len(plans.configurations) + 2)
    figure = Picture(figsize=(width, PANEL + below + 0.5), layout="constrained")
    title = f"{plans.dataset}: plans {plans.name!r}"
    figure.suptitle(title, fontsize=fitting_size(title, width))
    (upper,), (lower,) = figure.subfigures(2, 1, squeeze=False, height_ratios=[PANEL, below])
    *plots, memory = upper.subplots(1, len(views) + 1)
    for plot, (axes, name) in zip(plots, views, strict=True):
        draw_extents(plot, extents if axes == (1, 2) else _deep(extents, plans), axes, transpose)
        plot.set_title(name, fontsize="medium")
    draw_memory(memory, plans)
    memory.set_title("memory of a training step (GB)", fontsize="medium")
    longest = max(map(len, table.splitlines()))
    lower.text(
        0.5, 0.5, table, family="monospace", fontsize=fitting_size("x" * longest, width, 9), ha="center", va="center"
    )
    return figure


def patch_extents(plans: Plans, own_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Iterator[Extent]:
    """The patch of every configuration in mm, in plan order; ``own_mm`` is the spacing along an axis where cases keep theirs."""
    for i, (name, configuration) in enumerate(plans.configurations.items()):
        spacing = configuration.preprocessing.target_spacing(own_mm)
        size = [n * mm for n, mm in zip(configuration.patch_3d, spacing, strict=True)]
        yield Extent(f"patch of {name}", size, f"C{i}" if i else ACCENT)


def _deep(extents: Sequence[Extent], plans: Plans) -> list[Extent]:
    """Those of 3D patches."""
    configurations = plans.configurations.values()
    return [extent for extent, c in zip(extents, configurations, strict=True) if len(c.patch) == 3]


def draw_extents(plot: Axes, extents: Sequence[Extent], axes: tuple[int, int], transpose: Sequence[int]) -> None:
    """The boxes, centred; ``axes`` are the plan axes (down, right), which ``transpose`` names."""
    for extent in extents:
        height, width = (float(extent.size[axis]) for axis in axes)
        corner = (-width / 2, -height / 2)
        plot.add_patch(
            Rectangle(corner, width, height, fill=extent.filled, color=extent.color, lw=2, label=extent.name)
        )
    down, right = (0.53 * max(float(extent.size[axis]) for extent in extents) for axis in axes)
    down, right = max(down, NARROWEST * right), max(right, NARROWEST * down)
    plot.set(xlim=(-right, right), ylim=(-down, down), aspect="equal")
    plot.set(xlabel="zyx"[transpose[axes[1]]], ylabel="zyx"[transpose[axes[0]]])
    plot.locator_params(nbins=6)
    clean(plot)
    legend = plot.legend(fontsize="small", frameon=False, ncols=2, loc="upper center")
    # By a length, whatever the height of the axes.
    lower = ScaledTranslation(0, -LEGEND_BELOW, plot.figure.dpi_scale_trans)
    legend.set_bbox_to_anchor((0.5, 0), plot.transAxes + lower)


def draw_memory(plot: Axes, plans: Plans) -> None:
    """A bar for each configuration."""
    names = list(plans.configurations)
    values = [plans.configurations[name].training_memory_bytes / GIGABYTE for name in names]
    bars = plot.barh(names, values, color=ACCENT, height=0.5)
    labels = [f"batch {c.batch_size}: {format_bytes(c.training_memory_bytes)}" for c in plans.configurations.values()]
    plot.bar_label(bars, labels, padding=3, fontsize="small")
    plot.set_xlim(0, max(*values, 1e-9) * 1.7)
    plot.set_ylim(len(names) - 0.4, -0.6)
    plot.set_xlabel("GB")
    clean(plot, grid="x")


def _rows(plans: Plans, unit: str) -> list[list[str]]:
    header = ["configuration", f"voxel ({unit})", "patch", "batch", "network", "channels of the levels"]
    return [header, *([name, *_cells(configuration)] for name, configuration in plans.configurations.items())]


def _cells(configuration: Configuration) -> list[str]:
    architecture = configuration.architecture
    voxel = [
        "own" if mm is None else f"{mm:.3g}"
        for mm in configuration.preprocessing.spacing_mm[-architecture.dimensions :]
    ]
    return [
        " x ".join(voxel),
        format_shape(configuration.patch),
        f"{configuration.batch_size}",
        f"{architecture.network}, {counted(len(architecture.levels), 'level')}",
        ", ".join(f"{level.channels}" for level in architecture.levels),
    ]
