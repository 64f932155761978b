"""One run of an ablation: an arm trained and validated with one seed, and its record."""

import argparse
import json
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch

from benchmarks.ablation_parts.arms import Arm
from benchmarks.ablation_parts.data import Data
from benchmarks.ablation_parts.results import METRICS, Record, StepCost
from unetrpp.core.files import read_json, write_bytes, write_json
from unetrpp.evaluation.evaluate import evaluate_pairs
from unetrpp.evaluation.metrics import MetricOptions
from unetrpp.evaluation.summary import Summary, write_summary
from unetrpp.inference.sliding_window import SlidingWindow
from unetrpp.networks import focal_module
from unetrpp.networks.cost import LiveBytes
from unetrpp.networks.focal_module import focal_modules
from unetrpp.trainers.attention_trainer import AttentionTrainer
from unetrpp.trainers.inputs import FoldData, Machine
from unetrpp.trainers.recipe import new_config
from unetrpp.trainers.trainer import Trainer
from unetrpp.trainers.validation import ValidationCases, validate_fold

TIMED_STEPS = 10


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
        logits = window.logits(self.trainer.evaluated, torch.from_numpy(image))
        found = logits.argmax(0).cpu().numpy()
        both = [((found == c) & (label == c)).sum() for c in self.data.plans.labels.foreground]
        sizes = [(found == c).sum() + (label == c).sum() for c in self.data.plans.labels.foreground]
        return [2 * b / n if n else math.nan for b, n in zip(both, sizes, strict=True)]


def make_trainer(arm: Arm, data: Data, folder: Path, steps: int, seed: int, arguments: argparse.Namespace) -> Trainer:
    """The arm's trainer, which resumes what is in ``folder``."""
    configuration = data.configuration(arm)
    plans = msgspec.structs.replace(data.plans, configurations={data.name: configuration})
    model = folder.parent
    write_json(model / "plans.json", plans)
    for file in ("dataset.json", "fingerprint.json"):
        write_bytes(model / file, (data.folder / file).read_bytes())
    epochs = max(1, round(steps / arguments.iterations))
    overrides = {"epochs": epochs, "iterations": arguments.iterations, "seed": seed} | arm.recipe
    config = new_config(arguments.fold, overrides)
    write_json(folder / "training.json", config)
    train, validation = ([data.store.open(c) for c in cases] for cases in (data.fold.train, data.fold.validation))
    focal_module.OPEN = arm.gates_start
    kind = AttentionTrainer if config.learn_attention else Trainer
    trainer = kind(
        FoldData(configuration, train, validation),
        config,
        folder,
        Machine(torch.device(arguments.device)),
    )
    trainer.loader.sampler = arm.sampler(
        train,
        configuration.patch_3d,
        configuration.foreground_fraction,
        configuration.preprocessing.labels.ignore_index,
        sampling=config.sampling,
    )
    return trainer


def run(
    name: str, arm: Arm, data: Data, steps: int, seed: int, budget: float | None, arguments: argparse.Namespace
) -> Record:
    """Train and validate one arm with one seed into its own model folder; ``budget`` is the CPU seconds that ``steps`` are for."""
    model = Path(arguments.out) / data.dataset / name / f"steps_{steps}_seed_{seed}"
    folder = model / f"fold_{arguments.fold}"
    trainer = make_trainer(arm, data, folder, steps, seed, arguments)
    look = Look(trainer, data, arguments.look, folder / "curve.json")
    trainer.tracker = look
    spent = CpuSeconds(folder / "cpu_seconds.json")
    with spent:
        trainer.run()
    seconds = trainer.hours() * 3600 - sum(look["look_seconds"] for look in look.looks)
    cases = ValidationCases(data.fold.validation, data.store, data.labels)
    validate_fold(model, arguments.fold, cases, device=torch.device(arguments.device), mirroring=False)
    ending = data.plans.file_ending
    files = {c: (folder / "validation" / f"{c}{ending}", data.labels / f"{c}{ending}") for c in data.fold.validation}
    options = MetricOptions(distances=True, tolerance=1.0)
    write_summary(model, evaluate_pairs(files, data.plans.labels, options=options, processes=1)[0])
    return Record(
        dataset=data.dataset,
        arm=name,
        seed=seed,
        fold=arguments.fold,
        steps=steps,
        budget=budget,
        batch=arguments.batch_size,
        width=arguments.width,
        seconds=round(seconds, 1),
        cpu_seconds=round(spent.total, 1),
        parameters=sum(p.numel() for p in trainer.network.parameters() if p.requires_grad),
        modules=sum(not module.off for _, module in focal_modules(trainer.network)),
        torch=str(torch.__version__),
        device=device_name(arguments.device),
        curve=tuple({key: look[key] for key in ("step", "seconds", "dice")} for look in look.looks),
        **{metric: _per_case(model, metric) for metric in METRICS},
    )


def device_name(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else device


class CpuSeconds:
    """CPU seconds of this process while entered, added to those of earlier, interrupted runs; checkpoints may repeat some."""

    def __init__(self, path: Path):
        self.path = path
        self.total = float(path.read_text()) if path.exists() else 0.0

    def __enter__(self) -> None:
        self.start = time.process_time()

    def __exit__(self, *_: object) -> None:
        self.total += time.process_time() - self.start
        write_bytes(self.path, str(self.total).encode())


def cost_of_a_step(name: str, arm: Arm, data: Data, arguments: argparse.Namespace) -> StepCost:
    """The mean over steps, with the reading of their patches, after two that count the memory."""
    folder = Path(arguments.out) / "timing" / data.dataset / f"fold_{arguments.fold}"
    with LiveBytes([]) as meter:
        trainer = make_trainer(arm, data, folder, TIMED_STEPS + 2 + arguments.iterations, 0, arguments)  # whole epochs
        batches: Iterator[Any] = trainer.batches()
        for _ in range(2):
            trainer.step(next(batches))
    start = time.process_time()
    for _ in range(TIMED_STEPS):
        trainer.step(next(batches))
    spent = time.process_time() - start
    batches.close()  # type: ignore[attr-defined]
    megabytes = round(meter.peak / 2**20)
    return StepCost(
        dataset=data.dataset,
        arm=name,
        width=arguments.width,
        seconds=round(spent / TIMED_STEPS, 4),
        megabytes=megabytes,
    )


def _per_case(model: Path, metric: str) -> dict[str, float | None]:
    """Mean over the classes of every validation case; None where it is undefined for all of them."""
    summary = read_json(model / "summary.json", Summary)
    return {case.case: _mean([scores[metric] for scores in case.metrics.values()]) for case in summary.metric_per_case}


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [v for v in values if v is not None]
    return round(sum(defined) / len(defined), 4) if defined else None
