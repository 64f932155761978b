"""Reliability diagrams: how often a class is there, by the probability that the model gives it."""

import math

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from unetrpp.inference.calibration import Calibration, Reliability
from unetrpp.plotting.charts import WIDTH, shortened

MOST_PANELS = 8  # classes; of more, those with the largest error before the temperature
COLUMNS = 4
PANEL = 2.5  # inches


def draw_reliability(calibration: Calibration) -> Figure:
    """One panel per class: frequency over mean probability in 15 bins, before (dashed) and after the temperature."""
    names = sorted(calibration.classes, key=lambda name: -calibration.classes[name].before.expected_calibration_error)
    shown = [name for name in calibration.classes if name in names[:MOST_PANELS]]
    columns = min(COLUMNS, max(len(shown), 2))
    rows = math.ceil(len(shown) / columns)
    figure = Figure(figsize=(WIDTH * columns / COLUMNS, PANEL * rows + 0.5), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flatten()
    for panel in panels[len(shown) :]:
        panel.set_visible(False)
    for panel, name in zip(panels, shown, strict=False):
        found = calibration.classes[name]
        panel.plot([0, 1], [0, 1], color="0.7", linewidth=0.8)
        _line(panel, found.before, label="before", color="tab:orange", linestyle="dashed")
        _line(panel, found.after, label="after the temperature", color="tab:blue")
        panel.set_title(shortened(name, 24), fontsize="small")
        panel.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
        panel.grid(alpha=0.3)
    figure.supxlabel("mean probability in a bin", fontsize="small")
    figure.supylabel("frequency of the class", fontsize="small")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=2, fontsize="small")
    return figure


def _line(panel: Axes, found: Reliability, *, label: str, color: str, linestyle: str = "solid") -> None:
    pairs = zip(found.mean_probability, found.frequency, strict=True)
    points = [(p, f) for p, f in pairs if p is not None and f is not None]
    x, y = zip(*points, strict=True)
    panel.plot(x, y, label=label, color=color, linestyle=linestyle, marker="o", markersize=3)
