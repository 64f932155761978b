"""The training loop of one fold: batches in, checkpoints and metrics out."""

import logging
import math
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from unetrpp.augmentation.pipeline import Sample
from unetrpp.core.devices import HostCopy
from unetrpp.core.randomness import Stream
from unetrpp.core.text import counted, listed
from unetrpp.model import checkpoint
from unetrpp.patches.loader import prefetch
from unetrpp.patches.worker_loader import worker_batches
from unetrpp.trainers.compilation import compile_everywhere
from unetrpp.trainers.compute_threads import ComputeThreads
from unetrpp.trainers.config import STANDARD_TRAINER, TrainingConfig
from unetrpp.trainers.inputs import FoldData, Machine
from unetrpp.trainers.interrupt import StopRequest
from unetrpp.trainers.log import EpochEntry, EpochTracker, SilentLog, TrainingLog, class_names
from unetrpp.trainers.network_spec import NetworkSpec
from unetrpp.trainers.overlap import ClassOverlap
from unetrpp.trainers.patch_validation import PatchScores, score_patches
from unetrpp.trainers.pretrained_checkpoints import require_unchanged
from unetrpp.trainers.pretrained_weights import start_from
from unetrpp.trainers.recording import record_network
from unetrpp.trainers.saver import Saver
from unetrpp.trainers.step import StepTrainer
from unetrpp.trainers.unchanged import unchanged

LOG = logging.getLogger(__name__)
SAVE_SECONDS = 60.0  # between two saves of checkpoint_latest.pt
NAMED = 5  # classes in a warning
COLLECT_EVERY = 5  # steps between two reads of the losses
NOT_YET = 2  # steps whose losses are left for the next read: a GPU may still compute them, and the host would wait


class Trainer(StepTrainer):
    """Trains the network of one fold, and resumes from the fold's folder.

    A subclass changes a part of the training by overriding ``build_network``, ``build_optimizer``, ``build_loss``,
    ``step`` or ``end_epoch``; docs/extending.md shows one.

    Args:
        data: the planned configuration and the stored cases of the fold.
        config: the recipe: length, optimiser, learning rate, precision, seed.
        folder: ``fold_k`` of the model folder, for checkpoints and metrics. Only the first process writes, and only in ``run``:
            before a fold is started, the standard trainer is built to find out whether its network takes the options.
        machine: device, threads, compilation, processes; by default the CPU and a single process.
    """

    def __init__(self, data: FoldData, config: TrainingConfig, folder: Path, machine: Machine | None = None):
        super().__init__(data, config, machine or Machine())
        self.folder = folder
        self.validation_loader = (
            self.build_loader(data.validation, Stream.VALIDATION_PATCHES) if data.validation else None
        )
        cores, asked = self.machine.cores, self.machine.compute_threads
        self.compute_threads = None if cores is None else ComputeThreads(f"fold {config.fold}", cores, asked)
        self.tracker: EpochTracker | None = None  # also gets the metrics of every epoch
        self.uncollected: list[HostCopy] = []  # losses of the last few steps, on their way from the device
        self.saver = Saver()
        self.epoch_started = self.saved = self.started

    def run(self) -> None:
        """Train to the end. When interrupted it saves first, and the next run continues with the next step.

        Raises:
            UserError: the loss is not finite.
            OSError: a checkpoint could not be written.
            KeyboardInterrupt: a stop was requested; the state is saved.
        """
        self.resume()
        self.warn_of_missing_classes()
        self.processes.synchronize_batch_norm(self.network, self.device)  # before a compiler sees the network
        if self.machine.compiles(self.config.steps):
            compile_everywhere(self.network, self.probe, self.processes)
        if self.machine.records and not self.configuration.architecture.checkpointing:  # it reads random states
            self.record()
        self.replica = self.processes.replicate(self.network)
        if (
            self.mean is not None and self.state.step == 0
        ):  # with pretrained weights, which other processes have only now
            self.mean.network.load_state_dict(self.network.state_dict())
        if self.compute_threads is not None:
            self.compute_threads.start(self.state, self.trial_step)
            self.epoch_started = time.monotonic()
        with self.saver:
            if not self.finished():  # else the log would drop an epoch that the end of the hours has cut short
                self.take_steps()
            self.save("latest")
            if self.validation_loader is None or self.state.best_dice < 0:  # no Dice told the epochs apart
                self.save("best")
            self.save("final")

    def take_steps(self) -> None:
        """The steps that are left, each followed by what is due: reading losses, ending the epoch, saving, stopping."""
        with self.open_log() as log, StopRequest() as stop, closing(self.batches()) as batches:
            while not self.finished():
                self.uncollected.append(HostCopy(self.step(next(batches))))
                if self.state.step % COLLECT_EVERY == 0:
                    self.collect_losses(leave=NOT_YET)
                log.step(self.progress_text())
                if self.state.step % self.config.iterations == 0 or self.out_of_time():
                    log.epoch(entry := self.end_epoch())
                    self.adapt_threads(entry["seconds"])
                stopping, unsaved = self.processes.all_reduce_max(stop.requested, time.monotonic() - self.saved)
                self.saver.check()
                if stopping or unsaved > SAVE_SECONDS:
                    self.save("latest")
                if stopping:
                    self.saver.wait()
                    # torchrun ends all processes once one leaves, so they wait for the save.
                    self.processes.all_reduce_max(0)
                    raise KeyboardInterrupt

    def resume(self) -> None:
        """Load checkpoint_latest.pt where there is one, else the pretrained weights that the config names."""
        config, path = self.config, self.folder / "checkpoint_latest.pt"
        if path.exists():
            content = checkpoint.load(path, self.device)
            self.load_weights(content["network"])
            self.load_state_dict(content)
            LOG.info("fold %s: resumes after step %d of %d", config.fold, self.state.step, config.steps)
        elif config.pretrained is not None and self.processes.first:  # the others get them from its replica
            require_unchanged(Path(config.pretrained), config.pretrained_hash)
            start_from(Path(config.pretrained), self.network, NetworkSpec.of(self.configuration), self.folder)

    def warn_of_missing_classes(self) -> None:
        """Say which classes no validation case has, and what that means for --patience and the best checkpoint.

        The fold "all" has no validation case by intention, so there only --patience is warned about.
        """
        if self.validation_loader is None:
            if self.config.patience is not None and self.processes.first:
                LOG.warning("fold %s: warning: no case is held out, so --patience does not end it", self.config.fold)
            return
        missing = [name for name, present in self.data.validated.items() if not present]
        if not missing or not self.processes.first:
            return
        consequence = "it does not count for --patience and checkpoint_best.pt"
        if len(missing) == len(self.labels.targets):
            consequence = "--patience does not end this training, and checkpoint_best.pt gets the last weights"
        names = listed(missing, NAMED)
        message = "fold %s: warning: no validation case has %s, so its Dice is undefined (-): %s"
        LOG.warning(message, self.config.fold, names, consequence)

    def probe(self) -> Tensor:
        """A scalar that depends on every output. It is not the loss: that one needs all processes at the same time."""
        images, _ = self.batch(self.loader.batch(0))
        with self.autocast():
            outputs: list[Tensor] = self.network(images)
        return torch.stack([output.float().mean() for output in outputs]).sum()

    def record(self) -> None:
        """Let the GPU repeat recorded passes of the network, so that the host need not start each of their kernels."""
        images, _ = self.batch(self.loader.batch(0))
        record_network(self.network, images, self.autocast(cached=False))

    @contextmanager
    def trial_step(self) -> Iterator[Callable[[], object]]:
        """A forward and backward pass of the next batch as often as it is called; afterwards nothing is changed."""
        samples = self.loader.batch(self.state.step)

        def step() -> None:
            self.start_step()
            torch.autograd.backward(self.forward_loss(samples))

        with unchanged(self.network):
            yield step

    def adapt_threads(self, seconds: float) -> None:
        """Choose the number of compute threads again where the epoch that ended, of ``seconds``, gives a reason."""
        if self.compute_threads is None or self.state.step == self.config.steps or self.out_of_time():
            return
        self.compute_threads.end_epoch(self.state, seconds, self.trial_step)
        self.epoch_started = time.monotonic()

    def open_log(self) -> TrainingLog | SilentLog:
        if not self.processes.first:
            return SilentLog()
        return TrainingLog(self.folder, self.config, class_names(self.labels), self.state.step, tracker=self.tracker)

    def batches(self) -> Generator[list[Sample], None, None]:
        """Training batches from the next step on, read ahead; after ``self.loader`` was replaced, from the new one."""
        source = worker_batches if self.config.augmentation == "workers" else prefetch
        while True:
            loader, remaining = self.loader, range(self.state.step, self.config.steps)
            with closing(source(loader, remaining, self.machine.readers, self.device)) as read:
                while self.loader is loader:
                    yield next(read)

    def finished(self) -> bool:
        """All steps are done; or, between two epochs, the hours are spent or the patience is exhausted.

        An epoch that has begun takes at least one more step, also where a training is resumed after its hours.
        """
        config, state = self.config, self.state
        if state.step >= config.steps:
            return True
        if state.losses or self.uncollected:  # within an epoch
            return False
        impatient = config.patience is not None and state.epochs_without_better >= config.patience
        if impatient:
            LOG.info(
                "fold %s: no better Dice for %s, so training ends",
                config.fold,
                counted(state.epochs_without_better, "epoch"),
            )
        return impatient or self.out_of_time()

    def out_of_time(self) -> bool:
        """The hours are spent. The epoch ends early then, since its other steps would have the learning rate 0.

        All processes must call it, and get the same answer.
        """
        return self.config.max_hours is not None and self.hours() >= self.config.max_hours

    def collect_losses(self, *, leave: int = 0) -> None:
        """Read the losses of the last few steps, but for the latest ``leave``, and check them; every save reads all first.

        Raises:
            UserError: a loss is not finite.
        """
        count = max(0, len(self.uncollected) - leave)
        ready, self.uncollected = self.uncollected[:count], self.uncollected[count:]
        values = self.processes.all_reduce_mean([copied.get().item() for copied in ready])
        for value in values:
            if not math.isfinite(value):
                raise self.processes.rank_zero_error(
                    f"fold {self.config.fold}: the loss became {value} before step {self.state.step}; the last good "
                    f"checkpoint is in {self.folder}; lower --lr or look for extreme intensities"
                )
        self.state.losses += values

    def progress_text(self) -> dict[str, str]:
        """Loss, mean Dice and learning rate for the progress bar; empty between two reads of the losses."""
        if self.state.step % COLLECT_EVERY or not self.state.losses:
            return {}
        rate, dice = self.optimizer.param_groups[0]["lr"], self.state.smoothed_dice
        shown = "-" if math.isnan(dice) else f"{dice:.3f}"
        validated = {} if self.validation_loader is None else {"dice": shown}
        return {"loss": f"{self.state.losses[-1]:.3f}", **validated, "lr": f"{rate:.2g}"}

    def end_epoch(self) -> EpochEntry:
        """Score validation patches, keep the best checkpoint, and return the epoch's entry of metrics.jsonl."""
        self.collect_losses()
        epoch = math.ceil(self.state.step / self.config.iterations)  # the hours may have ended it early
        scores = self.validate_patches(epoch)
        train_loss = sum(self.state.losses) / len(self.state.losses)
        self.state.losses = []
        if self.state.is_better(scores.dice):
            self.save("best")
        seconds, self.epoch_started = time.monotonic() - self.epoch_started, time.monotonic()
        entry: EpochEntry = {
            "epoch": epoch,
            "train_loss": train_loss,
            "validation_loss": scores.loss,
            "dice": scores.dice,
            "mean_dice": scores.mean_dice,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "seconds": round(seconds, 2),
        }
        if self.state.compute_threads:
            entry["threads"] = self.state.compute_threads
        return entry

    def validate_patches(self, epoch: int) -> PatchScores:
        """Scores of the epoch's batches of validation patches; no Dice of a class that no validation case has."""
        if self.validation_loader is None:
            return PatchScores(None, [None] * len(self.labels.targets))
        n = self.config.validation_iterations
        predicted = self.predict_patches(self.validation_loader, range((epoch - 1) * n, epoch * n))
        scores = score_patches(predicted, self.loss, ClassOverlap(self.labels, self.device), self.processes)
        present = self.data.validated.values()
        return replace(scores, dice=[each if has else None for each, has in zip(scores.dice, present, strict=True)])

    def save(self, which: str) -> None:
        """Write checkpoint_<which>.pt beside the training. ``best`` and ``final`` are for prediction and hold the weights alone."""
        self.collect_losses()
        content = {"network": self.weights(), "step": self.state.step}
        if self.mean is not None and which != "latest":
            content["network"] = self.mean.network.state_dict()
        if which == "latest":
            content |= self.state_dict()
            self.saved = time.monotonic()
        if self.processes.first:
            self.saver.save(self.folder / f"checkpoint_{which}.pt", content)


TRAINERS: dict[str, type[Trainer]] = {STANDARD_TRAINER: Trainer}  # packages register others (docs/extending.md)
