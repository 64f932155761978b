"""The layout of the Medical Segmentation Decathlon: dataset.json lists the pairs, and a 4D file holds several channels.

Antonelli et al., "The Medical Segmentation Decathlon", Nature Communications 13, 4128 (2022).
"""

from pathlib import Path
from typing import Any

from unetrpp.core.errors import UserError
from unetrpp.core.files import read_edited_json, remove_folder
from unetrpp.core.text import recordable
from unetrpp.core.workspace import Workspace, plain_name
from unetrpp.dataset.label_definitions import read_labels
from unetrpp.dataset_conversion.archive import archive_stem, unpack
from unetrpp.dataset_conversion.raw import Conversion, ConversionResult, write_raw_dataset
from unetrpp.dataset_conversion.source import Source, SourceCase
from unetrpp.io.formats import strip_ending


def convert_msd(
    source: str | Path,
    *,
    name: str | None = None,
    workspace: str | Path | None = None,
    overwrite: bool = False,
    processes: int | None = None,
) -> ConversionResult:
    """Convert a dataset of the decathlon into ``raw/<name>`` of the workspace; what `unetrpp_convert msd` does.

    The same call again converts only cases that are missing or whose source files changed.

    Args:
        source: the dataset's folder, .tar or .tar.gz; an archive is unpacked in the workspace and removed after success.
        name: of the dataset; None takes the source's name without TaskNN_ or DatasetNNN_.
        workspace: None takes ``$UNETRPP_WORKSPACE``, else ./unetrpp_workspace.
        overwrite: convert every case again.
        processes: worker processes; None chooses by cores and memory.

    Raises:
        UserError: the source is not a dataset of the decathlon, or the raw dataset holds other cases or another conversion.
    """
    path, places = Path(source), Workspace.find(workspace)
    dataset = name or plain_name(archive_stem(path) or path.resolve().name)
    unpacked = places.root / "unpacked" / dataset
    found = read_msd(msd_folder(path, unpacked))
    conversion = Conversion(source=recordable(str(path.resolve())), options={"layout": "msd"})
    converted = write_raw_dataset(found, places.raw(dataset), conversion, overwrite=overwrite, processes=processes)
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
    folder = next((p for p in found if (p / "dataset.json").is_file()), None)
    if folder is None:
        raise UserError(
            f"{source} has no dataset.json; give the decathlon's folder (such as Task04_Hippocampus) or its .tar"
        )
    return folder


def read_msd(folder: Path) -> Source:
    """The cases, channels and labels in the decathlon's dataset.json.

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
    cases += [SourceCase(_case_id(image), (_inside(folder, image),), None) for image in tests]
    _require_distinct(path, cases)
    return Source(
        channel_names=tuple(channels[i] for i in sorted(channels)),
        labels=read_labels(path, labels, None),
        cases=tuple(cases),
        reference=content.get("reference"),
        licence=content.get("licence"),
    )


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
