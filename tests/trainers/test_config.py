"""The learning-rate schedule of a training config, its limits and its numbers."""

import pytest

from unetrpp.trainers.config import TrainingConfig


def test_poly_decay_and_warm_up():
    config = TrainingConfig(fold=0, epochs=2, iterations=50, learning_rate=0.1, warmup=10)
    assert config.learning_rate_at(0) == pytest.approx(0.01)
    assert config.learning_rate_at(50) == pytest.approx(0.1 * 0.5**0.9)
    rates = [config.learning_rate_at(i) for i in range(10, 100)]
    assert rates == sorted(rates, reverse=True)


def test_progress_is_by_steps_or_by_hours_whichever_is_further():
    config = TrainingConfig(fold=0, epochs=2, iterations=50, max_hours=2.0)
    assert (config.progress(25, hours=0.1), config.progress(25, hours=1.0)) == (0.25, 0.5)
    assert config.learning_rate_at(25, hours=2.5) == 0.0
    assert TrainingConfig(fold=0, epochs=2, iterations=50).progress(25, hours=100.0) == 0.25


def test_fold_all_has_a_number_of_its_own_for_seeding():
    assert TrainingConfig(fold="all").fold_number == -1
    assert TrainingConfig(fold=3).fold_number == 3
