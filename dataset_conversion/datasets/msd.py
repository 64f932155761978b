"""Medical Segmentation Decathlon: ten tasks, one .tar each, whose dataset.json lists the pairs.

Antonelli et al., "The Medical Segmentation Decathlon", Nature Communications 13, 4128 (2022); CC-BY-SA 4.0;
http://medicaldecathlon.com.

    Task04_Hippocampus/dataset.json
    Task04_Hippocampus/imagesTr/hippocampus_001.nii.gz, labelsTr/hippocampus_001.nii.gz, imagesTs/hippocampus_002.nii.gz

    Task01_BrainTumour    4 MR channels (FLAIR, T1w, t1gd, T2w); 1 edema, 2 non-enhancing tumor, 3 enhancing tumour
    Task02_Heart          MR; 1 left atrium                         Task07_Pancreas       CT; 1 pancreas, 2 cancer
    Task03_Liver          CT; 1 liver, 2 cancer                     Task08_HepaticVessel  CT; 1 Vessel, 2 Tumour
    Task04_Hippocampus    MR; 1 Anterior, 2 Posterior               Task09_Spleen         CT; 1 spleen
    Task05_Prostate       2 MR channels (T2, ADC); 1 PZ, 2 TZ       Task10_Colon          CT; 1 colon cancer primaries
    Task06_Lung           CT; 1 cancer

A 4D file with several channels becomes one file a channel. Images of imagesTs have no labels and become test cases.

Traps:
- numTest need not be the number of test images (Task08: 140, but 139 are listed); the lists count, not the numbers.
- Task01 is BraTS of 2016 and 2017 under other names and with other values than BraTS has: do not train on one and test on the
  other. Its labels stay plain classes here, as UNETR++ and nnFormer train them; its table scores regions (--protocol brats).
- --protocol brats is of Task01 (387 training, 24 validation and 73 test cases), --protocol lung of Task06 (50 and 13).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from unetrpp.core.errors import UserError
from unetrpp.core.files import read_edited_json
from unetrpp.dataset.label_definitions import read_labels
from unetrpp.dataset_conversion.datasets import About
from unetrpp.dataset_conversion.finding import folder_with, not_used
from unetrpp.dataset_conversion.protocols import add_options as add_protocols
from unetrpp.dataset_conversion.protocols import with_protocol
from unetrpp.dataset_conversion.source import Source, SourceCase
from unetrpp.io.formats import strip_ending

if TYPE_CHECKING:
    from unetrpp.core.command_line import Parser

PROTOCOLS = ("brats", "lung")
NO_REFERENCE = "xxxx"  # Task03 has this in place of one

ABOUT = About(
    title="Medical Segmentation Decathlon: any of its ten tasks",
    modality="CT or MR",
    cases="20 (heart) to 484 (brain tumours) training cases a task",
    size="27 MB (hippocampus) to 27 GB (liver) a task",
    origin="http://medicaldecathlon.com",
    licence="CC-BY-SA 4.0",
)


def add_options(parser: "Parser") -> None:
    add_protocols(parser, *PROTOCOLS)


def read(folder: Path, *, protocol: str | None = None, validate_on_test: bool = False) -> Source:
    """The cases, channels and labels in the decathlon's dataset.json, and images that it does not list.

    Raises:
        UserError: it is malformed, names a file outside of the folder, two cases have one name, or the protocol does not fit.
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
    reference = str(content.get("reference") or "").strip()
    found = Source(
        channel_names=tuple(channels[i] for i in sorted(channels)),
        labels=read_labels(path, labels, None),
        cases=tuple(cases),
        reference=None if reference in ("", NO_REFERENCE) else reference,
        licence=content.get("licence"),
        unused=not_used(
            folder, cases, "is not listed in dataset.json (as training or test); add it there, or remove it"
        ),
    )
    return with_protocol(found, protocol, known=PROTOCOLS, validate_on_test=validate_on_test)


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
