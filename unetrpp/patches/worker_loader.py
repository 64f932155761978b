"""`--augmentation workers`: batches that worker processes read and augment with transforms of batchgenerators 1.x."""

import random
import signal
import traceback
from collections.abc import Generator
from contextlib import closing

import numpy as np
import torch
from batchgenerators.dataloading.data_loader import SlimDataLoaderBase
from batchgenerators.dataloading.multi_threaded_augmenter import MultiThreadedAugmenter

from unetrpp.augmentation.batchgenerators_chain import TransformChain
from unetrpp.augmentation.pipeline import Sample
from unetrpp.core.errors import UserError
from unetrpp.core.parallel import CaseError, die_with_parent
from unetrpp.core.randomness import Stream, generator
from unetrpp.patches.feed import on_device
from unetrpp.patches.loader import CPU, PatchLoader


def worker_batches(
    loader: PatchLoader, iterations: range, processes: int, device: torch.device = CPU
) -> Generator[list[Sample], None, None]:
    """Augmented batches in order, for CUDA copied to the device. Of n workers, worker k makes the batches k, k + n, ..., so n
    changes no batch.

    Raises:
        UserError: a worker failed; the message and the case id are the worker's.
    """
    with closing(_augmented(loader, iterations, processes)) as augmented:
        yield from on_device(augmented, device)


def _augmented(loader: PatchLoader, iterations: range, processes: int) -> Generator[list[Sample], None, None]:
    augmenter = MultiThreadedAugmenter(WorkerLoader(loader, iterations, processes), None, processes, 2)
    try:
        for _ in iterations:
            item = next(augmenter)
            if isinstance(item, CaseError):
                raise UserError(item.message, case=item.case or None)
            yield item
    finally:
        augmenter._finish()


class WorkerLoader(SlimDataLoaderBase):  # type: ignore[misc]  # batchgenerators has no types
    """Reads patches at the size that the worst draw needs and augments them, in a worker process."""

    def __init__(self, loader: PatchLoader, iterations: range, processes: int):
        super().__init__(None, loader.batch_size, processes)
        self.loader, self.remaining = loader, iterations
        plan = loader.configuration.augmentation
        in_plane_only = plan.in_plane_only or len(loader.configuration.patch) == 2
        self.chain = TransformChain(
            plan,
            loader.patch,
            loader.mirror_axes,
            in_plane_only=in_plane_only,
            swap=loader.swap,
            masked=loader.masked,
        )

    def set_thread_id(self, thread_id: int) -> None:
        """The first call in a worker."""
        die_with_parent()
        # At Ctrl-C the parent saves its state first, and then ends its workers.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        # A forked worker has none of its parent's threads, and OpenMP would wait for them forever.
        torch.set_num_threads(1)
        super().set_thread_id(thread_id)
        self.remaining = self.remaining[thread_id :: self.number_of_threads_in_multithreaded]

    def generate_train_batch(self) -> list[Sample] | CaseError:
        """The next batch, or the error that a case raised: the augmenter would lose an exception's message."""
        if not self.remaining:
            raise StopIteration
        iteration, self.remaining = self.remaining[0], self.remaining[1:]
        try:
            return self.batch(iteration)
        except Exception as error:
            case = getattr(error, "case", None) or ""
            return CaseError(case, "augmentation", Exception.__str__(error), traceback.format_exc())

    def batch(self, iteration: int) -> list[Sample]:
        """The samples of one iteration, augmented: a function of (seed, fold, iteration)."""
        loader = self.loader
        rng = generator(loader.seed, loader.fold, Stream.AUGMENTATION, iteration)
        np.random.seed(int(rng.integers(2**32)))  # the transforms draw from the global generators
        random.seed(int(rng.integers(2**32)))
        return [self.chain(sample) for sample in loader.read(iteration, self.chain.read_size)]
