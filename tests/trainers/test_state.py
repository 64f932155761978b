"""The smoothed Dice against a plain sum, and the keys of checkpoint_latest.pt."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unetrpp.trainers.state import TrainingState

DICE = st.none() | st.floats(0, 1)


@given(st.lists(DICE, max_size=30))
def test_the_smoothed_dice_is_an_exponential_mean_of_the_defined_ones(scores):
    state = TrainingState()
    for score in scores:
        state.is_better(score)
    defined = [score for score in scores if score is not None]
    if not defined:
        assert math.isnan(state.smoothed_dice)
        return
    first, *later = defined  # 0.9^n of the first, 0.1 * 0.9^(n - 1 - i) of the i-th later one
    expected = 0.9 ** len(later) * first
    expected += sum(0.1 * 0.9 ** (len(later) - 1 - i) * score for i, score in enumerate(later))
    assert state.smoothed_dice == pytest.approx(expected)


@given(st.lists(DICE, max_size=30))
def test_the_best_is_the_largest_so_far_and_epochs_since_it_are_counted(scores):
    state, smoothed, better = TrainingState(), [], []
    for score in scores:
        better.append(state.is_better(score))
        smoothed.append(-1.0 if math.isnan(state.smoothed_dice) else state.smoothed_dice)
    assert better == [score > max([-1.0, *smoothed[:i]]) for i, score in enumerate(smoothed)]
    assert state.best_dice == max([-1.0, *smoothed])
    last = max((i + 1 for i, is_better in enumerate(better) if is_better), default=0)
    assert state.epochs_without_better == len(scores) - last


def test_after_the_best_is_forgotten_the_next_one_is_better():
    state = TrainingState()
    state.is_better(0.9)
    state.forget_best()
    assert state.is_better(0.1)


def test_a_checkpoint_holds_every_field_under_its_known_key():
    state = TrainingState(7, [0.5, 0.25], 0.6, 0.7, 2, 12.5)
    content = state.to_checkpoint()
    assert content == {
        "step": 7,
        "losses": [0.5, 0.25],
        "smoothed_dice": 0.6,
        "best_dice": 0.7,
        "epochs_without_better": 2,
        "seconds": 12.5,
    }
    restored = TrainingState.from_checkpoint(content | {"network": {}, "optimizer": {}, "format": 1})
    assert restored == state
    restored.losses.append(1.0)
    assert state.losses == [0.5, 0.25]
