"""Which files of a folder belong to which case: images with labels or masks, and test cases."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import TypeAlias

from unetrpp.core.errors import UserError
from unetrpp.core.parallel import CaseError, error_table
from unetrpp.core.text import counted, escaped, listed
from unetrpp.dataset_conversion.own_folder.patterns import CASE, GROUP, LABEL, Pattern, Tree, not_used
from unetrpp.dataset_conversion.source import Mask, SourceCase

BACKGROUND = "background"
Files: TypeAlias = Mapping[str, Sequence[Path]]  # of one pattern: case -> what matches


@dataclass(frozen=True)
class Layout:
    """Where the files of the cases are: patterns, see :class:`Pattern`.

    ``images`` and ``test_images`` have one pattern, or one per channel. Either ``labels`` or ``masks`` is given.
    """

    images: Sequence[str]
    labels: str | None = None
    masks: Mapping[str, str] | str | None = None  # class -> pattern, or one pattern with {label}
    allow_missing_masks: bool = False
    test_images: Sequence[str] = ()
    test_labels: str | None = None

    def require_sound(self, channels: int) -> None:
        """
        Args:
            channels: 0 where the files will tell.

        Raises:
            UserError: patterns that contradict each other or do not fit the number of channels.
        """
        for given in (self.images, self.test_images):
            if channels and given and len(given) not in (1, channels):
                raise UserError(
                    f"{len(given)} image folders for {counted(channels, 'channel')}; give one, or one per channel"
                )
        if (self.labels is None) == (self.masks is None):
            raise UserError("give either --labels (one label map a case) or --masks (a file for every class of a case)")
        if self.allow_missing_masks and self.masks is None:
            raise UserError("--allow-missing-masks is for --masks; give both or neither")
        if self.test_labels is not None and not self.test_images:
            raise UserError(
                "--test-labels are the labels of --test-images; give both, or hold cases back with --hold-out"
            )
        if isinstance(self.masks, str) and LABEL not in self.masks:
            raise UserError(f"--masks {self.masks!r} names no class; write NAME=PATH, or a path with {LABEL} in it")
        if isinstance(self.masks, Mapping) and any(LABEL in text for text in self.masks.values()):
            raise UserError(f"a path of --masks has both a NAME and {LABEL}; give one of the two")


@dataclass(frozen=True)
class Found:
    """The cases of a folder, and what is left out of it: name -> reason and repair.

    ``classes`` are those of masks, in order; ``groups`` name the patient of cases whose paths do.
    """

    cases: tuple[SourceCase, ...]
    left_out: Mapping[str, str]
    classes: tuple[str, ...] = ()
    groups: Mapping[str, str] = field(default_factory=dict)


def find_cases(root: Path, layout: Layout, *, skip_unreadable: bool, workspace: Path) -> Found:
    """Pair images and labels by case; what lies in the ``workspace`` is not named as left out.

    Raises:
        UserError: a pattern matches nothing, or a case lacks a file or has several (a table names all of them).
    """
    images, tests = ([Pattern(root, text) for text in given] for given in (layout.images, layout.test_images))
    labels, test_labels = (
        [] if text is None else [Pattern(root, text)] for text in (layout.labels, layout.test_labels)
    )
    tree = Tree()
    files = {pattern: pattern.files(tree) for pattern in (*images, *labels, *tests, *test_labels)}
    masks = _find_masks(root, layout.masks, tree)
    mask_cases = {case for _, of_class in masks.values() for case in of_class}
    found, unpaired = _paired({pattern: files[pattern] for pattern in (*images, *labels)}, mask_cases)
    painted, unpainted = _masks_of(masks, found, layout.allow_missing_masks)
    found_tests, unpaired_tests = _paired({pattern: files[pattern] for pattern in (*tests, *test_labels)})
    unpaired = [*unpaired, *unpainted, *unpaired_tests]
    if unpaired and not skip_unreadable:
        raise _refusal(unpaired, _named_otherwise(images + labels, files))
    both = sorted(found.keys() & found_tests.keys())
    if both:
        raise UserError("is both a training and a test case; rename one of the two", case=both[0])
    groups = {case: group for pattern in images for case, group in pattern.groups(tree).items()}
    _require_apart(groups, {case: group for pattern in tests for case, group in pattern.groups(tree).items()})
    cases = [
        _case(case, paths, bool(labels), masks=painted.get(case, ()))
        for case, paths in sorted(found.items())
        if case in painted or not masks
    ]
    cases += [_case(case, paths, bool(test_labels), test=True) for case, paths in sorted(found_tests.items())]
    if all(case.test for case in cases):
        raise _refusal(unpaired)
    matched = {path for of_pattern in files.values() for paths in of_pattern.values() for path in paths}
    matched |= {path for _, of_class in masks.values() for paths in of_class.values() for path in paths}
    patterns = list(dict.fromkeys([*files, *(pattern for pattern, _ in masks.values())]))
    left_out = not_used(patterns, matched, workspace, tree) | {escaped(error.case): error.message for error in unpaired}
    return Found(
        tuple(cases), left_out, tuple(masks), {case.id: groups[case.id] for case in cases if case.id in groups}
    )


def _require_apart(training: Mapping[str, str], tests: Mapping[str, str]) -> None:
    """
    Raises:
        UserError: a group has training and test cases.
    """
    known = {group: case for case, group in training.items()}
    if torn := next((case for case, group in tests.items() if group in known), None):
        other = known[tests[torn]]
        raise UserError(
            f"is a test case of {tests[torn]}, of which {other} is a training case; move one of them", case=torn
        )


def _case(
    case: str, files: Sequence[Path], labelled: bool, *, masks: Sequence[Mask] = (), test: bool = False
) -> SourceCase:
    images, label = (files[:-1], files[-1]) if labelled else (files, None)
    return SourceCase(case, tuple(images), label, tuple(masks), test)


def _paired(
    found: Mapping[Pattern, Files], more: Collection[str] = ()
) -> tuple[dict[str, tuple[Path, ...]], list[CaseError]]:
    """Case -> its file of every pattern, and what is wrong with the cases that lack one or have several of one.

    ``more`` are cases that are known by other files.
    """
    everything = sorted(set(more).union(*found.values()))
    problems: list[CaseError] = []
    for pattern, files in found.items():
        for case in everything:
            paths = files.get(case, [])
            if not paths:
                problems.append(CaseError(case, "pairing", f"{escaped(pattern.expected(case))} is missing"))
            elif len(paths) > 1:
                problems.append(CaseError(case, "pairing", _several(paths, pattern)))
    wrong = {problem.case for problem in problems}
    return {
        case: tuple(files[case][0] for files in found.values()) for case in everything if case not in wrong
    }, problems


def _several(paths: Sequence[Path], pattern: Pattern) -> str:
    names = " and ".join(escaped(path.name) for path in paths[:2])
    return f"{names} both match {pattern.text!r}; narrow the pattern, or rename one"


def _find_masks(root: Path, masks: Mapping[str, str] | str | None, tree: Tree) -> dict[str, tuple[Pattern, Files]]:
    """Class -> its pattern and files, in the order of the values: as given, or of ``{label}`` by name.

    Raises:
        UserError: a pattern matches nothing, or a class is the background.
    """
    if masks is None:
        return {}
    found: dict[str, tuple[Pattern, Files]]
    if isinstance(masks, str):
        whole = Pattern(root, masks)
        found = {label: (whole, files) for label, files in sorted(whole.files_by_label(tree).items())}
    else:
        patterns = {name: Pattern(root, text) for name, text in masks.items()}
        found = {name: (pattern, pattern.files(tree)) for name, pattern in patterns.items()}
    if BACKGROUND in found:
        raise UserError("--masks has a mask of the background, which is what no mask covers; leave it out")
    return found


def _masks_of(
    masks: Mapping[str, tuple[Pattern, Files]], cases: Collection[str], allow_missing: bool
) -> tuple[dict[str, tuple[Mask, ...]], list[CaseError]]:
    """Case -> its masks, valued 1, 2, ... in the order of the classes, and what is wrong with the others."""
    found: dict[str, tuple[Mask, ...]] = {}
    problems: list[CaseError] = []
    for case in sorted(cases) if masks else ():
        several = [_several(files[case], p) for p, files in masks.values() if len(files.get(case, ())) > 1]
        missing = [name for name, (_, files) in masks.items() if case not in files]
        if several:
            problems += [CaseError(case, "pairing", text) for text in several]
        elif missing and (not allow_missing or len(missing) == len(masks)):
            problems.append(CaseError(case, "pairing", _missing(case, missing, masks)))
        else:
            values = enumerate(masks.items(), 1)
            found[case] = tuple(Mask(n, value, files[case][0]) for value, (n, (_, files)) in values if case in files)
    return found, problems


def _missing(case: str, missing: Sequence[str], masks: Mapping[str, tuple[Pattern, Files]]) -> str:
    first = escaped(masks[missing[0]][0].expected(case, missing[0]))
    if len(missing) == len(masks):
        return f"has no mask at all, such as {first}; add them"
    what = (
        f"{first} is missing" if len(missing) == 1 else f"the masks of {listed(missing)} are missing, such as {first}"
    )
    return f"{what}; add it, or give --allow-missing-masks if a case without a mask does not have the class"


def _named_otherwise(patterns: Sequence[Pattern], files: Mapping[Pattern, Files]) -> str | None:
    """The paths that pair the files of two folders, where the names differ in a part before or after the case's."""
    folders = {p: sorted(files[p]) for p in patterns if p.is_folder and GROUP not in p.text}
    for pattern, names in folders.items():
        for others in folders.values():
            before, found, after = names[0].partition(others[0])
            if found and (before or after) and names == sorted(f"{before}{other}{after}" for other in others):
                return f"the path {_path(pattern, before, after)!r} in place of this folder"
    if len(folders) != 2 or any(len(names) < 2 for names in folders.values()):
        return None
    (one, ones), (other, others) = folders.items()
    starts = _apart(_beginning(ones)[::-1], _beginning(others)[::-1])
    ends = _apart(_ending(ones), _ending(others))
    paths = [_path(one, starts[0][::-1], ends[0]), _path(other, starts[1][::-1], ends[1])]
    cases = [
        sorted(name[len(start) : len(name) - len(end)] for name in names)
        for names, start, end in zip((ones, others), (part[::-1] for part in starts), ends, strict=True)
    ]
    return (
        f"the paths {paths[0]!r} and {paths[1]!r} in place of these folders"
        if cases[0] == cases[1] and all(cases[0])
        else None
    )


def _path(pattern: Pattern, before: str, after: str) -> str:
    return f"{Path(pattern.text).as_posix()}/{before}{CASE}{after}.*"


def _beginning(names: Sequence[str]) -> str:
    """The characters with which all names begin."""
    same = takewhile(lambda characters: len(set(characters)) == 1, zip(*names, strict=False))
    return "".join(characters[0] for characters in same)


def _ending(names: Sequence[str]) -> str:
    return _beginning([name[::-1] for name in names])[::-1]


def _apart(one: str, other: str) -> tuple[str, str]:
    """What all names of one folder and what all of the other have in common, less digits in both, which are of the cases.

    >>> _apart("0 PET", "0 GTV"), _apart("_pet", "_pet")
    ((' PET', ' GTV'), ('', ''))
    """
    if one == other:
        return "", ""
    same = _beginning([one, other])
    digits = len(same) - len(same.lstrip("0123456789"))
    return one[digits:], other[digits:]


def _refusal(problems: Sequence[CaseError], instead: str | None = None) -> UserError:
    """``instead``: what would pair the files."""
    if instead is not None:
        return UserError(f"images and labels have different names; give {instead}\n{error_table(problems)}")
    return UserError(
        f"{counted(len(problems), 'file is', 'files are')} missing or doubtful; add what is missing, remove files without a partner, "
        f"or leave their cases out with --skip-unreadable\n{error_table(problems)}"
    )
