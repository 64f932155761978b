"""The learning-rate schedule in closed form, by steps and by the clock."""

from functools import partial

import pytest
import torch

from unetrpp.trainers.config import TrainingConfig
from unetrpp.trainers.schedule import learning_rate, progress


def test_poly_decay_and_warm_up():
    config = TrainingConfig(fold=0, epochs=2, iterations=50, learning_rate=0.1, warmup=10)
    assert learning_rate(config, 0) == pytest.approx(0.01)
    assert learning_rate(config, 50) == pytest.approx(0.1 * 0.5**0.9)
    rates = [learning_rate(config, i) for i in range(10, 100)]
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("poly", torch.optim.lr_scheduler.PolynomialLR),
        ("linear", partial(torch.optim.lr_scheduler.PolynomialLR, power=1.0)),
        ("cosine", torch.optim.lr_scheduler.CosineAnnealingLR),
    ],
)
def test_schedules_are_those_of_torch(schedule, expected):
    config = TrainingConfig(fold=0, epochs=1, iterations=20, learning_rate=0.1, schedule=schedule)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    more = {"power": 0.9} if schedule == "poly" else {}
    scheduler = expected(optimizer, 20, **more)
    for step in range(20):
        assert learning_rate(config, step) == pytest.approx(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()


def test_a_stable_rate_falls_in_the_last_two_fifths():
    config = TrainingConfig(fold=0, epochs=1, iterations=10, learning_rate=1.0, schedule="stable")
    assert [learning_rate(config, step) for step in (0, 6, 8, 9)] == pytest.approx([1.0, 1.0, 0.5, 0.25])


def test_the_rate_may_change_once_an_epoch():
    """nnU-Net's PolyLRScheduler is stepped with the number of the epoch."""
    config = TrainingConfig(fold=0, epochs=4, iterations=5, learning_rate=0.01, rate_changes="every_epoch")
    expected = [0.01 * (1 - epoch / 4) ** 0.9 for epoch in range(4) for _ in range(5)]
    assert [learning_rate(config, step) for step in range(20)] == pytest.approx(expected)


def test_a_warm_up_rises_at_every_step_also_where_the_rate_changes_once_an_epoch():
    """Against torch's linear warm-up, which nnU-Net's rate of each epoch is multiplied by."""
    config = TrainingConfig(fold=0, epochs=4, iterations=5, learning_rate=0.01, rate_changes="every_epoch", warmup=8)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1 / 8, total_iters=7)
    for step in range(20):
        decayed = 0.01 * (1 - step // 5 / 4) ** 0.9
        assert learning_rate(config, step) == pytest.approx(scheduler.get_last_lr()[0] * decayed)
        optimizer.step()
        scheduler.step()


def test_progress_is_by_steps_or_by_hours_whichever_is_larger():
    config = TrainingConfig(fold=0, epochs=2, iterations=50, max_hours=2.0)
    assert (progress(config, 25, hours=0.1), progress(config, 25, hours=1.0)) == (0.25, 0.5)
    assert learning_rate(config, 25, hours=2.5) == 0.0
    assert progress(TrainingConfig(fold=0, epochs=2, iterations=50), 25, hours=100.0) == 0.25
