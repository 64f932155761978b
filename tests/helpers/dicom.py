"""DICOM files for tests: a CT series, and the frames of a segmentation object."""

import numpy as np
import pydicom


def write_series(folder, array, spacing=2.5, **tags):
    """CT slices (Z, Y, X) of a patient turned by a quarter, in files whose names are not in the order of the slices."""
    folder.mkdir(parents=True)
    study, series, frame = (pydicom.uid.generate_uid() for _ in range(3))
    for k, pixels in enumerate(array.astype(np.int16)):
        slice_ = pydicom.Dataset()
        slice_.file_meta = pydicom.dataset.FileMetaDataset()
        slice_.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        slice_.file_meta.MediaStorageSOPClassUID = slice_.SOPClassUID = pydicom.uid.CTImageStorage
        slice_.file_meta.MediaStorageSOPInstanceUID = slice_.SOPInstanceUID = pydicom.uid.generate_uid()
        slice_.Modality, slice_.PatientID, slice_.PatientName, slice_.StudyID = "CT", "p1", "Doe^Jane", "1"
        slice_.PatientBirthDate = slice_.PatientSex = slice_.AccessionNumber = slice_.ReferringPhysicianName = ""
        slice_.StudyDate, slice_.StudyTime = "20260101", "120000"
        slice_.StudyInstanceUID, slice_.SeriesInstanceUID, slice_.FrameOfReferenceUID = study, series, frame
        slice_.SeriesNumber, slice_.InstanceNumber = 1, k + 1
        slice_.Rows, slice_.Columns = pixels.shape
        slice_.PixelSpacing, slice_.SliceThickness = [0.7, 0.9], spacing
        slice_.ImageOrientationPatient = [0, 1, 0, -1, 0, 0]
        slice_.ImagePositionPatient = [11.0, -4.0, 30.0 + spacing * k]
        slice_.SamplesPerPixel, slice_.PhotometricInterpretation = 1, "MONOCHROME2"
        slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit, slice_.PixelRepresentation = 16, 16, 15, 1
        slice_.RescaleIntercept, slice_.RescaleSlope = 0, 1
        slice_.PixelData = pixels.tobytes()
        for tag, value in tags.items():
            delattr(slice_, tag) if value is None else setattr(slice_, tag, value)
        slice_.save_as(folder / f"{(7 * k) % 5}.dcm", enforce_file_format=True)


def frames(path, slices):
    """segment number -> (Z, Y, X) bool, from every frame's own position on the grid of the ITK image ``slices``."""
    segmentation = pydicom.dcmread(path)
    found = {s.SegmentNumber: np.zeros(slices.GetSize()[::-1], bool) for s in segmentation.SegmentSequence}
    (shared,) = segmentation.SharedFunctionalGroupsSequence
    pixels = segmentation.pixel_array.reshape(-1, segmentation.Rows, segmentation.Columns)
    for plane, place in zip(pixels, segmentation.PerFrameFunctionalGroupsSequence, strict=True):
        identified = place if "SegmentIdentificationSequence" in place else shared  # shared where one segment is all
        number = identified.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        position = place.PlanePositionSequence[0].ImagePositionPatient
        x, y, z = slices.TransformPhysicalPointToIndex([float(v) for v in position])
        assert (x, y) == (0, 0)
        found[number][z] = plane
    return segmentation, found
