"""Formatting for messages and reports: tables with aligned columns, sizes, lengths, amounts of memory, scores."""

import os
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from unicodedata import normalize

GIGABYTE = 1024**3
MOST_SCORES = 6  # of classes that a line names one by one


def text_table(rows: Sequence[Sequence[str]], align: str = "lr", indent: str = "") -> str:
    """Columns as wide as their widest cell, two spaces apart.

    Args:
        rows: the header first; all of one length.
        align: "l" or "r" for each column; the last letter holds for all further columns.

    >>> print(text_table([("case", "Dice"), ("a", "0.913"), ("long", "-")]))
    case   Dice
    a     0.913
    long      -
    """
    if not rows:
        return ""
    sides = align.ljust(len(rows[0]), align[-1])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = (
        indent
        + "  ".join(c.ljust(w) if side == "l" else c.rjust(w) for c, w, side in zip(row, widths, sides, strict=True))
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def counted(n: float, singular: str, plural: str = "") -> str:
    """A number with its noun.

    >>> counted(1, "case"), counted(2, "case"), counted(0, "axis", "axes")
    ('1 case', '2 cases', '0 axes')
    """
    return f"{n:g} {singular if n == 1 else plural or singular + 's'}"


def counted_of(n: int, total: int, noun: str, verb: str) -> str:
    """How many of a total, and the verb of the sentence, given as "singular/plural".

    >>> counted_of(1, 5, "case", "is/are"), counted_of(2, 5, "case", "has/have"), counted_of(1, 1, "case", "is/are")
    ('1 of 5 cases is', '2 of 5 cases have', '1 of 1 case is')
    """
    singular, plural = verb.split("/")
    return f"{n} of {counted(total, noun)} {singular if n == 1 else plural}"


def listed(names: Sequence[str], most: int = 3, last: str = "and") -> str:
    """The first names of a list, and how many more there are.

    >>> listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c", "d", "e"])
    ('a', 'a and b', 'a, b, c and 2 more')
    >>> listed(["a", "b", "c"], last="or")
    'a, b or c'
    """
    shown = [*names[:most], *([f"{len(names) - most} more"] if len(names) > most else [])]
    return f" {last} ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)


def without_repetition(sentences: Iterable[str]) -> list[str]:
    """Of sentences that differ only in numbers and in names in quotes, the first, with the names of the others.

    >>> without_repetition(["'a' may vanish at 2 mm", "planes are mixed", "'b' may vanish at 3 mm"])
    ["'a' may vanish at 2 mm (likewise 'b')", 'planes are mixed']
    """
    alike: dict[str, list[str]] = {}
    for sentence in sentences:
        alike.setdefault(re.sub(r"'[^']*'|\d[\d.e+-]*", "", sentence), []).append(sentence)
    return [_with_names(*group) for group in alike.values()]


def _with_names(first: str, *others: str) -> str:
    names = [found[0] for other in others if (found := re.search(r"'[^']*'", other))]
    if not others:
        return first
    return (
        f"{first} (likewise {listed(names)})"
        if names
        else f"{first} (and {counted(len(others), 'time')} more, with other numbers)"
    )


def format_shape(values: Sequence[float]) -> str:
    """
    >>> format_shape((40, 56, 40.5))
    '40 x 56 x 40.5'
    """
    return " x ".join(f"{v:g}" for v in values)


def format_mm(values: Sequence[float]) -> str:
    """
    >>> format_mm((2.5, 0.8871, 0.8871))
    '2.5 x 0.8871 x 0.8871 mm'
    """
    return " x ".join(f"{v:.4g}" for v in values) + " mm"


def three_digits(value: float) -> str:
    """Three significant digits, written out up to a million.

    >>> three_digits(2342.7), three_digits(0.91349), three_digits(27)
    ('2340', '0.913', '27')
    """
    return f"{float(f'{value:.3g}'):g}"


def format_range(low: float, high: float, unit: str) -> str:
    """
    >>> format_range(0.9, 1.1, "ml"), format_range(27, 27.0000001, "mm"), format_range(118, 2342.7, "ml")
    ('0.9 to 1.1 ml', '27 mm', '118 to 2340 ml')
    """
    first, last = three_digits(low), three_digits(high)
    return f"{first} {unit}" if first == last else f"{first} to {last} {unit}"


def format_bytes(count: float) -> str:
    """
    >>> format_bytes(7.6 * GIGABYTE), format_bytes(30_000_000)
    ('7.6 GB', '29 MB')
    """
    return f"{count / GIGABYTE:.1f} GB" if count >= GIGABYTE else f"{count / 1024**2:.0f} MB"


def format_score(value: float | None) -> str:
    """Three decimals; a dash where the score is undefined.

    >>> format_score(0.91349), format_score(None)
    ('0.913', '-')
    """
    return "-" if value is None else f"{value:.3f}"


def scores_text(scores: Mapping[str, float | None], mean: float | None) -> str:
    """The scores of classes by name, and their mean; of more than ``MOST_SCORES`` the mean, the lowest three, and how many
    are undefined.

    >>> scores_text({"organ": 0.91}, 0.91), scores_text({"liver": 0.93, "tumour": 0.49}, 0.71)
    ('organ 0.910', 'mean 0.710 (liver 0.930, tumour 0.490)')
    >>> scores_text({"a": 0.1, "b": 0.4, "c": 0.3, "d": 0.2, "e": None, "f": None, "g": None}, 0.25)
    'mean 0.250 (lowest: a 0.100, d 0.200, c 0.300; 3 of 7 undefined)'
    """
    if len(scores) > MOST_SCORES:
        return f"mean {format_score(mean)} ({_extremes(scores)})"
    named = ", ".join(f"{name} {format_score(value)}" for name, value in scores.items())
    return named if len(scores) == 1 else f"mean {format_score(mean)} ({named})"


def _extremes(scores: Mapping[str, float | None]) -> str:
    """The lowest three scores, and how many are undefined."""
    defined = sorted(((v, name) for name, v in scores.items() if v is not None), key=lambda pair: pair[0])
    lowest = ", ".join(f"{name} {value:.3f}" for value, name in defined[:3])
    undefined = f"{len(scores) - len(defined)} of {len(scores)} undefined" if len(defined) < len(scores) else ""
    return "; ".join(part for part in (lowest and f"lowest: {lowest}", undefined) if part)


def escaped(text: str) -> str:
    r"""A file name for a message: bytes that are not UTF-8 and characters that would break the line are escaped.

    >>> print(escaped("a\nb"), escaped("M\udcfcller"), escaped("Müller"))
    a\nb M\xfcller Müller
    """
    text = os.fsencode(text).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def composed(name: str) -> str:
    r"""A file name in Unicode's composed form (NFC), by which names are compared: macOS may have written it decomposed (NFD).

    >>> composed("e\u0301") == "\u00e9"
    True
    """
    return normalize("NFC", name)


def is_utf8(name: str) -> bool:
    """Whether a file name can be written into a record; an archive from another system may hold others."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def recordable(path: str) -> str:
    """A path as a record can hold it: escaped where it is not UTF-8."""
    return path if is_utf8(path) else escaped(path)


def quoted(value: object) -> str:
    """As every shell takes it; a POSIX shell also where it would expand or run a part of it.

    >>> quoted("liver"), quoted("my liver"), quoted("KiTS(kidney)")
    ('liver', '"my liver"', '"KiTS(kidney)"')
    """
    text = str(value)
    if os.name == "posix" and set(text) & set('$`"\\!'):
        return shlex.quote(text)
    return text if re.fullmatch(r"[\w./\\:+@=,-]+", text) else f'"{text}"'
