"""The learning-rate schedule: how far a run is, by steps or by the clock, and the rate at that point."""

from unetrpp.trainers.config import TrainingConfig

POLY_POWER = 0.9  # as in nnU-Net 2.8.1


def progress(config: TrainingConfig, step: int, hours: float = 0.0) -> float:
    """Share of the run that is done, by steps or by hours, whichever is larger."""
    return max(step / config.steps, hours / config.max_hours if config.max_hours else 0.0)


def learning_rate(config: TrainingConfig, step: int, hours: float = 0.0) -> float:
    """Linear warm-up, then poly decay: rate * (1 - progress) ** 0.9; in nnU-Net, of the progress at the epoch's start.

    >>> learning_rate(TrainingConfig(fold=0, epochs=1, iterations=10, learning_rate=1.0), 5)
    0.5358867312681466
    """
    if config.rate_changes == "every_epoch":
        step -= step % config.iterations
    warm = min(1.0, (step + 1) / config.warmup) if config.warmup else 1.0
    decay: float = max(0.0, 1 - progress(config, step, hours)) ** POLY_POWER
    return config.learning_rate * warm * decay
