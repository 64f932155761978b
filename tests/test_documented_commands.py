"""Every command that README and docs/ show as a line of code is one that the parsers take."""

import re
import shlex
from pathlib import Path

import pytest

from tests.test_options import PARSERS

ROOT = Path(__file__).parent.parent
LINE = re.compile(r"(?: {4}|)(unetrpp_\w+ .*)")


def commands():
    """(page, arguments), of fenced and indented blocks; continued lines joined, comments left out; no synopses and no loops."""
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = page.read_text(encoding="utf8").replace("\\\n", " ")
        for line in text.splitlines():
            if (found := LINE.fullmatch(line)) and not {"$", "["} & set(line):
                yield page.name, shlex.split(found[1], comments=True)


@pytest.mark.parametrize(("page", "command"), [pytest.param(p, c, id=f"{p}: {' '.join(c)}") for p, c in commands()])
def test_the_parsers_take_it(page, command):
    name, *arguments = command
    key = name.removeprefix("unetrpp_").replace("_", "-")
    if key == "convert":
        key = f"convert {arguments.pop(0)}"
        if key == "convert list":
            assert not arguments
            return
    if "--help" not in arguments:
        PARSERS[key]().parse_args(arguments)
