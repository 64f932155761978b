"""The smoothed Dice against a plain sum, and the keys of checkpoint_latest.pt."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unetrpp.trainers.state import TrainingState

DICE = st.none() | st.floats(0, 1)
CLASSES = st.lists(st.tuples(DICE, DICE, DICE), max_size=30)


@given(st.lists(DICE, max_size=30))
def test_the_smoothed_dice_is_an_exponential_mean_of_the_defined_ones(scores):
    state = TrainingState()
    for score in scores:
        state.is_better([score])
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
        better.append(state.is_better([score]))
        smoothed.append(-1.0 if math.isnan(state.smoothed_dice) else state.smoothed_dice)
    assert better == [score > max([-1.0, *smoothed[:i]]) for i, score in enumerate(smoothed)]
    assert state.best_dice == max([-1.0, *smoothed])
    last = max((i + 1 for i, is_better in enumerate(better) if is_better), default=0)
    assert state.epochs_without_better == sum(score is not None for score in scores[last:])


@given(CLASSES)
def test_the_mean_is_over_the_last_known_value_of_every_class(epochs):
    state = TrainingState()
    for epoch in epochs:
        state.is_better(epoch)
    alone = []
    for scores in zip(*epochs, strict=True):
        one = TrainingState()
        for score in scores:
            one.is_better([score])
        alone.append(one.smoothed_dice)
    defined = [value for value in alone if not math.isnan(value)]
    if defined:
        assert state.smoothed_dice == pytest.approx(sum(defined) / len(defined))
    else:
        assert math.isnan(state.smoothed_dice)


def test_an_epoch_without_its_difficult_class_is_not_the_best():
    state = TrainingState()
    assert state.is_better([0.9, 0.1])
    assert not state.is_better([0.9, None])
    assert state.smoothed_dice == pytest.approx(0.5)


def test_epochs_without_any_dice_do_not_count_against_patience():
    state = TrainingState()
    assert not any(state.is_better([None, None]) for _ in range(9))
    assert (state.epochs_without_better, state.best_dice) == (0, -1.0)


def test_with_a_class_that_had_no_dice_before_the_comparison_starts_anew():
    state = TrainingState()
    state.is_better([0.9, None])
    assert state.is_better([0.9, 0.1])
    assert state.best_dice == pytest.approx(0.5)


def test_after_the_best_is_forgotten_the_next_one_is_better():
    state = TrainingState()
    state.is_better([0.9])
    state.forget_best()
    assert state.is_better([0.1])


def test_a_checkpoint_holds_every_field_under_its_known_key():
    state = TrainingState(7, [0.5, 0.25], 0.6, 0.7, 2, 12.5, [0.8, 0.4], compute_threads=1, cores=2)
    content = state.to_checkpoint()
    assert content == {
        "step": 7,
        "losses": [0.5, 0.25],
        "smoothed_dice": 0.6,
        "best_dice": 0.7,
        "epochs_without_better": 2,
        "seconds": 12.5,
        "class_dice": [0.8, 0.4],
        "compute_threads": 1,
        "cores": 2,
    }
    restored = TrainingState.from_checkpoint(content | {"network": {}, "optimizer": {}, "format": 1})
    assert restored == state
    restored.losses.append(1.0)
    assert state.losses == [0.5, 0.25]


def test_a_checkpoint_of_release_0_1_0_continues_from_its_mean():
    content = TrainingState(7, [], 0.6, 0.7, 2, 12.5).to_checkpoint()
    del content["class_dice"]
    state = TrainingState.from_checkpoint(content)
    assert not state.is_better([0.6, None])
    assert state.smoothed_dice == pytest.approx(0.6)
    assert (state.best_dice, state.epochs_without_better) == (0.7, 3)
