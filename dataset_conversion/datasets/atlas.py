"""ATLAS 2.0, Anatomical Tracings of Lesions After Stroke: chronic stroke lesions in T1-weighted MR.

Liew et al., "A large, curated, open-source stroke neuroimaging dataset to improve lesion segmentation algorithms", Scientific
Data 9, 320 (2022). https://fcon_1000.projects.nitrc.org/indi/retro/atlas.html; its archive is encrypted, and the password comes
after a form. Licence: the terms of use of that page (not verified).

Expected, in any folders (BIDS names; ATLAS_2/Training/R001/sub-r001s001/ses-1/anat/ in the download):

    sub-r001s001_ses-1_space-MNI152NLin2009aSym_T1w.nii.gz
    sub-r001s001_ses-1_space-MNI152NLin2009aSym_label-L_desc-T1lesion_mask.nii.gz

Scans in a folder called Testing are test cases, which have no masks. Masks without the part desc-T1lesion (earlier versions)
and the names of ATLAS 3 (space-orig_desc-brain_T1w, label-lesion_desc-T1lesion_mask) are taken as well.

Label: 1 lesion. A subject with several sessions is one group.

Traps: ATLAS 1.1 and 1.2 have other names (031768_t1w_deface_stx, _LesionSmooth_stx, _LesionSmooth_1_stx), several masks a scan, and
masks that are off the grid of their scan in the cohorts c0001 and c0002; they are refused. `unetrpp_convert folder --masks` takes
scans with a fixed number of masks. The liver dataset that is also called ATLAS is another one.
"""

from collections import Counter
from pathlib import Path

from unetrpp.core.errors import UserError
from unetrpp.dataset_conversion.datasets import About
from unetrpp.dataset_conversion.finding import images_in_tree, not_used, part_of, together
from unetrpp.dataset_conversion.naming import in_test_set
from unetrpp.dataset_conversion.source import Source, scheme_of

ABOUT = About(
    title="ATLAS 2.0: stroke lesions",
    modality="MR (T1)",
    cases="655 training and 300 test cases",
    size="a few GB",
    origin="https://fcon_1000.projects.nitrc.org/indi/retro/atlas.html",
    licence="its terms of use",
    name="ATLAS",
)
CASE, SPACE = r"(?P<case>sub-[^_]+(_ses-[^_]+)?)", r"(_space-[^_]+)?"
IMAGE = rf"{CASE}{SPACE}(_desc-[^_]+)?_T1w\.nii(\.gz)?"
LABEL = rf"{CASE}{SPACE}_label-(L|lesion)(_desc-T1lesion)?_mask\.nii(\.gz)?"


def read(folder: Path) -> Source:
    """The T1-weighted scans with their masks, wherever they lie below the folder.

    Raises:
        UserError: it holds ATLAS 1.
    """
    images = images_in_tree(folder)
    if first := next((path.name for path in images if "lesionsmooth" in path.name.casefold()), None):
        raise UserError(
            f"{first} is of ATLAS 1, which is not supported; download ATLAS 2.0, or use `convert folder --masks`"
        )
    testing = {path for path in images if in_test_set(path, folder, "^testing$")}
    training = [path for path in images if path not in testing]
    found = together(
        part_of(training, training, image=IMAGE, label=LABEL),
        part_of(testing, testing, image=IMAGE, label=LABEL, test=True),
    )
    subjects = {case.id: case.id.split("_")[0] for case in found.cases}
    several = max(Counter(subjects.values()).values(), default=0) > 1
    reason = "is no T1-weighted scan or lesion mask by its name; rename it, or remove it"
    template = {path: None for path in images if path.name.casefold().startswith("mni152")}
    return Source(
        channel_names=("T1",),
        labels=scheme_of({"lesion": 1}),
        cases=found.cases,
        reference=ABOUT.origin,
        licence=ABOUT.licence,
        left_out=found.left_out,
        unused=not_used(folder, found.cases, reason, found.known | template),
        groups=subjects if several else None,
    )
