"""AMOS22: fifteen abdominal organs in CT and MR.

Ji et al., "AMOS: A Large-Scale Abdominal Multi-Organ Benchmark for Versatile Medical Image Segmentation", NeurIPS Datasets and
Benchmarks (2022). https://zenodo.org/records/7262581 (amos22.zip). Licence: CC BY 4.0, as its users state.

Expected:

    imagesTr/amos_0001.nii.gz   labelsTr/amos_0001.nii.gz    200 CT and 40 MR
    imagesVa/amos_0008.nii.gz   labelsVa/amos_0008.nii.gz    100 CT and 20 MR
    imagesTs/amos_0002.nii.gz                                test cases; their labels are not public
    dataset.json (or task1_dataset.json, task2_dataset.json of the time of the challenge): scans that one of them lists and
    the folders lack are named

CT scans have numbers up to 500, MR scans 501 to 600; --modality chooses (default: ct). With "both" the channel is called
"CT or MR": its values are no Hounsfield units, so each scan is normalised by itself.

The validation set is for model selection by the download's readme. Cross-validation does that with the training cases, so
that scans of imagesVa with labels (the download since the challenge) are training cases too, as in nnU-Net's conversion; a
splits.json with one fold that validates on them makes the published split. Without labels (the download of that time) they
are test cases, as those of imagesTs, whose predictions the challenge's site evaluates.

Labels: 1 spleen, 2 right kidney, 3 left kidney, 4 gallbladder, 5 esophagus, 6 liver, 7 stomach, 8 aorta, 9 inferior vena cava,
10 pancreas, 11 right adrenal gland, 12 left adrenal gland, 13 duodenum, 14 bladder, 15 prostate or uterus.

Traps: the order is that of BTCV up to 9 only. The unlabelled scans (5000 and above) are other downloads and not converted.
"""

from pathlib import Path
from typing import Any

from unetrpp.core.command_line import Parser
from unetrpp.core.errors import UserError
from unetrpp.core.files import read_edited_json
from unetrpp.core.text import counted
from unetrpp.dataset_conversion.datasets import About
from unetrpp.dataset_conversion.finding import Part, folder_with, listed_folder, not_used, part_of, together
from unetrpp.dataset_conversion.source import Source, scheme_of
from unetrpp.io.formats import strip_ending
from unetrpp.io.listing import entries

ABOUT = About(
    title="AMOS22: 15 abdominal organs",
    modality="CT and MR",
    cases="300 CT and 60 MR training cases, 200 CT and 40 MR test cases",
    size="24 GB",
    origin="https://zenodo.org/records/7262581",
    licence="CC BY 4.0",
    name="AMOS22",
)
ORGANS = (
    "spleen", "right kidney", "left kidney", "gallbladder", "esophagus", "liver", "stomach", "aorta", "inferior vena cava",
    "pancreas", "right adrenal gland", "left adrenal gland", "duodenum", "bladder", "prostate or uterus",
)  # fmt: skip
CHANNELS = {"ct": "CT", "mr": "MR", "both": "CT or MR"}
NAME = r"(?P<case>amos_\d{4})\.nii(\.gz)?"
LAST_CT, LAST = 500, 600  # numbers


def add_options(parser: Parser) -> None:
    what = "which scans to convert (default: ct)"
    parser.add_argument("--modality", choices=list(CHANNELS), default="ct", help=what)


def read(folder: Path, *, modality: str = "ct") -> Source:
    """The training, validation and test scans of a modality.

    Raises:
        UserError: there is no such modality or folder, a dataset.json cannot be read, or no scan has the modality.
    """
    if modality not in CHANNELS:
        raise UserError(f"modality is {modality!r}, but must be one of {', '.join(CHANNELS)}")
    folder = folder_with(folder, "imagesTr", "labelsTr")
    every = together(_part(folder, "Tr"), *_validation(folder), _part(folder, "Ts", test=True))
    others = [case for case in every.cases if not _is_meant(case.id, modality)]
    cases = tuple(case for case in every.cases if _is_meant(case.id, modality))
    if not cases:
        raise UserError(f"{folder} holds no {modality.upper()} scan of AMOS; give another --modality")
    left_out = {id: why for id, why in every.left_out.items() if _is_meant(id, modality)}
    present = {case.id for case in every.cases} | every.left_out.keys()
    missing = {id for id in _listed(folder) - present if _is_meant(id, modality)}
    lacking = dict.fromkeys(sorted(missing), "is listed in dataset.json, but not there; complete the download")
    known = every.known | dict.fromkeys(file for case in others if _number(case.id) <= LAST for file in case.files)
    beyond = "is not one of the 600 scans of amos22.zip (their numbers end at 600); move it elsewhere"
    known |= {file: beyond for case in others if _number(case.id) > LAST for file in case.files}
    return Source(
        channel_names=(CHANNELS[modality],),
        labels=scheme_of({organ: value for value, organ in enumerate(ORGANS, 1)}),
        cases=cases,
        reference=ABOUT.origin,
        licence=ABOUT.licence,
        left_out=left_out | lacking,
        unused=not_used(folder, cases, "is not amos_NNNN.nii.gz in a folder of AMOS; move or remove it", known),
        notes=_notes(folder, [case.id for case in others if _number(case.id) <= LAST], modality),
    )


def _number(case: str) -> int:
    return int(case.split("_")[1])


def _is_meant(case: str, modality: str) -> bool:
    number = _number(case)
    return number <= LAST and (modality == "both" or (number <= LAST_CT) == (modality == "ct"))


def _part(folder: Path, part: str, *, test: bool = False) -> Part:
    images, labels = (listed_folder(folder, f"{kind}{part}") for kind in ("images", "labels"))
    return part_of(images, labels, image=NAME, label=NAME, test=test)


def _validation(folder: Path) -> list[Part]:
    """The validation scans: training cases where labelsVa holds labels, otherwise test cases."""
    return [_part(folder, "Va", test=not listed_folder(folder, "labelsVa"))]


def _listed(folder: Path) -> set[str]:
    """The cases that the folder's *dataset.json list: strings or pairs, as training, validation or test.

    Raises:
        UserError: one of them cannot be read.
    """
    found: set[str] = set()
    for path in [path for path in entries(folder) if path.name.casefold().endswith("dataset.json")]:
        content = read_edited_json(path, dict[str, Any], hint="download the dataset again")
        for part in ("training", "validation", "test"):
            if not isinstance(content.get(part, []), list):
                raise UserError(f"{path}: {part} must be a list of cases; download the dataset again")
            for entry in content.get(part, []):
                found.add(strip_ending(Path(str(entry.get("image") if isinstance(entry, dict) else entry)).name))
    return {case for case in found if case.removeprefix("amos_").isdigit()}


def _notes(folder: Path, others: list[str], modality: str) -> tuple[str, ...]:
    notes = []
    if others:
        which = "MR" if modality == "ct" else "CT"
        notes.append(
            f"{counted(len(others), f'{which} scan is', f'{which} scans are')} not converted; --modality chooses"
        )
    if listed_folder(folder, "labelsVa"):
        notes.append("the labelled scans of imagesVa are training cases")
    return tuple(notes)
