"""M&Ms, Multi-Centre, Multi-Vendor and Multi-Disease Cardiac Segmentation: cine MR of the heart in short axis.

Campello et al., "Multi-Centre, Multi-Vendor and Multi-Disease Cardiac Segmentation: The M&Ms Challenge", IEEE Transactions on
Medical Imaging 40, 3543-3554 (2021). https://www.ub.edu/mnms. Licence: the challenge's terms (not verified).

Expected (OpenDataset):

    211230_M&Ms_Dataset_information_diagnosis_opendataset.csv     columns External code, VendorName, Vendor, Centre, ED, ES
    Training/Labeled/A0S9V9/A0S9V9_sa.nii.gz with A0S9V9_sa_gt.nii.gz      150 patients of vendors A and B
    Training/Unlabeled/...                                                 25 of vendor C, not converted
    Validation/..., Testing/...                                            34 and 136 of vendors A to D

Images and labels are series over time (4D). Two frames become cases, A0S9V9_ED and A0S9V9_ES: end diastole and end systole by
the columns ED and ES, which count from 0 (those of ACDC count from 1). The two of a patient are one group. Validation
and testing patients become test cases, because both have vendors of which the training set has no labels.

Labels: 1 left ventricle, 2 myocardium, 3 right ventricle (the reverse of ACDC).

Traps: the axes of some validation and testing images are not at right angles; up to 1 degree they are set so, and named. Where the
columns ED and ES count otherwise, labels are empty, of which planning warns.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from unetrpp.core.errors import UserError
from unetrpp.core.text import counted, listed
from unetrpp.dataset_conversion.datasets import About
from unetrpp.dataset_conversion.finding import (
    Part,
    by_name,
    child,
    folder_with,
    listed_folder,
    not_used,
    said_of_case,
    together,
)
from unetrpp.dataset_conversion.made import Frame
from unetrpp.dataset_conversion.source import Source, SourceCase, scheme_of
from unetrpp.dataset_conversion.tables import read_table
from unetrpp.io.listing import images_below, open_entries

ABOUT = About(
    title="M&Ms: left and right ventricle and myocardium",
    modality="MR (cine)",
    cases="300 training and 340 test cases (two frames a patient)",
    size="several GB",
    origin="https://www.ub.edu/mnms",
    licence="the challenge's terms",
    name="MnMs",
)
PARTS = {"Training/Labeled": False, "Validation": True, "Testing": True}  # whether they are test cases
UNLABELLED = "Training/Unlabeled"
PHASES = ("ED", "ES")
NAMES = r".+_(?P<case>sa|sa_gt)\.nii(\.gz)?"


def read(folder: Path) -> Source:
    """The frames at end diastole and end systole of every labelled patient.

    Raises:
        UserError: there is no such folder, or no table of the frames, or it lacks a column.
    """
    folder = folder_with(folder, "Training/Labeled")
    table = _table(folder)
    found = together(*(_part(listed_folder(folder, part), table, test=test) for part, test in PARTS.items()))
    unlabelled = child(folder, UNLABELLED)
    known = found.known | dict.fromkeys(images_below(unlabelled) if unlabelled else ())
    patients = {case.id: case.id.rsplit("_", 1)[0] for case in found.cases}
    training = {patients[case.id] for case in found.cases if not case.test}
    vendors = Counter(table[patient].get("Vendor") or "?" for patient in training)
    shown = ", ".join(f"{counted(n, 'patient')} of vendor {vendor}" for vendor, n in sorted(vendors.items()))
    reason = "is no short-axis series or label of a patient by its name; rename it, or remove it"
    return Source(
        channel_names=("cine MR",),
        labels=scheme_of({"left ventricle": 1, "myocardium": 2, "right ventricle": 3}),
        cases=found.cases,
        reference=ABOUT.origin,
        licence=ABOUT.licence,
        left_out=found.left_out,
        unused=not_used(folder, found.cases, reason, known),
        groups=patients,
        notes=(
            f"training cases are of {shown}; patients of Validation and Testing are test cases",
            *_absent(folder, table),
        ),
    )


def _absent(folder: Path, table: Iterable[str]) -> list[str]:
    """Patients of the table that have no folder."""
    present = {path.name for part in (*PARTS, UNLABELLED) for path in listed_folder(folder, part)}
    absent = sorted({*table} - present - {""})
    have = counted(len(absent), "patient of the table has", "patients of the table have")
    return [f"{have} no folder ({listed(absent)}); complete the download if they are wanted"] if absent else []


def _part(patients: Iterable[Path], table: Mapping[str, Mapping[str, str]], *, test: bool) -> Part:
    """The cases of one folder of patients."""
    cases: list[SourceCase] = []
    left_out: dict[str, str] = {}
    known: dict[Path, str | None] = {}
    for patient in patients:
        if patient.is_dir():
            files, several = by_name(open_entries(patient), NAMES)
            known |= dict.fromkeys([*files.values(), *several])
            try:
                cases += _frames(patient.name, (files, several), row=table.get(patient.name), test=test)
            except UserError as error:
                left_out[patient.name] = str(error)
    return Part(tuple(cases), left_out, known)


def _table(folder: Path) -> dict[str, dict[str, str]]:
    """Patient -> the row of the table.

    Raises:
        UserError: there is not exactly one table, or it lacks a column.
    """
    found = [path for path in open_entries(folder) if path.suffix.lower() == ".csv"]
    if len(found) != 1:
        raise UserError(
            f"{folder} needs one .csv with the frames of all patients, but has {len(found)}; download it again"
        )
    return {row["External code"]: row for row in read_table(found[0], ("External code", *PHASES))}


def _frames(
    patient: str, found: tuple[Mapping[str, Path], Mapping[Path, str]], *, row: Mapping[str, str] | None, test: bool
) -> list[SourceCase]:
    """
    Raises:
        UserError: a file or the frames of the patient are missing.
    """
    files, several = found
    if several:
        raise UserError(said_of_case(next(iter(several.values()))))
    if lacking := [name for name in ("sa", "sa_gt") if name not in files]:
        raise UserError(f"has no {patient}_{lacking[0]}.nii.gz; complete the download")
    if row is None or not all(str(row[phase]).isdigit() for phase in PHASES):
        raise UserError("has no whole numbers ED and ES in the table; correct the table")
    frames = {phase: int(row[phase]) for phase in PHASES}
    return [
        SourceCase(f"{patient}_{phase}", (Frame(files["sa"], n),), Frame(files["sa_gt"], n), test=test)
        for phase, n in frames.items()
    ]
