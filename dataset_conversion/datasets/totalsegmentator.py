"""TotalSegmentator: 104 (version 1) or 117 (version 2) structures of the whole body in CT, or 50 to 56 in MR, one mask each.

Wasserthal et al., "TotalSegmentator: Robust Segmentation of 104 Anatomic Structures in CT Images", Radiology: Artificial
Intelligence 5, e230024 (2023); Akinci D'Antonoli et al., "TotalSegmentator MRI", Radiology 314, e241613 (2025).
https://zenodo.org/records/6802613 (version 1), 10047292 (2.0.1), 11367005 and 14710732 (MR). Licence: CC BY 4.0 (CT, as its users
state; for MR, see the records).

Expected:

    meta.csv                        semicolons; cases whose column split says test become test cases
    s0000/ct.nii.gz (or mri.nii.gz)
    s0000/segmentations/spleen.nii.gz, kidney_right.nii.gz, ...

Labels: the version's numbers (map_to_binary.py of TotalSegmentator); for MR, the masks by alphabet, as 1, 2, ... With --classes,
only these, as 1, 2, ... in the order given. The version is told by classes that only one of them has. Where masks overlap,
the higher value counts, and a warning names the classes.

Traps:
- Only the classes 1 to 6 have the same number in versions 1 and 2, so masks are taken by name, never by number.
- An empty mask is normal, because most scans show a part of the body; of some MR cases all are (issue 511), which planning
  warns of. A case that lacks a mask is left out.
- The axes of more than a hundred cases are not at right angles (issue 461); up to 1 degree they are set so, and named.
- Cases that users reported are named as known to be broken; some are right in a later version, which no file tells.
- All masks of a case are read, about a tenth of a second each; --classes reads only those it needs.
"""

import difflib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from unetrpp.core.command_line import Parser
from unetrpp.core.errors import UserError
from unetrpp.core.text import counted, listed
from unetrpp.dataset_conversion.datasets import About
from unetrpp.dataset_conversion.finding import (
    by_case,
    by_name,
    case_folders,
    child,
    listed_folder,
    not_used,
    said_of_case,
)
from unetrpp.dataset_conversion.source import Mask, Source, SourceCase, scheme_of
from unetrpp.dataset_conversion.tables import read_table
from unetrpp.io.listing import open_entries

ABOUT = About(
    title="TotalSegmentator: structures of the whole body",
    modality="CT or MR",
    cases="1204 (version 1), 1228 (version 2) or 298 to 616 (MR)",
    size="about 25 GB (CT)",
    origin="https://zenodo.org/records/10047292",
    licence="CC BY 4.0 (CT)",
    name="TotalSegmentator",
)
_VERTEBRAE = " ".join(
    f"vertebrae_{region}{n}" for region, count in (("L", 5), ("T", 12), ("C", 7)) for n in range(count, 0, -1)
)
_RIBS = " ".join(f"rib_{side}_{n}" for side in ("left", "right") for n in range(1, 13))
_BONES = " ".join(
    f"{bone}_{side}" for bone in ("humerus", "scapula", "clavicula", "femur", "hip") for side in ("left", "right")
)
_MUSCLES = " ".join(
    f"{muscle}_{side}"
    for muscle in ("gluteus_maximus", "gluteus_medius", "gluteus_minimus", "autochthon", "iliopsoas")
    for side in ("left", "right")
)
_ILIAC = "iliac_artery_left iliac_artery_right iliac_vena_left iliac_vena_right"
VERSIONS: Mapping[str, Sequence[str]] = {  # in the order of their values, from 1
    "version 1": f"""
        spleen kidney_right kidney_left gallbladder liver stomach aorta inferior_vena_cava portal_vein_and_splenic_vein pancreas
        adrenal_gland_right adrenal_gland_left lung_upper_lobe_left lung_lower_lobe_left lung_upper_lobe_right
        lung_middle_lobe_right lung_lower_lobe_right {_VERTEBRAE} esophagus trachea heart_myocardium heart_atrium_left
        heart_ventricle_left heart_atrium_right heart_ventricle_right pulmonary_artery brain {_ILIAC} small_bowel duodenum colon
        {_RIBS} {_BONES} sacrum face {_MUSCLES} urinary_bladder""".split(),
    "version 2": f"""
        spleen kidney_right kidney_left gallbladder liver stomach pancreas adrenal_gland_right adrenal_gland_left
        lung_upper_lobe_left lung_lower_lobe_left lung_upper_lobe_right lung_middle_lobe_right lung_lower_lobe_right esophagus
        trachea thyroid_gland small_bowel duodenum colon urinary_bladder prostate kidney_cyst_left kidney_cyst_right sacrum
        vertebrae_S1 {_VERTEBRAE} heart aorta pulmonary_vein brachiocephalic_trunk subclavian_artery_right subclavian_artery_left
        common_carotid_artery_right common_carotid_artery_left brachiocephalic_vein_left brachiocephalic_vein_right
        atrial_appendage_left superior_vena_cava inferior_vena_cava portal_vein_and_splenic_vein {_ILIAC} {_BONES} spinal_cord
        {_MUSCLES} brain skull {_RIBS} sternum costal_cartilages""".split(),
}
# Issues of https://github.com/wasserth/TotalSegmentator, by their numbers.
BROKEN = {
    "version 1": dict.fromkeys(
        ("s0001", "s0044", "s0067"), "rotated, so that labels lie outside of the scan (issue 34)"
    )
    | {"s0864": "ct.nii.gz is damaged (issue 92)"},
    "version 2": dict.fromkeys(
        ("s0184", "s0224", "s0830", "s0864", "s0992"), "wrong intensities in version 2.0.0 (issue 193)"
    )
    | dict.fromkeys(
        ("s0045", "s0248"), "an empty scan in version 2.0.0, which its author could not confirm (issue 193)"
    )
    | dict.fromkeys(("s0143", "s1196"), "the heart lies in the abdomen (issue 299)")
    | {
        "s0092": "lung_upper_lobe_right reaches out of the scan (issue 245)",
        "s0201": "the heart is at a wrong place (issues 245 and 299)",
        "s0513": "humerus_right is wrong (issue 245)",
        "s0605": "lung_lower_lobe_left reaches below the diaphragm (issue 245)",
    },
}
MISSING = "is in meta.csv, but has no folder; complete the download"
KINDS = {"ct": "CT", "mri": "MR"}  # names of images -> channels
Found = tuple[dict[str, Path], dict[Path, str]]  # of by_case


def add_options(parser: Parser) -> None:
    # argparse would put SRC last, where --classes would swallow it.
    parser.usage = "unetrpp_convert totalsegmentator SRC [--classes NAME [NAME ...]] [options]"
    what = "only these structures, such as liver spleen; they get the values 1, 2, ... (default: all)"
    parser.add_argument("--classes", nargs="+", metavar="NAME", default=(), help=what)


def read(folder: Path, *, classes: Sequence[str] = ()) -> Source:
    """The cases with the masks of all or of some structures.

    Raises:
        UserError: there is no case, the version is not clear, a class is unknown, or meta.csv cannot be read.
    """
    folders = case_folders(folder, r"s\d{4}", "s0000")
    images = {case: by_name(open_entries(path), r"(?P<case>ct|mri)\.nii(\.gz)?") for case, path in folders.items()}
    masks = {
        case: by_case(listed_folder(path, "segmentations"), r"(?P<case>\w+)\.nii(\.gz)?")
        for case, path in folders.items()
    }
    kind = _kind(folder, images)
    names = Counter(name for found, _ in masks.values() for name in found)
    version, known = ("MR", _usual(names, len(masks))) if kind == "mri" else _version(folder, names, bool(classes))
    values = _values(classes, known)
    splits = _splits(folder, {path.parent for path in folders.values()})
    made = {case: _case(case, images[case], masks[case], values, kind=kind) for case in sorted(folders)}
    cases = tuple(
        replace(case, test=splits.get(case.id) == "test") for case in made.values() if isinstance(case, SourceCase)
    )
    missing = dict.fromkeys(sorted(splits.keys() - folders.keys()), MISSING)
    return Source(
        channel_names=(KINDS[kind],),
        labels=scheme_of(values),
        cases=cases,
        reference=ABOUT.origin,
        licence="CC BY 4.0" if kind == "ct" else None,
        left_out={case: why for case, why in made.items() if isinstance(why, str)} | missing,
        unused=not_used(
            folder, cases, "is no image or mask of a case; move or remove it", _known(images, masks, known)
        ),
        known_broken=BROKEN.get(version, {}),
        notes=(
            f"this is {version} with {len(known)} classes; {len(values)} of them are converted",
            f"{'test cases are those of' if splits else 'all cases are training cases, because there is no'} meta.csv",
        ),
    )


def _kind(folder: Path, images: Mapping[str, Found]) -> str:
    """
    Raises:
        UserError: there are no images, or of both kinds.
    """
    kinds = {name for found, _ in images.values() for name in found}
    if len(kinds) != 1:
        what = "both ct.nii.gz and mri.nii.gz" if kinds else "neither ct.nii.gz nor mri.nii.gz"
        raise UserError(f"the cases of {folder} have {what}; give the folder of one complete download")
    return kinds.pop()


def _version(folder: Path, names: Iterable[str], chosen: bool) -> tuple[str, Sequence[str]]:
    """
    Raises:
        UserError: the masks are those of both versions, or of none that could be told.
    """
    found = set(names)
    one, two = (set(VERSIONS[version]) for version in VERSIONS)
    told = [version for version, own in zip(VERSIONS, (one - two, two - one), strict=True) if own & found]
    if len(told) == 1:
        return told[0], VERSIONS[told[0]]
    if not told and chosen:
        return "a part of version 1 or 2", [name for name in VERSIONS["version 2"] if name in found]
    if told:
        raise UserError(f"{folder} has classes of versions 1 and 2; give the folder of one version")
    raise UserError(f"{folder} has no class that only version 1 or 2 has, which tells the values; give --classes")


def _usual(names: Mapping[str, int], cases: int) -> list[str]:
    """The masks that at least half of the cases have, by alphabet."""
    return sorted(name for name, count in names.items() if 2 * count >= cases)


def _values(classes: Sequence[str], known: Sequence[str]) -> dict[str, int]:
    """Class -> value.

    Raises:
        UserError: a class is not known, or given twice.
    """
    for name in classes:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
            raise UserError(
                f"there is no class {name!r} here; "
                + (f"take {' or '.join(near)}" if near else f"the names are those of the masks, such as {known[0]}")
            )
    if len(set(classes)) < len(classes):
        raise UserError("--classes names a class twice; give each once")
    return {name: value for value, name in enumerate(classes or known, 1)}


def _case(case: str, image: Found, masks: Found, values: Mapping[str, int], *, kind: str) -> SourceCase | str:
    """The case, or why it cannot be converted."""
    if several := [*image[1].values(), *masks[1].values()]:
        return said_of_case(several[0])
    if kind not in image[0]:
        return f"has no {kind}.nii.gz; complete the download"
    if lacking := [name for name in values if name not in masks[0]]:
        return f"lacks {counted(len(lacking), 'mask')} ({listed(lacking)}); complete the download"
    painted = tuple(Mask(name, value, masks[0][name]) for name, value in values.items())
    return SourceCase(case, (image[0][kind],), masks=painted)


def _splits(folder: Path, parents: Iterable[Path]) -> dict[str, str]:
    """Case -> train, val or test, of meta.csv; nothing where there is none.

    Raises:
        UserError: it lacks a column.
    """
    table = next((found for parent in parents if (found := child(parent, "meta.csv"))), None)
    if table is None:
        return {}
    rows = read_table(table, ("image_id", "split"))
    return {row["image_id"]: row["split"].casefold() for row in rows if row["image_id"]}


def _known(images: Mapping[str, Found], masks: Mapping[str, Found], known: Iterable[str]) -> dict[Path, str | None]:
    """The files of which a case accounts, as `not_used` takes them: all but masks of unknown classes."""
    classes = set(known)
    named = [path for found in (*images.values(), *masks.values()) for path in found[1]]
    named += [path for found, _ in images.values() for path in found.values()]
    return dict.fromkeys(
        [*named, *(path for found, _ in masks.values() for name, path in found.items() if name in classes)]
    )
