"""The record of a training: a progress bar, metrics.jsonl and progress.png."""

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import NotRequired, Protocol, TypedDict, cast

import msgspec

from unetrpp.core.files import read_json_lines, write_bytes
from unetrpp.core.progress import progress_bar
from unetrpp.core.text import scores_text
from unetrpp.dataset.labels import LabelScheme
from unetrpp.report.curves import draw_curves
from unetrpp.report.gammas import draw_gammas
from unetrpp.trainers.config import TrainingConfig

LOG = logging.getLogger(__name__)
REDRAW_SECONDS = 30.0  # a picture takes half a second; a short epoch should not wait for it


class EpochEntry(TypedDict):
    """A line of metrics.jsonl. The last two are those of a training that learns attention (docs/focal_attention.md).

    ``threads`` computed the steps of the epoch on a CPU. The fold "all" holds no case out, so its validation loss
    and every Dice are None.
    """

    epoch: int
    train_loss: float
    validation_loss: float | None
    dice: Sequence[float | None]  # one per class or region; null where it is undefined
    mean_dice: float | None
    learning_rate: float
    seconds: float
    threads: NotRequired[int]
    gammas: NotRequired[dict[str, float]]
    judgement: NotRequired[list[dict[str, object]]]


def class_names(labels: LabelScheme) -> list[str]:
    """The names of the foreground classes, or of the regions where the dataset has some."""
    return [target.name for target in labels.targets]


class EpochTracker(Protocol):
    """Anything that takes the metrics of every epoch."""

    def epoch(self, entry: EpochEntry) -> None: ...


class TrainingLog:
    """One line per epoch in metrics.jsonl; a resumed run drops the lines of epochs that it trains again."""

    def __init__(
        self,
        folder: Path,
        config: TrainingConfig,
        class_names: Sequence[str],
        steps_done: int = 0,
        *,
        tracker: EpochTracker | None = None,
    ):
        self.folder, self.class_names, self.tracker = folder, class_names, tracker
        self.name, self.path = f"fold {config.fold}", folder / "metrics.jsonl"
        recorded = [cast(EpochEntry, line) for line in read_json_lines(self.path)]
        self.epochs = [entry for entry in recorded if entry["epoch"] <= steps_done // config.iterations]
        write_bytes(self.path, b"".join(msgspec.json.encode(e) + b"\n" for e in self.epochs))
        self.bar = progress_bar(self.name, config.steps, unit="step", done=steps_done)
        self.drawn = 0.0

    def __enter__(self) -> "TrainingLog":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.draw()
        self.bar.close()

    def step(self, shown: Mapping[str, str]) -> None:
        """Advance the bar; ``shown`` replaces the values behind it unless it is empty."""
        self.bar.update()
        if shown:
            self.bar.set_postfix(shown)

    def epoch(self, entry: EpochEntry) -> None:
        """Write the entry, log it, and redraw the curves if the last picture is old."""
        self.epochs.append(entry)
        with self.path.open("ab") as file:
            file.write(msgspec.json.encode(entry) + b"\n")
        if self.tracker is not None:
            self.tracker.epoch(entry)
        LOG.info("%s %s", self.name, epoch_line(entry, self.class_names), extra={"on_a_bar": not self.bar.disable})
        if time.monotonic() - self.drawn > REDRAW_SECONDS:
            self.draw()

    def draw(self) -> None:
        """Draw progress.png, and gammas.png where gammas are learned."""
        try:
            self._draw()
        except PermissionError as error:  # Windows does not replace a file that a viewer has open
            LOG.warning("%s: the curves could not be redrawn (%s); close the program that shows them", self.name, error)
        self.drawn = time.monotonic()

    def _draw(self) -> None:
        if self.epochs:
            draw_curves(self.epochs, self.class_names, self.folder / "progress.png")
        if self.epochs and "gammas" in self.epochs[0]:
            draw_gammas(self.epochs, self.folder / "gammas.png")


def epoch_line(entry: EpochEntry, class_names: Sequence[str]) -> str:
    """The entry in one line, however many classes there are.

    >>> losses = {"train_loss": 0.5, "validation_loss": 0.6, "learning_rate": 0.01}
    >>> epoch_line({"epoch": 3, **losses, "dice": [0.93, 0.49], "mean_dice": 0.71, "seconds": 12.3}, ["liver", "tumour"])
    'epoch 3: loss 0.500, validation 0.600, Dice mean 0.710 (liver 0.930, tumour 0.490), 12 s'
    """
    parts = [f"epoch {entry['epoch']}: loss {entry['train_loss']:.3f}"]
    if entry["validation_loss"] is not None:
        dice = dict(zip(class_names, entry["dice"], strict=True))
        parts += [f"validation {entry['validation_loss']:.3f}", f"Dice {scores_text(dice, entry['mean_dice'])}"]
    return ", ".join([*parts, f"{entry['seconds']:.0f} s"])


class SilentLog:
    """The log of all processes but the first: it does nothing."""

    def __enter__(self) -> "SilentLog":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None: ...

    def step(self, shown: Mapping[str, str]) -> None: ...

    def epoch(self, entry: EpochEntry) -> None: ...
