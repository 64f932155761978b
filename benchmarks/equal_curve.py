"""Our U-Net against nnU-Net 2.8.1's own trainer: same cases, splits, plans, batch and steps; one table of validation Dice.

    UNETRPP_NNUNET_PYTHON=/path/to/nnunet-environment/bin/python \
        python -m benchmarks.equal_curve unetrpp_workspace/raw/Hippocampus --out equal_curve --seeds 0 1 2

Ours trains by the recipe `nnunet`; nnU-Net's trainer is run by equal_curve_nnunet.py. Both predict the fold's validation
images with the weights after the steps of --looks, without mirroring, and one metric scores the files of both. Every
run is resumed where it was interrupted and skipped where it is finished, so calls with other --seeds or --programs
add to the table. Scores are in scores.jsonl, the epochs' losses and CPU seconds in
PROGRAM/seed_S/epochs.jsonl of --out.
"""

import argparse
import itertools
import json
import math
import time
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from torch import Tensor

from benchmarks.equal_study import Peer, Study, add_arguments
from benchmarks.training_step import precision_of
from unetrpp.augmentation.pipeline import Sample
from unetrpp.core.files import link_or_copy, read_json_lines, write_bytes, write_json
from unetrpp.core.text import text_table
from unetrpp.model import checkpoint
from unetrpp.networks.cpu_kernels.allocator import keep_freed_memory
from unetrpp.trainers.inputs import FoldData, Machine
from unetrpp.trainers.log import EpochEntry
from unetrpp.trainers.recipe import new_config
from unetrpp.trainers.trainer import Trainer
from unetrpp.trainers.validation import ValidationCases, validate_fold

PROGRAMS = ("nnunet", "ours")
LIMIT = 0.015  # of the difference of mean Dice, where twice its standard error is smaller


class MeasuredTrainer(Trainer):
    """The standard trainer, which also keeps weights of given steps and the CPU seconds of the steps of every epoch."""

    looks: frozenset[int] = frozenset()

    def __init__(self, data: FoldData, config: Any, folder: Path, machine: Machine):
        super().__init__(data, config, folder, machine)
        self.norms: list[float] = []
        self.mark = time.process_time(), time.perf_counter()

    def step(self, samples: list[Sample]) -> Tensor:
        loss = super().step(samples)
        norms = [p.grad.norm() for p in self.network.parameters() if p.grad is not None]
        self.norms.append(float(torch.stack(norms).norm()))
        return loss

    def end_epoch(self) -> EpochEntry:
        spent = time.process_time() - self.mark[0], time.perf_counter() - self.mark[1]
        steps, norms, self.norms = len(self.norms), self.norms, []
        entry = super().end_epoch()
        if self.state.step in self.looks:
            checkpoint.save(self.folder / f"step_{self.state.step}.pt", {"network": self.weights()})
        line = {
            "step": self.state.step,
            "steps": steps,
            "learning_rate": entry["learning_rate"],
            "train_loss": entry["train_loss"],
            "gradient_norm": mean(norms),
            "cpu_seconds": spent[0],
            "seconds": spent[1],
        }
        with (self.folder.parent / "epochs.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        self.mark = time.process_time(), time.perf_counter()
        return entry


def train_ours(study: Study, seed: int) -> None:
    """Train one seed and predict the validation cases, with a model folder for each look."""
    arguments, data = study.arguments, study.configuration
    run = study.run("ours", seed)
    device = torch.device(arguments.device)
    overrides = {"recipe": "nnunet", "epochs": arguments.epochs, "iterations": arguments.iterations, "seed": seed}
    config = new_config(arguments.fold, overrides, precision_of(device))
    weights = {step: run / "training" / f"step_{step}.pt" for step in arguments.looks}
    if not all(path.exists() for path in weights.values()):
        train, held_out = ([study.store.open(c) for c in cases] for cases in (study.fold.train, study.fold.validation))
        machine = Machine(device, threads=1)
        trainer = MeasuredTrainer(FoldData(data, train, held_out), config, run / "training", machine)
        trainer.looks = frozenset(arguments.looks)
        trainer.run()
    for step, path in weights.items():
        model = run / f"step_{step}"
        write_json(model / "plans.json", study.plans)
        for file in ("dataset.json", "fingerprint.json"):
            write_bytes(model / file, (study.folder / file).read_bytes())
        write_json(model / f"fold_{arguments.fold}" / "training.json", config)
        link_or_copy(path, model / f"fold_{arguments.fold}" / "checkpoint_final.pt")
        cases = ValidationCases(study.fold.validation, study.store, study.folder / "labels")
        validate_fold(model, arguments.fold, cases, device=torch.device(arguments.device), mirroring=False)


def training_seconds(run: Path) -> float:
    """CPU seconds of all steps. A resumed epoch counts the steps since then, so it is the mean of a step times the steps."""
    epochs = {line["step"]: line for line in read_json_lines(run / "epochs.jsonl")}
    counted = sum(line["steps"] for line in epochs.values())
    return max(epochs) * sum(line["cpu_seconds"] for line in epochs.values()) / counted


def scores(study: Study) -> list[dict[str, Any]]:
    """A record of every finished run and look; also written as scores.jsonl."""
    arguments, found = study.arguments, []
    for program, seed, step in itertools.product(PROGRAMS, arguments.seeds, arguments.looks):
        finished = "done" if program == "nnunet" else "summary.json"
        if (study.segmentations(program, seed, step) / finished).exists():
            dice = study.dice(program, seed, step)
            record = {"program": program, "seed": seed, "step": step, "dice": dice, "mean": mean(dice.values())}
            found.append(record | {"cpu_seconds": training_seconds(study.run(program, seed))})
    write_bytes(study.out / "scores.jsonl", b"".join(json.dumps(record).encode() + b"\n" for record in found))
    return found


def compared(theirs: list[float], ours: list[float]) -> tuple[float, float, bool]:
    """Difference of the means, its standard error (Welch), and whether it is within LIMIT or twice that error.

    >>> [round(value, 4) for value in compared([0.80, 0.82, 0.84], [0.81, 0.82, 0.83])]
    [0.0, 0.0129, True]
    """
    difference = mean(ours) - mean(theirs)
    error = math.sqrt(stdev(theirs) ** 2 / len(theirs) + stdev(ours) ** 2 / len(ours))
    return difference, error, abs(difference) <= max(LIMIT, 2 * error)


def table(study: Study, records: list[dict[str, Any]]) -> str:
    """One line per look: mean and standard deviation of the runs' mean Dice, and how they compare."""
    rows = [["step", "nnU-Net", "by run", "ours", "by run", "ours - nnU-Net", "standard error", "within"]]
    for step in study.arguments.looks:
        values = [[r["mean"] for r in records if r["program"] == p and r["step"] == step] for p in PROGRAMS]
        cells = [str(step)]
        for runs in values:
            spread = f" +- {stdev(runs):.4f}" if len(runs) > 1 else ""
            cells += [f"{mean(runs):.4f}{spread}" if runs else "-", " ".join(f"{run:.4f}" for run in runs)]
        if min(map(len, values)) > 1:
            difference, error, within = compared(*values)
            cells += [f"{difference:+.4f}", f"{error:.4f}", "yes" if within else "no"]
        rows.append(cells + [""] * (len(rows[0]) - len(cells)))
    return text_table(rows)


def costs(records: list[dict[str, Any]]) -> str:
    spent = {(record["program"], record["seed"]): record["cpu_seconds"] for record in records}
    by_program = {p: [seconds for (program, _), seconds in spent.items() if program == p] for p in PROGRAMS}
    return ", ".join(f"{p} {mean(seconds):.0f}" for p, seconds in by_program.items() if seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--programs", nargs="*", choices=PROGRAMS, default=PROGRAMS, help="none: only the table")
    parser.add_argument("--epochs", type=int, default=24, help="the learning rate changes once an epoch")
    parser.add_argument("--iterations", type=int, default=25)
    parser.add_argument("--looks", nargs="+", type=int, default=[300, 450, 600], help="steps at the end of an epoch")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    study = Study(arguments)
    if "nnunet" in arguments.programs:
        peer = Peer(study)
        for seed in arguments.seeds:
            peer.train(seed)
    if "ours" in arguments.programs:
        for seed in arguments.seeds:
            train_ours(study, seed)
    records = scores(study)
    print(f"mean Dice of {len(study.fold.validation)} validation volumes; ", end="")
    print(
        f"{arguments.epochs} epochs of {arguments.iterations} steps, batch {arguments.batch_size}, width {arguments.width:g}"
    )
    print(table(study, records))
    print(f"CPU seconds of a training: {costs(records)}")


if __name__ == "__main__":
    main()
