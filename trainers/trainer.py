"""The training loop of one fold: batches in, checkpoints and metrics out."""

import logging
import math
import time
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, closing
from pathlib import Path
from typing import Any

import torch

from unetrpp.augmentation.pipeline import Sample, make_batch
from unetrpp.core.devices import memory_format, try_kernels
from unetrpp.core.randomness import Stream, torch_seed
from unetrpp.losses.build import build_loss
from unetrpp.model import checkpoint
from unetrpp.networks.build import build_network
from unetrpp.networks.cascade import unfold_first_stage
from unetrpp.networks.gates import clamp_gammas
from unetrpp.patches.loader import PatchLoader, prefetch
from unetrpp.patches.worker_loader import worker_batches
from unetrpp.plans.plans import Configuration
from unetrpp.preprocessing.store import StoredCase
from unetrpp.trainers.compilation import compile_network
from unetrpp.trainers.config import TrainingConfig
from unetrpp.trainers.distributed import ALONE, Processes
from unetrpp.trainers.interrupt import StopRequest
from unetrpp.trainers.log import SilentLog, Tracker, TrainingLog
from unetrpp.trainers.optimizer import build_optimizer, set_learning_rate
from unetrpp.trainers.overlap import ClassOverlap
from unetrpp.trainers.pretrained import NetworkSpec, start_from

LOG = logging.getLogger(__name__)
SAVE_SECONDS = 60.0  # at least this long between two saves of `latest`
COLLECT_EVERY = 5  # steps between two looks at the loss: each look waits for the device
BEST_SMOOTHING = 0.9  # `best` follows an exponential mean of the validation Dice, as nnU-Net's does


class Trainer:
    """Trains one fold and resumes from its own folder.

    Args:
        configuration: of the plans.
        config: the recipe.
        folder: ``fold_k`` of the model folder.
        train, validation: stored cases.
        threads: that read patches; processes where workers augment.
        compile: try torch.compile first.
        tracker: also gets every epoch's entry.
        processes: that share every batch. The first one alone writes.
    """

    def __init__(
        self,
        configuration: Configuration,
        config: TrainingConfig,
        folder: Path,
        train: Sequence[StoredCase],
        validation: Sequence[StoredCase],
        device: torch.device,
        threads: int = 2,
        compile: bool = False,
        tracker: Tracker | None = None,
        processes: Processes = ALONE,
    ):
        labels = configuration.preprocessing.labels
        self.configuration, self.config, self.folder, self.device, self.threads = (
            configuration,
            config,
            folder,
            device,
            threads,
        )
        self.labels, self.compile, self.tracker, self.processes = labels, compile, tracker, processes
        self.loader = self.loader_over(train)
        self.validation_loader = self.loader_over(validation, Stream.VALIDATION_PATCHES)
        torch.manual_seed(torch_seed(config.seed, config.fold_number, Stream.INITIALISATION))
        try_kernels(device)
        self.layout = memory_format(configuration.architecture.dimensions)
        self.network = build_network(configuration.architecture).to(device, memory_format=self.layout)  # type: ignore[call-overload]
        self.replica = self.network  # what training calls; run() lets its gradients be averaged over the processes
        self.optimizer = build_optimizer(self.network, config)
        # Scales the loss in half precision, where small gradients would vanish; otherwise it passes everything on.
        self.scaler = torch.amp.GradScaler(device.type, enabled=config.precision == "fp16")
        spacing = tuple(1.0 if s is None else s for s in configuration.preprocessing.spacing_mm)[
            -len(configuration.patch) :
        ]
        self.loss = build_loss(configuration.loss, labels, configuration.architecture.head_strides(), spacing).to(
            device
        )
        self.step_number = 0  # finished steps
        self.losses: list[float] = []  # of this epoch
        self.uncollected: list[torch.Tensor] = []  # of the last few steps, on the device
        self.smoothed_dice, self.best_dice, self.epochs_without_better = math.nan, -1.0, 0
        self.seconds_before = 0.0  # spent by the runs that this one resumes
        self.started = self.epoch_started = self.saved = time.monotonic()

    def loader_over(self, cases: Sequence[StoredCase], stream: Stream = Stream.PATCHES) -> PatchLoader:
        config, share = self.config, self.processes.share(self.configuration.batch_size)
        seed, fold = config.seed, config.fold_number
        return PatchLoader(cases, self.configuration, seed=seed, fold=fold, stream=stream, share=share)

    def run(self) -> None:
        """Train to the end; an interruption saves first, and the next run goes on with the very next step.

        Raises:
            UserError: the loss is not finite.
            KeyboardInterrupt: a stop was requested; the state is saved.
        """
        self.resume()
        config = self.config
        if self.compile:
            compile_network(self.network, self.probe)
        self.replica = self.processes.replicate(self.network)
        with self.open_log() as log, StopRequest() as stop:
            batches = self.batches()
            while not self.finished():
                self.uncollected.append(self.step(next(batches)))
                if self.step_number % COLLECT_EVERY == 0:
                    self.collect_losses()
                log.step(**self.shown())
                if self.step_number % config.iterations == 0:
                    log.epoch(self.end_epoch())
                stopping, unsaved = self.processes.all_reduce_max(stop.wanted, time.monotonic() - self.saved)
                if stopping or unsaved > SAVE_SECONDS:
                    self.save("latest")
                if stopping:
                    raise KeyboardInterrupt
            batches.close()
        self.save("latest")
        self.save("final")

    def open_log(self) -> TrainingLog | SilentLog:
        if not self.processes.first:
            return SilentLog()
        name = f"fold {self.config.fold}"
        return TrainingLog(self.folder, self.class_names(), name, self.config, self.step_number, self.tracker)

    def batches(self) -> Generator[list[Sample], None, None]:
        """Training batches from the next step on, read ahead; a loader that was replaced is read no further."""
        source = worker_batches if self.config.augmentation == "workers" else prefetch
        while True:
            loader = self.loader
            with closing(source(loader, range(self.step_number, self.config.steps), self.threads)) as read:
                while self.loader is loader:
                    yield next(read)

    def finished(self) -> bool:
        """All steps are done, or at an epoch's end the hours are spent or patience is over."""
        config = self.config
        if self.step_number >= config.steps:
            return True
        if self.step_number % config.iterations:
            return False
        impatient = config.patience is not None and self.epochs_without_better >= config.patience
        if impatient:
            LOG.info("fold %s: no better Dice for %d epochs, so training ends", config.fold, self.epochs_without_better)
        return impatient or config.progress(self.step_number, self.hours()) >= 1

    def hours(self) -> float:
        """Spent on this fold, earlier runs counted in."""
        return self.processes.all_reduce_max((self.seconds_before + time.monotonic() - self.started) / 3600)[0]

    def class_names(self) -> list[str]:
        return [target.name for target in self.labels.targets]

    def step(self, samples: list[Sample]) -> torch.Tensor:
        """One optimiser step; returns the loss, still on the device."""
        config = self.config
        hours = self.hours() if config.max_hours else 0.0  # without a limit nothing depends on the clock
        set_learning_rate(self.optimizer, config.learning_rate_at(self.step_number, hours))
        self.loss.set_progress(config.progress(self.step_number, hours))
        step, rank = self.step_number, self.processes.rank
        torch.manual_seed(torch_seed(config.seed, config.fold_number, Stream.DROPOUT, step, rank=rank))
        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss_of(samples)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.network.parameters(), config.gradient_clip)
        if not self.scaler.is_enabled():  # the scaler leaves out steps whose gradients are not finite; here they show
            loss = loss + 0 * norm
        self.scaler.step(self.optimizer)
        self.scaler.update()
        clamp_gammas(self.network)
        self.step_number += 1
        return loss.detach()

    def loss_of(self, samples: list[Sample]) -> torch.Tensor:
        images, target = self.batch(samples)
        with self.autocast():
            loss: torch.Tensor = self.loss(self.replica(images), target)
        return loss

    def probe(self) -> torch.Tensor:
        """Any scalar of a forward pass: the loss itself would need the other processes, and one may fail here alone."""
        images, _ = self.batch(self.loader.batch(0))
        with self.autocast():
            outputs: list[torch.Tensor] = self.network(images)
        return torch.stack([output.float().mean() for output in outputs]).sum()

    def collect_losses(self) -> None:
        """Fetch the losses of the last few steps from the device and check them.

        Raises:
            UserError: one is not finite. Nothing is saved before this check, so the checkpoint before it is good.
        """
        values = self.processes.all_reduce_mean(torch.stack(self.uncollected).tolist() if self.uncollected else [])
        self.uncollected = []
        for value in values:
            if not math.isfinite(value):
                raise self.processes.rank_zero_error(
                    f"fold {self.config.fold}: the loss became {value} before step {self.step_number}; the last good "
                    f"checkpoint stands in {self.folder}; lower --lr or look for extreme intensities"
                )
        self.losses += values

    def end_epoch(self) -> dict[str, Any]:
        """Look at validation patches, keep checkpoints, and return the epoch's entry of metrics.jsonl."""
        self.collect_losses()
        epoch = self.step_number // self.config.iterations
        validation_loss, dice = self.validate_patches(epoch)
        mean = ClassOverlap.mean(dice)
        train_loss = sum(self.losses) / len(self.losses)
        self.losses = []
        if mean is not None:
            before = mean if math.isnan(self.smoothed_dice) else self.smoothed_dice
            self.smoothed_dice = BEST_SMOOTHING * before + (1 - BEST_SMOOTHING) * mean
        self.epochs_without_better += 1
        if self.smoothed_dice > self.best_dice:
            self.best_dice, self.epochs_without_better = self.smoothed_dice, 0
            self.save("best")
        seconds, self.epoch_started = time.monotonic() - self.epoch_started, time.monotonic()
        return {
            "epoch": epoch,
            "train_loss": train_loss,
            "validation_loss": validation_loss,
            "dice": dice,
            "mean_dice": mean,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "seconds": round(seconds, 2),
        }

    @torch.no_grad()
    def validate_patches(self, epoch: int) -> tuple[float, list[float | None]]:
        """Loss and Dice per class over patches of the validation cases, pooled over all patches."""
        self.network.eval()
        n = self.config.validation_iterations
        overlap = ClassOverlap(self.labels, self.device)
        losses = []
        for samples in prefetch(self.validation_loader, range((epoch - 1) * n, epoch * n), self.threads):
            images, target = self.batch(samples)
            with self.autocast():
                outputs = self.network(images)
                losses.append(self.loss(outputs, target))
            overlap.add(outputs[0], target)
        overlap.counts = self.processes.all_reduce_sum(overlap.counts.cpu())
        return self.processes.all_reduce_mean([sum(torch.stack(losses).tolist()) / n])[0], overlap.dice()

    def batch(self, samples: list[Sample]) -> tuple[torch.Tensor, torch.Tensor]:
        plan = self.configuration
        images, target = make_batch(samples, plan.patch, plan.augmentation.in_plane_only, self.device)
        images = unfold_first_stage(images, plan.first_stage_classes)
        return images.to(memory_format=self.layout), target

    def shown(self) -> dict[str, str]:
        """What the bar shows: nothing but after losses were collected."""
        if self.uncollected or not self.losses:
            return {}
        rate = self.optimizer.param_groups[0]["lr"]
        dice = "-" if math.isnan(self.smoothed_dice) else f"{self.smoothed_dice:.3f}"
        return {"loss": f"{self.losses[-1]:.3f}", "dice": dice, "lr": f"{rate:.2g}"}

    def autocast(self) -> AbstractContextManager[Any]:
        kind = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[self.config.precision]
        return torch.autocast(self.device.type, kind, enabled=kind is not None)

    def save(self, which: str) -> None:
        """Write checkpoint_<which>.pt. `best` and `final` are for prediction and hold the weights alone."""
        self.collect_losses()
        content: dict[str, Any] = {"network": self.weights(), "step": self.step_number}
        if which == "latest":
            content |= self.state()
            self.saved = time.monotonic()
        if self.processes.first:
            checkpoint.save(self.folder / f"checkpoint_{which}.pt", content)

    def weights(self) -> dict[str, torch.Tensor]:
        return self.network.state_dict()

    def state(self) -> dict[str, Any]:
        """What a resumed run needs besides the weights."""
        return {
            "optimizer": self.optimizer.state_dict(),
            "losses": self.losses,
            "smoothed_dice": self.smoothed_dice,
            "best_dice": self.best_dice,
            "epochs_without_better": self.epochs_without_better,
            "scaler": self.scaler.state_dict(),
            "seconds": self.hours() * 3600,
        }

    def resume(self) -> None:
        path = self.folder / "checkpoint_latest.pt"
        if path.exists():
            self.restore(checkpoint.load(path, self.device))
            LOG.info("fold %s: resumes after step %d of %d", self.config.fold, self.step_number, self.config.steps)
        elif self.config.pretrained is not None and self.processes.first:  # the others get its weights
            start_from(Path(self.config.pretrained), self.network, NetworkSpec.of(self.configuration), self.folder)

    def restore(self, state: dict[str, Any]) -> None:
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step_number, self.losses = state["step"], state["losses"]
        self.smoothed_dice, self.best_dice = state["smoothed_dice"], state["best_dice"]
        self.epochs_without_better, self.seconds_before = state["epochs_without_better"], state["seconds"]
        self.scaler.load_state_dict(state["scaler"])
