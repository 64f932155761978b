"""RT Structure Sets: contours filled again by ITK's geometry and scikit-image are the masks, and the tags that must be there."""

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.uid import RTStructureSetStorage
from skimage.draw import polygon2mask

from tests.helpers.dicom import write_series
from tests.helpers.dicom_files import write_enhanced
from unetrpp.core.errors import UserError
from unetrpp.io.images import read_file, to_sitk
from unetrpp.io.readers import dicom
from unetrpp.io.readers.rtstruct import draw
from unetrpp.io.rtstruct import write_rtstruct

SHAPE = (5, 18, 16)
SEGMENTS = {"whole": (3, 7), "core": (7,), "missing": (9,)}


def labels():
    """Noise with holes and single voxels, and a slice without any."""
    array = np.random.default_rng(0).choice([0, 3, 7], SHAPE, p=(0.4, 0.4, 0.2)).astype(np.uint8)
    array[2] = 0
    return array


def write(folder, array, series, segments=SEGMENTS, note="a model"):
    _, geometry = dicom.read(series)
    write_rtstruct(folder / "out" / "case_rtstruct.dcm", array, geometry, segments, series=series, note=note)
    return pydicom.dcmread(folder / "out" / "case_rtstruct.dcm")


def filled_by_others(item, image, shape):
    """The mask (Z, Y, X) of an item of ROIContourSequence."""
    mask = np.zeros(shape, bool)
    for contour in item.get("ContourSequence") or ():
        points = np.array(contour.ContourData, float).reshape(-1, 3)
        assert len(points) == contour.NumberOfContourPoints
        assert contour.ContourGeometricType == "CLOSED_PLANAR"
        index = np.array([image.TransformPhysicalPointToContinuousIndex(point) for point in points.tolist()])
        (z,) = {round(value) for value in index[:, 2]}
        np.testing.assert_allclose(index[:, 2], z, atol=1e-3)
        mask[z] |= polygon2mask(shape[1:], index[:, 1::-1])
    return mask


def test_contours_enclose_the_voxels_of_their_slices(tmp_path):
    array, series = labels(), tmp_path / "series"
    write_series(series, np.zeros(SHAPE))
    found = write(tmp_path, array, series)
    image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(series)))
    assert [roi.ROIName for roi in found.StructureSetROISequence] == list(SEGMENTS)
    for item, values in zip(found.ROIContourSequence, SEGMENTS.values(), strict=True):
        np.testing.assert_array_equal(filled_by_others(item, image, SHAPE), np.isin(array, values))
    drawn = draw(tmp_path / "out" / "case_rtstruct.dcm", [1, 2], dicom.read_header(series)[0])
    for roi, values in zip(drawn, SEGMENTS.values(), strict=False):
        np.testing.assert_array_equal(roi.inside, np.isin(array, values))


def test_it_refers_to_the_slices_the_study_and_the_patient(tmp_path):
    series = tmp_path / "series"
    write_series(series, np.zeros(SHAPE))
    found = write(tmp_path, labels(), series)
    headers = {header.SOPInstanceUID: header for header in map(pydicom.dcmread, series.iterdir())}
    source = next(iter(headers.values()))
    assert (found.SOPClassUID, found.Modality, found.PatientID) == (RTStructureSetStorage, "RTSTRUCT", "p1")
    for key in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientName", "StudyDate", "StudyID"):
        assert found[key].value == source[key].value
    assert found.SeriesInstanceUID != source.SeriesInstanceUID
    (frame,) = found.ReferencedFrameOfReferenceSequence
    (study,) = frame.RTReferencedStudySequence
    (referenced,) = study.RTReferencedSeriesSequence
    assert (study.ReferencedSOPInstanceUID, referenced.SeriesInstanceUID) == (
        source.StudyInstanceUID,
        source.SeriesInstanceUID,
    )
    assert {item.ReferencedSOPInstanceUID for item in referenced.ContourImageSequence} == headers.keys()
    for contour in found.ROIContourSequence[0].ContourSequence:
        (image,) = contour.ContourImageSequence
        position = np.array(headers[image.ReferencedSOPInstanceUID].ImagePositionPatient, float)
        assert contour.ContourData[2] == pytest.approx(position[2])  # its own slice
    assert [roi.ROIGenerationAlgorithm for roi in found.StructureSetROISequence] == ["AUTOMATIC"] * 3
    assert "ContourSequence" not in found.ROIContourSequence[2]  # looked for and not found
    assert len({tuple(item.ROIDisplayColor) for item in found.ROIContourSequence}) == 3
    assert [item.ReferencedROINumber for item in found.RTROIObservationsSequence] == [1, 2, 3]


def test_frames_of_a_multi_frame_image_are_named_by_their_numbers(tmp_path):
    order = np.random.default_rng(0).permutation(SHAPE[0])
    pixels, array = np.zeros(SHAPE, np.uint16), labels()
    write_enhanced(tmp_path / "series" / "a.dcm", pixels[order], [(3.0, 4.0, 2.0 * k) for k in order])
    found = write(tmp_path, array, tmp_path / "series")
    image = to_sitk(array, read_file(tmp_path / "series").geometry)
    for item, values in zip(found.ROIContourSequence, SEGMENTS.values(), strict=True):
        np.testing.assert_array_equal(filled_by_others(item, image, SHAPE), np.isin(array, values))
    for contour in found.ROIContourSequence[0].ContourSequence:
        (frame,) = contour.ContourImageSequence
        assert 2.0 * order[frame.ReferencedFrameNumber - 1] == pytest.approx(contour.ContourData[2])


def test_names_in_any_language(tmp_path):
    write_series(tmp_path / "series", np.zeros(SHAPE), PatientName="Müller^Jörg", SpecificCharacterSet="ISO_IR 100")
    found = write(tmp_path, labels(), tmp_path / "series", {"肝臓\\Läsion": (3,), "tumour " * 20: (7,)}, "x" * 90)
    assert [roi.ROIName for roi in found.StructureSetROISequence] == ["肝臓/Läsion", ("tumour " * 20)[:64].strip()]
    assert found.PatientName == "Müller^Jörg"
    assert len(found.SeriesDescription) == 64


def test_a_series_without_its_tags_is_refused(tmp_path):
    write_series(tmp_path / "series", np.zeros(SHAPE), FrameOfReferenceUID=None)
    with pytest.raises(UserError, match=r"refer to series \(no FrameOfReferenceUID\); export the series again"):
        write(tmp_path, labels(), tmp_path / "series")
    assert not (tmp_path / "out").exists()
