"""KiTS19, KiTS21 and KiTS23: kidneys, their tumours and cysts in contrast-enhanced CT.

Heller et al., "The state of the art in kidney and kidney tumor segmentation in contrast-enhanced CT imaging", Medical Image
Analysis 67, 101821 (2021), and https://arxiv.org/abs/2307.01984 on KiTS21. https://github.com/neheller/kits19, kits21, kits23.
Licence: CC BY-NC-SA, as kits23 states (that of 2019 and 2021 was not looked up).

Expected, below data/ or dataset/ or any other folder:

    case_00000/imaging.nii.gz   which a script of the repository downloads; a clone alone has none
    case_00000/segmentation.nii.gz                    KiTS19 and KiTS23
    case_00000/aggregated_MAJ_seg.nii.gz, _OR_, _AND_ KiTS21; --aggregation chooses (default: MAJ, a vote of three annotators)
    case_00000/instances/ or segmentations/           single annotations, not converted

The year is told by aggregated_*_seg (21), by instances/, kits23.json or a segmentation of case 210 or above (23), and by
kits.json or a case from 210 to 299 without segmentation (19); where nothing tells, --year does.

Labels: 1 kidney, 2 tumour; in 2021 and 2023 also 3 cyst. --regions evaluates as the challenge does: kidney with tumour and
cyst, masses (tumour and cyst), tumour.

Traps:
- Cases 210 to 299 of KiTS19 are its test set, without labels. Any other case without a label is an incomplete download.
- KiTS19 was corrected in April 2019 (affines; 22, 61 and 117 held a second series; 15, 60, 102 and 174 were replaced) and in
  December 2019 (labels of 15, 23, 37 and 125): use the newest version. Those that nnU-Net's authors left out are named as
  known to be broken.
- case_00160 has 512 x 796 pixels; that is no error. Cysts belong to the kidney in KiTS19.
"""

from collections.abc import Mapping
from pathlib import Path

from unetrpp.core.command_line import Parser
from unetrpp.core.errors import UserError
from unetrpp.dataset.labels import LabelScheme
from unetrpp.dataset_conversion.datasets import About
from unetrpp.dataset_conversion.finding import by_name, case_folders, child, not_used, said_of_case
from unetrpp.dataset_conversion.source import Source, SourceCase, scheme_of
from unetrpp.io.listing import images_below, open_entries

ABOUT = About(
    title="KiTS19, KiTS21, KiTS23: kidneys, tumours and cysts",
    modality="CT",
    cases="210 training and 90 test cases (19), 300 (21) or 489 (23) training cases",
    size="about 30 GB",
    origin="https://github.com/neheller/kits19, kits21 or kits23",
    licence="CC BY-NC-SA",
    name="KiTS",
)
YEARS = ("19", "21", "23")
AGGREGATIONS = ("MAJ", "OR", "AND")
TEST_19 = range(210, 300)
# Left out by nnU-Net's authors: https://github.com/MIC-DKFZ/nnDetection/tree/main/projects/Task011_Kits
WRONG_19 = (15, 23, 37, 68, 125, 133)
WRONG = "nnU-Net's authors left it out for its label, which a later version may have corrected"
FILES = r"(?P<case>imaging|segmentation|aggregated_(MAJ|OR|AND)_seg)\.nii(\.gz)?"
COMPANIONS = ("instances", "segmentations", "raw")


def add_options(parser: Parser) -> None:
    parser.add_argument("--year", choices=YEARS, help="of the challenge (default: told by the files)")
    what = "which of KiTS21's labels to take: the majority, union or intersection of the annotators (default: MAJ)"
    parser.add_argument("--aggregation", choices=AGGREGATIONS, default="MAJ", help=what)
    what = "the challenge's regions (kidney with all in it, masses, tumour) instead of single labels"
    parser.add_argument("--regions", action="store_true", help=what)


def read(folder: Path, *, year: str | None = None, aggregation: str = "MAJ", regions: bool = False) -> Source:
    """The cases with their labels.

    Raises:
        UserError: there is no case, or its year is not known.
    """
    if year not in (None, *YEARS) or aggregation not in AGGREGATIONS:
        raise UserError(f"year must be one of {', '.join(YEARS)}, and aggregation one of {', '.join(AGGREGATIONS)}")
    folders = case_folders(folder, r"case_\d{5}", "case_00000")
    found = {case: by_name(open_entries(path), FILES) for case, path in folders.items()}
    files = {case: names for case, (names, _) in found.items()}
    year = year or _year(folder, folders, files)
    if year != "21" and aggregation != AGGREGATIONS[0]:
        raise UserError(f"--aggregation chooses among the labels of KiTS21, but this is KiTS{year}; leave it out")
    label = f"aggregated_{aggregation}_seg" if year == "21" else "segmentation"
    made = {case: _case(case, files[case], label, year=year) for case in sorted(folders)}
    made |= {case: said_of_case(next(iter(several.values()))) for case, (_, several) in found.items() if several}
    cases = tuple(case for case in made.values() if isinstance(case, SourceCase))
    known = [path for names, several in found.values() for path in (*names.values(), *several)]
    for place in (child(path, name) for path in folders.values() for name in COMPANIONS):
        known += images_below(place) if place else []
    return Source(
        channel_names=("CT",),
        labels=_labels(year, regions),
        cases=cases,
        reference=f"https://github.com/neheller/kits{year}",
        licence=ABOUT.licence,
        left_out={case: why for case, why in made.items() if isinstance(why, str)},
        unused=not_used(folder, cases, "is no imaging or label of a case; remove it", dict.fromkeys(known)),
        known_broken=dict.fromkeys((f"case_{n:05d}" for n in WRONG_19), WRONG) if year == "19" else {},
        notes=(f"this is KiTS{year}" + (f" with the labels {label}" if year == "21" else ""),),
    )


def _case(case: str, files: Mapping[str, Path], label: str, *, year: str) -> SourceCase | str:
    """The case, or why it cannot be converted."""
    image, drawn = files.get("imaging"), files.get(label.casefold())
    test = year == "19" and _number(case) in TEST_19
    if image is None:
        return "has no imaging.nii.gz; run the download script of the repository"
    if drawn is None and not test:
        return f"has no {label}.nii.gz; complete the download"
    return SourceCase(case, (image,), drawn, test=test)


def _number(case: str) -> int:
    return int(case[-5:])


def _year(folder: Path, folders: Mapping[str, Path], files: Mapping[str, Mapping[str, Path]]) -> str:
    """
    Raises:
        UserError: nothing tells the year.
    """
    beside = {path.name for parent in {path.parent for path in folders.values()} for path in open_entries(parent)}
    segmented = {_number(case) for case, names in files.items() if "segmentation" in names}
    if any(name.startswith("aggregated") for names in files.values() for name in names):
        return "21"
    if (
        "kits23.json" in beside
        or max(segmented, default=0) >= TEST_19[0]
        or any(child(path, "instances") for path in folders.values())
    ):
        return "23"
    if "kits.json" in beside or any(_number(case) in TEST_19 for case in folders):
        return "19"
    raise UserError(f"{folder} may hold KiTS19 or KiTS23; give --year 19 or --year 23")


def _labels(year: str, regions: bool) -> LabelScheme:
    """
    >>> _labels("23", regions=True).regions[1].name
    'masses'
    """
    if year == "19":
        return (
            scheme_of({"kidney": [1, 2], "tumour": [2]}, [1, 2]) if regions else scheme_of({"kidney": 1, "tumour": 2})
        )
    if regions:
        return scheme_of({"kidney": [1, 2, 3], "masses": [2, 3], "tumour": [2]}, [1, 3, 2])
    return scheme_of({"kidney": 1, "tumour": 2, "cyst": 3})
