"""Folders of one's own: any layout in which images and labels of a case have the case's name in their paths."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from unetrpp.core.errors import UserError
from unetrpp.core.parallel import CaseError, error_table
from unetrpp.core.text import escaped, recordable
from unetrpp.core.workspace import Workspace, plain_name
from unetrpp.dataset.label_definitions import read_labels
from unetrpp.dataset_conversion.patterns import Pattern, not_used
from unetrpp.dataset_conversion.raw import Conversion, ConversionResult, write_raw_dataset
from unetrpp.dataset_conversion.source import Source, SourceCase


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
    skip_unreadable: bool = False,
    overwrite: bool = False,
    processes: int | None = None,
) -> ConversionResult:
    """Convert a folder of images and labels into ``raw/<name>`` of the workspace; what `unetrpp_convert folder` does.

    The same call again converts only cases that are missing or whose source files changed.

    Args:
        source: the folder that the others are relative to.
        images: folders whose file names are the cases, or paths with ``{case}`` in them; one, or one per channel. A folder
            with a DICOM series stands in place of a file.
        labels: such a folder or path for the labels.
        channel: names of the channels in order.
        label: class -> value; ``background`` 0 need not be given.
        test_images: as ``images``, for cases without labels.
        foreground_from_instances: label files number the objects; every value above 0 becomes the one class of ``label``.
        name: of the dataset; None takes the source's name without TaskNN_ or DatasetNNN_.
        workspace: None takes ``$UNETRPP_WORKSPACE``, else ./unetrpp_workspace.
        skip_unreadable: cases that lack a file or cannot be read, and images that match no pattern, are ``left_out`` of the
            result and not among its ``errors``.
        overwrite: convert every case again.
        processes: worker processes; None chooses by cores and memory.

    Raises:
        UserError: files without a partner, contradictory options, or the raw dataset holds other cases or another conversion.
    """
    classes = label.keys() - {"background"}
    if foreground_from_instances and len(classes) != 1:
        raise UserError(f"--foreground-from-instances makes one class, but --label names {len(classes)}; name only one")
    root = Path(source)
    places = Workspace.find(workspace)
    found = read_folder(
        root,
        images,
        labels,
        channel_names=channel,
        label_values=label,
        test_images=test_images,
        skip_unreadable=skip_unreadable,
        workspace=places.root,
    )
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
        places.raw(name or plain_name(root.resolve().name)),
        Conversion(source=recordable(str(root.resolve())), options=options),
        foreground_from_instances=foreground_from_instances,
        skip_unreadable=skip_unreadable,
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
    skip_unreadable: bool = False,
    workspace: Path,
) -> Source:
    """Pair images and labels by case.

    Every pattern is a folder (its entries are the cases) or a path with ``{case}`` in it, see :class:`Pattern`.
    ``images`` has one pattern, or one per channel. What lies in the ``workspace`` is not named as left out.

    Raises:
        UserError: patterns and channels do not fit, or a case lacks a file or has several (a table names all of them).
    """
    if not root.is_dir():
        raise UserError(f"{root} is not a folder; check the path")
    for given in (images, test_images):
        if given and len(given) not in (1, len(channel_names)):
            raise UserError(
                f"{len(given)} image folders for {len(channel_names)} channels; give one, or one per channel"
            )
    training = [Pattern(root, text) for text in (*images, labels)]
    tests = [Pattern(root, text) for text in test_images]
    files = {pattern: pattern.files() for pattern in (*training, *tests)}
    found, unpaired = _paired({pattern: files[pattern] for pattern in training})
    found_tests, unpaired_tests = _paired({pattern: files[pattern] for pattern in tests})
    unpaired += unpaired_tests
    if unpaired and not skip_unreadable:
        raise _refusal(unpaired)
    both = sorted(found.keys() & found_tests.keys())
    if both:
        raise UserError("is both a training and a test case; rename one of the two", case=both[0])
    cases = [SourceCase(case, files[:-1], files[-1]) for case, files in sorted(found.items())]
    cases += [SourceCase(case, files, None) for case, files in sorted(found_tests.items())]
    if not found:
        raise _refusal(unpaired)
    matched = {path for of_pattern in files.values() for paths in of_pattern.values() for path in paths}
    return Source(
        channel_names=tuple(channel_names),
        labels=read_labels(Path("--label"), {"background": 0, **label_values}, None),
        cases=tuple(cases),
        left_out=not_used(list(files), matched, workspace) | {escaped(error.case): error.message for error in unpaired},
    )


def _paired(
    found: Mapping[Pattern, Mapping[str, Sequence[Path]]],
) -> tuple[dict[str, tuple[Path, ...]], list[CaseError]]:
    """Case -> its file of every pattern, and what is wrong with the cases that lack one or have several of one."""
    everything = sorted(set().union(*found.values()))
    problems: list[CaseError] = []
    for pattern, files in found.items():
        for case in everything:
            paths = files.get(case, [])
            if not paths:
                problems.append(CaseError(case, "pairing", f"{escaped(pattern.expected(case))} is missing"))
            elif len(paths) > 1:
                names = " and ".join(escaped(path.name) for path in paths[:2])
                what = f"{names} both match {pattern.text!r}; narrow the pattern, or rename one"
                problems.append(CaseError(case, "pairing", what))
    wrong = {problem.case for problem in problems}
    return {
        case: tuple(files[case][0] for files in found.values()) for case in everything if case not in wrong
    }, problems


def _refusal(problems: Sequence[CaseError]) -> UserError:
    return UserError(
        f"{len(problems)} files are missing or doubtful; add them, remove the files without a partner, or leave their cases "
        f"out with --skip-unreadable\n{error_table(problems)}"
    )
