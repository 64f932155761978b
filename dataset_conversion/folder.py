"""Folders of one's own: any layout in which images and labels of a case have the case's name in their paths."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from unetrpp.core.errors import UserError
from unetrpp.core.text import recordable
from unetrpp.core.workspace import Workspace, dataset_name
from unetrpp.dataset.label_definitions import read_labels
from unetrpp.dataset.label_files import LabelFile
from unetrpp.dataset_conversion.channels import inferred_channels
from unetrpp.dataset_conversion.own_folder.classes import ClassOptions, choose_classes
from unetrpp.dataset_conversion.own_folder.coloured import BLACK, Coloured
from unetrpp.dataset_conversion.own_folder.hold_out import held_out
from unetrpp.dataset_conversion.own_folder.pairing import Found, Layout, find_cases
from unetrpp.dataset_conversion.raw import ConversionResult, write_raw_dataset
from unetrpp.dataset_conversion.record import Conversion, earlier_conversion, merged_groups
from unetrpp.dataset_conversion.source import Source


def convert_folder(
    source: str | Path,
    *,
    images: Sequence[str],
    channel: Sequence[str] = (),
    labels: str | None = None,
    masks: Mapping[str, str] | str | None = None,
    allow_missing_masks: bool = False,
    label: Mapping[str, int | str] | None = None,
    label_file: str | Path | None = None,
    labels_from_files: bool = False,
    foreground_from_instances: bool = False,
    test_images: Sequence[str] = (),
    test_labels: str | None = None,
    hold_out: int | str | Path | None = None,
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
            with a DICOM series stands in place of a file. ``{group}`` stands for the patient where one has several cases.
        channel: names of the channels in order; none are needed for photographs (R, G, B or gray) and DICOM (its Modality).
        labels: such a folder or path for the label maps.
        masks: in place of ``labels``: class -> such a folder or path for its masks, or one path with ``{label}`` in it. The
            classes get the values 1, 2, ... in this order; where masks overlap, the later class counts.
        allow_missing_masks: a case does not have the classes whose masks it lacks; otherwise it is refused.
        label: class -> value, where ``background`` 0 need not be given; or class -> colour such as "#ff0000" for label files
            in colours, where black is the background unless it has another one.
        label_file: in place of ``label``: a file of ITK-SNAP, 3D Slicer, JSON or CSV that lists the classes.
        labels_from_files: take the values that the label files hold, with the names of ``label_file``, else those in the
            files (3D Slicer's segments), else ``label_1``, ...
        foreground_from_instances: label files number the objects; every value above 0 becomes the one class of ``label``.
        test_images: as ``images``, for test cases.
        test_labels: as ``labels``, for test cases.
        hold_out: how many cases become test cases, or a text file that lists them, one a line. Groups, of ``{group}`` or of
            dataset.json of an earlier conversion, are kept whole.
        name: of the dataset; None takes the source's name without TaskNN_ or DatasetNNN_.
        workspace: None takes ``$UNETRPP_WORKSPACE``, else ./unetrpp_workspace.
        skip_unreadable: cases that lack a file or cannot be read, and images that match no pattern, are ``left_out`` of the
            result and not among its ``errors``.
        overwrite: convert every case again.
        processes: worker processes; None chooses by cores and memory.

    Raises:
        UserError: files without a partner, contradictory options, or the raw dataset holds other cases or another conversion.
    """
    root, places = Path(source), Workspace.find(workspace)
    layout = Layout(images, labels, masks, allow_missing_masks, test_images, test_labels)
    file = None if label_file is None else _from_here_or(root, Path(label_file))
    wanted = ClassOptions(label, file, labels_from_files, foreground_from_instances)
    layout.require_sound(len(channel))
    wanted.require_sound(masks is not None)
    if hold_out is not None and test_images:
        raise UserError("--hold-out and --test-images both say what the test cases are; give one of them")
    if not root.is_dir():
        raise UserError(
            f"{root} is not a folder; the first argument is the folder of your data (--name is the name of the dataset)"
        )
    folder = places.raw(dataset_name(name, root.resolve().name))
    found = find_cases(root, layout, skip_unreadable=skip_unreadable, workspace=places.root)
    if hold_out is not None:
        is_number = isinstance(hold_out, int) or str(hold_out).isdecimal()
        tests = int(str(hold_out)) if is_number else _from_here_or(root, Path(str(hold_out)))
        found = _with_test_cases(found, tests, folder, overwrite)
    classes, colours = choose_classes(wanted, found, processes), wanted.colours()
    found = _with_colours(found, colours, wanted.values()) if colours else found
    names = tuple(channel) or inferred_channels(found.cases)
    made_from = Source(
        channel_names=names,
        labels=read_labels(file or Path("--label"), {"background": 0, **classes.labels}, classes.order),
        cases=found.cases,
        left_out=found.left_out,
        groups=found.groups,
    )
    options = {"layout": "folder", "channel": ",".join(names), "foreground_from_instances": foreground_from_instances}
    return write_raw_dataset(
        made_from,
        folder,
        Conversion(
            source=recordable(str(root.resolve())),
            options=options
            | _recorded_classes(classes, colours)
            | _recorded(layout)
            | _recorded_tests(found, hold_out),
        ),
        foreground_from_instances=foreground_from_instances,
        skip_unreadable=skip_unreadable,
        overwrite=overwrite,
        processes=processes,
    )


def _from_here_or(root: Path, file: Path) -> Path:
    """A file of options, which often lies with the data: of the current folder or, where it has none, of the source."""
    return root / file if not file.exists() and (root / file).exists() else file


def _with_colours(found: Found, colours: Mapping[str, int], values: Mapping[str, int]) -> Found:
    """Label files in colours are made into label maps; black is the background unless another colour is."""
    pairs = {colour: values.get(name, 0) for name, colour in colours.items()}
    if "background" not in colours:
        pairs.setdefault(BLACK, 0)
    cases = [
        replace(case, label=Coloured(case.label, tuple(pairs.items()))) if isinstance(case.label, Path) else case
        for case in found.cases
    ]
    return replace(found, cases=tuple(cases))


def _with_test_cases(found: Found, wanted: int | Path, folder: Path, overwrite: bool) -> Found:
    """The cases with those held out marked as test cases; an earlier conversion's stay so unless all are converted again."""
    earlier = None if overwrite else earlier_conversion(folder)
    tests = held_out(
        wanted,
        [case.id for case in found.cases],
        groups=merged_groups(found.cases, found.groups, folder).all,
        earlier=earlier.options.get("hold_out", ()) if earlier else (),
    )
    return replace(found, cases=tuple(replace(case, test=case.id in tests) for case in found.cases))


def _recorded_classes(classes: LabelFile, colours: Mapping[str, int]) -> dict[str, Any]:
    order = {} if classes.order is None else {"regions_class_order": list(classes.order)}
    in_colours = {"colours": {name: f"#{colour:06x}" for name, colour in colours.items()}} if colours else {}
    return {"label": dict(classes.labels), **order, **in_colours}


def _recorded(layout: Layout) -> dict[str, Any]:
    """The patterns, for conversion.json; options that release 0.1.0 did not have only where they are given."""
    masks = layout.masks
    later = {
        "masks": {n: recordable(text) for n, text in masks.items()}
        if isinstance(masks, Mapping)
        else masks and recordable(masks),
        "allow_missing_masks": layout.allow_missing_masks,
        "test_labels": layout.test_labels and recordable(layout.test_labels),
    }
    return {
        "images": [recordable(pattern) for pattern in layout.images],
        "labels": layout.labels and recordable(layout.labels),
        "test_images": [recordable(pattern) for pattern in layout.test_images],
    } | {name: value for name, value in later.items() if value}


def _recorded_tests(found: Found, hold_out: int | str | Path | None) -> dict[str, Any]:
    return {} if hold_out is None else {"hold_out": [case.id for case in found.cases if case.test]}
