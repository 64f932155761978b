"""PROMISE12: the prostate in T2-weighted MR of several centres and vendors.

Litjens et al., "Evaluation of prostate segmentation algorithms for MRI: The PROMISE12 challenge", Medical Image Analysis 18,
359-373 (2014). https://promise12.grand-challenge.org. Licence: the challenge's terms (not verified).

Expected, in any folders (TrainingData_Part1 to 3, training_data, TestData, test_data, live_test, ...):

    Case00.mhd with Case00.raw (or .zraw), Case00_segmentation.mhd with its data, ... Case49

Folders whose names contain the word "test" hold test cases, with or without labels; the nearest folder that says so counts.
They use the numbers of the training set again, so that these cases
are called test_Case00, ..., and live_Case00, ... where the folder's name contains "live" as well.

Labels: 1 prostate.

Traps: some scans have an endorectal coil, which gives a bright area at the rectum.
"""

from pathlib import Path

from unetrpp.dataset_conversion.datasets import About
from unetrpp.dataset_conversion.finding import images_in_tree, not_used, part_of, together
from unetrpp.dataset_conversion.naming import in_test_set
from unetrpp.dataset_conversion.source import Source, scheme_of

ABOUT = About(
    title="PROMISE12: the prostate",
    modality="MR (T2)",
    cases="50 training and 30 test cases, and 20 of the live challenge",
    size="a few hundred MB",
    origin="https://promise12.grand-challenge.org",
    licence="the challenge's terms",
    name="PROMISE12",
)
TEST = r"(?<![a-z])test|livetest"  # and not "latest"
IMAGE, LABEL = r"(?P<case>Case\d+)\.mhd", r"(?P<case>Case\d+)_segmentation\.mhd"


def read(folder: Path) -> Source:
    """CaseNN.mhd with CaseNN_segmentation.mhd, wherever they lie below the folder."""
    parts: dict[str, list[Path]] = {"{}": [], "test_{}": [], "live_{}": []}
    for path in images_in_tree(folder):
        parts[_name(path, folder)].append(path)
    found = together(
        *(
            part_of(images, images, image=IMAGE, label=LABEL, name=name, test=name != "{}")
            for name, images in parts.items()
        )
    )
    reason = "is not named CaseNN.mhd or CaseNN_segmentation.mhd; rename it, or remove it"
    return Source(
        channel_names=("T2",),
        labels=scheme_of({"prostate": 1}),
        cases=found.cases,
        reference=ABOUT.origin,
        licence=ABOUT.licence,
        left_out=found.left_out,
        unused=not_used(folder, found.cases, reason, found.known),
    )


def _name(image: Path, source: Path) -> str:
    """How a case is called.

    >>> [_name(Path("d", f, "Case00.mhd"), Path("d")) for f in ("TrainingData_Part1", "TestData", "livechallenge_test_data")]
    ['{}', 'test_{}', 'live_{}']
    """
    if not in_test_set(image.parent, source, TEST):
        return "{}"
    return "live_{}" if "live" in image.relative_to(source.parent).parent.as_posix().casefold() else "test_{}"
