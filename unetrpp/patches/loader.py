"""The loader of training patches: batch i is a function of (seed, fold, i), whatever the number of threads."""

import errno
import os
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import numpy as np
import torch
from batchgenerators.dataloading.data_loader import SlimDataLoaderBase

from unetrpp.augmentation.corruption import CorruptionDraw, corrupt, draw_corruption
from unetrpp.augmentation.label_swap import label_swap_of
from unetrpp.augmentation.pipeline import Sample, SampleDraw, draw_sample
from unetrpp.augmentation.spatial import ReadBox, read_box
from unetrpp.core.errors import UserError, no_more_files, system_refusal
from unetrpp.core.randomness import Stream, generator
from unetrpp.patches.feed import on_device, pin
from unetrpp.patches.sampling import PatchDraw, PatchSampler, Sampling
from unetrpp.plans.plans import Configuration
from unetrpp.preprocessing.store import OUTSIDE, StoredCase

CPU = torch.device("cpu")
READY = 2  # batches that may wait to be taken, besides those that are being read


class PatchLoader(SlimDataLoaderBase):  # type: ignore[misc]  # batchgenerators has no types
    """Reads just the voxels that the drawn augmentation needs; the augmentation follows on the training device.

    As a loader of batchgenerators it may be iterated or given to its augmenters; training calls :meth:`batch`.

    Args:
        cases: stored cases to draw from.
        configuration: patch, batch size, foreground share, augmentation and mirror axes. For the second stage of a
            cascade the first stage's segmentation is read, too; training patches get random mistakes in it.
        stream: of random numbers; only patches of ``Stream.PATCHES`` are augmented.
        share: the samples of every batch that this process reads; what is drawn for them does not depend on it.
        sampling: how forced patches are drawn (:class:`unetrpp.patches.sampling.PatchSampler`).
    """

    def __init__(
        self,
        cases: Sequence[StoredCase],
        configuration: Configuration,
        *,
        seed: int,
        fold: int,
        stream: Stream = Stream.PATCHES,
        share: slice = slice(None),
        sampling: Sampling = "class_first",
    ):
        super().__init__(None, configuration.batch_size)
        self.cases = {case.case: case for case in cases}
        self.configuration = configuration
        self.seed, self.fold, self.stream, self.share = seed, fold, stream, share
        self.patch = configuration.patch_3d
        skipped = 3 - len(configuration.patch)
        # Mirror axes of a 2D patch count (y, x); here every sample has a z axis.
        self.mirror_axes = tuple(axis + skipped for axis in configuration.mirror_axes)
        swap = label_swap_of(configuration)
        self.swap = swap and replace(swap, axis=swap.axis + skipped)
        ignore = configuration.preprocessing.labels.ignore_index
        self.sampler = PatchSampler(cases, self.patch, configuration.foreground_fraction, ignore, sampling=sampling)
        normalization = configuration.preprocessing.normalization
        self.masked = tuple(c for c, channel in enumerate(normalization) if channel.masked)
        self.next_iteration = 0

    def batch(self, iteration: int) -> list[Sample]:
        """The samples of one iteration.

        Raises:
            UserError: a stored case cannot be read.
        """
        if self.stream is not Stream.PATCHES:
            return self.read(iteration, self.patch)
        places = self._places(iteration)
        rng = generator(self.seed, self.fold, Stream.AUGMENTATION, iteration)
        draws = [self._augmentation(rng, place) for place in places]
        boxes = [read_box(draw.affine, self.patch) for draw in draws]
        jobs = list(zip(places, draws, boxes, self._mistakes(iteration), strict=True))
        return [self._read(*job) for job in jobs[self.share]]

    def read(self, iteration: int, size: tuple[int, int, int]) -> list[Sample]:
        """Samples at the same places as those of :meth:`batch`, read at a fixed size and not augmented."""
        jobs = list(zip(self._places(iteration), self._mistakes(iteration), strict=True))
        return [self._read(place, None, ReadBox(size), mistake) for place, mistake in jobs[self.share]]

    def generate_train_batch(self) -> list[Sample]:
        self.next_iteration += 1
        return self.batch(self.next_iteration - 1)

    def _places(self, iteration: int) -> list[PatchDraw]:
        rng = generator(self.seed, self.fold, self.stream, iteration)
        return self.sampler.draw(rng, self.configuration.batch_size)

    def _augmentation(self, rng: np.random.Generator, place: PatchDraw) -> SampleDraw:
        plan, channels = self.configuration.augmentation, self.cases[place.case].channels
        return draw_sample(rng, plan, channels, self.mirror_axes, swap=self.swap, masked=self.masked)

    def _mistakes(self, iteration: int) -> list[CorruptionDraw]:
        """The mistakes in the first stage's segmentation of every sample; none for validation, or without a cascade."""
        count, classes = self.configuration.batch_size, len(self.configuration.preprocessing.labels.foreground)
        if self.configuration.first_stage is None or self.stream is not Stream.PATCHES:
            return [CorruptionDraw()] * count
        rng = generator(self.seed, self.fold, Stream.CORRUPTION, iteration)
        return [draw_corruption(rng, classes) for _ in range(count)]

    def _read(self, place: PatchDraw, draw: SampleDraw | None, box: ReadBox, mistakes: CorruptionDraw) -> Sample:
        z, y, x = (c - n // 2 for c, n in zip(place.center, box.size, strict=True))
        case, first_stage = self.cases[place.case], None
        try:
            image, label = case.read((z, y, x), box.size)
            if self.configuration.first_stage is not None:
                first_stage = corrupt(case.read_first_stage((z, y, x), box.size), mistakes)
                box.close(first_stage, 0)
        except (OSError, RuntimeError, ValueError) as error:
            raise _reason(error, place.case) from error
        box.close(image, 0)
        box.close(label, OUTSIDE)
        return Sample(place.case, image, label, draw, first_stage)


def _reason(error: Exception, case: str) -> Exception:
    """What to raise where a stored case cannot be read: what the system refused, or that its files are damaged."""
    if isinstance(error, RuntimeError) and no_more_files():  # blosc2 does not say so
        return OSError(errno.EMFILE, os.strerror(errno.EMFILE), f"the preprocessed case {case}")
    message = f"the preprocessed case cannot be read ({error}); delete its files and preprocess again"
    return system_refusal(error, f"the preprocessed case {case}") or UserError(message, case=case)


def prefetch(
    loader: PatchLoader, iterations: range, threads: int, device: torch.device = CPU
) -> Generator[list[Sample], None, None]:
    """Batches in order, read ahead by a few threads; for CUDA copied to the device.

    blosc2 holds the interpreter lock while it reads, so the threads overlap with each other in the rest of a sample's work alone.

    Raises:
        UserError: a batch could not be read; raised where that batch would come.
    """
    with closing(_read_ahead(loader, iterations, threads, pinned=device.type == "cuda")) as read:
        yield from on_device(read, device)


def _read_ahead(
    loader: PatchLoader, iterations: range, threads: int, *, pinned: bool
) -> Generator[list[Sample], None, None]:
    """Batches in order; as many as there are threads are being read, and ``READY`` more may be waiting."""

    def read(iteration: int) -> list[Sample]:
        return pin(loader.batch(iteration)) if pinned else loader.batch(iteration)

    with ThreadPoolExecutor(threads, thread_name_prefix="patches") as pool:
        waiting: deque[Future[list[Sample]]] = deque()
        try:
            for iteration in iterations:
                waiting.append(pool.submit(read, iteration))
                if len(waiting) > threads + READY:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
