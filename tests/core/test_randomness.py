"""Generators depend on seed, fold, stream and iteration, and on nothing else."""

from typing import Any

import numpy as np

from unetrpp.core.randomness import Stream, generator, torch_seed


def test_equal_arguments_give_equal_numbers():
    assert generator(1, 2, Stream.PATCHES, 7).random() == generator(1, 2, Stream.PATCHES, 7).random()


def test_every_argument_matters():
    first: dict[str, Any] = {"seed": 0, "fold": 0, "stream": Stream.PATCHES, "iteration": 0, "rank": 0}
    others: list[dict[str, Any]] = [
        {"seed": 1},
        {"fold": 1},
        {"fold": -1},
        {"stream": Stream.DROPOUT},
        {"iteration": 1},
        {"rank": 1},
    ]
    arguments = [first, *(first | other for other in others)]
    assert len({generator(**given).random() for given in arguments}) == len(arguments)
    assert len({torch_seed(**given) for given in arguments}) == len(arguments)
    assert all(0 <= torch_seed(**given) < 2**63 for given in arguments)


def test_the_numbers_are_those_of_numpys_seed_sequence():
    expected = np.random.default_rng([5, 3, Stream.CORRUPTION, 7, 1]).random()
    assert generator(5, 2, Stream.CORRUPTION, 7, rank=1).random() == expected
