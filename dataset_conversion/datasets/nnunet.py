"""Raw datasets of nnU-Net: version 1 (TaskNNN_Name) and version 2 (DatasetNNN_Name).

Source: <https://github.com/MIC-DKFZ/nnUNet>, documentation/dataset_conversion.md of version 1 and dataset_format.md of 2.
Licence: of the images.

A folder of version 2 needs no conversion: `unetrpp_plan_and_preprocess PATH` and the other commands take it as it is. Converting
copies it into the workspace (or links it, with --link), with its regions, the lists of files in `dataset` and `groups`.

Version 1 has the files of version 2 under another dataset.json:

    Task100_Liver/
      dataset.json                  "modality": {"0": "CT"}, "labels": {"0": "background", "1": "liver"}, "training": [...]
      imagesTr/liver_1_0000.nii.gz  imagesTr/liver_1_0001.nii.gz ...  one file per channel
      labelsTr/liver_1.nii.gz
      imagesTs/liver_90_0000.nii.gz

Label values: those of dataset.json.

Traps:
- The lists in dataset.json of version 1 name images without the channel (`./imagesTr/liver_1.nii.gz`), files that do not
  exist. Where they do exist, the folder is the Medical Segmentation Decathlon's: `unetrpp_convert msd` takes it.
- nnU-Net's converters change label values of some datasets: its BraTS tasks have 1 and 2 exchanged and 4 as 3.
- Version 2 allows other endings than .nii.gz (`file_ending`), version 1 does not.
- `check_modality` of dataset.json, which is ours, is not carried over; add it to the new one.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unetrpp.core.errors import UserError
from unetrpp.core.files import read_edited_json
from unetrpp.core.text import listed
from unetrpp.dataset.cases import Case, channel_paths, image_ids, in_either_form, read_dataset
from unetrpp.dataset.description import DatasetDescription
from unetrpp.dataset.label_definitions import read_labels
from unetrpp.dataset_conversion.datasets import About
from unetrpp.dataset_conversion.finding import folder_with, not_used
from unetrpp.dataset_conversion.source import Source, SourceCase
from unetrpp.io.formats import strip_ending

ABOUT = About(
    title="nnU-Net's raw datasets, version 1 (TaskNNN_Name) and 2 (DatasetNNN_Name)",
    modality="any",
    cases="any number of cases",
    size="any size",
    origin="https://github.com/MIC-DKFZ/nnUNet",
    licence="that of the data",
)
ENDING = ".nii.gz"  # the only one of version 1
NEEDS_NONE = "a folder of nnU-Net v2 needs no conversion: unetrpp_plan_and_preprocess takes its path as it is"


def read(folder: Path) -> Source:
    """The cases of a folder of either version.

    Raises:
        UserError: dataset.json is malformed or of the decathlon, or there is no training case.
    """
    folder = folder_with(folder, "dataset.json")
    content = read_edited_json(folder / "dataset.json", dict[str, Any], hint="copy the dataset again")
    version_1 = "channel_names" not in content and isinstance(content.get("training"), list)
    if version_1:
        description, cases = _version_1(folder, content)
    else:
        dataset = read_dataset(folder, folder.name)
        description, cases = dataset.description, list(dataset.cases)
    images = _one_a_channel if version_1 else channel_paths
    tests = [
        Case(case, images(folder / "imagesTs", case, description), _label(folder / "labelsTs", case, description))
        for case in image_ids(folder / "imagesTs", description)
    ]
    known = {case.id for case in cases}
    lacking = {case.id: fault for case in cases if (fault := _lacking(case, case.label))}
    lacking |= {case.id: fault for case in tests if (fault := _lacking(case))}
    lacking |= {case.id: "is in imagesTr and in imagesTs; remove one of them" for case in tests if case.id in known}
    found = [SourceCase(case.id, case.images, case.label) for case in cases if case.id not in lacking]
    found += [
        SourceCase(case.id, case.images, case.label if case.label and _is_there(case.label) else None, test=True)
        for case in tests
        if case.id not in lacking
    ]
    reason = "belongs to no case of dataset.json; name it CASE_0000 or correct dataset.json"
    return Source(
        channel_names=description.channel_names,
        labels=description.labels,
        cases=tuple(found),
        reference=description.reference,
        licence=description.licence,
        left_out=lacking,
        unused=not_used(folder, found, reason, _files_of(lacking, [*cases, *tests])),
        groups=description.groups,
        notes=() if version_1 else (NEEDS_NONE,),
    )


def _version_1(folder: Path, content: Mapping[str, Any]) -> tuple[DatasetDescription, list[Case]]:
    """
    Raises:
        UserError: dataset.json is malformed, or the folder is the decathlon's.
    """
    path = folder / "dataset.json"
    try:
        channels = {int(key): str(name) for key, name in content["modality"].items()}
        labels = {str(name): int(value) for value, name in content["labels"].items()}
        pairs = [(str(pair["image"]), str(pair["label"])) for pair in content["training"]]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path} is not a dataset.json of nnU-Net v1 ({type(error).__name__}: {error}); correct it"
        ) from None
    if len(labels) < len(content["labels"]):
        raise UserError(f"{path}: two labels have one name; give every label a name of its own")
    description = DatasetDescription(
        name=folder.name,
        channel_names=tuple(channels[i] for i in sorted(channels)),
        labels=read_labels(path, labels, None),
        file_ending=ENDING,
        reference=content.get("reference"),
        licence=content.get("licence") or content.get("license"),
    )
    ids = [strip_ending(Path(image).name).removesuffix("_0000") for image, _ in pairs]
    if twice := sorted({case for case in ids if ids.count(case) > 1}):
        raise UserError(f"{path} lists {listed(twice)} twice; every case needs a name of its own")
    if pairs and all((folder / image).is_file() and not strip_ending(image).endswith("_0000") for image, _ in pairs):
        raise UserError(
            f"{folder} is a dataset of the Medical Segmentation Decathlon; convert it with unetrpp_convert msd"
        )
    images, labelled = folder / "imagesTr", folder / "labelsTr"
    return description, [
        Case(case, _one_a_channel(images, case, description), _label(labelled, case, description)) for case in ids
    ]


def _one_a_channel(folder: Path, case: str, description: DatasetDescription) -> tuple[Path, ...]:
    """Version 1 has no file of several channels."""
    names = (f"{case}_{i:04d}{description.file_ending}" for i in range(len(description.channel_names)))
    return tuple(in_either_form(folder / name) for name in names)


def _label(folder: Path, case: str, description: DatasetDescription) -> Path:
    return in_either_form(folder / f"{case}{description.file_ending}")


def _is_there(path: Path) -> bool:
    """Also a link to nothing, which is reported when the case is converted."""
    return path.exists() or path.is_symlink()


def _lacking(case: Case, label: Path | None = None) -> str | None:
    """What a case lacks, with the repair."""
    absent = [path for path in (*case.images, *([label] if label else [])) if not _is_there(path)]
    if not absent:
        return None
    return f"has no {listed([path.name for path in absent])} in {absent[0].parent.name}; complete the copy"


def _files_of(lacking: Mapping[str, str], cases: list[Case]) -> dict[Path, str | None]:
    """The files of cases that are named already."""
    named = [case for case in cases if case.id in lacking]
    return {path: None for case in named for path in (*case.images, case.label) if path is not None}
