"""A folder tree of DICOM files as series of images and the segmentations that refer to them, by the headers alone."""

from collections.abc import Collection
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

import pydicom
from pydicom.dataset import Dataset

from unetrpp.core.errors import UserError
from unetrpp.core.progress import progress_bar
from unetrpp.io.dicom import is_dicom
from unetrpp.io.listing import images_below, unreadable
from unetrpp.io.readers.dicom import pydicom_warns_the_log
from unetrpp.io.readers.dicom_header import class_name, damage_named, is_directory, text

TAGS = (
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID", "Modality", "PatientID",
    "StudyDate", "Rows", "SegmentSequence", "SegmentationType", "ReferencedSeriesSequence", "StructureSetROISequence",
    "ROIContourSequence", "ReferencedFrameOfReferenceSequence",
)  # fmt: skip
SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")  # of segments, and as a label map
STRUCTURES = "1.2.840.10008.5.1.4.1.1.481.3"
TWICE = "is there twice (another file has its SOP Instance UID); remove one of them"


@dataclass(frozen=True)
class Part:
    """A segment of a DICOM SEG, or an ROI of an RT Structure Set."""

    file: Path
    number: int
    name: str
    contours: bool  # of an RT Structure Set


@dataclass
class Series:
    """The images of one series, wherever they lie."""

    uid: str
    modality: str
    patient: str  # Patient ID or, where that is empty, the study, which is of one patient
    date: str
    frame: str  # Frame of Reference UID
    files: list[Path] = field(default_factory=list)

    @property
    def case(self) -> str:
        """An id that tells nothing of the patient."""
        return f"{self.modality.lower()}_{sha256(self.uid.encode()).hexdigest()[:12]}"


@dataclass(frozen=True)
class Segmentation:
    """A DICOM SEG or an RT Structure Set, and what it refers to."""

    file: Path
    parts: tuple[Part, ...]
    series: frozenset[str]
    images: frozenset[str]  # SOP Instance UIDs
    frames: frozenset[str]
    fractional: bool


@dataclass
class Tree:
    """What a folder holds."""

    series: dict[str, Series] = field(default_factory=dict)
    images: dict[str, str] = field(default_factory=dict)  # SOP Instance UID -> series
    segmentations: list[Segmentation] = field(default_factory=list)
    unused: dict[Path, str] = field(default_factory=dict)


def scan(folder: Path) -> Tree:
    """All DICOM files below a folder; other images, copies, and files that cannot be read are ``unused``."""
    tree, seen = Tree(), set[str]()
    paths = list(images_below(folder))
    with progress_bar("reading headers", len(paths)) as bar:
        for path in paths:
            bar.update()
            try:
                _add(tree, path, seen)
            except UserError as error:
                tree.unused[path] = str(error)
    return tree


def _add(tree: Tree, path: Path, seen: set[str]) -> None:
    if why := unreadable(path):
        tree.unused[path] = why
        return
    if not is_dicom(path):
        tree.unused[path] = "is no DICOM file; convert it with `unetrpp_convert folder`, or remove it"
        return
    with pydicom_warns_the_log(path), damage_named(path):
        dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(TAGS), force=True)
        if is_directory(dataset):
            return
        uid = text(dataset, "SOPInstanceUID")
        if uid and uid in seen:
            tree.unused[path] = TWICE
            return
        seen.add(uid)
        kind = text(dataset, "SOPClassUID")
        if kind in SEGMENTATIONS or kind == STRUCTURES:
            tree.segmentations.append(_segmentation(path, dataset, contours=kind == STRUCTURES))
        elif text(dataset, "Modality") == "SEG":
            tree.unused[path] = f"is a segmentation that is not read ({class_name(dataset)}); save it as DICOM SEG"
        elif "Rows" in dataset or not kind:
            _add_image(tree, path, dataset)


def _add_image(tree: Tree, path: Path, dataset: Dataset) -> None:
    uid = text(dataset, "SeriesInstanceUID")
    if not uid:
        raise UserError(
            f"{path.name} does not name its series, so it is truncated or damaged; copy it again, or remove it"
        )
    if uid not in tree.series:
        patient = text(dataset, "PatientID") or text(dataset, "StudyInstanceUID")
        date, frame = text(dataset, "StudyDate"), text(dataset, "FrameOfReferenceUID")
        tree.series[uid] = Series(uid, text(dataset, "Modality") or "OT", patient, date, frame)
    tree.series[uid].files.append(path)
    tree.images[text(dataset, "SOPInstanceUID")] = uid


def _segmentation(path: Path, dataset: Dataset, contours: bool) -> Segmentation:
    if contours:
        drawn = {
            roi.ReferencedROINumber for roi in dataset.get("ROIContourSequence") or () if roi.get("ContourSequence")
        }
        every = [(roi.ROINumber, roi.get("ROIName")) for roi in dataset.get("StructureSetROISequence") or ()]
        named = [(number, name) for number, name in every if number in drawn]  # templates of a clinic leave empty ones
        of_frames = list(dataset.get("ReferencedFrameOfReferenceSequence") or ())
        studies = [study for item in of_frames for study in item.get("RTReferencedStudySequence") or ()]
        references = [series for study in studies for series in study.get("RTReferencedSeriesSequence") or ()]
        frames = {text(item, "FrameOfReferenceUID") for item in of_frames}
    else:
        named = [(item.SegmentNumber, item.get("SegmentLabel")) for item in dataset.get("SegmentSequence") or ()]
        references = list(dataset.get("ReferencedSeriesSequence") or ())
        frames = {text(dataset, "FrameOfReferenceUID")}
    # Number 0 is the background of a label map.
    parts = tuple(
        Part(path, int(number), str(name or f"segment {number}").strip(), contours)
        for number, name in named
        if contours or int(number) > 0
    )
    instances = "ContourImageSequence" if contours else "ReferencedInstanceSequence"
    images = [image for item in references for image in item.get(instances) or ()]
    return Segmentation(
        path,
        parts,
        series=frozenset(text(item, "SeriesInstanceUID") for item in references),
        images=frozenset(text(item, "ReferencedSOPInstanceUID") for item in images),
        frames=frozenset(frames - {""}),
        fractional=text(dataset, "SegmentationType") == "FRACTIONAL",
    )


def attached(tree: Tree, among: Collection[Series]) -> tuple[dict[str, list[Segmentation]], dict[Path, str]]:
    """Series -> the segmentations that refer to it, and why others are of none.

    A segmentation refers to a series by its UID. Where the tree has none of those that it names, the UIDs of its images count, as
    after a series was split, and else the frame of reference, if one series alone has that.

    Args:
        among: the series that may get one; a segmentation of another series of the tree is passed over.
    """
    known = {series.uid for series in among}
    found: dict[str, list[Segmentation]] = {}
    lost: dict[Path, str] = {}
    for segmentation in tree.segmentations:
        uids = set(segmentation.series & tree.series.keys())
        uids = uids or {tree.images[uid] for uid in segmentation.images if uid in tree.images}
        if not uids:
            uids = {series.uid for series in among if series.frame in segmentation.frames}
            if len(uids) != 1:
                lost[segmentation.file] = _unattached(len(uids))
                continue
        for uid in sorted(uids & known):
            found.setdefault(uid, []).append(segmentation)
    return found, lost


def _unattached(count: int) -> str:
    if count:
        return f"names no series of this folder, and {count} have its frame of reference; keep the one that it was drawn on"
    return "is of a series that this folder does not have; add the series, or remove the file"
