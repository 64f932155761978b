"""DICOM files for tests: single-frame series and enhanced multi-frame images, every tag open to change."""

import pydicom
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid
from pydicom.valuerep import DSfloat

AXIAL = (1, 0, 0, 0, 1, 0)
STUDY, SERIES, FRAME = "1.2.826.0.1.3680043.8.498.1", "1.2.826.0.1.3680043.8.498.2", "1.2.826.0.1.3680043.8.498.3"


def image(pixels, *, sop=MRImageStorage, syntax=ExplicitVRLittleEndian, **tags):
    """A dataset of ``pixels`` (Y, X), (frames, Y, X) or colour; ``tags`` are set last, and None takes a tag away."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = sop
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = generate_uid()
    dataset.Modality, dataset.PatientID, dataset.PatientName, dataset.StudyID = "MR", "p1", "Doe^Jane", "1"
    dataset.PatientBirthDate = dataset.PatientSex = dataset.AccessionNumber = dataset.ReferringPhysicianName = ""
    dataset.StudyDate, dataset.StudyTime = "20260101", "120000"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = STUDY, SERIES, FRAME
    dataset.SeriesNumber, dataset.InstanceNumber, dataset.Manufacturer = 1, 1, "none"
    dataset.PositionReferenceIndicator = ""
    colour = pixels.shape[-1] == 3 and pixels.ndim > 2
    dataset.Rows, dataset.Columns = pixels.shape[-3:-1] if colour else pixels.shape[-2:]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = (3, "RGB") if colour else (1, "MONOCHROME2")
    if colour:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.dtype.itemsize
    dataset.HighBit, dataset.PixelRepresentation = dataset.BitsStored - 1, int(pixels.dtype.kind == "i")
    data = pixels.tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OW"
    for tag, value in tags.items():
        if isinstance(value, DataElement):
            dataset[tag] = value
        elif value is not None:
            setattr(dataset, tag, value)
        elif tag in dataset:
            delattr(dataset, tag)
    return dataset


def save(dataset, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)


def write_series(folder, array, positions=None, *, orientation=AXIAL, change=None, **tags):
    """One file per slice of ``array`` (Z, Y, X), 2 mm apart along z; ``change(dataset, k)`` may change each at the end."""
    for k, pixels in enumerate(array):
        position = (0.0, 0.0, 2.0 * k) if positions is None else positions[k]
        place = {
            "ImagePositionPatient": [DSfloat(float(v), auto_format=True) for v in position],
            "ImageOrientationPatient": [DSfloat(float(v), auto_format=True) for v in orientation],
            "PixelSpacing": [1.0, 1.0],
            "SliceThickness": 2.0,
            "InstanceNumber": k + 1,
        }
        dataset = image(pixels, **(place | tags))
        if change is not None:
            change(dataset, k)
        save(dataset, folder / f"IM{k:04d}.dcm")


def write_enhanced(path, array, positions, *, orientation=AXIAL, per_frame=None, shared=None, **tags):
    """An enhanced multi-frame MR; ``per_frame(k)`` and ``shared`` map functional groups to their attributes."""
    dataset = image(array, sop=EnhancedMRImageStorage, NumberOfFrames=len(array), **tags)
    common = {
        "PlaneOrientationSequence": {"ImageOrientationPatient": list(orientation)},
        "PixelMeasuresSequence": {"PixelSpacing": [1.0, 1.0], "SliceThickness": 2.0, "SpacingBetweenSlices": 2.0},
    }
    dataset.SharedFunctionalGroupsSequence = [_groups(common | (shared or {}))]
    dataset.PerFrameFunctionalGroupsSequence = [
        _groups(
            {
                "PlanePositionSequence": {"ImagePositionPatient": [DSfloat(float(v), auto_format=True) for v in place]},
                "FrameContentSequence": {"StackID": "1", "InStackPositionNumber": k + 1},
            }
            | (per_frame(k) if per_frame else {})
        )
        for k, place in enumerate(positions)
    ]
    save(dataset, path)


def rescale(slope, intercept=0.0):
    """The functional group of a frame's own rescale."""
    values = {
        "RescaleSlope": DSfloat(slope, auto_format=True),
        "RescaleIntercept": DSfloat(intercept, auto_format=True),
    }
    return {"PixelValueTransformationSequence": values | {"RescaleType": "US"}}


def _groups(macros):
    dataset = Dataset()
    for name, values in macros.items():
        item = pydicom.Dataset()
        for tag, value in values.items():
            setattr(item, tag, value)
        setattr(dataset, name, [item])
    return dataset
