"""What a fold shows in its trackers, and that a tracker which fails never stops a training."""

import logging
from collections.abc import Callable
from functools import partial
from types import TracebackType

import msgspec
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from unetrpp.core.digest import file_digest
from unetrpp.core.errors import UserError, in_words
from unetrpp.core.files import Record, read_json, read_json_lines, write_json
from unetrpp.evaluation.current_scores import FILE as SUMMARY
from unetrpp.evaluation.summary import TABLE_METRICS, Summary
from unetrpp.model.folder import ModelFolder
from unetrpp.report.shown_cases import raw_cases, shown_cases
from unetrpp.trainers.job import Job
from unetrpp.trainers.log import EpochEntry, class_names
from unetrpp.trainers.trackers import TrackedFold, Tracker, require_tracker

LOG = logging.getLogger(__name__)
FILE = "trackers.json"


class TrackedRun(Record, frozen=True, kw_only=True):
    """Of one tracker in trackers.json: its run, and the digest of the validation scores that it was shown."""

    run: str
    shown: str = ""


class Trackers:
    """The trackers of one fold. Each is shown all epochs, also those before it joined a training that is resumed.

    An error of a tracker is a warning, and that tracker is shown no more; the others and the training go on.

    Args:
        job: its request names the trackers.
        fold: number, or "all".
        silent: another process has them, so there are none here.
    """

    def __init__(self, job: Job, fold: int | str, *, silent: bool = False):
        self.job, self.fold, self.folder = job, fold, job.model / f"fold_{fold}"
        self.waiting = [] if silent else list(job.request.trackers)
        self.open: dict[str, Tracker] = {}
        self.runs = self._recorded() if self.waiting else {}

    def _recorded(self) -> dict[str, TrackedRun]:
        """The runs of earlier processes; none where their record is missing or damaged."""
        try:
            return read_json(self.folder / FILE, dict[str, TrackedRun])
        except UserError:
            return {}

    def __enter__(self) -> "Trackers":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._each(lambda _, tracker: tracker.close(kind is None))

    def begin(self) -> None:
        """Begin the runs, or continue those of earlier processes."""
        while self.waiting:
            name = self.waiting.pop(0)
            self._guarded(name, partial(self._begin, name))

    def _begin(self, name: str) -> None:
        known = self.runs.get(name)
        classes = class_names(self.job.plans.labels)
        tracker = require_tracker(name)(TrackedFold(self.folder, classes, known.run if known else None))
        self.open[name] = tracker
        if known is None:
            for entry in read_json_lines(self.folder / "metrics.jsonl"):
                tracker.epoch(msgspec.convert(entry, EpochEntry))
            self._remember(name, "")

    def epoch(self, entry: EpochEntry) -> None:
        """Show the metrics of an epoch."""
        self._each(lambda _, tracker: tracker.epoch(entry))

    def validated(self) -> None:
        """Show the scores of the fold's validation and pictures of some cases, unless these scores were shown before."""
        path = self.folder / "validation" / SUMMARY
        if not (self.waiting or self.open) or not path.is_file():
            return
        now = file_digest(path).hex()
        self.waiting = [name for name in self.waiting if name not in self.runs or self.runs[name].shown != now]
        self.begin()
        if not self.open:
            return
        summary = read_json(path, Summary)
        scores, pictures = named_scores(summary), self._pictures(summary)

        def show(name: str, tracker: Tracker) -> None:
            tracker.validated(scores, pictures)
            self._remember(name, now)

        self._each(show)

    def _pictures(self, summary: Summary) -> dict[str, np.ndarray]:
        """The cases with the lowest scores, one in the middle and the highest one, where the raw images are at hand."""
        request = self.job.request
        fold = None if self.fold == "all" else int(self.fold)
        cases = tuple(msgspec.structs.replace(case, fold=fold) for case in summary.metric_per_case)
        summary = msgspec.structs.replace(summary, metric_per_case=cases)
        try:
            model = ModelFolder.open(self.job.model)
            raw = {case.id: case for case in raw_cases(model, request.workspace.root)}
            shown = shown_cases(model, summary, raw)
            return {case.heading: drawn(case.picture) for case in shown}
        except Exception as error:
            LOG.warning("warning: fold %s: trackers get no pictures of cases: %s", self.fold, in_words(error))
            return {}

    def _each(self, call: Callable[[str, Tracker], None]) -> None:
        for name, tracker in list(self.open.items()):
            self._guarded(name, partial(call, name, tracker))

    def _guarded(self, name: str, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            LOG.debug("%s failed", name, exc_info=error)
            message = "warning: fold %s: --tracker %s failed and is shown no more: %s"
            LOG.warning(message, self.fold, name, in_words(error))
            self.open.pop(name, None)

    def _remember(self, name: str, shown: str) -> None:
        self.runs[name] = TrackedRun(run=self.open[name].run, shown=shown)
        write_json(self.folder / FILE, self.runs)


def named_scores(summary: Summary) -> dict[str, float]:
    """Mean scores over the cases by name: of the foreground, such as validation/Dice, and of every class, validation/Dice/liver."""
    scores = {"": summary.foreground_mean} | {f"/{summary.classes[key]}": mean for key, mean in summary.mean.items()}
    return {
        f"validation/{metric}{name}": value
        for name, mean in scores.items()
        for metric in TABLE_METRICS
        if (value := mean.get(metric)) is not None
    }


def drawn(figure: Figure) -> np.ndarray:
    """The pixels of a figure (Y, X, 3), uint8."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
