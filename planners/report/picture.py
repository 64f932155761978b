"""The plan report as a picture: distributions of the data, and the patch against a median case."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unetrpp.core.files import write_atomically
from unetrpp.core.text import GIGABYTE, format_bytes
from unetrpp.io.geometry import reorder
from unetrpp.plans.fingerprint import Fingerprint
from unetrpp.plans.plans import Plans

if TYPE_CHECKING:
    from matplotlib.axes import Axes

AXES = ("z", "y", "x")


def draw_report(fingerprint: Fingerprint, plans: Plans, path: Path) -> None:
    """Six panels: spacing, shape, label volumes, the patch in a median case from two sides, memory.

    Uses matplotlib's object interface: pyplot keeps global state and needs a display.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 8), layout="constrained")
    panels = figure.subplots(2, 3)
    figure.suptitle(f"{plans.dataset}: plans {plans.name!r}, {len(fingerprint.cases)} cases")
    _spread(panels[0, 0], [[c.spacing_mm[a] for c in fingerprint.cases] for a in range(3)], "spacing (mm)")
    _spread(panels[0, 1], [[c.cropped_shape[a] for c in fingerprint.cases] for a in range(3)], "shape (voxels)")
    _volumes(panels[0, 2], fingerprint)
    _patch(panels[1, 0], fingerprint, plans, (1, 2))
    _patch(panels[1, 1], fingerprint, plans, (0, 2))
    _memory(panels[1, 2], plans)
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=90))


def _spread(panel: "Axes", values: list[list[float]], title: str) -> None:
    """A box plot for each axis, with every case as a dot."""
    panel.boxplot(values, widths=0.5, showfliers=False)
    for position, axis in enumerate(values, 1):
        shift = np.linspace(-0.2, 0.2, len(axis))
        panel.plot(position + shift, axis, ".", markersize=3, alpha=0.5, color="tab:blue")
    panel.set_xticks([1, 2, 3], AXES)
    panel.set(title=title, ylim=(0, None))


def _volumes(panel: "Axes", fingerprint: Fingerprint) -> None:
    """Label volumes in ml; areas in pixels where all images have one slice, because photographs have no volume."""
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    cases = fingerprint.cases
    flat = all(case.shape[0] == 1 for case in cases)
    found = {n: [c.classes[n] for c in cases if c.classes[n].voxels] for n in cases[0].classes}
    shown = [(n, [s.voxels if flat else s.volume_mm3 / 1000 for s in each]) for n, each in found.items() if each]
    panel.boxplot([values for _, values in shown], orientation="horizontal", widths=0.6)
    panel.set_yticks(range(1, len(shown) + 1), [name for name, _ in shown])
    panel.set(title="label areas (pixels)" if flat else "label volumes (ml)", xscale="log")
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 3), numticks=8))
    panel.xaxis.set_major_formatter(StrMethodFormatter("{x:,g}"))
    panel.xaxis.set_minor_formatter(NullFormatter())


def _patch(panel: "Axes", fingerprint: Fingerprint, plans: Plans, axes: tuple[int, int]) -> None:
    """The median case and each configuration's patch in mm, centred; ``axes`` are plan axes (down, right)."""
    from matplotlib.patches import Rectangle

    cases = np.array([np.array(c.cropped_shape) * c.spacing_mm for c in fingerprint.cases])
    first = next(iter(plans.configurations.values())).preprocessing
    extent = np.median(cases, axis=0)[list(first.transpose)]
    own = reorder(fingerprint.median_spacing_mm, first.transpose)
    boxes = [("median case", extent, "0.8")]
    for i, (name, configuration) in enumerate(plans.configurations.items()):
        spacing = configuration.preprocessing.target_spacing(own)
        boxes.append((name, np.multiply(configuration.patch_3d, spacing), f"C{i}"))
    for name, size, color in boxes:
        height, width = size[axes[0]], size[axes[1]]
        filled = name == "median case"
        panel.add_patch(Rectangle((-width / 2, -height / 2), width, height, fill=filled, color=color, lw=2, label=name))
    reach = max(float(size[list(axes)].max()) for _, size, _ in boxes) * 0.55
    where = "in plane" if axes == (1, 2) else "across the slices"
    panel.set(title=f"patch and median case, {where} (mm)", xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal")
    panel.legend(fontsize="small", loc="upper right")


def _memory(panel: "Axes", plans: Plans) -> None:
    names = list(plans.configurations)
    values = [plans.configurations[name].training_memory_bytes / GIGABYTE for name in names]
    bars = panel.barh(names, values)
    labels = [f"batch {c.batch_size}: {format_bytes(c.training_memory_bytes)}" for c in plans.configurations.values()]
    panel.bar_label(bars, labels, padding=3)
    panel.set(title="estimated memory of a training step (GB)", xlim=(0, max(values) * 1.6))
