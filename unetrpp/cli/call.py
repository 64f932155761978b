"""Lets a command run others as a user would, so that it need not import planners, trainers or dataset_conversion."""

from collections.abc import Sequence


def call(command: Sequence[str]) -> int:
    """Run ``unetrpp COMMAND ...`` in this process; returns its exit code."""
    from unetrpp.__main__ import main

    return main(command)
