"""Files of folds that the user edited or took from nnU-Net."""

import json
import re

import pytest

from unetrpp.core.errors import UserError
from unetrpp.core.files import read_json, write_json
from unetrpp.dataset.splits import Fold, Splits
from unetrpp.dataset.splits_file import read_or_make_splits, read_splits

CASES = ["a", "b", "c", "d"]


def nnunets(*folds):
    return [{"train": list(train), "val": list(val)} for train, val in folds]


def problems(tmp_path, content, cases=CASES, groups=None):
    """What planning says of the file; training says the same of all that needs no list of cases."""
    path = tmp_path / "splits.json"
    write_json(path, content)
    before = path.read_bytes()
    with pytest.raises(UserError) as planning:
        read_or_make_splits(path, cases, groups)
    assert path.read_bytes() == before
    assert str(planning.value).startswith(str(path))
    return str(planning.value)


def test_cases_in_no_fold_give_a_warning_and_split_groups_are_refused(tmp_path, caplog):
    path = tmp_path / "splits.json"
    read_or_make_splits(path, CASES)
    assert not caplog.messages
    read_or_make_splits(path, [*CASES, "e"])
    (missing,) = caplog.messages
    assert "1 of 5 cases is in no fold, such as e" in missing
    groups = {"a": "p", "b": "p", "c": "q", "d": "q"}
    split = "folds train and validate on cases of one group, such as p and q, .*; delete the file to have it made again"
    with pytest.raises(UserError, match=split):
        read_or_make_splits(path, [*CASES, "e"], groups)
    with pytest.raises(UserError, match=split):
        read_splits(path, groups)


def test_nnunets_file_under_its_own_name_is_not_read_and_a_warning_says_so(tmp_path, caplog):
    theirs = tmp_path / "splits_final.json"
    write_json(theirs, nnunets(("abc", "d"), ("bcd", "a")))
    read_or_make_splits(tmp_path / "splits.json", CASES)
    (warning,) = caplog.messages
    assert "splits_final.json is not read; rename it to splits.json" in warning
    caplog.clear()
    (tmp_path / "splits.json").write_bytes(theirs.read_bytes())
    read_or_make_splits(tmp_path / "splits.json", CASES)
    read_or_make_splits(tmp_path / "splits.json", CASES)  # rewritten by now
    assert not [message for message in caplog.messages if "is not read" in message]


def test_folds_are_made_when_there_are_enough_cases(tmp_path):
    path = tmp_path / "splits.json"
    assert read_or_make_splits(path, ["a"]).folds == ()
    assert len(read_or_make_splits(path, ["a", "b"]).folds) == 2


def test_edited_splits_are_kept_and_checked(tmp_path):
    path = tmp_path / "splits.json"
    own = Splits(folds=(Fold(train=("a", "b"), validation=("c",)),))
    write_json(path, own)
    assert read_or_make_splits(path, ["a", "b", "c"]) == own
    with pytest.raises(UserError, match="'c', which is not a case"):
        read_or_make_splits(path, ["a", "b"])
    write_json(path, Splits(folds=(Fold(train=("a", "b"), validation=("b",)),)))
    with pytest.raises(UserError, match="trains and validates on 'b'"):
        read_or_make_splits(path, ["a", "b", "c"])


def test_nnunets_file_is_accepted(tmp_path):
    path = tmp_path / "splits.json"
    write_json(path, [{"train": ["a", "b"], "val": ["c"]}, {"train": ["b", "c"], "val": ["a"]}])
    folds = (Fold(train=("a", "b"), validation=("c",)), Fold(train=("b", "c"), validation=("a",)))
    assert read_splits(path).folds == folds
    splits = read_or_make_splits(path, ["a", "b", "c"])
    assert splits.folds == folds
    assert read_json(path, Splits) == splits
    assert read_or_make_splits(path, ["a", "b", "c"]) == splits
    write_json(path, [{"train": ["a"], "test": ["b"]}])
    with pytest.raises(UserError, match="test"):
        read_or_make_splits(path, ["a", "b"])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (nnunets(("abcd", "")), "fold 0 has no validation case; .*train the fold all"),
        (nnunets(("", "ab")), "fold 0 has no training case"),
        (nnunets(("aab", "c")), "fold 0 lists 'a' more than once"),
        (nnunets(("ab", "cc")), "fold 0 lists 'c' more than once"),
        (nnunets(("abc", "bcd")), "fold 0 trains and validates on 'b' and 'c'; a case may be in only one of the two"),
        (nnunets(("ab", "xyzuv")), "the folds name 'u', 'v', 'x' and 2 more, which are not cases of the dataset"),
        ([], "it lists no fold"),
        ({"folds": []}, "it lists no fold"),
        ({"folds": [], "fold": 1}, "unknown field `fold`"),
        ({"folds": {"0": ["a"]}}, r"Expected `array`, got `object` - at `\$.folds`; delete the file"),
        ([*nnunets(("ab", "c")), "d"], r"Expected `object`, got `str` - at `\$\[1\]`; delete the file"),
        ([{"train": "ab", "val": ["c"]}], r"at `\$\[0\].train`; delete the file"),
        ([{"train": [1, 2], "val": ["c"]}], r"Expected `str`, got `int` - at `\$\[0\].train\[0\]`"),
        ([{"train": ["a"], "val": None}], r"at `\$\[0\].val`"),
        ("abc", "Expected `object`, got `str`"),
    ],
)
def test_folds_that_cannot_be_trained_are_refused(tmp_path, content, words):
    assert re.search(words, problems(tmp_path, content))


def test_all_problems_are_named_at_once(tmp_path):
    message = problems(tmp_path, nnunets(("", "ab"), ("cd", ""), ("aa", "ae")))
    assert message.count("\n- ") == 5
    for words in ("errors:", "fold 0 has no tr", "fold 1 has no val", "fold 2 lists 'a'", "fold 2 trains", "name 'e'"):
        assert words in message


def test_a_case_given_as_its_file_is_recognised(tmp_path):
    message = problems(tmp_path, nnunets((["case_00.nii.gz"], ["case_07"])), ["case_00", "case_01"])
    assert "'case_00.nii.gz' (did you mean case_00?) and 'case_07', which are not cases" in message


def test_a_key_given_twice_is_refused(tmp_path):
    path = tmp_path / "splits.json"
    path.write_text('[{"train": ["a"], "val": ["b"], "train": ["c"]}]')
    with pytest.raises(UserError, match="the key 'train' is given twice"):
        read_or_make_splits(path, CASES)


def test_what_is_allowed_but_may_not_be_meant_gives_a_warning(tmp_path, caplog):
    path = tmp_path / "splits.json"
    path.write_text(json.dumps(nnunets(("ab", "cd"), ("ad", "c"), ("cd", "ab"))))
    classes = {"a": ["liver"], "b": ["liver"], "c": ["liver", "tumour"], "d": ["liver", "tumour", "cyst"]}
    assert len(read_or_make_splits(path, CASES, classes=classes).folds) == 3
    twice, unlearned = caplog.messages
    assert "c is held out by more than one fold; only the score of the first of these folds counts" in twice
    assert "fold 0 has no training case of tumour, so it cannot learn" in unlearned  # cyst: no fold could do better
