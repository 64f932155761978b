"""One change at a time: train arms that differ in attention, loss or recipe, and report which differences exceed chance.

    python benchmarks/ablation.py raw/Hippocampus --out ablation --seeds 0 1 2 --arms paper none auto paper+ufl paper+ufl_d
    python benchmarks/ablation.py raw/Hippocampus --out curves --arms paper unet --epochs 16 --iterations 50 --look 200 400 600

An arm joins names of PARTS with +. The first one is the reference of the paired differences. Every run is resumed where
it was interrupted and skipped where it is finished, so a later call with more arms or seeds adds to the table, and two
calls with different seeds share the work. OUT/scores.jsonl has a line for every finished run.
"""

import argparse
import itertools
import json
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from unetrpp.core.files import read_json, write_bytes, write_json
from unetrpp.core.text import text_table
from unetrpp.core.workspace import Workspace
from unetrpp.dataset.splits import Splits
from unetrpp.evaluation.evaluate import evaluate_pairs
from unetrpp.evaluation.metrics import MetricOptions
from unetrpp.evaluation.summary import Summary, write_summary
from unetrpp.inference.sliding_window import SlidingWindow
from unetrpp.networks.cpu_kernels.allocator import keep_freed_memory
from unetrpp.networks.focal_module import focal_modules
from unetrpp.patches.sampling import PatchDraw, PatchSampler
from unetrpp.planners.attention_and_loss import focal_loss_of, training_foreground, with_attention
from unetrpp.planners.plan_and_preprocess import main as plan_and_preprocess
from unetrpp.planners.rules.loss import distance_scales
from unetrpp.plans.fingerprint import Fingerprint
from unetrpp.plans.plans import Configuration, LossPlan, read_plans
from unetrpp.preprocessing.store import Store, StoredCase
from unetrpp.trainers.attention_trainer import AttentionTrainer
from unetrpp.trainers.inputs import FoldData, Machine
from unetrpp.trainers.recipe import new_config
from unetrpp.trainers.trainer import Trainer
from unetrpp.trainers.validation import ValidationCases, validate_fold

RESAMPLES = 4000
METRICS = ("Dice", "HD95", "NSD")


@dataclass(frozen=True)
class Arm:
    """What an arm changes; everything else comes from the plans and the recipe."""

    planner: str = "unetrpp"
    attention: str | None = None
    loss: str = "dice_ce"
    architecture: dict[str, Any] = field(default_factory=dict)
    recipe: dict[str, Any] = field(default_factory=dict)
    sampler: type[PatchSampler] = PatchSampler

    def with_network(self, **changes: Any) -> "Arm":
        return replace(self, architecture=self.architecture | changes)

    def with_recipe(self, **changes: Any) -> "Arm":
        return replace(self, recipe=self.recipe | changes)


class CentredSampler(PatchSampler):
    """Draws the centre of a random patch over the voxels, then moves the patch into the case: the rule of release 0.1.0."""

    def anywhere(self, rng: np.random.Generator, case: StoredCase) -> PatchDraw:
        center, room = rng.random(3) * case.shape, np.array(case.shape) - self.patch
        start = np.clip(np.floor(center).astype(int) - np.array(self.patch) // 2, 0, np.maximum(room, 0))
        z, y, x = np.where(room < 0, np.array(case.shape) // 2, start + np.array(self.patch) // 2).tolist()
        return PatchDraw(case.case, (z, y, x), None)


PARTS: dict[str, Callable[[Arm], Arm]] = {
    # networks and where attention goes
    "paper": lambda arm: replace(arm, attention="paper"),
    "none": lambda arm: replace(arm, attention="none"),
    "all": lambda arm: replace(arm, attention="all"),
    "auto": lambda arm: replace(arm, attention="auto"),
    "unet": lambda arm: replace(arm, planner="unet"),
    "resunet": lambda arm: replace(arm, planner="resunet"),
    "focus": lambda arm: arm.with_network(gates="focus"),  # the authors' gate, wherever there are gates
    # losses, with the planner's gamma and scales
    "ufl": lambda arm: replace(arm, loss="unified_focal"),
    "ufl_d": lambda arm: replace(arm, loss="unified_focal_distance"),
    # gammas learned in training: with pruning (stage B), or all kept
    "learned": lambda arm: arm.with_recipe(learn_attention=True),
    "unpruned": lambda arm: arm.with_recipe(least_gamma=0.0, least_contrast=0.0),
    # one change of the network or the recipe
    "two_heads": lambda arm: arm.with_network(supervised_levels=2),
    "random_heads": lambda arm: arm.with_network(initial_logits=()),
    "scale_1e-2": lambda arm: arm.with_network(layer_scale=1e-2),
    "scale_1e-1": lambda arm: arm.with_network(layer_scale=1e-1),
    "scale_1": lambda arm: arm.with_network(layer_scale=1.0),
    "instance": lambda arm: arm.with_network(norm="instance"),
    "group": lambda arm: arm.with_network(norm="group"),
    "no_dropout": lambda arm: arm.with_network(dropout=0.0, attention_dropout=0.0),
    "decay_all": lambda arm: arm.with_recipe(decay_everything=True),
    "no_decay": lambda arm: arm.with_recipe(weight_decay=0.0),
    # where patches are drawn
    "centred": lambda arm: replace(arm, sampler=CentredSampler),
    "case_first": lambda arm: arm.with_recipe(sampling="case_first"),
    "padding": lambda arm: arm.with_recipe(padding="background"),
    "sgd": lambda arm: arm.with_recipe(optimizer="sgd"),
    "lr_1e-3": lambda arm: arm.with_recipe(learning_rate=1e-3),
    "lr_2e-3": lambda arm: arm.with_recipe(learning_rate=2e-3),
}


def arm_of(text: str) -> Arm:
    """
    >>> arm_of("auto+ufl").loss
    'unified_focal'
    """
    arm = Arm()
    for part in text.split("+"):
        if part not in PARTS:
            raise SystemExit(f"{part!r} is not a part of an arm; choose from {', '.join(PARTS)}")
        arm = PARTS[part](arm)
    return arm


class Data:
    """The dataset as one planner sees it: plans, preprocessed cases, the fold, and the numbers of the rules."""

    def __init__(self, arguments: argparse.Namespace, planner: str):
        raw = Path(arguments.raw)
        workspace = Workspace(Path(arguments.out) / "workspace")
        name = raw.resolve().name
        call = [str(raw), "--workspace", str(workspace.root), "--planner", planner, "--width", str(arguments.width)]
        call += ["--batch-size", str(arguments.batch_size)]
        call += ["--configurations", arguments.configuration] if arguments.configuration else []
        call += ["--patch", *map(str, arguments.patch)] if arguments.patch else []
        if plan_and_preprocess(call):
            raise SystemExit(f"planning {name} failed")
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
            cases = [self.store.open(case) for case in self.store.cases()] if arm.attention == "auto" else []
            planned = with_attention(planned, cases, self.fingerprint, mode=arm.attention)
        network = msgspec.structs.replace(planned.architecture, **arm.architecture)
        return msgspec.structs.replace(planned, architecture=network, loss=self.loss(arm, planned))

    def loss(self, arm: Arm, planned: Configuration) -> LossPlan:
        """The arm's loss with the rule's gamma and scales, even where the rule would leave the penalty off."""
        batch_dice = planned.loss.batch_dice
        if arm.loss == "dice_ce":
            return LossPlan(batch_dice=batch_dice)
        cases = [self.store.open(case) for case in self.store.cases()]
        loss, _ = focal_loss_of(planned, training_foreground(planned, cases), self.fingerprint)
        scales = (
            distance_scales(self.fingerprint, self.plans.labels, min(planned.patch_spacing_mm))
            if arm.loss == "unified_focal_distance"
            else ()
        )
        return msgspec.structs.replace(loss, name=arm.loss, distance_scale_mm=scales)


class Look:
    """A tracker that predicts whole validation volumes after given steps, on the training grid and unmirrored."""

    def __init__(self, trainer: Trainer, data: Data, steps: Sequence[int], path: Path):
        self.trainer, self.data, self.steps, self.path = trainer, data, set(steps), path
        self.looks: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []

    def epoch(self, entry: dict[str, Any]) -> None:
        trainer = self.trainer
        step = trainer.state.step
        if step not in self.steps or any(look["step"] == step for look in self.looks):
            return
        before = trainer.hours() * 3600
        dice = np.nanmean([self.dice(case) for case in self.data.fold.validation], axis=0)
        spent = trainer.hours() * 3600 - before
        trained = before - sum(look["look_seconds"] for look in self.looks)
        self.looks.append({"step": step, "seconds": trained, "look_seconds": spent, "dice": dice.tolist()})
        write_bytes(self.path, json.dumps(self.looks).encode())

    def dice(self, case: str) -> list[float]:
        stored = self.data.store.open(case)
        image, label = stored.read((0, 0, 0), stored.shape)
        window = SlidingWindow(self.trainer.configuration.patch)
        logits = window.logits(self.trainer.network, torch.from_numpy(image))
        found = logits.argmax(0).numpy()
        both = [((found == c) & (label == c)).sum() for c in self.data.plans.labels.foreground]
        sizes = [(found == c).sum() + (label == c).sum() for c in self.data.plans.labels.foreground]
        return [2 * b / n if n else math.nan for b, n in zip(both, sizes, strict=True)]


def run(text: str, seed: int, data: Data, arguments: argparse.Namespace) -> None:
    """Train and validate one arm with one seed into its own model folder."""
    model = Path(arguments.out) / text / f"seed_{seed}"
    if (model / "run.json").exists():
        return
    arm, device = arm_of(text), torch.device(arguments.device)
    configuration = data.configuration(arm)
    plans = msgspec.structs.replace(data.plans, configurations={data.name: configuration})
    write_json(model / "plans.json", plans)
    for file in ("dataset.json", "fingerprint.json"):
        write_bytes(model / file, (data.folder / file).read_bytes())
    folder = model / f"fold_{arguments.fold}"
    overrides = {"epochs": arguments.epochs, "iterations": arguments.iterations, "seed": seed} | arm.recipe
    config = new_config(arguments.fold, overrides)
    write_json(folder / "training.json", config)
    train, validation = ([data.store.open(c) for c in cases] for cases in (data.fold.train, data.fold.validation))
    kind = AttentionTrainer if config.learn_attention else Trainer
    trainer = kind(FoldData(configuration, train, validation), config, folder, Machine(device))
    trainer.loader.sampler = arm.sampler(
        train,
        configuration.patch_3d,
        configuration.foreground_fraction,
        configuration.preprocessing.labels.ignore_index,
        sampling=config.sampling,
    )
    look = Look(trainer, data, arguments.look, folder / "curve.json")
    trainer.tracker = look
    trainer.run()
    seconds = trainer.hours() * 3600 - sum(look["look_seconds"] for look in look.looks)
    cases = ValidationCases(data.fold.validation, data.store, data.labels)
    validate_fold(model, arguments.fold, cases, device=device, mirroring=False)
    ending = plans.file_ending
    files = {c: (folder / "validation" / f"{c}{ending}", data.labels / f"{c}{ending}") for c in data.fold.validation}
    write_summary(
        model, evaluate_pairs(files, plans.labels, options=MetricOptions(distances=True, tolerance=1.0), processes=1)[0]
    )
    record = {
        "seconds": seconds,
        "parameters": sum(p.numel() for p in trainer.network.parameters() if p.requires_grad),
        "modules": sum(not module.off for _, module in focal_modules(trainer.network)),
        "curve": [{key: look[key] for key in ("step", "seconds", "dice")} for look in look.looks],
    }
    write_bytes(model / "run.json", json.dumps(record).encode())


def per_case(model: Path, metric: str) -> dict[str, float]:
    """Mean over the classes of every validation case; NaN where it is undefined for all of them."""
    summary = read_json(model / "summary.json", Summary)
    return {case.case: _mean(scores[metric] for scores in case.metrics.values()) for case in summary.metric_per_case}


def _mean(values: Any) -> float:
    defined = [v for v in values if v is not None]
    return sum(defined) / len(defined) if defined else math.nan


def scores(arguments: argparse.Namespace, text: str, metric: str) -> np.ndarray:
    """Scores (seeds, cases) of one arm."""
    runs = [per_case(Path(arguments.out) / text / f"seed_{s}", metric) for s in arguments.seeds]
    return np.array([[one[case] for case in sorted(one)] for one in runs])


def interval(change: np.ndarray) -> tuple[float, float]:
    """95 % interval of the mean of ``change`` (seeds, cases), from drawing both seeds and cases with replacement."""
    rng = np.random.default_rng(0)
    n_seeds, n_cases = change.shape
    seeds = rng.integers(0, n_seeds, (RESAMPLES, n_seeds))
    cases = rng.integers(0, n_cases, (RESAMPLES, n_cases))
    means = [np.nanmean(change[np.ix_(s, c)]) for s, c in zip(seeds, cases, strict=True)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def shown(values: np.ndarray) -> str:
    """The mean over the defined values."""
    return f"{np.nanmean(values):.3f}" if np.isfinite(values).any() else "-"


def verdict(low: float, high: float) -> str:
    return "better" if low > 0 else "worse" if high < 0 else "undecided"


def table(arguments: argparse.Namespace) -> str:
    """One line per arm: means over seeds and cases, what it costs, and the paired difference of Dice to the first arm."""
    rows = [["arm", *METRICS, "Dice by seed", "modules", "M params", "s", "Dice - first", "95 %", "at this budget"]]
    reference = scores(arguments, arguments.arms[0], "Dice")
    for text in arguments.arms:
        records = [json.loads((Path(arguments.out) / text / f"seed_{s}/run.json").read_text()) for s in arguments.seeds]
        dice = scores(arguments, text, "Dice")
        cells = [shown(scores(arguments, text, metric)) for metric in METRICS]
        by_seed = " ".join(shown(row) for row in dice)
        cost = [f"{records[0]['modules']}", f"{records[0]['parameters'] / 1e6:.2f}"]
        cost.append(f"{np.mean([r['seconds'] for r in records]):.0f}")
        change = dice - reference
        low, high = interval(change)
        last = [f"{np.nanmean(change):+.3f}", f"{low:+.3f} to {high:+.3f}", verdict(low, high)]
        rows.append([text, *cells, by_seed, *cost, *(last if text != arguments.arms[0] else ["", "", "reference"])])
    return text_table(rows)


def write_scores(arguments: argparse.Namespace) -> None:
    """A line of OUT/scores.jsonl for every finished run: seconds, and each validation case's mean over the classes."""
    out, lines = Path(arguments.out), []
    for record in sorted(out.glob("*/seed_*/run.json")):
        by_metric = {metric: per_case(record.parent, metric) for metric in METRICS}
        seed = int(record.parent.name.removeprefix("seed_"))
        run = {"dataset": Path(arguments.raw).resolve().name, "arm": record.parent.parent.name, "seed": seed}
        run["seconds"] = round(json.loads(record.read_text())["seconds"], 1)
        lines.append(json.dumps(run | {m: {c: round(v, 4) for c, v in by_metric[m].items()} for m in METRICS}))
    write_bytes(out / "scores.jsonl", "".join(line + "\n" for line in lines).encode())


def curves(arguments: argparse.Namespace) -> str:
    rows = [["arm", "seed", "steps", "train s", "Dice by class", "mean"]]
    for text, seed in itertools.product(arguments.arms, arguments.seeds):
        record = json.loads((Path(arguments.out) / text / f"seed_{seed}" / "run.json").read_text())
        for look in record["curve"]:
            by_class = " ".join(f"{d:.3f}" for d in look["dice"])
            mean = f"{np.mean(look['dice']):.3f}"
            rows.append([text, str(seed), str(look["step"]), f"{look['seconds']:.0f}", by_class, mean])
    return text_table(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("raw", help="a raw dataset folder")
    parser.add_argument("--out", required=True, help="where plans, models and records go; the same folder resumes")
    parser.add_argument("--arms", nargs="+", default=["paper", "none", "auto", "paper+ufl", "paper+ufl_d"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--configuration", help="default: the planner's")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--iterations", type=int, default=25)
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--patch", type=int, nargs="+", help="voxels; default: the planner's")
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument(
        "--look", nargs="+", type=int, default=[], help="also score the validation cases after these steps"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--only-table", action="store_true", help="print the table of what is in --out, without training"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.device == "cpu":
        keep_freed_memory()
    if not arguments.only_table:
        planners = dict.fromkeys(arm_of(text).planner for text in arguments.arms)
        data = {planner: Data(arguments, planner) for planner in planners}
        for seed, text in itertools.product(arguments.seeds, arguments.arms):
            run(text, seed, data[arm_of(text).planner], arguments)
            write_scores(arguments)
            print(f"{text} seed {seed} done", file=sys.stderr, flush=True)
    print(
        f"{arguments.epochs * arguments.iterations} steps of batch {arguments.batch_size}, width {arguments.width}, ",
        end="",
    )
    print(f"fold {arguments.fold}, seeds {arguments.seeds}, {arguments.device}, {arguments.threads} threads")
    print(table(arguments))
    if arguments.look:
        print(curves(arguments))


if __name__ == "__main__":
    main()
