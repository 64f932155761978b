"""The learning-rate schedule: how far a run is, by steps or by the clock, and the rate at that point."""

import math

from unetrpp.trainers.config import TrainingConfig

POLY_POWER = 0.9  # as in nnU-Net 2.8.1
STABLE_SHARE = 0.6  # of a run with the schedule "stable", before the rate falls


def progress(config: TrainingConfig, step: int, hours: float = 0.0) -> float:
    """Share of the run that is done, by steps or by hours, whichever is larger."""
    return max(step / config.steps, hours / config.max_hours if config.max_hours else 0.0)


def learning_rate(config: TrainingConfig, step: int, hours: float = 0.0) -> float:
    """Linear warm-up by steps, times the decay of the schedule; in nnU-Net, of the progress at the epoch's start.

    >>> learning_rate(TrainingConfig(fold=0, epochs=1, iterations=10, learning_rate=1.0), 5)
    0.5358867312681466
    """
    warm = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
    if config.rate_changes == "every_epoch":
        step -= step % config.iterations
    return config.learning_rate * warm * decay(config.schedule, min(1.0, progress(config, step, hours)))


def decay(schedule: str, done: float) -> float:
    """What is left of the rate when ``done`` of a run is over: poly (1 - done) ** 0.9; linear 1 - done; cosine; stable, 1 until
    0.6 is over and then linear to 0.

    >>> [round(decay(name, 0.8), 3) for name in ("poly", "linear", "cosine", "stable")]
    [0.235, 0.2, 0.095, 0.5]
    """
    left = 1 - done
    if schedule == "cosine":
        return (1 + math.cos(math.pi * done)) / 2
    if schedule == "stable":
        return min(1.0, left / (1 - STABLE_SHARE))
    return left if schedule == "linear" else left**POLY_POWER
