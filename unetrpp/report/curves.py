"""The learning curves of a fold as one picture, and those of all folds as one."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unetrpp.core.files import write_atomically

if TYPE_CHECKING:  # training draws now and then, and imports matplotlib only then
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Epochs = Sequence[Mapping[str, Any]]  # lines of metrics.jsonl

NAME_LENGTH = 18  # characters of a class in the legend
MOST_LINES = 12  # classes with a line of their own; more are shown as their range


def draw_curves(epochs: Epochs, class_names: Sequence[str], path: Path) -> None:
    """Loss and Dice over the epochs of metrics.jsonl, as a PNG.

    Uses matplotlib's object interface, as pyplot keeps global state and needs a display.
    """
    from unetrpp.plotting.charts import shortened

    figure, (left, right) = _panels()
    x = [e["epoch"] for e in epochs]
    left.plot(x, _values(epochs, "train_loss"), label="training", color="tab:blue")
    _plot_known(left, x, _values(epochs, "validation_loss"), label="validation patches", color="tab:orange")
    dice = np.array([[_or_nan(v) for v in e.get("dice") or [None] * len(class_names)] for e in epochs], float)
    if len(class_names) <= MOST_LINES:
        for i, name in enumerate(class_names):
            _plot_known(right, x, dice[:, i], label=shortened(name, NAME_LENGTH), linewidth=1)
    else:
        _range(right, x, dice)
    _plot_known(right, x, _values(epochs, "mean_dice"), label="mean", color="black")
    _finish(figure, (left, right))
    write_atomically(path, lambda temporary: figure.savefig(temporary, dpi=110))


def draw_folds(folds: Mapping[str, Epochs]) -> "Figure":
    """The losses and the mean Dice of every fold, each in its colour."""
    from unetrpp.plotting.colors import PALETTE

    figure, (left, right) = _panels()
    for i, (fold, epochs) in enumerate(folds.items()):
        x, color = [e["epoch"] for e in epochs], PALETTE[(int(fold) if fold.isdigit() else i) % len(PALETTE)]
        left.plot(x, _values(epochs, "train_loss"), color=color, label=f"fold {fold}")
        _plot_known(left, x, _values(epochs, "validation_loss"), color=color, linestyle="dashed", linewidth=1)
        _plot_known(right, x, _values(epochs, "mean_dice"), color=color, label=f"fold {fold}")
    _finish(figure, (left, right))
    return figure


def _panels() -> "tuple[Figure, Sequence[Axes]]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.5, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.set(xlabel="epoch", ylabel="loss")
    right.set(xlabel="epoch", ylabel="Dice on validation patches", ylim=(-0.02, 1.02))
    return figure, (left, right)


def _plot_known(axis: "Axes", x: Sequence[int], y: np.ndarray, **style: Any) -> None:
    """A curve and its legend entry, but nothing where no value is known: the fold "all" has no validation cases."""
    if np.isfinite(y).any():
        axis.plot(x, y, **style)


def _range(axis: "Axes", x: Sequence[int], dice: np.ndarray) -> None:
    """Every class as a thin grey line: a legend of a hundred classes would hide the curves."""
    for i, values in enumerate(dice.T):
        _plot_known(
            axis, x, values, color="0.75", linewidth=0.7, label=f"each of {dice.shape[1]} classes" if not i else None
        )


def _finish(figure: "Figure", panels: "Sequence[Axes]") -> None:
    """A grid, and a legend below each panel, where it hides nothing."""
    from matplotlib.ticker import MaxNLocator

    for axis in panels:
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        names = axis.get_legend_handles_labels()[1]
        if names:
            columns = 5 if max(map(len, names)) < 10 else 3
            axis.legend(fontsize="small", frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=columns)
        else:
            axis.text(0.5, 0.5, "no validation cases", transform=axis.transAxes, ha="center", color="gray")


def _values(epochs: Epochs, key: str) -> np.ndarray:
    return np.array([_or_nan(e.get(key)) for e in epochs], float)


def _or_nan(value: float | None) -> float:
    return float("nan") if value is None else value
