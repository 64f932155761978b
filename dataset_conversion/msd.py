"""The layout of the Medical Segmentation Decathlon: dataset.json lists the pairs, and a 4D file holds several channels.

Antonelli et al., "The Medical Segmentation Decathlon", Nature Communications 13, 4128 (2022).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from unetrpp.core.errors import UserError
from unetrpp.core.files import read_edited_json, remove_folder
from unetrpp.core.text import escaped, recordable
from unetrpp.core.workspace import Workspace, plain_name
from unetrpp.dataset.label_definitions import read_labels
from unetrpp.dataset_conversion.archive import archive_stem, unpack
from unetrpp.dataset_conversion.patterns import is_below
from unetrpp.dataset_conversion.raw import ConversionResult, write_raw_dataset
from unetrpp.dataset_conversion.record import Conversion
from unetrpp.dataset_conversion.source import Source, SourceCase
from unetrpp.io.formats import strip_ending
from unetrpp.io.listing import images_below, parts_of, unreadable


def convert_msd(
    source: str | Path,
    *,
    name: str | None = None,
    workspace: str | Path | None = None,
    skip_unreadable: bool = False,
    overwrite: bool = False,
    processes: int | None = None,
) -> ConversionResult:
    """Convert a dataset of the decathlon into ``raw/<name>`` of the workspace; what `unetrpp_convert msd` does.

    The same call again converts only cases that are missing or whose source files changed.

    Args:
        source: the dataset's folder, .tar or .tar.gz; an archive is unpacked in the workspace and removed after success.
        name: of the dataset; None takes the source's name without TaskNN_ or DatasetNNN_.
        workspace: None takes ``$UNETRPP_WORKSPACE``, else ./unetrpp_workspace.
        skip_unreadable: cases that cannot be read, and images that dataset.json does not list, are ``left_out`` of the result
            and not among its ``errors``.
        overwrite: convert every case again.
        processes: worker processes; None chooses by cores and memory.

    Raises:
        UserError: the source is not a dataset of the decathlon, or the raw dataset holds other cases or another conversion.
    """
    path, places = Path(source), Workspace.find(workspace)
    dataset = name or plain_name(archive_stem(path) or path.resolve().name)
    unpacked = places.root / "unpacked" / dataset
    found = read_msd(msd_folder(path, unpacked), places.root)
    conversion = Conversion(source=recordable(str(path.resolve())), options={"layout": "msd"})
    converted = write_raw_dataset(
        found,
        places.raw(dataset),
        conversion,
        skip_unreadable=skip_unreadable,
        overwrite=overwrite,
        processes=processes,
    )
    if not converted.errors:
        remove_folder(unpacked)
    return converted


def msd_folder(source: Path, unpacked: Path) -> Path:
    """The folder with the dataset.json; an archive is unpacked under ``unpacked`` first.

    Raises:
        UserError: there is no such source, or no dataset.json in it.
    """
    if archive_stem(source) and source.is_file():
        unpack(source, unpacked)
        source = unpacked
    if not source.is_dir():
        raise UserError(f"{source} is neither a folder nor a .tar or .tar.gz file; check the path")
    found = [source, *sorted(p for p in source.iterdir() if p.is_dir())]
    folders = [p for p in found if (p / "dataset.json").is_file()]
    if len(folders) > 1 and folders[0] != source:
        names = " and ".join(p.name for p in folders[:2])
        raise UserError(f"{source} holds several datasets ({names}); give one of the folders")
    if not folders:
        raise UserError(
            f"{source} has no dataset.json; give the decathlon's folder (such as Task04_Hippocampus) or its .tar"
        )
    return folders[0]


def read_msd(folder: Path, workspace: Path) -> Source:
    """The cases, channels and labels in the decathlon's dataset.json, and images that it does not list.

    What lies in the ``workspace`` does not count among these.

    Raises:
        UserError: it is malformed, names a file outside of the folder, or two cases have one name.
    """
    path = folder / "dataset.json"
    content = read_edited_json(path, dict[str, Any], hint="download the dataset again")
    try:
        channels = {int(key): str(name) for key, name in content["modality"].items()}
        labels = {str(name): int(value) for value, name in content["labels"].items()}
        pairs = [(str(pair["image"]), str(pair["label"])) for pair in content["training"]]
        tests = [str(t["image"] if isinstance(t, dict) else t) for t in content.get("test", ())]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path} is not a dataset.json of the decathlon ({type(error).__name__}: {error}); `convert folder` takes other layouts"
        ) from None
    if len(labels) < len(content["labels"]):
        raise UserError(f"{path}: two labels have one name; give every label a name of its own")
    cases = [SourceCase(_case_id(image), (_inside(folder, image),), _inside(folder, label)) for image, label in pairs]
    cases += [SourceCase(_case_id(image), (_inside(folder, image),), test=True) for image in tests]
    _require_distinct(path, cases)
    return Source(
        channel_names=tuple(channels[i] for i in sorted(channels)),
        labels=read_labels(path, labels, None),
        cases=tuple(cases),
        reference=content.get("reference"),
        licence=content.get("licence"),
        left_out=_not_listed(folder, cases, workspace),
    )


def _not_listed(folder: Path, cases: Sequence[SourceCase], workspace: Path) -> dict[str, str]:
    """Images in the dataset's folder that are in no case: name -> reason and repair; a ``workspace`` in it does not count."""
    used = parts_of({file.resolve() for case in cases for file in case.files})
    return {
        escaped(path.relative_to(folder).as_posix()): unreadable(path)
        or "is not listed in dataset.json (as training or test); add it there, or remove it"
        for path in images_below(folder)
        if path.resolve() not in used and not is_below(path, workspace, folder)
    }


def _case_id(file: str) -> str:
    """The case of an image file.

    >>> _case_id("./imagesTr/hippocampus_003.nii.gz")
    'hippocampus_003'
    """
    return strip_ending(Path(file).name)


def _inside(folder: Path, file: str) -> Path:
    path = folder / file
    if not path.resolve().is_relative_to(folder.resolve()):
        raise UserError(f"{folder / 'dataset.json'} names {file}, which lies outside of its folder; correct the file")
    return path


def _require_distinct(path: Path, cases: list[SourceCase]) -> None:
    seen: set[str] = set()
    for case in cases:
        if case.id in seen:
            raise UserError(f"{path} lists {case.id} twice; every case needs a name of its own")
        seen.add(case.id)
