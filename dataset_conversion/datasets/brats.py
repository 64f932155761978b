"""BraTS: four MR channels of brain tumours, 2018 to 2021 and 2023 to 2025 (GLI, SSA, MEN, MET, PED).

Bakas et al., arXiv 1811.02629; Baid et al., arXiv 2107.02314; the challenges' papers on Synapse. After registration:
https://www.med.upenn.edu/cbica/brats (2018 to 2020), https://www.synapse.org/brats (2021 and later); their terms.

    BraTS20_Training_001/BraTS20_Training_001_t1.nii.gz (_t1ce, _t2, _flair, _seg)      2018 to 2021, in HGG/ and LGG/ until 2019
    BraTS-GLI-00000-000/BraTS-GLI-00000-000-t1n.nii.gz (-t1c, -t2w, -t2f, -seg)         2023 and later

Channels always have the order T1, T1 with contrast, T2, FLAIR. Labels keep the values of the files, and regions are learned:
whole tumour, tumour core, enhancing tumour, and what a challenge scores besides.

    2018 to 2021        1 necrosis and non-enhancing core, 2 edema, 4 enhancing; no 3
    GLI, SSA, MEN, MET  1 non-enhancing core, 2 edema (SNFH), 3 enhancing
    GLI 2024 and later  the same, and 4 resection cavity, which is not of the whole tumour; scans 100 and up (BraTS-GLI-02073-100)
    MET 2025            the same, and 4 resection cavity; no name tells it from 2023: --year 2025
    PED 2024, 2025      1 enhancing, 2 non-enhancing, 3 cyst, 4 edema; in 2023 as GLI; no name tells: --year

Cases without a label are test cases where Validation or Testing is in their id, or in the nearest folder that says so.

Traps:
- nnU-Net's BraTS datasets renumber the labels (1 is edema there). Here they stay, also in predictions.
- A widespread copy of 2020 has the label of BraTS20_Training_355 as W39_1998.09.19_Segm.nii; it is taken, and said.
- Scans of one patient (BraTS-GLI-00001-000, -001) are one group.
- 2012 to 2017 had other labels or were not verified; MEN-RT (one channel) and GoAT have other layouts. All are refused.
- Scans are not always 240 x 240 x 155 voxels of 1 mm: later ones are in MNI152 or native space.
- "BraTS" in the tables of UNETR++ and nnFormer is the decathlon's Task01: `unetrpp_convert msd Task01_BrainTumour.tar
  --protocol brats`.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from unetrpp.core.errors import UserError
from unetrpp.core.files import walk
from unetrpp.core.text import listed
from unetrpp.dataset_conversion.datasets import About
from unetrpp.dataset_conversion.finding import by_case, images_in_tree, not_used, of_named_cases
from unetrpp.dataset_conversion.naming import groups_by, in_test_set
from unetrpp.dataset_conversion.source import Source, SourceCase, scheme_of
from unetrpp.io.listing import open_entries, unreadable

if TYPE_CHECKING:
    from unetrpp.core.command_line import Parser

ABOUT = About(
    title="BraTS (Brain Tumor Segmentation), 2018 to 2021 and 2023 to 2025",
    modality="MR, four channels",
    cases="285 (2018) to 1,350 (2024) training cases",
    size="several GB to tens of GB a year (not verified)",
    origin="https://www.med.upenn.edu/cbica/brats, https://www.synapse.org/brats",
    licence="after registration, terms of the challenge",
)
Regions = dict[str, tuple[list[int], int]]  # region -> its values, and the one that is written for it


@dataclass(frozen=True)
class Edition:
    """Years whose files and labels are alike."""

    name: str
    years: tuple[int, ...]
    ids: str  # expression of a case's id
    channels: tuple[tuple[str, str], ...]  # ending of the file, name
    regions: Regions

    @property
    def endings(self) -> list[str]:
        return [ending for ending, _ in self.channels]


OLD = (("_t1", "T1"), ("_t1ce", "T1ce"), ("_t2", "T2"), ("_flair", "FLAIR"))
NEW = (("-t1n", "T1n"), ("-t1c", "T1c"), ("-t2w", "T2w"), ("-t2f", "T2f"))
THREE: Regions = {"whole tumour": ([1, 2, 3], 2), "tumour core": ([1, 3], 1), "enhancing tumour": ([3], 3)}
CAVITY: Regions = {**THREE, "resection cavity": ([4], 4)}
EDITIONS = (
    Edition(
        "BraTS 2018 to 2021",
        (2018, 2019, 2020, 2021),
        r"BraTS(18|19|20|2021)_\w+",
        OLD,
        {"whole tumour": ([1, 2, 4], 2), "tumour core": ([1, 4], 1), "enhancing tumour": ([4], 4)},
    ),
    Edition("GLI before treatment", (2023, 2024, 2025), r"BraTS-GLI-\d{5}-0\d\d", NEW, THREE),
    Edition("GLI after treatment", (2024, 2025), r"BraTS-GLI-\d{5}-[1-9]\d\d", NEW, CAVITY),
    Edition("SSA and MEN", (2023, 2024, 2025), r"BraTS-(SSA|MEN)-\d{5}-\d{3}", NEW, THREE),
    Edition("MET 2023 and 2024", (2023, 2024), r"BraTS-MET-\d{5}-\d{3}", NEW, THREE),
    Edition("MET 2025", (2025,), r"BraTS-MET-\d{5}-\d{3}", NEW, CAVITY),
    Edition("PED 2023", (2023,), r"BraTS-PED-\d{5}-\d{3}", NEW, THREE),
    Edition(
        "PED 2024 and 2025",
        (2024, 2025),
        r"BraTS-PED-\d{5}-\d{3}",
        NEW,
        {
            "whole tumour": ([1, 2, 3, 4], 4),
            "tumour core": ([1, 2, 3], 2),
            "enhancing tumour": ([1], 1),
            "cyst": ([3], 3),
        },
    ),
)
ANY = r"(?P<case>BraTS\d+_\w+?|BraTS-[A-Z]+-\d+-\d+)"
ODD_LABEL = ("BraTS20_Training_355", r"W39_1998\.09\.19_Segm\.nii(\.gz)?")  # the case, and its label in some copies


def add_options(parser: "Parser") -> None:
    what = "of the challenge, where the names of the files do not tell it (MET and PED)"
    parser.add_argument("--year", type=int, metavar="YYYY", help=what)


def read(folder: Path, *, year: int | None = None) -> Source:
    """The cases of one edition.

    Raises:
        UserError: no case, an edition that is not known or not clear, or cases of several editions.
    """
    files = images_in_tree(folder)
    images = {ending: by_case(files, rf"{ANY}{ending}\.nii(\.gz)?") for ending, _ in (*OLD, *NEW)}
    ids = sorted({case for found, _ in images.values() for case in found})
    edition = _edition(folder, ids, year)
    known: dict[Path, str | None] = {path: why for _, several in images.values() for path, why in several.items()}
    channels = [images[ending][0] for ending in edition.endings]
    labels, twice = by_case(files, rf"{ANY}[-_]seg\.nii(\.gz)?")
    notes = _odd_label(files, labels)
    ids = sorted({*ids, *labels, *_empty_folders(folder, edition)})
    lacking = _lacking(ids, dict(zip(edition.endings, channels, strict=True)), labels, folder)
    cases = [
        SourceCase(case, tuple(found[case] for found in channels), labels.get(case), test=case not in labels)
        for case in ids
        if case not in lacking
    ]
    known |= {**twice, **of_named_cases(lacking, *channels, labels)}
    regions = edition.regions
    return Source(
        channel_names=tuple(name for _, name in edition.channels),
        labels=scheme_of(
            {name: values for name, (values, _) in regions.items()}, [written for _, written in regions.values()]
        ),
        cases=tuple(cases),
        reference=ABOUT.origin,
        left_out=lacking,
        unused=not_used(folder, cases, "is no file of a case; remove it", known),
        groups=groups_by(cases, r"(?P<patient>BraTS-[A-Z]+-\d{5})-\d{3}"),
        notes=tuple(notes),
    )


def _edition(folder: Path, ids: list[str], year: int | None) -> Edition:
    """
    Raises:
        UserError: the ids are of no edition, of several, or of several that only --year tells apart.
    """
    if not ids:
        raise UserError(
            f"{folder} has no file such as BraTS20_Training_001_t1.nii.gz or BraTS-GLI-00000-000-t1n.nii.gz; "
            "give the unpacked folder of one challenge"
        )
    fitting = {case: [e for e in EDITIONS if re.fullmatch(e.ids, case, re.IGNORECASE)] for case in ids}
    if unknown := [case for case, editions in fitting.items() if not editions]:
        raise UserError(
            f"{listed(unknown)} {'is' if len(unknown) == 1 else 'are'} of no known challenge "
            f"({', '.join(e.name for e in EDITIONS)}); convert folder takes other layouts, with labels that you give"
        )
    first = {editions[0].name: editions for editions in fitting.values()}
    if len(first) > 1:
        raise UserError(f"{folder} holds cases of {listed([*first])}, whose labels differ; convert them one by one")
    (editions,) = first.values()
    chosen = [e for e in editions if year is None or year in e.years]
    years = sorted({y for e in editions for y in e.years})
    if not chosen:
        raise UserError(f"{ids[0]} is not of --year {year}; its names are known of {', '.join(map(str, years))}")
    if len(chosen) > 1:
        raise UserError(
            f"the name {ids[0]} does not tell {' from '.join(e.name for e in chosen)}, whose labels differ; give --year"
        )
    return chosen[0]


def _odd_label(files: Iterable[Path], labels: dict[str, Path]) -> list[str]:
    """Take the label whose name some copies have wrong, and say so."""
    case, expression = ODD_LABEL
    odd = [f for f in files if f.parent.name == case and re.fullmatch(expression, f.name, re.IGNORECASE)]
    if len(odd) != 1 or case in labels:
        return []
    labels[case] = odd[0]
    return [f"{odd[0].name} is taken as the label of {case}, whose folder it lies in"]


def _lacking(
    ids: Iterable[str], channels: Mapping[str, Mapping[str, Path]], labels: Mapping[str, Path], folder: Path
) -> dict[str, str]:
    """What cases lack, with the repair; ``channels``: ending of a file -> case -> file."""
    found: dict[str, str] = {}
    for case in ids:
        present = [of[case] for of in channels.values() if case in of]
        absent = [ending[1:] for ending, of in channels.items() if case not in of]
        if absent:
            found[case] = f"has no {listed(absent)} ({len(channels)} channels are needed); complete the download"
        elif case not in labels and not in_test_set(present[0], folder, "validation|testing"):
            found[case] = "has no label; complete the download, or remove its images"
    return found


def _empty_folders(folder: Path, edition: Edition) -> set[str]:
    """Cases of which there is nothing but a folder."""
    named = (path for path in walk(folder) if path.is_dir() and re.fullmatch(edition.ids, path.name, re.IGNORECASE))
    return {path.name for path in named if path.name[-1].isdigit() and not (open_entries(path) or unreadable(path))}
