"""The problems of many cases in few lines: cases with the same problem share one."""

import logging
import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from unetrpp.core.text import listed

SHOWN = 5  # cases with one problem that have a line each; of more, those that their line names
ANY_CASE = "CASE"  # in place of a case's id in the names of its files
NUMBER = re.compile(r"\d+(?:\.\d+)?")


def grouped(problems: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """(case, message) for a table, in the order given: many cases with the same message share a line that names a few.

    Up to five cases keep a line each. Names of files count as the same where they differ by the case's id only. Many messages
    that differ in their numbers only share a line, too, which has the numbers of the first case. With ``--debug`` every case
    has a line of its own.

    >>> grouped([("a1", "a1.png is empty"), ("b2", "b2.png is empty")])
    [('a1', 'a1.png is empty'), ('b2', 'b2.png is empty')]
    >>> grouped([(f"c{i}", f"c{i}.png has {i % 2} channels") for i in range(7)])
    [('c0, c1, c2, c3, c4 and 2 more', 'CASE.png has 0 channels (the numbers of c0)')]
    """
    given = list(problems)
    if logging.getLogger("unetrpp").isEnabledFor(logging.DEBUG):
        return given
    texts = [_without_case(case, message) for case, message in given]
    kinds = [NUMBER.sub("#", text) for text in texts]
    equal = Counter(texts)
    # Where many cases share a message to the letter it has a line of its own, whatever others differ in numbers only.
    alike = Counter(kind for kind, text in zip(kinds, texts, strict=True) if equal[text] <= SHOWN)
    members: dict[str, list[int]] = {}
    for i, (text, kind) in enumerate(zip(texts, kinds, strict=True)):
        key = f"={text}" if equal[text] > SHOWN else f"#{kind}" if alike[kind] > SHOWN else str(i)
        members.setdefault(key, []).append(i)
    return [_line([given[i] for i in found], {texts[i] for i in found}, texts[found[0]]) for found in members.values()]


def _line(members: Sequence[tuple[str, str]], texts: Collection[str], first: str) -> tuple[str, str]:
    if len(members) == 1:
        return members[0]
    cases = [case for case, _ in members]
    return listed(cases, SHOWN), first if len(texts) == 1 else f"{first} (the numbers of {cases[0]})"


def _without_case(case: str, message: str) -> str:
    """The message with another word in place of the case's id where that begins the name of a file or folder."""
    return re.sub(rf"(?<!\w){re.escape(case)}(?=[_./])", ANY_CASE, message) if case else message
