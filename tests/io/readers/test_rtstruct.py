"""Contours of RTSTRUCT against the published masks of the same contours, and the rules one by one."""

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from tests.helpers.dicom import write_series
from tests.helpers.dicom_labels import write_structures
from unetrpp.core.errors import UserError
from unetrpp.io.geometry import world_mm
from unetrpp.io.readers import dicom
from unetrpp.io.readers.rtstruct import draw

SHAPE = (5, 8, 7)


@pytest.mark.parametrize("modality", ["CT", "MR_T1", "PET"])
@pytest.mark.parametrize("patient", ["STS_002", "STS_003"])
def test_every_voxel_is_that_of_the_published_mask(test_data, patient, modality):
    """Masks and images of the Image Biomarker Standardisation Initiative, made from the same contours and slices."""
    samples = test_data / "samples/rtstruct"
    array, geometry = dicom.read(samples / "dicom" / patient / modality / "image")
    (drawn,) = draw(samples / "dicom" / patient / modality / "mask/RS.dcm", [1], geometry)
    mask, image = (
        sitk.ReadImage(samples / "nifti" / patient / f"{modality}_{what}.nii.gz") for what in ("mask", "image")
    )
    assert drawn.inside.sum() > 500
    np.testing.assert_array_equal(drawn.inside, sitk.GetArrayFromImage(mask) == 1)
    assert (drawn.beyond, drawn.sparse) == (0, False)
    np.testing.assert_allclose(array[0], sitk.GetArrayFromImage(image), rtol=2e-7, atol=0)
    np.testing.assert_allclose(geometry.origin_xyz_mm, mask.GetOrigin(), rtol=1e-6)
    np.testing.assert_allclose(geometry.spacing_zyx_mm[::-1], mask.GetSpacing(), rtol=1e-6)


@pytest.fixture
def series(tmp_path):
    """A series whose rows and columns are turned by a quarter."""
    write_series(tmp_path / "series", np.zeros(SHAPE))
    return tmp_path / "series"


@pytest.fixture
def geometry(series):
    return dicom.read_header(series)[0]


def square(geometry, z, low, high):
    """A contour (n, 3) in mm around the voxels from ``low`` to ``high`` (y, x) of a slice, along their borders."""
    (y0, x0), (y1, x1) = np.subtract(low, 0.5), np.add(high, 0.5)
    return world_mm(geometry, np.array([(z, y0, x0), (z, y0, x1), (z, y1, x1), (z, y1, x0)]))


def only(series, contours, geometry, **how):
    path = write_structures(series.parent / "rs.dcm", series, {"GTV": contours}, **how)
    return next(draw(path, [1], geometry))


@pytest.mark.parametrize("kind", ["CLOSED_PLANAR", "CLOSEDPLANAR_XOR"])
def test_holes_islands_and_several_contours_a_slice(series, geometry, kind):
    contours = [
        square(geometry, 1, (1, 0), (6, 4)),
        square(geometry, 1, (2, 1), (5, 3)),  # a hole
        square(geometry, 1, (3, 2), (3, 2)),  # an island in it
        square(geometry, 1, (7, 6), (7, 6)),
        square(geometry, 2, (0, 0), (9, 9)),  # reaches outside
    ]
    drawn = only(series, [*contours, contours[0]], geometry, kind=kind)  # one is there twice
    expected = np.zeros(SHAPE, bool)
    expected[1, 1:7, 0:5] = True
    expected[1, 2:6, 1:4] = False
    expected[1, 3, 2] = expected[1, 7, 6] = True
    expected[2] = True
    np.testing.assert_array_equal(drawn.inside, expected)
    assert (drawn.beyond, drawn.sparse) == (0, False)


def test_slices_without_contours_stay_empty_and_those_beyond_are_counted(series, geometry):
    drawn = only(series, [square(geometry, z, (1, 1), (2, 2)) for z in (-3, 0, 2, 4, 5)], geometry)
    assert drawn.inside.any(axis=(1, 2)).tolist() == [True, False, True, False, True]
    assert (drawn.beyond, drawn.sparse) == (2, True)


def test_a_contour_may_be_off_its_slice_by_less_than_a_quarter(series, geometry):
    inside = only(series, [square(geometry, 2.2, (1, 1), (2, 2))], geometry).inside
    assert np.argwhere(inside)[:, 0].tolist() == [2] * 4
    with pytest.raises(UserError, match=r"'GTV' of rs\.dcm has a contour between the slices of the image \(at 2\.40 "):
        only(series, [square(geometry, 2.4, (1, 1), (2, 2))], geometry)
    with pytest.raises(UserError, match=r"between the slices of the image \(at -0\.50 "):
        only(series, [square(geometry, -0.5, (1, 1), (2, 2))], geometry)


def test_contours_across_the_slices_are_refused(series, geometry):
    sagittal = world_mm(geometry, np.array([(0, 1, 3), (0, 4, 3), (3, 4, 3), (3, 1, 3)], float))
    with pytest.raises(UserError, match="has a contour across 3 slices of the image"):
        only(series, [sagittal], geometry)


@pytest.mark.parametrize(
    ("contours", "how", "message"),
    [
        ([], {}, "the ROI 'GTV' of rs.dcm has no contours; draw them"),
        ([[0, 0, 0]], {"kind": "POINT"}, "has a contour of the type POINT, which encloses nothing"),
        ([[0, 0, 0, 1]], {}, "has a contour of 4 numbers instead of three a point"),
    ],
)
def test_what_encloses_nothing_is_refused(series, geometry, contours, how, message):
    with pytest.raises(UserError, match=message):
        only(series, contours, geometry, **how)


def test_a_damaged_file_is_named(series, geometry):
    path = write_structures(series.parent / "rs.dcm", series, {"GTV": [square(geometry, 1, (1, 1), (2, 2))]})
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(UserError, match=r"rs\.dcm"):
        list(draw(path, [1], geometry))


def test_an_roi_without_a_name_does_not_stop_the_others(series, geometry):
    path = write_structures(series.parent / "rs.dcm", series, {"GTV": [square(geometry, 1, (1, 1), (3, 2))], "x": []})
    dataset = pydicom.dcmread(path)
    del dataset.StructureSetROISequence[1].ROIName
    dataset.save_as(path)
    assert next(draw(path, [1], geometry)).inside.sum() == 6


@pytest.mark.parametrize("again", [lambda c: c, lambda c: c[::-1], lambda c: np.roll(c, 2, axis=0)])
def test_a_contour_that_is_there_twice_counts_once(series, geometry, again):
    contour = square(geometry, 1, (1, 1), (3, 2))
    assert only(series, [contour, again(contour)], geometry).inside.sum() == 6
