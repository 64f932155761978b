"""The finished runs of an ablation, one JSON line each, and what they say: tables and paired differences."""

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from unetrpp.core.text import text_table

RESAMPLES = 4000
METRICS = ("Dice", "HD95", "NSD")


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """One finished run. Metrics are by validation case, the mean over the classes; distances are in mm."""

    dataset: str
    arm: str
    seed: int
    fold: int
    steps: int
    budget: float | None = None  # CPU seconds of training that the number of steps was chosen for
    batch: int
    width: float
    seconds: float  # of training, wall time
    cpu_seconds: float
    parameters: int
    modules: int  # gates and squeeze-and-excitation that are not off
    torch: str
    device: str = "cpu"  # the GPU's name where there is one; seconds are of this device, and several runs may share it
    Dice: dict[str, float | None]
    HD95: dict[str, float | None]
    NSD: dict[str, float | None]
    curve: tuple[dict[str, Any], ...] = ()

    @property
    def setting(self) -> tuple[object, ...]:
        """What tells two runs of one file apart."""
        return (
            self.dataset,
            self.arm,
            self.seed,
            self.fold,
            self.steps,
            self.budget,
            self.batch,
            self.width,
            self.device,
        )


class StepCost(msgspec.Struct, frozen=True, kw_only=True):
    """What a training step of an arm takes on a CPU."""

    dataset: str
    arm: str
    width: float
    seconds: float  # CPU time, on one thread with nothing else to do
    megabytes: int  # of all tensors at once: weights, gradients, optimizer, activations


Costs = Mapping[tuple[str, str, float], StepCost]  # by dataset, arm and width


def read_results(path: Path) -> list[Record]:
    """The runs in a file; an unfinished last line of a run that was killed does not count."""
    if not path.exists():
        return []
    lines = path.read_bytes().splitlines(keepends=True)
    return [msgspec.json.decode(line, type=Record) for line in lines if line.endswith(b"\n")]


def add_result(path: Path, record: Record) -> None:
    """Append a line, after removing an unfinished one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = path.read_bytes() if path.exists() else b""
    whole = text[: text.rfind(b"\n") + 1]
    with path.open("r+b" if path.exists() else "wb") as file:
        file.truncate(len(whole))
        file.seek(len(whole))
        file.write(msgspec.json.encode(record) + b"\n")


def scores(records: Sequence[Record], metric: str) -> np.ndarray:
    """(seeds and folds, cases) of one arm and dataset; cases by name, NaN where a metric is undefined.

    Raises:
        ValueError: the runs have validated different cases.
    """
    rows: list[Mapping[str, float | None]] = [getattr(record, metric) for record in records]
    if any(row.keys() != rows[0].keys() for row in rows):
        raise ValueError(f"runs of {records[0].arm} on {records[0].dataset} have different cases")
    return np.array([[math.nan if row[case] is None else row[case] for case in sorted(row)] for row in rows])


def paired(records: Sequence[Record], arm: str, other: str, dataset: str) -> np.ndarray:
    """Dice of ``arm`` minus that of ``other`` (seeds, cases), with the seeds that both have on one dataset and fold."""
    by_arm = {name: {r.seed: r for r in records if (r.arm, r.dataset) == (name, dataset)} for name in (arm, other)}
    seeds = sorted(by_arm[arm].keys() & by_arm[other].keys())
    if not seeds:
        return np.empty((0, 0))
    one, two = ([by_arm[name][seed] for seed in seeds] for name in (arm, other))
    return scores(one, "Dice") - scores(two, "Dice")


def interval(changes: Sequence[np.ndarray]) -> tuple[float, float]:
    """95 % interval of the mean of ``changes``, from drawing seeds and cases with replacement.

    Args:
        changes: (seeds, cases) for every dataset; datasets have equal weights and are not drawn.
    """
    rng = np.random.default_rng(0)
    means = np.zeros(RESAMPLES)
    for change in changes:
        n_seeds, n_cases = change.shape
        seeds = rng.integers(0, n_seeds, (RESAMPLES, n_seeds))
        cases = rng.integers(0, n_cases, (RESAMPLES, n_cases))
        means += [np.nanmean(change[np.ix_(s, c)]) / len(changes) for s, c in zip(seeds, cases, strict=True)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def pooled(records: Sequence[Record], arm: str, other: str) -> tuple[float, float, float] | None:
    """Mean difference over the datasets that both arms have, with equal weights, and its interval; None without any."""
    datasets = sorted({r.dataset for r in records})
    changes = [c for d in datasets if (c := paired(records, arm, other, d)).size]
    if not changes:
        return None
    return float(np.mean([np.nanmean(c) for c in changes])), *interval(changes)


def verdict(low: float, high: float) -> str:
    return "better" if low > 0 else "worse" if high < 0 else "undecided"


def shown(values: np.ndarray) -> str:
    """The mean over the defined values."""
    return f"{np.nanmean(values):.3f}" if np.isfinite(values).any() else "-"


def table(records: Sequence[Record], arms: Sequence[str], dataset: str, costs: Costs | None = None) -> str:
    """One line per arm: means over seeds and cases, what it and a step of it cost, and the paired difference of Dice to the first arm."""
    head = ["arm", *METRICS, "Dice by seed", "spread", "modules", "M params", "CPU s/step", "MB", "s", "CPU s"]
    rows = [[*head, "Dice - first", "95 %", ""]]
    for name in arms:
        runs = sorted((r for r in records if (r.arm, r.dataset) == (name, dataset)), key=lambda r: r.seed)
        if not runs:
            continue
        by_seed = [float(np.nanmean(row)) for row in scores(runs, "Dice")]
        spread = f"{np.std(by_seed, ddof=1):.3f}" if len(by_seed) > 1 else "-"
        cells = [shown(scores(runs, metric)) for metric in METRICS]
        cells += [" ".join(f"{value:.3f}" for value in by_seed), spread]
        cells += [f"{runs[0].modules}", f"{runs[0].parameters / 1e6:.2f}"]
        step = (costs or {}).get((dataset, name, runs[0].width))
        cells += ["-", "-"] if step is None else [f"{step.seconds:.2f}", f"{step.megabytes}"]
        cells += [f"{np.mean([r.seconds for r in runs]):.0f}", f"{np.mean([r.cpu_seconds for r in runs]):.0f}"]
        rows.append([name, *cells, *_compared(paired(records, name, arms[0], dataset), name == arms[0])])
    return text_table(rows)


def _compared(change: np.ndarray, is_first: bool) -> list[str]:
    if is_first or not change.size:
        return ["", "", "reference" if is_first else "no common seed"]
    low, high = interval([change])
    return [f"{np.nanmean(change):+.3f}", f"{low:+.3f} to {high:+.3f}", verdict(low, high)]


def differences(records: Sequence[Record], arms: Sequence[str], references: Sequence[str]) -> str:
    """One line per arm: the paired difference of Dice to each reference, over all datasets that both have."""
    rows = [["arm", *itertools.chain(*((f"- {name}", "95 %", "") for name in references))]]
    for arm in arms:
        cells: list[str] = []
        for name in references:
            found = None if arm == name else pooled(records, arm, name)
            if found is None:
                cells += ["", "", ""]
            else:
                mean, low, high = found
                cells += [f"{mean:+.3f}", f"{low:+.3f} to {high:+.3f}", verdict(low, high)]
        rows.append([arm, *cells])
    return text_table(rows)


def curves(records: Sequence[Record], arms: Sequence[str]) -> str:
    """Dice after given steps, a line for every look."""
    rows = [["arm", "seed", "steps", "train s", "Dice by class", "mean"]]
    for arm, record in itertools.product(arms, records):
        for look in record.curve if record.arm == arm else ():
            by_class = " ".join(f"{d:.3f}" for d in look["dice"])
            mean = f"{np.mean(look['dice']):.3f}"
            rows.append([arm, str(record.seed), str(look["step"]), f"{look['seconds']:.0f}", by_class, mean])
    return text_table(rows)


def read_costs(path: Path) -> Costs:
    """What --time measured."""
    lines = path.read_bytes().splitlines() if path.exists() else []
    found = [msgspec.json.decode(line, type=StepCost) for line in lines]
    return {(cost.dataset, cost.arm, cost.width): cost for cost in found}
