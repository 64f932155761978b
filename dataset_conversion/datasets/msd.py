"""The layout of the Medical Segmentation Decathlon: dataset.json lists the pairs, and a 4D file holds several channels.

Antonelli et al., "The Medical Segmentation Decathlon", Nature Communications 13, 4128 (2022).
"""

from pathlib import Path
from typing import Any

from unetrpp.core.errors import UserError
from unetrpp.core.files import read_edited_json
from unetrpp.dataset.label_definitions import read_labels
from unetrpp.dataset_conversion.datasets import About
from unetrpp.dataset_conversion.finding import folder_with, not_used
from unetrpp.dataset_conversion.source import Source, SourceCase
from unetrpp.io.formats import strip_ending

ABOUT = About(
    title="Medical Segmentation Decathlon: any of its ten tasks",
    modality="CT or MR",
    cases="30 (prostate, heart) to 484 (brain tumours) training cases a task",
    size="27 MB (hippocampus) to 27 GB (liver) a task",
    origin="http://medicaldecathlon.com",
    licence="CC-BY-SA 4.0",
)


def read(folder: Path) -> Source:
    """The cases, channels and labels in the decathlon's dataset.json, and images that it does not list.

    Raises:
        UserError: it is malformed, names a file outside of the folder, or two cases have one name.
    """
    folder = folder_with(folder, "dataset.json")
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
        unused=not_used(
            folder, cases, "is not listed in dataset.json (as training or test); add it there, or remove it"
        ),
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
