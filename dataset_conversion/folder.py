"""Folders of one's own: any layout in which images and labels of a case have the case's name in their paths."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from unetrpp.core.errors import UserError
from unetrpp.core.files import is_dangling, walk
from unetrpp.core.parallel import CaseError, error_table
from unetrpp.core.text import composed, escaped, recordable
from unetrpp.core.workspace import Workspace, plain_name
from unetrpp.dataset.label_definitions import read_labels
from unetrpp.dataset_conversion.raw import Conversion, ConversionResult, write_raw_dataset
from unetrpp.dataset_conversion.source import Source, SourceCase
from unetrpp.io.formats import ending_of, strip_ending

CASE = "{case}"


def convert_folder(
    source: str | Path,
    *,
    images: Sequence[str],
    labels: str,
    channel: Sequence[str],
    label: Mapping[str, int],
    test_images: Sequence[str] = (),
    foreground_from_instances: bool = False,
    name: str | None = None,
    workspace: str | Path | None = None,
    overwrite: bool = False,
    processes: int | None = None,
) -> ConversionResult:
    """Convert a folder of images and labels into ``raw/<name>`` of the workspace; what `unetrpp_convert folder` does.

    The same call again converts only cases that are missing or whose source files changed.

    Args:
        source: the folder that the others are relative to.
        images: folders whose file names are the cases, or paths with ``{case}`` in them; one, or one per channel.
        labels: such a folder or path for the labels.
        channel: names of the channels in order.
        label: class -> value; ``background`` 0 need not be given.
        test_images: as ``images``, for cases without labels.
        foreground_from_instances: label files number the objects; every value above 0 becomes the one class of ``label``.
        name: of the dataset; None takes the source's name without TaskNN_ or DatasetNNN_.
        workspace: None takes ``$UNETRPP_WORKSPACE``, else ./unetrpp_workspace.
        overwrite: convert every case again.
        processes: worker processes; None chooses by cores and memory.

    Raises:
        UserError: files without a partner, contradictory options, or the raw dataset holds other cases or another conversion.
    """
    classes = label.keys() - {"background"}
    if foreground_from_instances and len(classes) != 1:
        raise UserError(f"--foreground-from-instances makes one class, but --label names {len(classes)}; name only one")
    root = Path(source)
    found = read_folder(root, images, labels, channel_names=channel, label_values=label, test_images=test_images)
    options = {
        "layout": "folder",
        "label": dict(label),
        "images": [recordable(pattern) for pattern in images],
        "labels": recordable(labels),
        "test_images": [recordable(pattern) for pattern in test_images],
        "channel": ",".join(channel),
        "foreground_from_instances": foreground_from_instances,
    }
    return write_raw_dataset(
        found,
        Workspace.find(workspace).raw(name or plain_name(root.resolve().name)),
        Conversion(source=recordable(str(root.resolve())), options=options),
        foreground_from_instances=foreground_from_instances,
        overwrite=overwrite,
        processes=processes,
    )


def read_folder(
    root: Path,
    images: Sequence[str],
    labels: str,
    *,
    channel_names: Sequence[str],
    label_values: Mapping[str, int],
    test_images: Sequence[str] = (),
) -> Source:
    """Pair images and labels by case.

    Every pattern is a folder under ``root`` (its file names are the cases) or a path with ``{case}`` in it.
    ``images`` has one pattern, or one per channel.

    Raises:
        UserError: patterns and channels do not fit, or a case lacks a file (a table names all of them).
    """
    if not root.is_dir():
        raise UserError(f"{root} is not a folder; check the path")
    for given in (images, test_images):
        if given and len(given) not in (1, len(channel_names)):
            raise UserError(
                f"{len(given)} image folders for {len(channel_names)} channels; give one, or one per channel"
            )
    found = [find_cases(root, pattern) for pattern in images]
    found_labels = find_cases(root, labels)
    found_tests = [find_cases(root, pattern) for pattern in test_images]
    _require_complete([*found, found_labels], [*images, labels])
    _require_complete(found_tests, test_images)
    both = sorted(found_labels.keys() & (found_tests[0] if found_tests else {}).keys())
    if both:
        raise UserError("is both a training and a test case; rename one of the two", case=both[0])
    cases = [SourceCase(c, tuple(f[c] for f in found), label) for c, label in sorted(found_labels.items())]
    if found_tests:
        cases += [SourceCase(c, tuple(f[c] for f in found_tests), None) for c in sorted(found_tests[0])]
    return Source(
        channel_names=tuple(channel_names),
        labels=read_labels(Path("--label"), {"background": 0, **label_values}, None),
        cases=tuple(cases),
    )


def find_cases(root: Path, pattern: str) -> dict[str, Path]:
    """Case -> file for a folder or a pattern such as ``{case}/t1.nii.gz`` (``*`` stands for any part of a name).

    Links to folders are followed. A link to a file that is not there is a case too, so that it is reported and not left out.
    Names are compared and returned in Unicode's composed form, since macOS may have written some decomposed.

    Raises:
        UserError: nothing matches, or two files match one case.
    """
    if CASE not in pattern:
        pattern = (Path(pattern) / CASE).as_posix()
    matches: dict[str, list[Path]] = {}
    expression = _expression(pattern)
    for path in walk(root):
        match = expression.fullmatch(path.relative_to(root).as_posix())
        if match and ending_of(path) and not path.name.startswith(".") and (path.is_file() or is_dangling(path)):
            matches.setdefault(composed(strip_ending(match["case"])), []).append(path)
    if not matches:
        broken = next((path for path in walk(root) if is_dangling(path)), None)
        if broken is not None:
            raise UserError(
                f"{root} has no image that matches {pattern!r}, and {escaped(broken.name)} in it is a link to something "
                "that is not there; correct the link"
            )
        raise UserError(
            f"{root} has no image that matches {pattern!r} (where {CASE} stands for the case); check the folder or the pattern"
        )
    for case, paths in matches.items():
        if len(paths) > 1:
            raise UserError(
                f"{paths[0].name} and {paths[1].name} both match {pattern!r}; narrow the pattern", case=case
            )
    return {case: paths[0] for case, paths in matches.items()}


def _expression(pattern: str) -> re.Pattern[str]:
    """A regular expression for a pattern; every further ``{case}`` must be equal to the first.

    >>> bool(_expression("{case}/{case}_t1.nii.gz").fullmatch("a1/a1_t1.nii.gz"))
    True
    """
    first, *rest = (re.escape(part).replace(r"\*", "[^/]*") for part in pattern.split(CASE))
    return re.compile(first + "(?P<case>[^/]+)" + "(?P=case)".join(rest))


def _expected(pattern: str, case: str) -> str:
    """Where a case's file should be, for messages."""
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
            f"{len(missing)} files are missing; add them, or remove the files without a partner\n{error_table(missing)}"
        )
