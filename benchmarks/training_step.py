"""What benchmarks of a training step share: networks, a trainer without a dataset, fixed batches, and clocks that wait for the GPU."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import numpy as np
import torch

from tests.helpers.tiny import configuration
from unetrpp.augmentation.pipeline import Sample
from unetrpp.core.devices import half_precision
from unetrpp.dataset.labels import LabelScheme
from unetrpp.networks.design import unet_architecture, unetrpp_architecture
from unetrpp.networks.presets import PRESETS
from unetrpp.plans.architecture import Architecture
from unetrpp.trainers.config import TrainingConfig
from unetrpp.trainers.inputs import FoldData, Machine
from unetrpp.trainers.trainer import Trainer

PATCH = (64, 128, 128)  # of the planned networks
STRIDES = [(1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2)]
NETWORKS: dict[str, Callable[[], Architecture]] = {
    **{name: lambda name=name: PRESETS[name] for name in PRESETS},
    "unetrpp": lambda: unetrpp_architecture(1, 3, PATCH, STRIDES),
    "unet": lambda: unet_architecture(1, 3, PATCH, STRIDES),
    "resunet": lambda: unet_architecture(1, 3, PATCH, STRIDES, residual=True),
}
WARM_UP = 3  # steps: the first makes the momentum, and cuDNN times its kernels
ROUND_S = 0.3  # between two waits for the device, so that launching and computing overlap as in training


def make_trainer(architecture: Architecture, batch: int, precision: str, folder: Path, device: torch.device) -> Trainer:
    """The trainer of any network, without cases; :func:`samples` makes its batches."""
    classes = architecture.out_channels
    labels = LabelScheme(names=tuple(map(str, range(classes))), values=tuple(range(classes)))
    plan = configuration()
    preprocessing = msgspec.structs.replace(plan.preprocessing, labels=labels)
    plan = msgspec.structs.replace(plan, architecture=architecture, preprocessing=preprocessing, batch_size=batch)
    config = TrainingConfig(fold=0, precision=precision)
    return Trainer(FoldData(plan, [], []), config, folder, Machine(device))


def precision_of(device: torch.device) -> str:
    """In which `unetrpp_train` trains on this device."""
    half = half_precision(device)
    return "fp32" if half is None else {torch.bfloat16: "bf16", torch.float16: "fp16"}[half]


def samples(architecture: Architecture, batch: int) -> list[Sample]:
    image = np.random.default_rng(0).normal(size=(architecture.in_channels, *architecture.patch)).astype(np.float32)
    return [Sample("case", image, np.zeros(architecture.patch, np.int16), None)] * batch


@contextmanager
def fixed_batch(trainer: Trainer, given: list[Sample]) -> Iterator[None]:
    """Every step inside trains on the same batch, which is made once and stays on the device."""
    images, target = trainer.batch(given)
    trainer.batch = lambda _: (images, target)
    try:
        yield
    finally:
        del vars(trainer)["batch"]


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def clock(device: torch.device) -> float:
    """Seconds, once the device has done all that it was given."""
    wait(device)
    return time.perf_counter()


def seconds_of(run: Callable[[], object], device: torch.device) -> float:
    start = clock(device)
    run()
    return clock(device) - start


def seconds_a_call(run: Callable[[], object], device: torch.device, spend: float) -> float:
    """Median over rounds of calls; at least three rounds, and more until ``spend`` seconds are over. The caller warms up."""
    calls = max(1, min(20, int(ROUND_S / max(seconds_of(run, device), 1e-6))))

    def many() -> None:
        for _ in range(calls):
            run()

    rounds: list[float] = []
    end = time.perf_counter() + spend
    while len(rounds) < 3 or time.perf_counter() < end:
        rounds.append(seconds_of(many, device) / calls)
    return statistics.median(rounds)
