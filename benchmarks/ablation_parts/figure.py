"""The figure of a dataset: Dice against seconds of training, a point for each arm."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from benchmarks.ablation_parts.results import Costs, Record, scores
from unetrpp.plotting.colors import ACCENT, MUTED


def draw_costs(records: Sequence[Record], arms: Sequence[str], costs: Costs, dataset: str) -> Figure:
    """Mean Dice over the seeds of every timed arm, a small mark for each seed, against its steps times its CPU seconds a step.

    The seconds of the runs themselves are of different devices, which other runs shared.
    """
    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    axes = figure.subplots()
    for name in arms:
        runs = [record for record in records if (record.arm, record.dataset) == (name, dataset)]
        step = costs.get((dataset, name, runs[0].width)) if runs else None
        if step is None:
            continue
        by_seed = np.nanmean(scores(runs, "Dice"), axis=1)
        spent = runs[0].steps * step.seconds
        axes.plot([spent] * len(by_seed), by_seed, "_", color=MUTED, markersize=7)
        axes.plot(spent, by_seed.mean(), "o", color=ACCENT, markersize=6)
        axes.annotate(f" {name}", (spent, float(by_seed.mean())), fontsize=8, va="bottom")
    axes.set_xlabel("CPU seconds of training: steps times seconds a step, measured alone")
    axes.set_ylabel("Dice, mean over classes")
    axes.set_title(dataset, loc="left")
    axes.margins(x=0.12)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure


def write_costs(records: Sequence[Record], arms: Sequence[str], costs: Costs, folder: Path) -> list[Path]:
    """``trial_DATASET.png`` for every dataset of the records."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for dataset in sorted({record.dataset for record in records}):
        path = folder / f"trial_{dataset}.png"
        draw_costs(records, arms, costs, dataset).savefig(path, dpi=110, metadata={"Software": None})
        written.append(path)
    return written
