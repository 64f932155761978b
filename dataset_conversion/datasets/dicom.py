"""DICOM from a hospital or an archive: a folder tree of any depth and any names, with labels from DICOM SEG and RTSTRUCT.

Every series of one modality (--modality) to which a DICOM SEG or an RT Structure Set refers becomes a case of one channel. The
files of a series may lie in several folders, beside those of other series and patients; DICOMDIR and objects of other kinds
(reports, plans, doses) are passed over.

--roi says which segments or ROIs become which class, in any capitals; the classes get the values 1, 2, ... in this order, and
where two overlap, the later one counts. Several names may become one class:

  unetrpp_convert dicom FOLDER --roi 'GTV primary=tumour' 'GTV*=tumour' Bladder --modality CT

Without --roi, all names that were found are listed with their number of cases. A segmentation refers to a series by its UID,
or by those of its images or its frame of reference where the series that it names is not there.

RTSTRUCT: a voxel belongs to an ROI when its centre lies inside an odd number of the ROI's contours on its slice, or on one of
them; a contour inside another one is a hole. Nothing is drawn between contours: a slice without one has no voxel of the ROI.
Contours that lie between the slices (by more than a quarter of their distance) or across them are refused.
DICOM SEG: BINARY, LABELMAP, and FRACTIONAL from half of the largest value on; frames go to the slices at their positions.

A case is called by its modality and 12 digits of the SHA-256 of its Series Instance UID (--debug prints the folders). Scans of
one patient (Patient ID, else study) get one group, named after the earliest of them. Neither names nor ids of patients are
written. Pixels are not anonymised. Series are not combined to channels (PET with CT): convert such cases to NIfTI on one grid and
use `unetrpp_convert folder`. Label files of other formats: `unetrpp_convert folder`.
"""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unetrpp.core.errors import UserError
from unetrpp.core.text import counted, escaped, listed
from unetrpp.dataset_conversion.datasets import About
from unetrpp.dataset_conversion.segment_choice import Choice, read_choice
from unetrpp.dataset_conversion.source import Source, SourceCase, scheme_of
from unetrpp.io.dicom import channel_of

if TYPE_CHECKING:
    from unetrpp.core.command_line import Parser
    from unetrpp.dataset_conversion.dicom.tree import Part, Segmentation, Series

LOG = logging.getLogger(__name__)

ABOUT = About(
    title="DICOM folders of any layout, with DICOM SEG or RTSTRUCT",
    modality="any modality, one series a case",
    cases="any number of cases",
    size="any size",
    origin="a hospital's archive, or a collection of The Cancer Imaging Archive (https://www.cancerimagingarchive.net)",
    licence="that of the data",
)
UNLABELLED = "has no DICOM SEG or RTSTRUCT that refers to it; add one, or remove the series"


def add_options(parser: "Parser") -> None:
    # argparse would put SRC last, where --roi would swallow it.
    parser.usage = "unetrpp_convert dicom SRC --roi NAME[=CLASS] [NAME[=CLASS] ...] [--modality CODE] [options]"
    what = "segments or ROIs by name (* and ? stand for any characters), and the class that each becomes (default: its name)"
    parser.add_argument("--roi", nargs="+", metavar="NAME[=CLASS]", help=what)
    what = "the modality of the images, such as CT, MR or PT (default: the one that has labels)"
    parser.add_argument("--modality", metavar="CODE", help=what)
    what = "a case does not have the classes that it has no segment for (default: such a case is left out)"
    parser.add_argument("--allow-missing-rois", action="store_true", help=what)


def read(
    folder: Path, *, roi: Sequence[str] | None = None, modality: str | None = None, allow_missing_rois: bool = False
) -> Source:
    """The labelled series of one modality below a folder.

    Raises:
        UserError: no or several modalities have labels, or ``roi`` is not given or names what no case has.
    """
    from unetrpp.dataset_conversion.dicom.tree import attached, scan

    tree = scan(folder)
    series = _of_modality(list(tree.series.values()), attached(tree, tree.series.values())[0], modality)
    labels, lost = attached(tree, series)
    parts = {
        each.uid: [part for label in labels[each.uid] for part in label.parts] for each in series if each.uid in labels
    }
    choice = read_choice(roi, "--roi", {uid: [part.name for part in found] for uid, found in parts.items()})
    cases: list[SourceCase] = []
    left_out: dict[str, str] = {}
    for each in series:
        place = escaped(each.files[0].parent.relative_to(folder).as_posix())
        LOG.debug("%s is the series in %s", each.case, place)
        if why := _problem(parts.get(each.uid), choice, allow_missing_rois):
            left_out[f"{each.case} (in {place})"] = why
        else:
            cases.append(_case(each, parts[each.uid], choice))
    used = {file for case in cases for file in case.files}
    fractional = [s for of_series in labels.values() for s in of_series if s.fractional and s.file in used]
    kept = [each for each in series if each.case in {case.id for case in cases}]
    groups, grouping = _groups(kept)
    return Source(
        channel_names=(channel_of(series[0].modality),),
        labels=scheme_of(choice.classes),
        cases=tuple(cases),
        left_out=left_out,
        unused={**tree.unused, **lost},
        groups=groups,
        notes=(*_notes(list(tree.series.values()), series, fractional), *grouping),
    )


def _of_modality(
    every: Sequence["Series"], labels: Mapping[str, Sequence["Segmentation"]], modality: str | None
) -> list["Series"]:
    """The series of the modality that is given, or of the only one that has labels, by case.

    Raises:
        UserError: there are none, or several.
    """
    counts = Counter(each.modality for each in every)
    here = listed([f"{name} ({counted(n, 'series', 'series')})" for name, n in counts.most_common()], 10) or "no images"
    labelled = sorted({each.modality for each in every if each.uid in labels})
    chosen = labelled if modality is None else [modality.upper()]
    if not set(chosen) & counts.keys():
        what = "no DICOM SEG or RTSTRUCT that refers to a series" if modality is None else f"no series of {modality}"
        repair = "check the folder" if modality is None else "give another --modality"
        raise UserError(f"the folder holds {what} (there are {here}); {repair}")
    if not set(chosen) & set(labelled):
        others = f"; there are some of {listed(labelled, 10)}" if labelled else ""
        raise UserError(
            f"no DICOM SEG or RTSTRUCT refers to a series of {chosen[0]}{others}; give the folder that holds both, or another --modality"
        )
    if len(chosen) > 1:
        raise UserError(f"series of {listed(chosen, 10)} have labels; give one of them as --modality")
    return sorted((each for each in every if each.modality == chosen[0]), key=lambda each: each.case)


def _problem(parts: Sequence["Part"] | None, choice: Choice, allow_missing: bool) -> str | None:
    if parts is None:
        return UNLABELLED
    if why := choice.problem(parts, allow_missing):
        return why
    files: dict[str, Path] = {}
    for _, part in choice.of(parts):
        other = files.setdefault(part.name.casefold(), part.file)
        if other != part.file:
            return f"has the segment {part.name!r} in {escaped(other.name)} and in {escaped(part.file.name)}; keep one of them"
    return None


def _case(series: "Series", parts: Sequence["Part"], choice: Choice) -> SourceCase:
    from unetrpp.dataset_conversion.dicom.made import ClassPart, DicomImage, DicomLabel

    slices = tuple(sorted(series.files))
    chosen = tuple(ClassPart(part, wanted.name, wanted.value) for wanted, part in choice.of(parts))
    return SourceCase(series.case, (DicomImage(slices),), DicomLabel(slices, chosen))


def _groups(series: Sequence["Series"]) -> tuple[dict[str, str] | None, tuple[str, ...]]:
    """Case -> the earliest case of its patient, where one has several, and what is said of it."""
    patients: dict[str, list[Series]] = {}
    for each in sorted(series, key=lambda each: (each.date, each.case)):
        patients.setdefault(each.patient, []).append(each)
    several = sum(len(scans) > 1 for scans in patients.values())
    if not several:
        return None, ()
    if len(patients) == 1:
        note = f"all {len(series)} cases have one Patient ID, so no groups are written; give `groups` in dataset.json if it is wrong"
        return None, (note,)
    groups = {each.case: scans[0].case for scans in patients.values() for each in scans}
    note = f"{counted(several, 'patient has', 'patients have')} several scans, which stay in one fold (groups in dataset.json)"
    return groups, (note,)


def _notes(
    every: Sequence["Series"], series: Sequence["Series"], fractional: Sequence["Segmentation"]
) -> tuple[str, ...]:
    others = Counter(each.modality for each in every if each.modality != series[0].modality)
    notes = []
    if others:
        names = [f"{n} of {name}" for name, n in others.most_common()]
        notes.append(f"series of other modalities are not converted: {listed(names, 10)}")
    if fractional:
        which = counted(len(fractional), "segmentation is", "segmentations are")
        notes.append(f"{which} FRACTIONAL: a voxel is in a segment from half of the largest value on")
    return tuple(notes)
