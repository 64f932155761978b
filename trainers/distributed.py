"""Training one fold in several processes, started by torchrun: who they are, and what they do together.

Each process has the same weights and a share of every batch (data parallelism, torch's DistributedDataParallel).
"""

import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch

from unetrpp.core.devices import find_device
from unetrpp.core.errors import UserError
from unetrpp.trainers.config import TrainingConfig

PATIENCE = timedelta(days=7)  # the others wait while the first validates; torchrun ends all of them when one fails

Result = TypeVar("Result")


@dataclass(frozen=True)
class Processes:
    """Which of how many processes this one is. What they do together, each of them must call, in the same order.

    In a single process every method is the identity, and torch.distributed is not touched.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0  # among those of this machine

    @classmethod
    def find(cls) -> "Processes":
        """From the environment variables that torchrun sets; without them a single process."""
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
        return cls(*(int(os.environ[name]) for name in names)) if all(name in os.environ for name in names) else ALONE

    @property
    def first(self) -> bool:
        """The one that writes and speaks."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        return self.count == 1

    def device(self, name: str) -> torch.device:
        """The device that ``--device`` names; of several processes each gets the GPU of its number.

        Raises:
            UserError: no such device here, or one that processes cannot share.
        """
        if not self.alone and name in ("auto", "cuda") and torch.cuda.is_available():
            device = find_device(f"cuda:{self.local_rank}")  # no other: whoever touches a GPU takes memory there
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
        """While entered, they can talk: tensors on a GPU by NCCL, everything else by Gloo. Only the first one logs."""
        if self.alone:
            yield
            return
        if not self.first:
            logging.getLogger("unetrpp").setLevel(logging.ERROR)
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        torch.distributed.init_process_group(backend, timeout=PATIENCE)
        try:
            yield
        except KeyboardInterrupt:
            if self.first:
                raise
            raise SystemExit(130) from None
        torch.distributed.destroy_process_group()

    def share(self, batch_size: int) -> slice:
        """The samples of a batch that are this process's.

        >>> Processes(rank=1, count=2).share(4)
        slice(2, 4, None)
        """
        each = batch_size // self.count
        return slice(self.rank * each, (self.rank + 1) * each)

    def replicate(self, network: torch.nn.Module) -> torch.nn.Module:
        """``network`` with the first process's weights, and its gradients averaged over the processes.

        Batch norm takes its statistics over the whole batch on GPUs; torch has no such norm for CPUs.
        """
        if self.alone:
            return network
        if next(network.parameters()).is_cuda:
            torch.nn.SyncBatchNorm.convert_sync_batchnorm(network)
        # Of 1 x 1 convolutions in channels-last layout: the strides of an axis of one element, which mean nothing.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        return torch.nn.parallel.DistributedDataParallel(network)

    def rank_zero_first(self, work: Callable[[], Result]) -> Result:
        """Let the first process do ``work``, then the others: they find what it wrote, and what it refuses is said once."""
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

    def rank_zero_error(self, message: str) -> BaseException:
        """The error that every process meets here; all but the first leave quietly."""
        return UserError(message) if self.first else SystemExit(2)

    def all_reduce_max(self, *values: float) -> list[float]:
        """The largest of each value over the processes: what they decide by it, they decide alike."""
        return self._reduced(torch.tensor(values, dtype=torch.float64), "MAX").tolist()

    def all_reduce_mean(self, values: Sequence[float]) -> list[float]:
        """Of each value over the processes."""
        return (self.all_reduce_sum(torch.tensor(values, dtype=torch.float64)) / self.count).tolist()

    def all_reduce_sum(self, values: torch.Tensor) -> torch.Tensor:
        """The sum over the processes, of a tensor on the CPU."""
        return self._reduced(values, "SUM")

    def _reduced(self, values: torch.Tensor, operation: str) -> torch.Tensor:
        if not self.alone and len(values):
            torch.distributed.all_reduce(values, getattr(torch.distributed.ReduceOp, operation))
        return values


ALONE = Processes()
