"""Whether reading keeps up with the GPU: the readers alone, steps on one batch, and steps on new ones."""

import itertools
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import torch

from benchmarks.gpu_parts import goals
from benchmarks.gpu_parts.busy import busy_share
from benchmarks.gpu_parts.cells import Cell, Setting, Values, Verdict
from benchmarks.gpu_parts.dataset import CONFIGURATION, place, planned
from benchmarks.gpu_parts.networks import prepared
from benchmarks.training_step import WARM_UP, clock, fixed_batch, precision_of, seconds_a_call, wait
from unetrpp.core.devices import find_device
from unetrpp.preprocessing.store import Store
from unetrpp.trainers.config import TrainingConfig
from unetrpp.trainers.inputs import FoldData, Machine
from unetrpp.trainers.trainer import Trainer

READ_AHEAD = 32  # batches at most that were read before the first was taken: they do not count


def cells(setting: Setting) -> list[Cell]:
    shared: Values = {}  # what the first measures and the second is compared with
    return [
        Cell("steps on one batch, and on new ones", partial(steps, setting, shared), judge),
        Cell("readers alone", partial(readers, setting, shared), goals.reading),
    ]


def judge(values: Values) -> Verdict:
    slower = f"{values['ms'] / values['one_batch_ms']:.2f} times a step on one batch"
    return goals.all_of(goals.busy(values), Verdict("no goal", slower))


@contextmanager
def opened(setting: Setting, mode: str) -> Iterator[Trainer]:
    """The trainer of the dataset's plans on all of its cases, as `unetrpp_train` builds it."""
    device = find_device(setting.device)
    workspace, name = place(setting)
    store = Store(workspace.store(name, "unetrpp", CONFIGURATION))
    cases = [store.open(case) for case in store.cases()]
    precision = precision_of(device)
    with tempfile.TemporaryDirectory() as folder:
        config = TrainingConfig(fold=0, precision=precision)
        trainer = Trainer(FoldData(planned(setting), cases, cases[:1]), config, Path(folder), Machine(device))
        with prepared(trainer, mode, trainer.loader.batch(0)):
            yield trainer


def steps(setting: Setting, shared: Values) -> Values:
    """Milliseconds of a step and the share in which the GPU is busy, on a batch that stays there and on new ones."""
    spend = 0.05 if setting.small else 3.0
    with opened(setting, "eager" if setting.small else "graphs") as trainer:
        with closing(trainer.batches()) as batches:
            given = next(batches)
        with fixed_batch(trainer, given):
            alone = timed(trainer.device, lambda: trainer.step([]), spend, 1 if setting.small else WARM_UP)
        with closing(trainer.batches()) as batches:
            fresh = timed(
                trainer.device, lambda: trainer.step(next(batches)), spend, 1 if setting.small else READ_AHEAD
            )
    shared["steps_a_s"] = 1e3 / alone["ms"]
    return fresh | {f"one_batch_{name}": value for name, value in alone.items()}


def timed(device: torch.device, step: Callable[[], object], spend: float, warm_up: int) -> Values:
    for _ in range(warm_up):
        step()
    seconds = seconds_a_call(step, device, spend)
    busy = busy_share(step, device, seconds)
    return {"ms": seconds * 1e3} | ({} if busy is None else {"busy": busy})


def readers(setting: Setting, shared: Values) -> Values:
    """Batches per second where nothing else is done with them; on CUDA they end in the GPU's memory."""
    spend, count = 0.1 if setting.small else 4.0, 0
    with opened(setting, "eager") as trainer, closing(trainer.batches()) as batches:
        for _ in itertools.islice(batches, READ_AHEAD):
            pass
        start = clock(trainer.device)
        while time.perf_counter() < start + spend:
            next(batches)
            count += 1
        wait(trainer.device)
        seconds = time.perf_counter() - start
    return {"batches_a_s": count / seconds} | shared
