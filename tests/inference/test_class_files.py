"""Names of the files of single classes."""

import pytest

from unetrpp.inference.class_files import class_file_names


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("../secret", "_._secret"),
        (".hidden", "_hidden"),
        ("a\\b", "a_b"),
        ("con*?", "con__"),
        ("肝臓", "肝臓"),
        ("end.", "end_"),
        ("Aux", "_Aux"),
    ],
)
def test_names_that_file_systems_take(name, file):
    assert class_file_names((name,)) == {name: file}


def test_names_that_differ_in_case_or_in_what_is_replaced_get_files_of_their_own():
    names = ("Liver", "liver", "a/b", "a:b", "a_b", "x" * 300, "x" * 301)
    files = class_file_names(names)
    assert len({file.casefold() for file in files.values()}) == len(names)
    assert max(map(len, files.values())) <= 103
