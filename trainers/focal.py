"""Stage B: the focal gammas are learned, judged on training cases that were held out until then, and pruned."""

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import torch

from unetrpp.core.files import Record, write_json
from unetrpp.core.randomness import Stream
from unetrpp.model.folder import ARCHITECTURE
from unetrpp.networks.gates import FocalModule, contrast, focal_modules, modules_by_place
from unetrpp.patches.loader import prefetch
from unetrpp.plans.plans import Configuration
from unetrpp.preprocessing.store import StoredCase
from unetrpp.trainers.config import TrainingConfig
from unetrpp.trainers.inner_split import held_out
from unetrpp.trainers.optimizer import build_optimizer
from unetrpp.trainers.overlap import ClassOverlap
from unetrpp.trainers.trainer import Trainer

LOG = logging.getLogger(__name__)
JUDGING_BATCHES = 10  # at least so many; more where validation looks at more


class Verdict(Record, frozen=True, kw_only=True):
    """On one focal module, from patches of cases that training had not seen."""

    module: str  # its place: gate@LEVEL or se@LEVEL
    gamma: float
    contrast: float  # std / mean of its coefficients, over positions or channels
    dice_change: float | None  # of the mean Dice when the coefficients are replaced by their mean
    kept: bool


class FocalTrainer(Trainer):
    """Learns the gammas for the first ``config.learn_share`` of the run, then keeps the modules that do something.

    The modules are those of the plan, or every gate and squeeze-and-excitation where it has none. A few training cases
    are held out until the judgement and join afterwards; validation cases take no part in it. Kept gammas stay as
    learned, the other modules become exact identities and are left out of every checkpoint; ``architecture.json``
    beside them says what the fold's network is.

    Args:
        groups: case -> patient; a patient's cases are held out together.

    Raises:
        UserError: one training case (or patient) alone, or a network whose modules cannot be found.
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
        groups: Mapping[str, str] | None = None,
    ):
        self.candidates = configuration.architecture.focal_candidates()
        configuration = msgspec.structs.replace(configuration, architecture=self.candidates)
        inner = held_out([case.case for case in train], groups or {}, config.seed, config.fold_number)
        learning = [case for case in train if case.case not in inner]
        super().__init__(configuration, config, folder, learning, validation, device, threads, compile)
        self.whole_loader = self.loader_over(train)
        judging = [case for case in train if case.case in inner]
        self.judging_loader = self.loader_over(judging, Stream.JUDGEMENT_PATCHES)
        self.modules: dict[str, FocalModule] = modules_by_place(self.network, self.candidates)
        for place, gamma in self.candidates.focal_gammas().items():
            self.modules[place].learn(gamma)
        self.optimizer = build_optimizer(self.network, config)  # again, with the gammas in it
        self.judgement: tuple[Verdict, ...] | None = None

    def finished(self) -> bool:
        """Never before the judgement: hours and patience wait for it."""
        return self.judgement is not None and super().finished()

    def end_epoch(self) -> dict[str, Any]:
        entry = super().end_epoch()
        entry["gammas"] = {place: module.gamma.item() for place, module in self.modules.items() if not module.off}
        hours = self.hours() if self.config.max_hours else 0.0
        if self.judgement is None and self.config.progress(self.step_number, hours) >= self.config.learn_share:
            verdicts = self.judge()
            self.apply(verdicts)
            entry["judgement"] = [msgspec.structs.asdict(verdict) for verdict in verdicts]
            self.say(verdicts)
            # What was best so far had other modules; and `latest` should not lag behind architecture.json.
            self.best_dice, self.epochs_without_better, self.saved = -1.0, 0, -math.inf
        return entry

    def judge(self) -> tuple[Verdict, ...]:
        """One verdict a module, all from the same patches of the held-out cases."""
        contrasts: dict[str, list[torch.Tensor]] = {place: [] for place in self.modules}
        for place, module in self.modules.items():
            module.watcher = lambda coefficients, seen=contrasts[place]: seen.append(contrast(coefficients))
        dice = self.judged_dice()
        for module in self.modules.values():
            module.watcher = None
        return tuple(self.verdict(place, torch.cat(seen).mean().item(), dice) for place, seen in contrasts.items())

    def verdict(self, place: str, measured: float, dice: float | None) -> Verdict:
        module, config = self.modules[place], self.config
        module.averaged = True
        averaged = self.judged_dice()
        module.averaged = False
        gamma = module.gamma.item()
        return Verdict(
            module=place,
            gamma=gamma,
            contrast=measured,
            dice_change=None if dice is None or averaged is None else averaged - dice,
            kept=gamma >= config.least_gamma and measured >= config.least_contrast,
        )

    @torch.no_grad()
    def judged_dice(self) -> float | None:
        """Mean Dice over the judging patches."""
        self.network.eval()
        overlap = ClassOverlap(self.labels, self.device)
        batches = range(max(JUDGING_BATCHES, self.config.validation_iterations))
        for samples in prefetch(self.judging_loader, batches, self.threads):
            images, target = self.batch(samples)
            with self.autocast():
                outputs = self.network.forward(images)  # not compiled: the modules are looked into
            overlap.add(outputs[0], target)
        return ClassOverlap.mean(overlap.dice())

    def apply(self, verdicts: tuple[Verdict, ...]) -> None:
        """Fix what is kept, switch off the rest, and train on all training cases from here on."""
        for verdict in verdicts:
            self.modules[verdict.module].fix(None if verdict.kept else 0.0)
        self.judgement, self.loader = verdicts, self.whole_loader
        self.write_architecture()

    def write_architecture(self) -> None:
        architecture = self.candidates
        if self.judgement is not None:
            architecture = architecture.with_focal({v.module: v.gamma for v in self.judgement if v.kept})
        write_json(self.folder / ARCHITECTURE, architecture)

    def say(self, verdicts: tuple[Verdict, ...]) -> None:
        cases = ", ".join(self.judging_loader.cases)
        LOG.info("fold %s: attention was judged on %s, held out of the training so far", self.config.fold, cases)
        LOG.info("%-8s %8s %9s %12s", "module", "gamma", "contrast", "Dice change")
        for v in verdicts:
            change = "-" if v.dice_change is None else f"{v.dice_change:+.4f}"
            LOG.info(
                "%-8s %8.3f %9.3f %12s  %s", v.module, v.gamma, v.contrast, change, "kept" if v.kept else "dropped"
            )

    def save(self, which: str) -> None:
        """``best`` only after the judgement: before, the network is not the one that will be."""
        if which != "best" or self.judgement is not None:
            super().save(which)

    def weights(self) -> dict[str, torch.Tensor]:
        dropped = tuple(f"{name}." for name, module in focal_modules(self.network) if module.off)
        return {name: value for name, value in super().weights().items() if not name.startswith(dropped)}

    def state(self) -> dict[str, Any]:
        judgement = None if self.judgement is None else [msgspec.structs.asdict(v) for v in self.judgement]
        return super().state() | {"judgement": judgement}

    def resume(self) -> None:
        super().resume()
        self.write_architecture()

    def restore(self, state: dict[str, Any]) -> None:
        # Dropped modules are in no checkpoint; what they hold is of no effect.
        super().restore(state | {"network": self.network.state_dict() | state["network"]})
        if state["judgement"] is not None:
            self.apply(tuple(Verdict(**verdict) for verdict in state["judgement"]))
