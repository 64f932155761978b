"""Learning where attention helps (``--learn-attention``): gammas are learned, judged on held-out training cases, pruned."""

import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from unetrpp.core.files import Record, write_json
from unetrpp.core.randomness import Stream
from unetrpp.core.text import text_table
from unetrpp.model.folder import ARCHITECTURE
from unetrpp.networks.focal_module import FocalModule, contrast, focal_modules
from unetrpp.networks.gates import modules_by_place
from unetrpp.trainers.config import TrainingConfig
from unetrpp.trainers.inner_split import held_out
from unetrpp.trainers.inputs import FoldData, Machine
from unetrpp.trainers.log import EpochEntry
from unetrpp.trainers.overlap import ClassOverlap, mean_dice
from unetrpp.trainers.schedule import progress
from unetrpp.trainers.trainer import Trainer

LOG = logging.getLogger(__name__)
JUDGING_BATCHES = 10  # at least; more where validation takes more


class Verdict(Record, frozen=True, kw_only=True):
    """Whether one focal module is kept, from patches of cases that it was not trained on."""

    module: str  # its place: gate@LEVEL or se@LEVEL
    gamma: float
    contrast: float  # std / mean of its coefficients, over positions or channels
    dice_change: float | None  # of the mean Dice when the coefficients are replaced by their mean
    kept: bool


class AttentionTrainer(Trainer):
    """Learns the gammas for the first ``config.learn_share`` of the run, then keeps only the modules that have an effect.

    The modules are those of the plan, or every gate and squeeze-and-excitation where it has none. A tenth of the training
    cases is held out until the judgement and trained on afterwards; validation cases take no part in it. The gammas of
    kept modules are fixed where they are. The other modules become identities and are left out of every checkpoint;
    ``architecture.json`` beside the checkpoints describes the pruned network.

    Raises:
        UserError: a single training case (or patient), or a network whose modules cannot be found.
    """

    def __init__(self, data: FoldData, config: TrainingConfig, folder: Path, machine: Machine | None = None):
        self.candidates = data.configuration.architecture.focal_candidates()
        self.judgement: tuple[Verdict, ...] | None = None
        configuration = msgspec.structs.replace(data.configuration, architecture=self.candidates)
        super().__init__(replace(data, configuration=configuration), config, folder, machine)
        inner = held_out([case.case for case in data.train], data.groups, config.seed, config.fold_number)
        self.whole_loader = self.loader
        self.loader = self.build_loader([case for case in data.train if case.case not in inner])
        judging = [case for case in data.train if case.case in inner]
        self.judging_loader = self.build_loader(judging, Stream.JUDGEMENT_PATCHES)

    def build_network(self) -> nn.Module:
        """The network with all candidates, whose gammas are trainable."""
        network = super().build_network()
        self.modules: dict[str, FocalModule] = modules_by_place(network, self.candidates)
        for place, gamma in self.candidates.focal_gammas().items():
            self.modules[place].learn(gamma)
        return network

    def record(self) -> None:
        """Nothing: the judgement changes the network."""

    def finished(self) -> bool:
        """Never before the judgement, whatever the limits of hours and patience."""
        return self.judgement is not None and super().finished()

    def end_epoch(self) -> EpochEntry:
        entry = super().end_epoch()
        entry["gammas"] = {place: module.gamma.item() for place, module in self.modules.items() if not module.off}
        hours = self.hours() if self.config.max_hours else 0.0
        if self.judgement is None and progress(self.config, self.state.step, hours) >= self.config.learn_share:
            verdicts = self.judge()
            self.prune(verdicts)
            entry["judgement"] = [msgspec.structs.asdict(verdict) for verdict in verdicts]
            self.log_verdicts(verdicts)
            self.state.forget_best()  # it had other modules
            self.saved = -math.inf  # save `latest` at once, so that it agrees with architecture.json
        return entry

    def judge(self) -> tuple[Verdict, ...]:
        """One verdict per module, all from the same patches of the held-out cases."""
        contrasts: dict[str, list[Tensor]] = {place: [] for place in self.modules}
        for place, module in self.modules.items():
            module.watcher = lambda coefficients, seen=contrasts[place]: seen.append(contrast(coefficients))
        dice = self.held_out_dice()
        for module in self.modules.values():
            module.watcher = None
        return tuple(self.verdict(place, torch.cat(seen).mean().item(), dice) for place, seen in contrasts.items())

    def verdict(self, place: str, measured_contrast: float, dice: float | None) -> Verdict:
        """Whether to keep the module at ``place``; ``dice`` is the network's with all modules as they are."""
        module, config = self.modules[place], self.config
        module.averaged = True
        averaged = self.held_out_dice()
        module.averaged = False
        gamma = module.gamma.item()
        return Verdict(
            module=place,
            gamma=gamma,
            contrast=measured_contrast,
            dice_change=None if dice is None or averaged is None else averaged - dice,
            kept=gamma >= config.least_gamma and measured_contrast >= config.least_contrast,
        )

    def held_out_dice(self) -> float | None:
        """Mean Dice over patches of the held-out cases."""
        overlap = ClassOverlap(self.labels, self.device)
        batches = range(max(JUDGING_BATCHES, self.config.validation_iterations))
        for outputs, target in self.predict_patches(self.judging_loader, batches, compiled=False):
            overlap.add(outputs[0], target)
        return mean_dice(overlap.dice())

    def prune(self, verdicts: tuple[Verdict, ...]) -> None:
        """Fix the gammas of kept modules, switch the others off, and train on all training cases from now on."""
        for verdict in verdicts:
            self.modules[verdict.module].fix(None if verdict.kept else 0.0)
        self.judgement, self.loader = verdicts, self.whole_loader
        self.write_architecture()

    def write_architecture(self) -> None:
        architecture = self.candidates
        if self.judgement is not None:
            architecture = architecture.with_focal({v.module: v.gamma for v in self.judgement if v.kept})
        write_json(self.folder / ARCHITECTURE, architecture)

    def log_verdicts(self, verdicts: tuple[Verdict, ...]) -> None:
        cases = ", ".join(self.judging_loader.cases)
        LOG.info("fold %s: attention was judged on %s, which had not been trained on", self.config.fold, cases)
        rows = [("module", "gamma", "contrast", "Dice change", "")]
        for v in verdicts:
            change = "-" if v.dice_change is None else f"{v.dice_change:+.4f}"
            rows.append((v.module, f"{v.gamma:.3f}", f"{v.contrast:.3f}", change, "kept" if v.kept else "dropped"))
        for line in text_table(rows).splitlines():
            LOG.info("%s", line)

    def save(self, which: str) -> None:
        """``best`` only after the judgement, because before it the network has modules that may be removed."""
        if which != "best" or self.judgement is not None:
            super().save(which)

    def weights(self) -> dict[str, Tensor]:
        dropped = tuple(f"{name}." for name, module in focal_modules(self.network) if module.off)
        return {name: value for name, value in super().weights().items() if not name.startswith(dropped)}

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        super().load_weights(self.network.state_dict() | weights)  # dropped modules are in no checkpoint

    def state_dict(self) -> dict[str, Any]:
        judgement = None if self.judgement is None else [msgspec.structs.asdict(v) for v in self.judgement]
        return super().state_dict() | {"judgement": judgement}

    def load_state_dict(self, content: dict[str, Any]) -> None:
        super().load_state_dict(content)
        if content["judgement"] is not None:
            self.prune(tuple(Verdict(**verdict) for verdict in content["judgement"]))

    def resume(self) -> None:
        super().resume()
        self.write_architecture()
