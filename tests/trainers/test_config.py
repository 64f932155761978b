"""The numbers of a training config."""

from unetrpp.trainers.config import TrainingConfig


def test_fold_all_has_a_number_of_its_own_for_seeding():
    assert TrainingConfig(fold="all").fold_number == -1
    assert TrainingConfig(fold=3).fold_number == 3
