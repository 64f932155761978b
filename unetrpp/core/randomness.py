"""Random number generators that are derived from seed, fold, purpose and iteration; no random state is kept.

So a batch is the same whatever the number of threads and however often the run was interrupted.
"""

import enum

import numpy as np


class Stream(enum.IntEnum):
    """The purpose of a generator; each has its own number, so that no two purposes share random numbers."""

    PATCHES = 0
    AUGMENTATION = 1
    DROPOUT = 2
    VALIDATION_PATCHES = 3
    INITIALISATION = 4
    INNER_SPLIT = 5
    JUDGEMENT_PATCHES = 6
    CORRUPTION = 7  # of the first stage's segmentation in a cascade


def generator(seed: int, fold: int, stream: Stream, iteration: int = 0, *, rank: int = 0) -> np.random.Generator:
    """The generator of one stream in one iteration; ``fold`` -1 is the fold ``all``."""
    return np.random.default_rng([seed, fold + 1, stream, iteration, rank])


def torch_seed(seed: int, fold: int, stream: Stream, iteration: int = 0, *, rank: int = 0) -> int:
    """A 63-bit seed for ``torch.manual_seed`` from the same values."""
    return int(generator(seed, fold, stream, iteration, rank=rank).integers(2**63 - 1))
