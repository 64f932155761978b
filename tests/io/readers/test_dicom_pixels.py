"""Values of DICOM pixels: whole types, unused bits, byte orders, colours and compressed syntaxes, against pydicom."""

import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from pydicom.pixels.processing import apply_rescale
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian, RLELossless

from tests.helpers.dicom_files import image, save, write_series
from unetrpp.core.errors import UserError
from unetrpp.io.readers import dicom

FILES = Path(pydicom.__path__[0]) / "data" / "test_files"


def by_pydicom(path):
    """(C, Z, Y, X) of one frame, rescaled."""
    dataset = pydicom.dcmread(path)
    values = apply_rescale(dataset.pixel_array, dataset)
    return np.moveaxis(np.atleast_3d(values), -1, 0)[:, None]


@pytest.mark.parametrize(
    ("kind", "stored", "slope", "intercept", "expected"),
    [
        (np.uint8, 8, 1, 0, np.uint8),
        (np.uint16, 12, 1, -1024, np.int16),
        (np.uint16, 16, 1, -1024, np.int32),
        (np.int16, 12, 1, -1024, np.int16),
        (np.int16, 16, 2, 0, np.int32),
        (np.uint16, 16, 1, 0, np.uint16),
        (np.uint32, 32, 1, 0, np.uint32),
        (np.uint32, 32, -1, 0, np.int64),
        (np.uint16, 16, 0.5, 0, np.float32),
        (np.uint16, 16, 1, 0.25, np.float32),
    ],
)
def test_whole_values_stay_whole_in_the_least_type(tmp_path, kind, stored, slope, intercept, expected):
    low = -(1 << stored - 1) if kind == np.int16 else 0
    array = np.random.default_rng(0).integers(low, low + (1 << stored), (1, 5, 6)).astype(kind)
    array[0, 0, :2] = low, low + (1 << stored) - 1
    tags = {"BitsStored": stored, "HighBit": stored - 1, "RescaleSlope": slope, "RescaleIntercept": intercept}
    write_series(tmp_path / "s", array, **tags)
    found, _ = dicom.read(tmp_path / "s")
    assert found.dtype == expected
    np.testing.assert_array_equal(found[0], array.astype(float) * slope + intercept)
    np.testing.assert_array_equal(found, by_pydicom(tmp_path / "s" / "IM0000.dcm").astype(expected))


@pytest.mark.parametrize("kind", [np.uint16, np.int16])
@pytest.mark.parametrize(("stored", "high"), [(12, 11), (12, 15), (8, 9)])
def test_bits_that_are_not_stored_are_left_out(tmp_path, kind, stored, high):
    array = np.arange(20, dtype=kind).reshape(1, 4, 5) - (10 if kind == np.int16 else 0)
    below = high + 1 - stored
    bits = (array.view(np.uint16).astype(np.uint32) & ((1 << stored) - 1)) << below
    noise = np.random.default_rng(0).integers(0, 1 << 16, array.shape) & ~(((1 << stored) - 1) << below)
    raw = (bits | noise).astype(np.uint16).view(kind)
    save(image(raw[0], BitsStored=stored, HighBit=high), tmp_path / "a.dcm")
    np.testing.assert_array_equal(dicom.read(tmp_path / "a.dcm")[0][0], array)


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian])
@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint32])
def test_syntaxes_that_only_order_bytes(tmp_path, syntax, kind):
    array = np.random.default_rng(0).integers(0, 250, (1, 5, 7)).astype(kind)
    order = ">" if syntax == ExplicitVRBigEndian else "<"
    data = array.astype(np.dtype(kind).newbyteorder(order)).tobytes() + b"\0" * (array.nbytes % 2)
    dataset = image(array[0], syntax=syntax, PixelData=data)
    dataset["PixelData"].VR = "OB" if kind == np.uint8 else "OW"
    save(dataset, tmp_path / "a.dcm")
    np.testing.assert_array_equal(dicom.read(tmp_path / "a.dcm")[0][0], array)


COMPRESSED = [
    "693_J2KI",
    "J2K_pixelrep_mismatch",
    "JPEG2000",
    "JPEGLSNearLossless_08",
    "JPEGLSNearLossless_16",
    "MR_small_RLE",
    "MR_small_jp2klossless",
    "MR_small_jpeg_ls_lossless",
    "SC_rgb_jpeg_dcmtk",
    "SC_jpeg_no_color_transform",
    "SC_rgb_rle",
    "SC_rgb_rle_16bit",
    "examples_jpeg2k",
    "SC_ybr_full_422_uncompressed",
    "SC_rgb_small_odd",
    "SC_rgb_small_odd_big_endian",
    "MR_small_bigendian",
    "CT_small",
    "MR_small_implicit",
    "image_dfl",
]


@pytest.mark.parametrize("name", COMPRESSED)
def test_compressed_and_colour_files_decode_as_by_pydicom(name):
    found, _ = dicom.read(FILES / f"{name}.dcm")
    expected = by_pydicom(FILES / f"{name}.dcm")
    assert np.ptp(expected) > 0
    np.testing.assert_array_equal(found, expected)


def test_what_pydicom_cannot_decode_alone():
    """Lossless JPEG and 12-bit JPEG, for which pydicom needs more packages: against another syntax, and ITK."""
    found, _ = dicom.read(FILES / "SC_rgb_jpeg_gdcm.dcm")
    np.testing.assert_array_equal(found, by_pydicom(FILES / "SC_rgb_rle.dcm"))
    lossy, _ = dicom.read(FILES / "JPGExtended.dcm")
    np.testing.assert_array_equal(lossy[0], sitk.GetArrayFromImage(sitk.ReadImage(str(FILES / "JPGExtended.dcm"))))


def test_a_damaged_compressed_image_is_named(tmp_path):
    for name, cut in (("MR_small_jpeg_ls_lossless", 200), ("MR_small_jp2klossless", 200)):
        dataset = pydicom.dcmread(FILES / f"{name}.dcm")
        frame = next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))
        dataset.PixelData = pydicom.encaps.encapsulate([frame[:-cut]])
        dataset.save_as(tmp_path / f"{name}.dcm")
        with pytest.raises(UserError, match=rf"{name}.dcm: its pixels .* cannot be decoded .*truncated"):
            dicom.read(tmp_path / f"{name}.dcm")


@pytest.mark.parametrize("name", ["MR_small_jpeg_ls_lossless", "MR_small_jp2klossless", "SC_rgb_jpeg_gdcm"])
def test_a_size_that_is_not_that_of_the_compressed_image_is_refused(tmp_path, name):
    """Before a decoder takes memory for it."""
    dataset = pydicom.dcmread(FILES / f"{name}.dcm")
    dataset.Rows = 60000
    dataset.save_as(tmp_path / "a.dcm")
    with pytest.raises(UserError, match=r"a.dcm: its pixels .*pixels where the header says \(60000"):
        dicom.read(tmp_path / "a.dcm")


def test_a_lossy_jpeg_that_two_decoders_read_differently_is_refused(tmp_path):
    """It has no checksum: bytes that are lost within it show in nothing else."""
    dataset = pydicom.dcmread(FILES / "SC_rgb_jpeg_dcmtk.dcm")
    frame = bytearray(next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1)))
    reasons = set()
    for at in range(1000, len(frame) - 10, 97):
        damaged = frame[:at] + bytes(2) + frame[at + 2 :]
        dataset.PixelData = pydicom.encaps.encapsulate([bytes(damaged)])
        dataset.save_as(tmp_path / "a.dcm")
        try:
            found = dicom.read(tmp_path / "a.dcm")[0]
        except UserError as error:
            reasons.add(str(error))
        else:
            np.testing.assert_allclose(found, by_pydicom(tmp_path / "a.dcm"), atol=48)
    assert any("two decoders read different images" in reason for reason in reasons)


@pytest.mark.parametrize("name", ["JPGExtended", "JPEG2000"])
def test_what_gdcm_prints_goes_to_the_debug_log(tmp_path, name, capfd, caplog):
    caplog.set_level("DEBUG", logger="unetrpp")
    dataset = pydicom.dcmread(FILES / f"{name}.dcm")
    frame = bytearray(next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1)))
    for at in range(len(frame) // 2, len(frame) - 10, 40):
        frame[at : at + 4] = b"\xff\x13\xff\0"
    dataset.PixelData = pydicom.encaps.encapsulate([bytes(frame)])
    dataset.save_as(tmp_path / "a.dcm")
    with suppress(UserError):
        dicom.read(tmp_path / "a.dcm")
    assert capfd.readouterr() == ("", "")
    assert "GDCM on a.dcm: " in caplog.text


def test_what_pydicom_warns_of_goes_to_the_debug_log(capfd, caplog):
    caplog.set_level("DEBUG", logger="unetrpp")
    found, _ = dicom.read(FILES / "SC_rgb_jpeg.dcm")  # explicit by its file meta, implicit in truth
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = by_pydicom(FILES / "SC_rgb_jpeg.dcm")
    assert np.abs(found.astype(int) - expected).max() <= 2  # two decoders of a lossy JPEG
    assert capfd.readouterr() == ("", "")
    assert "pydicom on SC_rgb_jpeg.dcm: Expected explicit VR" in caplog.text


def test_a_damaged_run_length_image_is_named(tmp_path):
    dataset = image(np.arange(64, dtype=np.uint16).reshape(8, 8))
    dataset.compress(RLELossless)
    frame = next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))
    dataset.PixelData = pydicom.encaps.encapsulate([frame[:-20]])
    dataset.save_as(tmp_path / "a.dcm")
    with pytest.raises(UserError, match=r"a.dcm: its pixels \(RLE Lossless\) cannot be decoded \(pydicom: .*RLE"):
        dicom.read(tmp_path / "a.dcm")


def test_float_pixels(tmp_path):
    array = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    dataset = image(
        np.zeros((4, 5), np.uint32), PixelData=None, PixelRepresentation=None, FloatPixelData=array.tobytes()
    )
    save(dataset, tmp_path / "a.dcm")
    np.testing.assert_array_equal(dicom.read(tmp_path / "a.dcm")[0][0, 0], array)


def test_run_lengths_of_more_pixels_than_the_image_has_are_refused(tmp_path):
    dataset = image(np.arange(64, dtype=np.uint16).reshape(8, 8))
    dataset.compress(RLELossless)
    frame = next(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=1))
    dataset.PixelData = pydicom.encaps.encapsulate([frame + b"\xf0\x07"])  # 17 bytes of 7
    dataset.save_as(tmp_path / "a.dcm")
    with pytest.raises(UserError, match=r"a.dcm: its pixels .* more pixels than the image"):
        dicom.read(tmp_path / "a.dcm")


def test_run_lengths_of_fewer_pixels_than_the_header_says_take_no_memory(tmp_path):
    dataset = image(np.arange(64, dtype=np.uint16).reshape(8, 8))
    dataset.compress(RLELossless)
    dataset.Rows = dataset.Columns = 65_535
    dataset.save_as(tmp_path / "a.dcm")
    with pytest.raises(UserError, match=r"a.dcm: its 65535 x 65535 pixels need more run lengths than the file holds"):
        dicom.read(tmp_path / "a.dcm")


def test_an_image_of_one_value_is_the_shortest_of_run_lengths(tmp_path):
    dataset = image(np.zeros((512, 512), dtype=np.uint8))
    dataset.compress(RLELossless)
    dataset.save_as(tmp_path / "a.dcm")
    assert not dicom.read(tmp_path / "a.dcm")[0].any()
