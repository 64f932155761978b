"""A dataset of an ablation: planned and preprocessed once, with the fold and what the rules need."""

import argparse
from pathlib import Path

import msgspec

from benchmarks.ablation_parts.arms import Arm
from unetrpp.core.files import read_json
from unetrpp.core.workspace import Workspace
from unetrpp.dataset.splits import Splits
from unetrpp.planners.attention_and_loss import focal_loss_of, training_foreground, with_attention
from unetrpp.planners.plan_and_preprocess import main as plan_and_preprocess
from unetrpp.plans.fingerprint import Fingerprint
from unetrpp.plans.plans import Configuration, LossPlan, read_plans
from unetrpp.preprocessing.store import Store


class Data:
    """The dataset as one planner sees it: plans, preprocessed cases, the fold, and the numbers of the rules."""

    def __init__(self, raw: Path, arguments: argparse.Namespace, planner: str):
        workspace = Workspace(Path(arguments.out) / "workspace")
        name = raw.resolve().name
        call = [str(raw), "--workspace", str(workspace.root), "--planner", planner, "--width", str(arguments.width)]
        call += ["--batch-size", str(arguments.batch_size), "--attention", "paper"]  # an arm places its own
        call += ["--configurations", arguments.configuration] if arguments.configuration else []
        call += ["--patch", *map(str, arguments.patch)] if arguments.patch else []
        if plan_and_preprocess(call):
            raise SystemExit(f"planning {name} failed")
        self.dataset = name
        self.folder = workspace.preprocessed(name)
        self.plans = read_plans(workspace.plans(name, planner))
        self.name = arguments.configuration or next(iter(self.plans.configurations))
        self.store = Store(workspace.store(name, planner, self.name))
        self.fingerprint = read_json(self.folder / "fingerprint.json", Fingerprint)
        self.fold = read_json(self.folder / "splits.json", Splits).folds[arguments.fold]
        self.labels = self.folder / "labels"

    def configuration(self, arm: Arm) -> Configuration:
        planned = self.plans.configurations[self.name]
        if arm.attention:
            cases = [self.store.open(case) for case in self.store.cases()] if arm.attention == "focal" else []
            planned = with_attention(planned, cases, self.fingerprint, mode=arm.attention)
        network = arm.network(planned.architecture)
        loss = self.loss(arm, planned)
        if arm.batch_dice is not None:
            loss = msgspec.structs.replace(loss, batch_dice=arm.batch_dice)
        return msgspec.structs.replace(planned, architecture=network, loss=loss, **arm.plan)

    def loss(self, arm: Arm, planned: Configuration) -> LossPlan:
        """The arm's loss with the rule's gamma and scales, even where the rule would leave the penalty off."""
        if arm.loss == "dice_ce":
            return LossPlan(batch_dice=planned.loss.batch_dice)
        cases = [self.store.open(case) for case in self.store.cases()]
        return focal_loss_of(planned, training_foreground(planned, cases), self.fingerprint, mode=arm.loss)[0]
