"""What a trainer is given: the data of one fold, and the machine to train on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch

from unetrpp.core.errors import UserError
from unetrpp.core.machine import usable_cores
from unetrpp.plans.plans import Configuration
from unetrpp.preprocessing.store import StoredCase
from unetrpp.trainers.distributed import ALONE, Processes

MOST_READERS = 12  # as many as nnU-Net has at most
# Fewer steps are over before compiling has paid: on an H100 it took more than a minute and saved 40 ms a step (docs/gpu.md).
COMPILED_STEPS = 5000


@dataclass(frozen=True)
class FoldData:
    """The planned configuration of a network and the preprocessed cases of one fold."""

    configuration: Configuration
    train: Sequence[StoredCase]
    validation: Sequence[StoredCase]
    groups: Mapping[str, str] = field(default_factory=dict)  # case -> patient, where the dataset names patients

    @property
    def validated(self) -> dict[str, bool]:
        """Class or region -> whether a validation case has it. Of the others a Dice says nothing: it is undefined or 0."""
        present = {index for case in self.validation for index in case.classes}
        targets = self.configuration.preprocessing.labels.targets
        return {target.name: not present.isdisjoint(target.members) for target in targets}


@dataclass(frozen=True)
class Machine:
    """Where and with how many threads and processes a fold is trained."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    threads: int | None = None  # see ``readers``
    # try torch.compile; None: on CUDA, in a training of COMPILED_STEPS or more; False: record no CUDA graphs either
    compile: bool | None = None
    processes: Processes = ALONE  # that share every batch
    # On a CPU: the cores that this fold may use at the time of the call, to choose the number of threads that compute a step
    # (trainers/compute_threads.py), and the number that the user asks for. Without cores torch's number stays.
    cores: Callable[[], int] | None = None
    compute_threads: int | None = None

    def __post_init__(self) -> None:
        """
        Raises:
            UserError: ``threads`` or ``compute_threads`` is below 1.
        """
        for name, value in {"threads": self.threads, "compute_threads": self.compute_threads}.items():
            if value is not None and value < 1:
                raise UserError(f"{name} must be at least 1, not {value}")

    @property
    def readers(self) -> int:
        """Threads that read patches; with --augmentation workers, processes that also augment them.

        On a CPU they take their time from the network, and a step is long: two are enough. A GPU's step is short, but the
        training and the display need cores, too.
        """
        if self.threads is not None:
            return self.threads
        cores = max(1, usable_cores() // self.processes.local_count)
        return min(2, cores) if self.device.type == "cpu" else max(1, min(MOST_READERS, cores - 2))

    def compiles(self, steps: int) -> bool:
        """Whether torch.compile is tried in a training of this length."""
        if self.compile is not None:
            return self.compile
        return self.device.type == "cuda" and steps >= COMPILED_STEPS

    @property
    def records(self) -> bool:
        """Whether CUDA graphs are tried. Processes that share a batch exchange gradients within a pass, so not by them."""
        return self.device.type == "cuda" and self.compile is not False and self.processes.count == 1
