"""Any layout in which one name leads to a case's images and its label."""

import re
from collections.abc import Sequence
from pathlib import Path

from unetrpp.core.errors import UserError
from unetrpp.core.parallel import CaseError, error_table
from unetrpp.dataset.description import read_labels
from unetrpp.dataset_conversion.source import Source, SourceCase
from unetrpp.io.formats import ending_of, strip_ending

CASE = "{case}"


def read_folder(
    root: Path,
    images: Sequence[str],
    labels: str,
    channel_names: Sequence[str],
    label_values: dict[str, int],
    test_images: Sequence[str] = (),
) -> Source:
    """Pair images and labels by case.

    Every pattern is a folder under ``root`` (its file names are the cases) or a path with ``{case}`` in it.
    ``images`` has one pattern, or one a channel.

    Raises:
        UserError: patterns and channels disagree, or a case lacks a file (a table names all of them).
    """
    if not root.is_dir():
        raise UserError(f"{root} is no folder; check the path")
    for given in (images, test_images):
        if given and len(given) not in (1, len(channel_names)):
            raise UserError(f"{len(given)} image folders for {len(channel_names)} channels; give one, or one a channel")
    found = [find_cases(root, pattern) for pattern in images]
    found_labels = find_cases(root, labels)
    found_tests = [find_cases(root, pattern) for pattern in test_images]
    _require_complete([*found, found_labels], [*images, labels])
    _require_complete(found_tests, test_images)
    both = sorted(found_labels.keys() & (found_tests[0] if found_tests else {}).keys())
    if both:
        raise UserError("stands among the training and the test images; rename one of the two", case=both[0])
    cases = [SourceCase(c, tuple(f[c] for f in found), label) for c, label in sorted(found_labels.items())]
    if found_tests:
        cases += [SourceCase(c, tuple(f[c] for f in found_tests), None) for c in sorted(found_tests[0])]
    return Source(
        channel_names=tuple(channel_names),
        labels=read_labels(Path("--label"), {"background": 0} | label_values, None),
        cases=tuple(cases),
    )


def find_cases(root: Path, pattern: str) -> dict[str, Path]:
    """Case -> file for a folder or a pattern such as ``{case}/t1.nii.gz`` (``*`` stands for any part of a name).

    Raises:
        UserError: nothing matches, or two files answer to one case.
    """
    if CASE not in pattern:
        pattern = (Path(pattern) / CASE).as_posix()
    matches: dict[str, list[Path]] = {}
    expression = _expression(pattern)
    for path in sorted(root.rglob("*")):
        match = expression.fullmatch(path.relative_to(root).as_posix())
        if match and ending_of(path) and not path.name.startswith(".") and path.is_file():
            matches.setdefault(strip_ending(match["case"]), []).append(path)
    if not matches:
        raise UserError(
            f"{root} has no image that fits {pattern!r} (where {CASE} stands for the case); check the folder or the pattern"
        )
    for case, paths in matches.items():
        if len(paths) > 1:
            raise UserError(f"{paths[0].name} and {paths[1].name} both fit {pattern!r}; narrow the pattern", case=case)
    return {case: paths[0] for case, paths in matches.items()}


def _expression(pattern: str) -> re.Pattern[str]:
    """
    >>> bool(_expression("{case}/{case}_t1.nii.gz").fullmatch("a1/a1_t1.nii.gz"))
    True
    """
    first, *rest = (re.escape(part).replace(r"\*", "[^/]*") for part in pattern.split(CASE))
    return re.compile(first + "(?P<case>[^/]+)" + "(?P=case)".join(rest))


def _expected(pattern: str, case: str) -> str:
    return pattern.replace(CASE, case) if CASE in pattern else f"{Path(pattern).as_posix()}/{case}.*"


def _require_complete(found: Sequence[dict[str, Path]], patterns: Sequence[str]) -> None:
    everything = set().union(*found) if found else set()
    missing = [
        CaseError(case, "pairing", f"{_expected(pattern, case)} is missing")
        for files, pattern in zip(found, patterns, strict=True)
        for case in everything - files.keys()
    ]
    if missing:
        raise UserError(
            f"{len(missing)} files are missing; add them, or remove what has no partner\n{error_table(missing)}"
        )
