"""No random state is kept: every draw comes from a generator made of where it is used.

So batch i is the same whatever the number of threads and however often a run was interrupted.
"""

import enum

import numpy as np


class Stream(enum.IntEnum):
    """What a generator is for; one number each, so that no two uses share their draws."""

    PATCHES = 0
    AUGMENTATION = 1
    DROPOUT = 2
    VALIDATION_PATCHES = 3
    INITIALISATION = 4
    INNER_SPLIT = 5
    JUDGEMENT_PATCHES = 6
    CORRUPTION = 7  # of a cascade's first segmentation


def generator(seed: int, fold: int, stream: Stream, iteration: int = 0, rank: int = 0) -> np.random.Generator:
    """The generator of one iteration of one stream. ``fold`` -1 stands for ``all``."""
    return np.random.default_rng([seed, fold + 1, stream, iteration, rank])


def torch_seed(seed: int, fold: int, stream: Stream, iteration: int = 0, rank: int = 0) -> int:
    """A 63-bit seed for ``torch.manual_seed`` from the same tuple."""
    return int(generator(seed, fold, stream, iteration, rank).integers(2**63 - 1))
