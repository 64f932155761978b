"""DICOM SEG, by highdicom, and RT Structure Sets for tests."""

from pathlib import Path

import highdicom
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, RTStructureSetStorage, generate_uid
from pydicom.valuerep import DSfloat

TISSUE = highdicom.sr.CodedConcept("85756007", "SCT", "Tissue")


def headers(series):
    """The headers of a folder's files, or of one file, in the order of their positions."""
    files = sorted(series.iterdir()) if series.is_dir() else [series]
    found = [pydicom.dcmread(path, stop_before_pixels=True) for path in files]
    return sorted(found, key=lambda header: header.get("ImagePositionPatient", (0, 0, 0))[2])


def write_segmentation(path: Path, series: Path, array: np.ndarray, names, *, kind="BINARY", **more) -> Path:
    """A DICOM SEG of the slices of ``series``.

    Args:
        array: segment numbers (Z, Y, X), or a mask or fraction per segment (Z, Y, X, S).
        more: arguments of highdicom's Segmentation.
    """
    algorithm = highdicom.AlgorithmIdentificationSequence("a test", codes.cid7162.ArtificialIntelligence, "1")
    descriptions = [
        highdicom.seg.SegmentDescription(number, name, TISSUE, TISSUE, "AUTOMATIC", algorithm)
        for number, name in enumerate(names, 1)
    ]
    segmentation = highdicom.seg.Segmentation(
        source_images=headers(series),
        pixel_array=array,
        segmentation_type=kind,
        segment_descriptions=descriptions,
        series_instance_uid=highdicom.UID(),
        series_number=900,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="unetrpp",
        manufacturer_model_name="tests",
        software_versions="1",
        device_serial_number="none",
        **more,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    segmentation.save_as(path)
    return path


def write_structures(path: Path, series: Path, rois, *, kind="CLOSED_PLANAR", names=None, **tags) -> Path:
    """An RT Structure Set that refers to ``series``.

    Args:
        rois: name -> contours, each an array (n, 3) of mm; an ROI without contours is one that was never drawn.
        names: of the ROIs by number, where several have one name.
        tags: set last; None takes a tag away.
    """
    slices = headers(series)
    first = slices[0]
    images = [_item(ReferencedSOPClassUID=h.SOPClassUID, ReferencedSOPInstanceUID=h.SOPInstanceUID) for h in slices]
    referenced = _item(SeriesInstanceUID=first.SeriesInstanceUID, ContourImageSequence=images)
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = RTStructureSetStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    dataset.Modality, dataset.SeriesInstanceUID, dataset.StructureSetLabel = "RTSTRUCT", generate_uid(), "tests"
    dataset.PatientID, dataset.PatientName, dataset.StudyInstanceUID = (
        first.PatientID,
        first.PatientName,
        first.StudyInstanceUID,
    )
    dataset.ReferencedFrameOfReferenceSequence = [
        _item(
            FrameOfReferenceUID=first.FrameOfReferenceUID,
            RTReferencedStudySequence=[_item(RTReferencedSeriesSequence=[referenced])],
        )
    ]
    dataset.StructureSetROISequence = [_item(ROINumber=n, ROIName=name) for n, name in enumerate(names or rois, 1)]
    dataset.ROIContourSequence = [
        _item(ReferencedROINumber=n, ContourSequence=[_contour(points, kind) for points in contours])
        for n, contours in enumerate(rois.values(), 1)
    ]
    for tag, value in tags.items():
        delattr(dataset, tag) if value is None else setattr(dataset, tag, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def _contour(points, kind):
    values = [DSfloat(float(value), auto_format=True) for value in np.ravel(points)]
    return _item(ContourGeometricType=kind, NumberOfContourPoints=len(values) // 3, ContourData=values)


def _item(**values):
    item = Dataset()
    for tag, value in values.items():
        setattr(item, tag, value)
    return item
