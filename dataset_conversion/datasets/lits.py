"""LiTS, the Liver Tumor Segmentation Benchmark: liver and tumours in contrast-enhanced CT.

Bilic et al., "The Liver Tumor Segmentation Benchmark (LiTS)", Medical Image Analysis 84, 102680 (2023).
https://competitions.codalab.org/competitions/17094. Licence: the challenge's terms (CC BY-NC-ND 4.0 by
hearsay, not verified).

Expected, in any folders ("Training Batch 1", "volume_pt1", ...), as .nii or .nii.gz:

    volume-0.nii ... volume-130.nii, segmentation-0.nii ... segmentation-130.nii
    test-volume-0.nii ... test-volume-69.nii      become test cases without labels

Labels: 1 liver, 2 tumour.

Traps:
- The affine of volume-28 to volume-47 is the identity, so that their voxels count as 1 x 1 x 1 mm, and left and right are
  not known. They are named as known to be broken; --skip-known-broken leaves them out. Most are scans of 3D-IRCADb, which
  has their spacing (which ones exactly is disputed).
- Task03_Liver of the Medical Segmentation Decathlon holds the same scans: do not train on one and test on the other.
"""

from pathlib import Path

from unetrpp.dataset_conversion.datasets import About
from unetrpp.dataset_conversion.finding import images_in_tree, not_used, part_of, together
from unetrpp.dataset_conversion.source import Source, scheme_of

ABOUT = About(
    title="LiTS: liver and liver tumours",
    modality="CT",
    cases="131 training and 70 test cases",
    size="about 15 GB (training)",
    origin="https://competitions.codalab.org/competitions/17094",
    licence="the challenge's terms",
    name="LiTS",
)
NUMBER, ENDING = r"(?P<case>\d+)", r"\.nii(\.gz)?"
IDENTITY = range(28, 48)  # https://github.com/PatrickChrist/LITS-CHALLENGE/issues/14


def read(folder: Path) -> Source:
    """Training cases (volume-N and segmentation-N) and test cases (test-volume-N), wherever they lie below the folder."""
    images, test = images_in_tree(folder), f"test-volume-{NUMBER}{ENDING}"
    training = part_of(
        images, images, image=f"volume-{NUMBER}{ENDING}", label=f"segmentation-{NUMBER}{ENDING}", name="volume-{}"
    )
    found = together(training, part_of(images, (), image=test, label=test, name="test-volume-{}", test=True))
    reason = "is not named volume-N, segmentation-N or test-volume-N; rename it, or remove it"
    broken = "its affine is the identity: its spacing, and which side is left, are not known"
    return Source(
        channel_names=("CT",),
        labels=scheme_of({"liver": 1, "tumour": 2}),
        cases=found.cases,
        reference=ABOUT.origin,
        licence=ABOUT.licence,
        left_out=found.left_out,
        unused=not_used(folder, found.cases, reason, found.known),
        known_broken={f"volume-{number}": broken for number in IDENTITY},
    )
