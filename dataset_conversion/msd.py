"""The Medical Segmentation Decathlon's layout: dataset.json lists the pairs; several channels lie in one 4D file.

Antonelli et al., "The Medical Segmentation Decathlon", Nature Communications 13, 4128 (2022).
"""

from pathlib import Path
from typing import Any

from unetrpp.core.errors import UserError
from unetrpp.core.files import Record, read_json
from unetrpp.dataset.description import read_labels
from unetrpp.dataset_conversion.archive import archive_stem, unpack
from unetrpp.dataset_conversion.source import Source, SourceCase
from unetrpp.io.formats import strip_ending


class Pair(Record, frozen=True, kw_only=True):
    image: str
    label: str


def msd_folder(source: Path, unpacked: Path) -> Path:
    """The folder with the dataset.json; an archive is unpacked under ``unpacked`` first.

    Raises:
        UserError: no such source, or no dataset.json in it.
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
    """What the decathlon's dataset.json says.

    Raises:
        UserError: it is malformed, or names a file outside the folder or two cases of one name.
    """
    path = folder / "dataset.json"
    content = read_json(path, dict[str, Any], hint="download the dataset again")
    try:
        channels = {int(key): str(name) for key, name in content["modality"].items()}
        labels = {str(name): int(value) for value, name in content["labels"].items()}
        pairs = [Pair(image=str(p["image"]), label=str(p["label"])) for p in content["training"]]
        tests = [str(t["image"] if isinstance(t, dict) else t) for t in content.get("test", ())]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path} is not the decathlon's ({type(error).__name__}: {error}); `convert folder` takes other layouts"
        ) from None
    if len(labels) < len(content["labels"]):
        raise UserError(f"{path}: two labels have one name; give every label a name of its own")
    cases = [SourceCase(_case_id(p.image), (_inside(folder, p.image),), _inside(folder, p.label)) for p in pairs]
    cases += [SourceCase(_case_id(t), (_inside(folder, t),), None) for t in tests]
    _require_distinct(path, cases)
    return Source(
        channel_names=tuple(channels[i] for i in sorted(channels)),
        labels=read_labels(path, labels, None),
        cases=tuple(cases),
        reference=content.get("reference"),
        licence=content.get("licence"),
    )


def _case_id(file: str) -> str:
    """
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
