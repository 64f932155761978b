"""WORD: sixteen organs of the whole abdomen in CT scans of patients before radiotherapy.

Luo et al., "WORD: A large scale dataset, benchmark and clinical applicable study for abdominal organ segmentation from CT image",
Medical Image Analysis 82, 102642 (2022). https://github.com/HiLab-git/WORD. Licence: GPL 3.0 by its dataset.json, research only.

Expected (WORD-V0.1.0):

    imagesTr/word_0002.nii.gz    labelsTr/word_0002.nii.gz     100 training cases
    imagesVal/word_0001.nii.gz   labelsVal/word_0001.nii.gz    20 validation cases
    imagesTs/word_0014.nii.gz    labelsTs/word_0014.nii.gz     30 test cases
    addition_validation_from_LiTS/                             20 scans of LiTS with WORD's classes, not converted

The validation cases become training cases, because cross-validation needs no further set; a splits.json with one fold that
validates on them makes the published split.

Labels: 1 liver, 2 spleen, 3 LEFT kidney, 4 right kidney, 5 stomach, 6 gallbladder, 7 esophagus, 8 pancreas, 9 duodenum, 10 colon,
11 intestine, 12 adrenal, 13 rectum, 14 bladder, 15 left head of femur, 16 right head of femur.

Traps: the left kidney comes first, other than in BTCV, AMOS and FLARE; both adrenal glands are one class.
"""

from pathlib import Path

from unetrpp.dataset_conversion.datasets import About
from unetrpp.dataset_conversion.finding import child, folder_with, listed_folder, not_used, part_of, together
from unetrpp.dataset_conversion.source import Source, scheme_of
from unetrpp.io.listing import images_below

ABOUT = About(
    title="WORD: 16 organs of the whole abdomen",
    modality="CT",
    cases="100 training, 20 validation and 30 test cases",
    size="about 6 GB",
    origin="https://github.com/HiLab-git/WORD",
    licence="GPL 3.0, research only",
    name="WORD",
)
ORGANS = (
    "liver", "spleen", "left kidney", "right kidney", "stomach", "gallbladder", "esophagus", "pancreas", "duodenum", "colon",
    "intestine", "adrenal", "rectum", "bladder", "left head of femur", "right head of femur",
)  # fmt: skip
NAME = r"(?P<case>word_\d+)\.nii(\.gz)?"


def read(folder: Path) -> Source:
    """The training, validation and test cases.

    Raises:
        UserError: there is no such folder.
    """
    folder = folder_with(folder, "imagesTr", "labelsTr")
    training, validation, test = (
        part_of(
            listed_folder(folder, f"images{part}"),
            listed_folder(folder, f"labels{part}"),
            image=NAME,
            label=NAME,
            test=part == "Ts",
        )
        for part in ("Tr", "Val", "Ts")
    )
    found = together(training, validation, test)
    of_lits = child(folder, "addition_validation_from_LiTS")
    added = list(images_below(of_lits)) if of_lits else []
    notes = []
    if validation.cases:
        notes.append(f"the scans of imagesVal ({len(validation.cases)}) are training cases")
    if added:
        notes.append("addition_validation_from_LiTS is not converted")
    reason = "is no word_NNNN.nii.gz of imagesTr, imagesVal, imagesTs or their labels; move or remove it"
    return Source(
        channel_names=("CT",),
        labels=scheme_of({organ: value for value, organ in enumerate(ORGANS, 1)}),
        cases=found.cases,
        reference=ABOUT.origin,
        licence=ABOUT.licence,
        left_out=found.left_out,
        unused=not_used(folder, found.cases, reason, found.known | dict.fromkeys(added)),
        notes=tuple(notes),
    )
