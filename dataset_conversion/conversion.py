"""Converting a public dataset, or files in a known layout, into a raw dataset of the workspace."""

import inspect
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from unetrpp.core.errors import UserError
from unetrpp.core.files import remove_folder
from unetrpp.core.text import counted, listed, recordable, text_table
from unetrpp.core.workspace import Workspace, dataset_name
from unetrpp.dataset_conversion.archive import archive_stem, unpack
from unetrpp.dataset_conversion.datasets import Layout, layout, layout_names
from unetrpp.dataset_conversion.finding import named
from unetrpp.dataset_conversion.made import Straight
from unetrpp.dataset_conversion.protocols import require_no_other_splits, write_splits
from unetrpp.dataset_conversion.raw import ConversionResult, write_raw_dataset
from unetrpp.dataset_conversion.record import Conversion
from unetrpp.dataset_conversion.source import Made, Source, SourceCase
from unetrpp.io.images import is_sheared
from unetrpp.io.listing import unreadable

LOG = logging.getLogger(__name__)


def convert_dataset(
    dataset: str,
    source: str | Path,
    *,
    name: str | None = None,
    workspace: str | Path | None = None,
    link: bool = False,
    skip_known_broken: bool = False,
    skip_unreadable: bool = False,
    overwrite: bool = False,
    processes: int | None = None,
    **choices: object,
) -> ConversionResult:
    """Convert a download into ``raw/<name>`` of the workspace; what `unetrpp_convert DATASET` does.

    The same call again converts only cases that are missing or whose source files changed.

    Args:
        dataset: such as "acdc"; `unetrpp_convert list` prints all.
        source: the folder of the unpacked download, or its .tar, .tar.gz or .zip, which is unpacked in the workspace and
            removed after success.
        name: of the raw dataset; None takes the usual name, or that of the source without TaskNN_ or DatasetNNN_.
        workspace: None takes ``$UNETRPP_WORKSPACE``, else ./unetrpp_workspace.
        link: make links to files that can stay as they are, instead of copies; a case whose images cannot is refused.
        skip_known_broken: leave out cases that are known to be broken, instead of naming them.
        skip_unreadable: cases that cannot be read or used, and images that belong to none, are ``left_out`` of the result and
            not among its ``errors``.
        overwrite: convert every case again.
        processes: worker processes; None chooses by cores and memory.
        choices: the dataset's own options, as keywords; `unetrpp_convert DATASET --help` explains them.

    Raises:
        UserError: there is no such dataset or option, the source has another layout, or the raw dataset holds other cases or
            another conversion.
    """
    if dataset not in layout_names():
        raise UserError(f"{dataset!r} is no dataset that can be converted; take one of {', '.join(layout_names())}")
    module, path, places = layout(dataset), Path(source), Workspace.find(workspace)
    _require_known(dataset, module, choices)
    called = dataset_name(name, module.ABOUT.name or archive_stem(path) or path.resolve().name)
    unpacked = places.root / "unpacked" / called
    folder = _unpacked(path, unpacked)
    found = module.read(folder, **choices)
    found = replace(found, left_out={**found.left_out, **named(found.unused, folder, places.root)})
    if not (found.cases or found.left_out):
        raise UserError(
            f"{path} holds no case of {dataset}; give the folder of the unpacked download, as `unetrpp_convert {dataset} --help` "
            "shows it"
        )
    found = replace(found, cases=tuple(_straight(case) for case in found.cases))
    found, broken = _known_broken(found, skip_known_broken)
    for note in found.notes:
        LOG.info("%s", note)
    options = {"layout": dataset} | {key: _recorded(value) for key, value in choices.items() if value}
    options |= {key: True for key, given in {"link": link, "skip_known_broken": skip_known_broken}.items() if given}
    splits = places.preprocessed(called) / "splits.json"
    require_no_other_splits(splits, found.splits)
    converted = write_raw_dataset(
        found,
        places.raw(called),
        Conversion(source=recordable(str(path.resolve())), options=options),
        link=link,
        skip_unreadable=skip_unreadable,
        overwrite=overwrite,
        processes=processes,
    )
    write_splits(splits, found.splits, converted.cases)
    if folder != path and not (converted.errors or link):
        remove_folder(unpacked)
    return replace(converted, left_out={**converted.left_out, **broken})


def _straight(case: SourceCase) -> SourceCase:
    """The case with its sheared images and label at right angles, because no later step takes them otherwise."""
    images = tuple(_straight_item(image) for image in case.images)
    label = None if case.label is None else _straight_item(case.label)
    return replace(case, images=images, label=label) if (images, label) != (case.images, case.label) else case


def _straight_item(item: Path | Made) -> Path | Made:
    return Straight(item) if isinstance(item, Path) and item.is_file() and is_sheared(item) else item


def _require_known(dataset: str, module: Layout, choices: Mapping[str, object]) -> None:
    known = list(inspect.signature(module.read).parameters)[1:]
    if unknown := [key for key in choices if key not in known]:
        options = f"its options are {listed(known)}" if known else "it has no options of its own"
        raise UserError(f"{dataset} has no option {unknown[0]!r}; {options}")


def _unpacked(source: Path, target: Path) -> Path:
    """The folder of the download; an archive is unpacked to ``target`` first.

    Raises:
        UserError: there is no such source, or the archive cannot be unpacked.
    """
    if archive_stem(source) and source.is_file():
        if source.resolve().is_relative_to(target.resolve()):
            raise UserError(f"{source} lies in the folder that it is unpacked to; move it out of {target}")
        unpack(source, target)
        return target
    if source.is_dir() and unreadable(source) is not None:
        raise UserError(f"{source} {unreadable(source)}")
    if not source.is_dir():
        raise UserError(f"{source} is neither a folder nor a .tar, .tar.gz or .zip file; check the path")
    return source


def _known_broken(source: Source, skip: bool) -> tuple[Source, dict[str, str]]:
    """The source without cases that are known to be broken, and why each is; all are kept, and named, unless ``skip``."""
    broken = {case.id: source.known_broken[case.id] for case in source.cases if case.id in source.known_broken}
    if not skip:
        if broken:
            LOG.warning(
                "warning: %s known to be broken; --skip-known-broken leaves them out\n%s",
                counted(len(broken), "case is", "cases are"),
                text_table([("case", "what is known"), *sorted(broken.items())]),
            )
        return source, {}
    return replace(source, cases=tuple(case for case in source.cases if case.id not in broken)), broken


def _recorded(value: object) -> Any:
    """An option as conversion.json has it."""
    if isinstance(value, str | Path):
        return recordable(str(value))
    if isinstance(value, Mapping):
        return {str(key): _recorded(item) for key, item in value.items()}
    return [_recorded(item) for item in value] if isinstance(value, list | tuple) else value
