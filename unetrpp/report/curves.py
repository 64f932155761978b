"""The learning curves of a fold as one picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unetrpp.core.files import write_atomically


def draw_curves(epochs: Sequence[Mapping[str, Any]], class_names: Sequence[str], path: Path) -> None:
    """Loss and Dice over the epochs of metrics.jsonl.

    Uses matplotlib's object interface, as pyplot keeps global state and needs a display.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    x = [e["epoch"] for e in epochs]
    left.plot(x, [e["train_loss"] for e in epochs], label="training")
    left.plot(x, [e["validation_loss"] for e in epochs], label="validation patches")
    left.set(xlabel="epoch", ylabel="loss")
    for i, name in enumerate(class_names):
        right.plot(x, [_or_nan(e["dice"][i]) for e in epochs], label=name, linewidth=1)
    right.plot(x, [_or_nan(e["mean_dice"]) for e in epochs], label="mean", color="black")
    right.set(xlabel="epoch", ylabel="Dice on validation patches", ylim=(0, 1))
    for axis in (left, right):
        axis.grid(alpha=0.3)
        # The legend of a hundred classes would hide the curves.
        if len(axis.lines) <= 12:
            axis.legend(fontsize="small")
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=90))


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value
