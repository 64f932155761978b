"""The figure of a dataset: Dice against seconds of training, a point for each arm."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from benchmarks.ablation_parts.results import Record, scores
from unetrpp.plotting.colors import ACCENT, MUTED


def draw_costs(records: Sequence[Record], arms: Sequence[str], dataset: str) -> Figure:
    """Mean Dice over the seeds of every arm, a small mark for each seed, against the mean CPU seconds of training."""
    figure = Figure(figsize=(7.5, 4.2), layout="constrained")
    axes = figure.subplots()
    for name in arms:
        runs = [record for record in records if (record.arm, record.dataset) == (name, dataset)]
        if not runs:
            continue
        by_seed = np.nanmean(scores(runs, "Dice"), axis=1)
        seconds = float(np.mean([record.cpu_seconds for record in runs]))
        axes.plot([seconds] * len(by_seed), by_seed, "_", color=MUTED, markersize=7)
        axes.plot(seconds, by_seed.mean(), "o", color=ACCENT, markersize=6)
        axes.annotate(f" {name}", (seconds, float(by_seed.mean())), fontsize=8, va="bottom")
    axes.set_xlabel("CPU seconds of training")
    axes.set_ylabel("Dice, mean over classes")
    devices = {record.device for record in records if record.dataset == dataset}
    axes.set_title(f"{dataset}, {', '.join(sorted(devices))}", loc="left")
    axes.margins(x=0.12)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure


def write_costs(records: Sequence[Record], arms: Sequence[str], folder: Path) -> list[Path]:
    """``trial_DATASET.png`` for every dataset of the records."""
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for dataset in sorted({record.dataset for record in records}):
        path = folder / f"trial_{dataset}.png"
        draw_costs(records, arms, dataset).savefig(path, dpi=110, metadata={"Software": None})
        written.append(path)
    return written
