"""ACDC: cine MR of the heart, end diastole and end systole of 150 patients, with both ventricles and the myocardium.

"Automated Cardiac Diagnosis Challenge" (MICCAI 2017): Bernard et al., IEEE Transactions on Medical Imaging 37(11), 2018.
From https://humanheart-project.creatis.insa-lyon.fr/database, CC BY-NC-SA 4.0.

    database/training/patient001/Info.cfg
    database/training/patient001/patient001_4d.nii.gz                the whole cine series, not converted
    database/training/patient001/patient001_frame01.nii.gz           end diastole (ED)
    database/training/patient001/patient001_frame01_gt.nii.gz        its label
    database/training/patient001/patient001_frame12.nii.gz           end systole (ES), and so on
    database/testing/patient101/...                                  50 patients; they become test cases

Folders of patients without training/ or testing/ above them are training cases. Info.cfg has the numbers of the two frames,
from 1; without it, all frames that are there are taken.

Labels: 1 right ventricle, 2 myocardium, 3 left ventricle (M&Ms has 1 and 3 the other way round).

Traps:
- The sform of many files lacks the spacing: its directions are those of the qform, but its voxels have 1 mm, while the qform
  has the true spacing (nnU-Net issue 2741), so that programs which take the sform measure 1 mm. Such images and labels are
  written with both transforms as the qform has them; their voxels stay as they are. One line says how many cases that are,
  and --link refuses them.
- Both frames of a patient are one group: no fold trains on one and validates on the other.
- --protocol acdc has the 80 and 20 training patients of nnFormer and UNETR++. The lists of SSL4MIS divide other patients, into
  70, 10 and 20, and number the frames 01 and 02: ids of the two do not agree.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import numpy as np
from msgspec import UNSET

from unetrpp.core.errors import UserError
from unetrpp.core.files import walk
from unetrpp.core.text import counted
from unetrpp.dataset_conversion.datasets import About
from unetrpp.dataset_conversion.finding import (
    by_case,
    child,
    images_in_tree,
    not_used,
    of_named_cases,
)
from unetrpp.dataset_conversion.naming import groups_by, in_test_set
from unetrpp.dataset_conversion.protocols import add_options as add_protocols
from unetrpp.dataset_conversion.protocols import with_protocol
from unetrpp.dataset_conversion.source import Source, SourceCase, scheme_of
from unetrpp.io.images import Volume, read_geometry
from unetrpp.io.listing import unreadable
from unetrpp.io.placement import RAS_TO_LPS, qform_lps

if TYPE_CHECKING:
    from unetrpp.core.command_line import Parser

PROTOCOLS = ("acdc",)
ABOUT = About(
    title="ACDC (Automated Cardiac Diagnosis Challenge): both ventricles and the myocardium, ED and ES",
    modality="MR",
    cases="200 of 100 patients, 100 test cases of 50 others",
    size="about 2.3 GB (not verified)",
    origin="https://humanheart-project.creatis.insa-lyon.fr/database",
    licence="CC BY-NC-SA 4.0",
    name="ACDC",
)
PATIENT = r"patient\d{3}"
FRAME = r"(?P<case>patient\d{3}_frame\d{2})"
NO_LABEL = "has no label; complete the download, or remove its image"
NO_IMAGE = "has no image; complete the download, or remove its label"
UNIT = 1e-3  # mm by which the axes of an sform without spacing may differ from the qform's directions


def add_options(parser: "Parser") -> None:
    add_protocols(parser, *PROTOCOLS)


@dataclass(frozen=True)
class ByQform:
    """An image or a label whose place is that of the qform, because the sform lacks the spacing."""

    file: Path

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.file,)

    def read(self) -> Volume:
        """
        Raises:
            UserError: the file cannot be read.
        """
        from unetrpp.io.readers import nifti

        array, geometry = nifti.read(self.file, by_qform=True)
        # Without the header's own fields both transforms are written, and they agree.
        return Volume(array, msgspec.structs.replace(geometry, nifti=UNSET))


def read(folder: Path, *, protocol: str | None = None, validate_on_test: bool = False) -> Source:
    """The frames at end diastole and end systole, with their labels where there are any.

    Raises:
        UserError: there is no frame of a patient, or the protocol does not fit.
    """
    files = images_in_tree(folder)
    images, twice = by_case(files, rf"{FRAME}\.nii(\.gz)?")
    labels, twice_labelled = by_case(files, rf"{FRAME}_gt\.nii(\.gz)?")
    if not images:
        raise UserError(
            f"{folder} has no file such as patient001/patient001_frame01.nii.gz; give the folder with training and testing"
        )
    missing, others = _compared_with_info(files)
    images, labels = ({case: f for case, f in found.items() if f not in others} for found in (images, labels))
    cases = [_case(case, file, labels.get(case), folder) for case, file in sorted(images.items())]
    lacking = {case.id: NO_LABEL for case in cases if not (case.test or case.labelled)}
    lacking |= dict.fromkeys(sorted(labels.keys() - images.keys()), NO_IMAGE)
    cases = [case for case in cases if case.id not in lacking]
    series = {file: None for file in files if re.search(r"_4d\.nii(\.gz)?$", file.name, re.IGNORECASE)}
    known: dict[Path, str | None] = {
        **series,
        **twice,
        **twice_labelled,
        **others,
        **of_named_cases(lacking, images, labels),
    }
    found = Source(
        channel_names=("cine MR",),
        labels=scheme_of({"right ventricle": 1, "myocardium": 2, "left ventricle": 3}),
        cases=tuple(cases),
        reference="Bernard et al., IEEE Transactions on Medical Imaging 37(11), 2018",
        licence=ABOUT.licence,
        left_out={**lacking, **missing, **_without_frames(folder, files)},
        unused=not_used(folder, cases, "is neither a frame of a patient nor its label; remove it", known),
        groups=groups_by(cases, r"(?P<patient>patient\d{3})_frame\d{2}"),
    )
    found = with_protocol(found, protocol, known=PROTOCOLS, validate_on_test=validate_on_test)
    return replace(found, notes=(*found.notes, *_repairs(found.cases)))


def _case(case: str, image: Path, label: Path | None, folder: Path) -> SourceCase:
    test = in_test_set(image, folder, "^testing$")
    return SourceCase(case, (_placed(image),), None if label is None else _placed(label), test=test)


def _placed(file: Path) -> Path | ByQform:
    """The file, or what it is by its qform where the sform has the same directions without the spacing."""
    from unetrpp.io.readers import nifti

    try:
        read_geometry(file)
        return file
    except UserError:
        pass
    try:
        placement = nifti.read_header(file, by_qform=True)[0].nifti
    except UserError:
        return file  # its fault is another one, and named when the case is converted
    qform = None if placement is UNSET else qform_lps(placement)
    if placement is UNSET or qform is None:
        return file
    directions = qform[:, :3] / np.linalg.norm(qform[:, :3], axis=0)
    sform = RAS_TO_LPS @ np.reshape(placement.sform, (3, 4))[:, :3]
    return ByQform(file) if np.allclose(sform, directions, rtol=0, atol=UNIT) else file


def _repairs(cases: Iterable[SourceCase]) -> list[str]:
    repaired = [case for case in cases if any(isinstance(item, ByQform) for item in (*case.images, case.label))]
    if not repaired:
        return []
    return [
        f"the sform of {counted(len(repaired), 'case')} has no spacing (voxels of 1 mm); they are written with the qform's place and "
        "spacing in both transforms, and their voxels as they are"
    ]


def _compared_with_info(files: Iterable[Path]) -> tuple[dict[str, str], dict[Path, str]]:
    """Frames that Info.cfg names and that are not there, by case, and files of frames that it does not name."""
    missing: dict[str, str] = {}
    others: dict[Path, str] = {}
    of_patient: dict[Path, dict[Path, str]] = {}
    for file in files:
        if match := re.match(FRAME, file.name, re.IGNORECASE):
            of_patient.setdefault(file.parent, {})[file] = match["case"]
    for parent, frames in of_patient.items():
        patient = next(iter(frames.values())).partition("_")[0]
        info = {f"{patient}_frame{number:02d}": phase for phase, number in _info(parent).items()}
        numbers = ", ".join(f"{phase} {case[-2:]}" for case, phase in info.items())
        others |= {
            file: f"is none of the frames of Info.cfg ({numbers}); remove it, or correct Info.cfg"
            for file, case in frames.items()
            if info and case not in info
        }
        missing |= {
            case: f"is the frame of {phase} by Info.cfg, but there is no such file; complete the download"
            for case, phase in info.items()
            if case not in frames.values()
        }
    return missing, others


def _without_frames(folder: Path, files: Iterable[Path]) -> dict[str, str]:
    """Patients whose folders hold no frame, by the folder."""
    with_frames = {file.parent for file in files if re.match(FRAME, file.name, re.IGNORECASE)}
    return {
        path.relative_to(
            folder
        ).as_posix(): "holds no frame of the patient; complete the download, or remove the folder"
        for path in walk(folder)
        if path.is_dir() and re.fullmatch(PATIENT, path.name, re.IGNORECASE)
        if path not in with_frames and unreadable(path) is None
    }


def _info(patient: Path) -> dict[str, int]:
    """ED and ES -> the number of the frame, from 1; empty without Info.cfg."""
    file = child(patient, "Info.cfg")
    if file is None:
        return {}
    text = file.read_text(encoding="utf8", errors="replace")
    return {phase: int(number) for phase, number in re.findall(r"^\s*(ED|ES)\s*:\s*(\d+)\s*$", text, re.MULTILINE)}
