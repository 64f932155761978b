"""CHAOS, Combined Healthy Abdominal Organ Segmentation: the liver in CT; liver, kidneys and spleen in MR.

Kavur et al., "CHAOS Challenge - combined (CT-MR) healthy abdominal organ segmentation", Medical Image Analysis 69, 101950 (2021).
https://doi.org/10.5281/zenodo.3362844 (CHAOS_Train_Sets.zip, CHAOS_Test_Sets.zip). Licence: CC BY-NC-SA 4.0.

Expected; Test_Sets, beside it or in its place, has no Ground and becomes test cases:

    Train_Sets/CT/1/DICOM_anon/*.dcm                        Train_Sets/CT/1/Ground/*.png
    Train_Sets/MR/1/T1DUAL/DICOM_anon/InPhase/*.dcm         Train_Sets/MR/1/T1DUAL/Ground/*.png
    Train_Sets/MR/1/T1DUAL/DICOM_anon/OutPhase/*.dcm
    Train_Sets/MR/1/T2SPIR/DICOM_anon/*.dcm                 Train_Sets/MR/1/T2SPIR/Ground/*.png

--scans takes one of the three kinds, for each has a grid and labels of its own: ct, t1dual (two channels) or t2spir. Cases
are called CT_1, MR_1, ...; CT and MR are of different patients.

Labels: ct 1 liver; MR 1 liver (gray 55 to 70), 2 right kidney (110 to 135), 3 left kidney (175 to 200), 4 spleen (240 to 255).
Any other gray is refused.

Traps: the PNG files are in the order of the names of the DICOM files (in MR they have their names; for T1DUAL, those of InPhase),
which is not the order of the slices along the body, and in CT often its reverse. Here every PNG is put at the place of its own
DICOM file.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unetrpp.core.command_line import Parser
from unetrpp.core.errors import UserError
from unetrpp.core.text import counted, listed
from unetrpp.dataset.labels import listed_values, present_values
from unetrpp.dataset_conversion.datasets import About
from unetrpp.dataset_conversion.finding import Part, case_folders, child, listed_folder, not_used, together
from unetrpp.dataset_conversion.source import Source, SourceCase, scheme_of
from unetrpp.io.images import Volume, read_geometry, read_label
from unetrpp.io.listing import beside_slices, images_below

ABOUT = About(
    title="CHAOS: abdominal organs of healthy persons",
    modality="CT or MR",
    cases="20 training and 20 test cases in CT, and as many in MR",
    size="2 GB",
    origin="https://doi.org/10.5281/zenodo.3362844",
    licence="CC BY-NC-SA 4.0",
    name="CHAOS",
)
Grays = tuple[tuple[int, int], ...]  # the lowest and highest gray of each class
MR: Grays = ((55, 70), (110, 135), (175, 200), (240, 255))
SETS, MODALITIES = r"(train|test)_sets", ("CT", "MR")
ORGANS = ("liver", "right kidney", "left kidney", "spleen")


@dataclass(frozen=True)
class Scans:
    """One of the kinds of scans."""

    modality: str  # the folder
    ground: str  # the folder with the PNG files, below that of a patient
    channels: Mapping[str, str]  # name -> the folder of its series
    grays: Grays


SCANS = {
    "ct": Scans("CT", "Ground", {"CT": "DICOM_anon"}, ((1, 255),)),
    "t1dual": Scans(
        "MR",
        "T1DUAL/Ground",
        {"T1 in phase": "T1DUAL/DICOM_anon/InPhase", "T1 out of phase": "T1DUAL/DICOM_anon/OutPhase"},
        MR,
    ),
    "t2spir": Scans("MR", "T2SPIR/Ground", {"T2 SPIR": "T2SPIR/DICOM_anon"}, MR),
}


@dataclass(frozen=True)
class Drawn:
    """The label of a DICOM series, of which a PNG holds each slice.

    Attributes:
        series: folders of series on one grid; the PNG files follow the names of the files in one of them.
        pictures: by name.
        grays: of the classes 1, 2, ...
    """

    series: tuple[Path, ...]
    pictures: tuple[Path, ...]
    grays: Grays

    @property
    def files(self) -> tuple[Path, ...]:
        return self.pictures

    def read(self) -> Volume:
        """
        Raises:
            UserError: the series or a PNG cannot be read, or they do not belong together.
        """
        geometry = read_geometry(self.series[0])
        slices = [self._classes(picture) for picture in self._in_order()]
        first = slices[0].shape
        if first != geometry.shape_zyx[1:] or any(each.shape != first for each in slices):
            raise UserError(
                f"{self.pictures[0].parent} has PNG files of another size than the slices; download it again"
            )
        return Volume(np.stack(slices)[None], geometry)

    def _in_order(self) -> list[Path]:
        """The PNG file of every slice, in the order in which the series is read."""
        from unetrpp.io.readers.dicom import source_slices  # here, for pydicom takes a tenth of a second

        orders = [[file for file, _ in source_slices(folder)] for folder in self.series]
        names = {picture.stem: picture for picture in self.pictures}
        for order in orders:
            if names.keys() == {file.stem for file in order}:
                return [names[file.stem] for file in order]
        if len(orders[0]) != len(self.pictures):
            there, drawn = counted(len(orders[0]), "slice"), counted(len(self.pictures), "PNG file")
            raise UserError(f"{self.series[0]} has {there}, but {self.pictures[0].parent} {drawn}; download it again")
        places = {file: place for place, file in enumerate(sorted(orders[0]))}
        return [self.pictures[places[file]] for file in orders[0]]

    def _classes(self, picture: Path) -> np.ndarray:
        """The classes (Y, X) of one PNG.

        Raises:
            UserError: it holds a gray of no class.
        """
        gray: np.ndarray = read_label(picture).array[0, 0]
        label = np.zeros(gray.shape, np.uint8)
        for value, (low, high) in enumerate(self.grays, 1):
            label[(gray >= low) & (gray <= high)] = value
        if unknown := [value for value in present_values(gray[label == 0]) if value] if (label == 0).any() else []:
            ranges = ", ".join(f"{low} to {high}" for low, high in self.grays)
            raise UserError(f"{picture} has the gray {listed_values(unknown)}, but only 0 and {ranges} are classes")
        return label


def add_options(parser: Parser) -> None:
    parser.add_argument("--scans", choices=list(SCANS), help="which kind of scans to convert; must be given")


def read(folder: Path, *, scans: str | None = None) -> Source:
    """The scans of one kind.

    Raises:
        UserError: no kind is given, or there is no such folder.
    """
    if scans not in SCANS:
        raise UserError(f"CHAOS has three kinds of scans; give --scans {listed(list(SCANS), last='or')}")
    chosen = SCANS[scans]
    own = folder.resolve().name
    sets = {own: folder} if _is_set(own) else case_folders(folder, SETS, "Train_Sets")
    found = together(*(_part(path, chosen, test=name.casefold() == "test_sets") for name, path in sets.items()))
    organs = ORGANS[: len(chosen.grays)]
    return Source(
        channel_names=tuple(chosen.channels),
        labels=scheme_of({organ: value for value, organ in enumerate(organs, 1)}),
        cases=found.cases,
        reference=ABOUT.origin,
        licence=ABOUT.licence,
        left_out=found.left_out,
        unused=not_used(folder, found.cases, "lies in no folder of a patient; move or remove it", found.known),
        notes=(f"only the scans {scans} are converted; --scans takes the others into a dataset of their own (--name)",),
    )


def _is_set(name: str) -> bool:
    return re.fullmatch(SETS, name, re.IGNORECASE) is not None


def _part(folder: Path, scans: Scans, *, test: bool) -> Part:
    """The cases of Train_Sets or Test_Sets."""
    cases: list[SourceCase] = []
    left_out: dict[str, str] = {}
    patients = [path for modality in MODALITIES for path in listed_folder(folder, modality) if path.is_dir()]
    known: dict[Path, str | None] = dict.fromkeys(file for path in patients for file in images_below(path))
    for patient in listed_folder(folder, scans.modality):
        if not patient.is_dir():
            continue
        id = f"{scans.modality}_{patient.name}"
        places = [child(patient, place) for place in scans.channels.values()]
        series = tuple(path for path in places if path is not None and path.is_dir())
        pictures = tuple(path for path in listed_folder(patient, scans.ground) if path.suffix.lower() == ".png")
        known |= {path: why for each in series for path, why in beside_slices(each).items()}
        if len(series) < len(places):
            left_out[id] = f"has no {listed(list(scans.channels.values()))}; complete the download"
        elif not (pictures or test):
            left_out[id] = f"has no PNG files in {scans.ground}; complete the download"
        else:
            drawn = Drawn(series, pictures, scans.grays) if pictures else None
            cases.append(SourceCase(id, series, drawn, test=test))
    return Part(tuple(cases), left_out, known)
