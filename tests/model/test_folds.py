"""Names of folds: what a command line or a call may give, and how folds are spelled back."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unetrpp.core.errors import UserError
from unetrpp.model.folds import fold_names, spell_folds


@given(st.sets(st.integers(0, 30)), st.booleans())
def test_what_is_spelled_reads_back(numbers, with_all):
    names = [*map(str, sorted(numbers)), *(["all"] if with_all else [])]
    assert fold_names(spell_folds(names).split()) == names


@given(st.lists(st.integers(0, 9)))
def test_numbers_may_be_of_any_type_and_count_once(numbers):
    expected = [str(n) for i, n in enumerate(numbers) if n not in numbers[:i]]
    for spelled in (numbers, [str(n) for n in numbers], [f"fold_{n}" for n in numbers], tuple(numbers)):
        assert fold_names(spelled) == expected


def test_a_range_counts_both_ends():
    assert fold_names(["0-2", "4"]) == fold_names(["0", "1-2", 4]) == ["0", "1", "2", "4"]
    assert fold_names("fold_1-2") == ["1", "2"]
    assert fold_names(range(3)) == ["0", "1", "2"]


@pytest.mark.parametrize("text", ["All", "x", "", "3-1", "-1", "0-", "0,1", "1.0", "fold_", "0-1-2", "99999", " 0"])
def test_what_is_no_fold_is_refused_by_its_name(text):
    with pytest.raises(UserError, match=f"fold '{text}' does not exist; give numbers, ranges such as 0-4, or fold_all"):
        fold_names([0, text])
