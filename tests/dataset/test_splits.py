"""Folds compared with scikit-learn's."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import KFold

from unetrpp.dataset.splits import make_splits


def test_equal_to_scikit_learn_over_sorted_ids():
    cases = [f"case_{i:02d}" for i in range(23)]
    expected = KFold(5, shuffle=True, random_state=12345).split(np.arange(23))
    folds = make_splits(cases[::-1]).folds
    for fold, (train, validation) in zip(folds, expected, strict=True):
        assert fold.train == tuple(cases[i] for i in train)
        assert fold.validation == tuple(cases[i] for i in validation)


@settings(max_examples=40, deadline=None)
@given(count=st.integers(2, 30), patients=st.integers(2, 12))
def test_every_case_is_validated_once_and_no_patient_is_split(count, patients):
    cases = [f"c{i}" for i in range(count)]
    groups = {case: f"p{i % patients}" for i, case in enumerate(cases)}
    folds = make_splits(cases, groups).folds
    assert sorted(case for fold in folds for case in fold.validation) == sorted(cases)
    for fold in folds:
        assert not {groups[c] for c in fold.train} & {groups[c] for c in fold.validation}
        assert set(fold.train) | set(fold.validation) == set(cases)


def test_few_cases_are_left_out_one_by_one():
    assert [fold.validation for fold in make_splits(["a", "b", "c"]).folds] == [("a",), ("b",), ("c",)]
    assert make_splits(["a"]).folds == ()
    assert make_splits(["a", "b"], {"a": "p", "b": "p"}).folds == ()


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(2, 40),
    patients=st.integers(2, 40),
    rare=st.lists(st.sets(st.integers(0, 39), min_size=1, max_size=4), max_size=4),
)
def test_every_fold_trains_on_every_class_that_several_have(count, patients, rare):
    cases = [f"c{i:02d}" for i in range(count)]
    groups = {case: f"p{i % patients}" for i, case in enumerate(cases)}
    classes = {case: [f"class {k}" for k, those in enumerate(rare) if i in those] for i, case in enumerate(cases)}
    made = make_splits(cases, groups, classes)
    assert made == make_splits(cases[::-1], groups, dict(reversed(classes.items())))
    for k, those in enumerate(rare):
        having = {groups[case] for i, case in enumerate(cases) if i in those}
        for fold in made.folds:
            assert len(having) < 2 or any(f"class {k}" in classes[case] for case in fold.train)
    plain = make_splits(cases, groups)
    learned = all(
        len({groups[c] for c in cases if name in classes[c]}) < 2 or any(name in classes[c] for c in fold.train)
        for fold in plain.folds
        for name in (f"class {k}" for k in range(len(rare)))
    )
    assert (made.folds == plain.folds) == learned  # nnU-Net's own folds, if each trains on every class


def test_the_reason_for_other_folds_than_nnunets_is_recorded():
    cases = [f"case_{i:02d}" for i in range(20)]
    held = make_splits(cases).folds[2].validation[:2]
    made = make_splits(cases, classes={case: ["liver", "tumour"] if case in held else ["liver"] for case in cases})
    assert made.why == "20 cases shuffled with seed 12346; with 12345 a fold would hold out every case of tumour"
    assert make_splits(cases).why == "20 cases shuffled with seed 12345"
