"""Training one fold in several processes that torchrun started: their ranks, and the operations over all of them.

Each process has the same weights and a share of every batch (data parallelism, torch's DistributedDataParallel).
"""

import logging
import os
import time
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch

from unetrpp.core.devices import find_device
from unetrpp.core.errors import UserError
from unetrpp.trainers.config import TrainingConfig

TIMEOUT = timedelta(days=7)  # the others wait while the first validates; torchrun ends all of them when one fails

Result = TypeVar("Result")


@dataclass(frozen=True)
class Processes:
    """The rank of this process, and the number of processes.

    All processes must call the collective methods (``replicate``, ``rank_zero_first``, ``all_reduce_...``), in the same
    order. In a single process these return what they were given, and torch.distributed is not used.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0  # among the processes on this machine
    local_count: int = 1

    @classmethod
    def find(cls) -> "Processes":
        """The processes by the environment variables that torchrun sets; a single process without them."""
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
        if not all(name in os.environ for name in names):
            return ALONE
        rank, count, local_rank = (int(os.environ[name]) for name in names)
        return cls(rank, count, local_rank, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))

    @property
    def first(self) -> bool:
        """The first process is the only one that writes files and logs."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        return self.count == 1

    def device(self, name: str) -> torch.device:
        """The device that ``--device`` names; with several processes each gets the GPU of its local rank.

        Raises:
            UserError: there is no such device, or processes cannot share it.
        """
        if not self.alone and name in ("auto", "cuda") and torch.cuda.is_available():
            device = find_device(
                f"cuda:{self.local_rank}"
            )  # only this one, because each process takes memory on every GPU that it touches
            torch.cuda.set_device(device)
            return device
        device = find_device(name)
        if not self.alone and device.type != "cpu":
            raise UserError(f"{self.count} processes cannot share device {device}; give --device cuda or cpu")
        return device

    def require(self, batch_size: int, config: TrainingConfig) -> None:
        """
        Raises:
            UserError: the processes cannot share this training.
        """
        if batch_size % self.count:
            raise UserError(
                f"a batch of {batch_size} cannot be split evenly over {self.count} processes; "
                "start a number of processes that divides it, or plan with another --batch-size"
            )
        if not self.alone and (config.learn_attention or config.augmentation == "workers"):
            option = "--learn-attention" if config.learn_attention else "--augmentation workers"
            raise UserError(
                f"{option} works in one process only, not in {self.count}; train this fold without torchrun"
            )

    @contextmanager
    def joined(self) -> Iterator[None]:
        """While entered, the processes can communicate: GPU tensors by NCCL, the rest by Gloo. Only the first one logs."""
        if self.alone:
            yield
            return
        if not self.first:
            logging.getLogger("unetrpp").setLevel(logging.ERROR)
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        torch.distributed.init_process_group(backend, timeout=TIMEOUT)
        try:
            yield
        except KeyboardInterrupt:
            if self.first:
                raise
            raise SystemExit(130) from None
        torch.distributed.destroy_process_group()

    def share(self, batch_size: int) -> slice:
        """This process's part of the samples of a batch.

        >>> Processes(rank=1, count=2).share(4)
        slice(2, 4, None)
        """
        each = batch_size // self.count
        return slice(self.rank * each, (self.rank + 1) * each)

    def synchronize_batch_norm(self, network: torch.nn.Module, device: torch.device) -> None:
        """Let batch norm compute its statistics over the whole batch, in place; torch cannot do so on CPUs."""
        if not self.alone and device.type != "cpu":
            torch.nn.SyncBatchNorm.convert_sync_batchnorm(network)

    def replicate(self, network: torch.nn.Module) -> torch.nn.Module:
        """``network`` with the first process's weights, whose gradients are averaged over the processes."""
        if self.alone:
            return network
        # It warns about 1 x 1 convolutions in channels-last layout, whose axes of one element may have any stride.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        return torch.nn.parallel.DistributedDataParallel(network)

    def rank_zero_first(self, work: Callable[[], Result]) -> Result:
        """Call ``work`` in the first process, then in the others, which can read what it wrote.

        If it fails in the first process the others exit silently, so that an error is reported once.
        """
        if self.first:
            try:
                result = work()
            except BaseException:
                self.all_reduce_max(1)
                raise
            self.all_reduce_max(0)
            return result
        if self.all_reduce_max(0)[0]:
            raise SystemExit(2)
        return work()

    def rank_zero_only(self, work: Callable[[], object]) -> None:
        """Call ``work`` in the first process while the others wait."""
        self.rank_zero_first(lambda: work() if self.first else None)

    def rank_zero_error(self, message: str) -> BaseException:
        """The exception to raise in each process for an error that all of them have: one UserError, silent exits in the others."""
        return UserError(message) if self.first else SystemExit(2)

    def all_reduce_max(self, *values: float) -> list[float]:
        """The largest of each value over the processes, so that all of them make the same decision."""
        largest: list[float] = self._reduced(torch.tensor(values, dtype=torch.float64), "MAX").tolist()
        return largest

    def all_reduce_mean(self, values: Sequence[float]) -> list[float]:
        """The mean of each value over the processes."""
        means: list[float] = (self.all_reduce_sum(torch.tensor(values, dtype=torch.float64)) / self.count).tolist()
        return means

    def all_reduce_sum(self, values: torch.Tensor) -> torch.Tensor:
        """The sum of a CPU tensor over the processes."""
        return self._reduced(values, "SUM")

    def _reduced(self, values: torch.Tensor, operation: str) -> torch.Tensor:
        if self.alone or not len(values):
            return values
        sent = values.clone()
        torch.distributed.all_reduce(sent, getattr(torch.distributed.ReduceOp, operation))
        result, held = sent.clone(), weakref.ref(sent)
        del sent
        # Gloo's thread keeps the tensor for a moment longer. If it released it while Python exits, this would abort the
        # process: torch then wants the interpreter's lock, and gets none (github.com/pytorch/pytorch/pull/179291).
        while held() is not None:
            time.sleep(1e-4)
        return result


ALONE = Processes()
