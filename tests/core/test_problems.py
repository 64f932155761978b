"""Problems of many cases in few lines: nothing is merged that differs, and every case is counted."""

import logging
import re

from hypothesis import given
from hypothesis import strategies as st

from unetrpp.core.parallel import CaseError, error_table
from unetrpp.core.problems import grouped


def test_two_hundred_cases_with_one_problem_are_one_line():
    errors = [CaseError(f"img{i:03}", "", f"img{i:03}.png has 4 channels, but 3 are named") for i in range(200)]
    assert error_table(errors).splitlines()[1:] == [
        "img000, img001, img002, img003, img004 and 195 more  CASE.png has 4 channels, but 3 are named"
    ]


def test_two_hundred_cases_with_other_numbers_are_one_line_and_few_are_not():
    many = [(f"i{i}", f"i{i}.png has transparent pixels ({i}%)") for i in range(200)]
    assert grouped(many) == [
        ("i0, i1, i2, i3, i4 and 195 more", "CASE.png has transparent pixels (0%) (the numbers of i0)")
    ]
    assert grouped(many[:5]) == many[:5]


def test_a_case_whose_id_is_a_word_of_the_message():
    assert grouped([(case, "has a hole") for case in "abcdef"]) == [("a, b, c, d, e and 1 more", "has a hole")]
    found = grouped([(case, f"{case}/{case}_t1.nii.gz is missing") for case in "abcdef"])
    assert found == [("a, b, c, d, e and 1 more", "CASE/CASE_t1.nii.gz is missing")]


def test_a_message_of_many_cases_is_not_mixed_with_other_numbers():
    problems = [(f"c{i}", "holds label 3") for i in range(6)] + [("d", "holds label 7")]
    assert grouped(problems) == [("c0, c1, c2, c3, c4 and 1 more", "holds label 3"), ("d", "holds label 7")]


def test_debug_lists_every_case():
    logger = logging.getLogger("unetrpp")
    before = logger.level
    logger.setLevel(logging.DEBUG)
    try:
        assert grouped([(case, "is odd") for case in "abcdef"]) == [(case, "is odd") for case in "abcdef"]
    finally:
        logger.setLevel(before)


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from(["is odd", "has 3", "has 4"])), max_size=40))
def test_every_problem_is_counted_once(problems):
    total = 0
    for cases, _ in grouped(problems):
        more = re.search(r" and (\d+) more$", cases)
        named = re.split(", | and ", cases[: more.start()] if more else cases)
        total += len(named) + (int(more[1]) if more else 0)
    assert total == len(problems)
