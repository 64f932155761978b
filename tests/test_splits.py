"""Folds against scikit-learn's own, and the user's edits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import KFold

from unetrpp.errors import UserError
from unetrpp.files import write_json
from unetrpp.splits import Fold, Splits, make_splits, read_or_make_splits


def test_equal_to_scikit_learn_over_sorted_ids():
    cases = [f"case_{i:02d}" for i in range(23)]
    expected = KFold(5, shuffle=True, random_state=12345).split(np.arange(23))
    folds = make_splits(cases[::-1]).folds
    for fold, (train, validation) in zip(folds, expected, strict=True):
        assert fold.train == tuple(cases[i] for i in train)
        assert fold.validation == tuple(cases[i] for i in validation)


@settings(max_examples=40, deadline=None)
@given(count=st.integers(2, 30), patients=st.integers(2, 12))
def test_every_case_is_validated_once_and_no_patient_is_torn(count, patients):
    cases = [f"c{i}" for i in range(count)]
    groups = {case: f"p{i % patients}" for i, case in enumerate(cases)}
    folds = make_splits(cases, groups).folds
    assert sorted(case for fold in folds for case in fold.validation) == sorted(cases)
    for fold in folds:
        assert not {groups[c] for c in fold.train} & {groups[c] for c in fold.validation}
        assert set(fold.train) | set(fold.validation) == set(cases)


def test_few_cases_leave_one_out():
    assert [fold.validation for fold in make_splits(["a", "b", "c"]).folds] == [("a",), ("b",), ("c",)]
    with pytest.raises(UserError, match="needs two cases"):
        make_splits(["a"])


def test_edited_splits_are_kept_and_checked(tmp_path):
    path = tmp_path / "splits.json"
    own = Splits(folds=(Fold(train=("a", "b"), validation=("c",)),))
    write_json(path, own)
    assert read_or_make_splits(path, ["a", "b", "c"]) == own
    with pytest.raises(UserError, match="'c', which is no case"):
        read_or_make_splits(path, ["a", "b"])
    write_json(path, Splits(folds=(Fold(train=("a", "b"), validation=("b",)),)))
    with pytest.raises(UserError, match="trains and validates on 'b'"):
        read_or_make_splits(path, ["a", "b", "c"])
