"""Lets a command run others as a user would, so that it need not import planners, trainers or dataset_conversion."""

import logging
from collections.abc import Sequence

LOG = logging.getLogger(__name__)


def call(command: Sequence[str]) -> int:
    """Run ``unetrpp COMMAND ...`` in this process, after logging the line; returns its exit code."""
    from unetrpp.__main__ import main

    LOG.info("\n$ unetrpp %s", " ".join(command))
    return main(command)
