"""FLARE22: thirteen abdominal organs in CT, with 50 labelled scans and 2,000 without labels.

Ma et al., "Unleashing the strengths of unlabelled data in deep learning-assisted pan-cancer abdominal organ quantification: the
FLARE22 challenge", Lancet Digital Health 6, e815-e826 (2024). https://flare22.grand-challenge.org, the labelled scans also at
https://zenodo.org/records/7860267. Licence: the challenge's terms (not verified).

Expected, in any folders:

    .../FLARE22_LabeledCase50/images/FLARE22_Tr_0001_0000.nii.gz     .../labels/FLARE22_Tr_0001.nii.gz
    Tuning/images/FLARETs_0001_0000.nii.gz                           Tuning/labels/FLARETs_0001.nii.gz   (test cases)
    Testing/FLARETs_0001_0000.nii.gz         (test cases; the numbers of Tuning again, so called Testing_FLARETs_0001, ...)
    .../FLARE22_UnlabeledCase1-1000/Case_00001_0000.nii.gz           are not converted

Labels: 1 liver, 2 right kidney, 3 spleen, 4 pancreas, 5 aorta, 6 inferior vena cava, 7 right adrenal gland, 8 left adrenal
gland, 9 gallbladder, 10 esophagus, 11 stomach, 12 duodenum, 13 left kidney (this is not the order of BTCV or AMOS).

Traps: the labelled scans are those of Task07_Pancreas of the Medical Segmentation Decathlon, so it is no test set for them.
Other years of FLARE have other classes and are refused by their label values.
"""

from pathlib import Path

from unetrpp.core.text import counted
from unetrpp.dataset_conversion.datasets import About
from unetrpp.dataset_conversion.finding import by_case, images_in_tree, not_used, part_of, together
from unetrpp.dataset_conversion.naming import in_test_set
from unetrpp.dataset_conversion.source import Source, scheme_of

ABOUT = About(
    title="FLARE22: 13 abdominal organs",
    modality="CT",
    cases="50 training cases, 50 for tuning and 200 for testing",
    size="about 250 GB with the 2,000 unlabelled scans",
    origin="https://flare22.grand-challenge.org",
    licence="the challenge's terms",
    name="FLARE22",
)
ORGANS = (
    "liver", "right kidney", "spleen", "pancreas", "aorta", "inferior vena cava", "right adrenal gland",
    "left adrenal gland", "gallbladder", "esophagus", "stomach", "duodenum", "left kidney",
)  # fmt: skip
ENDING = r"\.nii(\.gz)?"
TRAINING, TEST = r"(?P<case>FLARE22_Tr_\d+)", r"(?P<case>FLARETs_\d+)"
UNLABELLED = rf"(?P<case>Case_\d+)_0000{ENDING}"


def read(folder: Path) -> Source:
    """The labelled scans and those for tuning and testing, wherever they lie below the folder."""
    images = images_in_tree(folder)
    testing = [path for path in images if in_test_set(path, folder, "^testing$")]
    others = [path for path in images if path not in set(testing)]
    names = [(others, TRAINING, "{}"), (others, TEST, "{}"), (testing, TEST, "Testing_{}")]
    found = together(
        *(
            part_of(where, where, image=f"{case}_0000{ENDING}", label=f"{case}{ENDING}", name=name, test=case == TEST)
            for where, case, name in names
        )
    )
    unlabelled = by_case(images, UNLABELLED)[0].values()
    reason = "is named like no scan or label of FLARE22; rename it, or remove it"
    one, several = "scan (Case_NNNNN_0000) has no label and is", "scans (Case_NNNNN_0000) have no label and are"
    note = f"{counted(len(unlabelled), one, several)} not converted"
    return Source(
        channel_names=("CT",),
        labels=scheme_of({organ: value for value, organ in enumerate(ORGANS, 1)}),
        cases=found.cases,
        reference=ABOUT.origin,
        licence=ABOUT.licence,
        left_out=found.left_out,
        unused=not_used(folder, found.cases, reason, found.known | dict.fromkeys(unlabelled)),
        notes=(note,) if unlabelled else (),
    )
