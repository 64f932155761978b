"""Writing a segmentation as a DICOM RT Structure Set that refers to its source slices: contours in the planes of the slices."""

import colorsys
import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid

from unetrpp import __version__
from unetrpp.core.errors import UserError
from unetrpp.core.files import write_atomically
from unetrpp.io.contours import outlines
from unetrpp.io.dicom_text import UTF_8, long_string, use_unicode
from unetrpp.io.geometry import Geometry, world_mm
from unetrpp.io.readers.dicom import pydicom_warns_the_log, source_slices

SERIES_NUMBER = 9001  # above those of scanners, and not that of a DICOM SEG
STUDY_CLASS = "1.2.840.10008.3.1.2.3.1"  # PS3.3, C.8.8.5 requires one of the referenced study
REQUIRED = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SOPClassUID", "SOPInstanceUID")
# Of the patient and the study, as in every file of the study; empty where the source has none.
COPIED = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID", "AccessionNumber",
    "ReferringPhysicianName", "PositionReferenceIndicator",
)  # fmt: skip


def write_rtstruct(
    path: Path,
    array: np.ndarray,
    geometry: Geometry,
    segments: Mapping[str, tuple[int, ...]],
    *,
    series: Path,
    note: str,
) -> None:
    """Write one ROI per name, with a contour around every piece of it on every slice; an ROI without voxels has no contours.

    Args:
        array: label values (Z, Y, X) on the grid of ``readers.dicom.read(series)``, which is ``geometry``.
        segments: name -> the values of ``array`` in the ROI (``LabelScheme.segments``).
        series: the folder of the source series, or its multi-frame file.
        note: what made the segmentation.

    Raises:
        UserError: the series lacks tags that a structure set must refer to.
    """
    with pydicom_warns_the_log(series):
        slices = source_slices(series)
        sources = {file: dcmread(file, stop_before_pixels=True) for file in dict.fromkeys(file for file, _ in slices)}
        first = next(iter(sources.values()))
        missing = next((key for header in sources.values() for key in REQUIRED if not header.get(key)), None)
        if missing:
            raise UserError(
                f"an RT Structure Set cannot refer to {series.name} (no {missing}); export the series again with all its tags"
            )
        images = [_image(sources[file], frame) for file, frame in slices]
        dataset = _head(first, note)
        referenced = _item(SeriesInstanceUID=first.SeriesInstanceUID, ContourImageSequence=images)
        study = _item(ReferencedSOPClassUID=STUDY_CLASS, ReferencedSOPInstanceUID=first.StudyInstanceUID)
        study.RTReferencedSeriesSequence = [referenced]
        frame_of_reference = first.FrameOfReferenceUID
        dataset.ReferencedFrameOfReferenceSequence = [
            _item(FrameOfReferenceUID=frame_of_reference, RTReferencedStudySequence=[study])
        ]
        rois = [
            _roi(number, name, frame_of_reference, _contours(np.isin(array, values), geometry, images))
            for number, (name, values) in enumerate(segments.items(), start=1)
        ]
        names = ("StructureSetROISequence", "ROIContourSequence", "RTROIObservationsSequence")
        for name, items in zip(names, zip(*rois, strict=True), strict=True):
            setattr(dataset, name, list(items))
        write_atomically(path, lambda temporary: dataset.save_as(temporary, enforce_file_format=True))


def _head(source: Dataset, note: str) -> Dataset:
    """What identifies the file: the patient and study of ``source``, and a new series."""
    use_unicode(source)
    found = _item(**{keyword: source.get(keyword, "") for keyword in COPIED})
    found.file_meta = FileMetaDataset()
    found.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    found.file_meta.MediaStorageSOPClassUID = found.SOPClassUID = RTStructureSetStorage
    found.file_meta.MediaStorageSOPInstanceUID = found.SOPInstanceUID = generate_uid()
    found.SpecificCharacterSet = UTF_8
    found.StudyInstanceUID, found.FrameOfReferenceUID = source.StudyInstanceUID, source.FrameOfReferenceUID
    found.Modality, found.SeriesInstanceUID, found.SeriesNumber = "RTSTRUCT", generate_uid(), SERIES_NUMBER
    found.SeriesDescription = long_string(f"Segmentation for research use by {note}")
    found.Manufacturer, found.ManufacturerModelName, found.SoftwareVersions = "unetrpp", long_string(note), __version__
    found.OperatorsName, found.InstanceNumber, found.StructureSetLabel = "", 1, "unetrpp"
    found.StructureSetDate, found.StructureSetTime = time.strftime("%Y%m%d"), time.strftime("%H%M%S")
    found.ApprovalStatus = "UNAPPROVED"
    return found


def _image(header: Dataset, frame: int) -> Dataset:
    """A reference to a slice: a file, or one frame of it."""
    found = _item(ReferencedSOPClassUID=header.SOPClassUID, ReferencedSOPInstanceUID=header.SOPInstanceUID)
    if "NumberOfFrames" in header:
        found.ReferencedFrameNumber = frame + 1
    return found


def _contours(mask: np.ndarray, geometry: Geometry, images: list[Dataset]) -> list[Dataset]:
    found = []
    for z in np.flatnonzero(mask.any(axis=(1, 2))):
        for polygon in outlines(mask[z]):
            points = world_mm(geometry, np.column_stack([np.full(len(polygon), z), polygon[:, ::-1]]))
            found.append(
                _item(
                    ContourImageSequence=[images[z]],
                    ContourGeometricType="CLOSED_PLANAR",
                    NumberOfContourPoints=len(points),
                    ContourData=[f"{value:.4f}" for value in points.ravel()],
                )
            )
    return found


def _roi(number: int, name: str, frame_of_reference: str, contours: list[Dataset]) -> tuple[Dataset, Dataset, Dataset]:
    """The items of one ROI: what it is, its contours, and who interpreted it (nobody)."""
    what = _item(ROINumber=number, ReferencedFrameOfReferenceUID=frame_of_reference, ROIName=long_string(name))
    what.ROIGenerationAlgorithm = "AUTOMATIC"
    drawn = _item(ROIDisplayColor=_colour(number), ReferencedROINumber=number)
    if contours:
        drawn.ContourSequence = contours
    observed = _item(ObservationNumber=number, ReferencedROINumber=number, RTROIInterpretedType="", ROIInterpreter="")
    return what, drawn, observed


def _colour(number: int) -> list[int]:
    """Red, green and blue, 0 to 255: hues a golden section apart."""
    return [round(255 * value) for value in colorsys.hsv_to_rgb(0.618034 * number % 1, 0.8, 1.0)]


def _item(**values: object) -> Dataset:
    found = Dataset()
    for keyword, value in values.items():
        setattr(found, keyword, value)
    return found
