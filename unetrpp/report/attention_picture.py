"""Pictures of attention: a gate's map on the image beside the label, and the coefficients of channels as bars."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from unetrpp.dataset.labels import LabelScheme
from unetrpp.plotting.overlays import COLUMNS, draw_contours, informative_slices, legend_growth, legend_lines
from unetrpp.report.attention_maps import AttentionFindings

SLICES = 4
OPACITY = 0.55  # of a map on the image


def draw_maps(findings: AttentionFindings, labels: LabelScheme) -> Figure:
    """A row of slices for the image and one for every gate, cut along the first plan axis (the coarsest).

    Solid lines are the prediction, dashed ones the label. Each map has its own colour range, shown by its bar: the
    map of a flat gate shows little but noise.
    """
    names = {i: labels.names[i] for i in labels.foreground}
    truth = findings.label
    slices = informative_slices(findings.predicted, truth, list(names), SLICES)
    rows: list[tuple[str, np.ndarray | None]] = [("image", None)]
    rows += [(f"{m.place}\ngamma {m.gamma:.2f}", m.map) for m in findings.modules if m.map is not None]
    height, width = findings.image.shape[1] * findings.spacing_mm[1], findings.image.shape[2] * findings.spacing_mm[2]
    drawn = [part[z] for part in (findings.predicted, truth) if part is not None for z in slices]
    legend = legend_lines(names, drawn, truth is not None)
    side, below = 2.4, 0.6 + legend_growth(legend)
    figure = Figure(figsize=(side * len(slices) + 1.2, side * height / width * len(rows) + below), layout="constrained")
    grid = figure.subplots(len(rows), len(slices), squeeze=False)
    low, high = np.percentile(findings.image, (0.5, 99.5))
    for (name, attention), plots in zip(rows, grid, strict=True):
        shown: AxesImage | None = None
        for plot, z in zip(plots, slices, strict=True):
            aspect = findings.spacing_mm[1] / findings.spacing_mm[2]
            plot.imshow(findings.image[z], cmap="gray", vmin=low, vmax=high, aspect=aspect)
            if attention is not None:
                least, most = np.percentile(attention, (1, 99))
                shown = plot.imshow(attention[z], cmap="viridis", vmin=least, vmax=most, alpha=OPACITY, aspect=aspect)
            draw_contours(plot, findings.predicted[z], names, "solid")
            if truth is not None:
                draw_contours(plot, truth[z], names, "dashed")
            plot.set_xticks([])
            plot.set_yticks([])
        plots[0].set_ylabel(name)
        if shown is not None:
            figure.colorbar(shown, ax=list(plots), pad=0.01, label="A^gamma")
    for plot, z in zip(grid[0], slices if len(findings.image) > 1 else (), strict=False):
        plot.set_title(f"slice {z}", fontsize="small")
    figure.legend(handles=legend, loc="outside lower center", ncols=COLUMNS, fontsize="small", frameon=False)
    return figure


def draw_channels(findings: AttentionFindings) -> Figure | None:
    """The coefficients of every squeeze-and-excitation, one bar per channel; None where there is no such module."""
    shown = [(m, m.channels) for m in findings.modules if m.channels is not None]
    if not shown:
        return None
    figure = Figure(figsize=(10, 1.5 * len(shown) + 0.4), layout="constrained")
    for plot, (module, channels) in zip(figure.subplots(len(shown), 1, squeeze=False)[:, 0], shown, strict=True):
        plot.bar(np.arange(len(channels)), channels, width=0.9)
        plot.set(ylim=(0, 1), xlim=(-0.6, len(channels) - 0.4), ylabel=module.place)
        plot.grid(axis="y", alpha=0.3)
    plot.set_xlabel("channel")
    return figure
