"""Generators depend on seed, fold, stream and iteration, and on nothing else."""

from typing import Any

from unetrpp.core.randomness import Stream, generator, torch_seed


def test_equal_arguments_give_equal_numbers():
    assert generator(1, 2, Stream.PATCHES, 7).random() == generator(1, 2, Stream.PATCHES, 7).random()


def test_every_argument_matters():
    places: list[Any] = [
        (0, 0, Stream.PATCHES, 0),
        (1, 0, Stream.PATCHES, 0),
        (0, 1, Stream.PATCHES, 0),
        (0, -1, Stream.PATCHES, 0),
    ]
    places += [(0, 0, Stream.DROPOUT, 0), (0, 0, Stream.PATCHES, 1), (0, 0, Stream.PATCHES, 0, 1)]
    assert len({generator(*place).random() for place in places}) == len(places)
    assert len({torch_seed(*place) for place in places}) == len(places)
    assert all(0 <= torch_seed(*place) < 2**63 for place in places)
