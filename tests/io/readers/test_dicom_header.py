"""Headers that contradict themselves, and objects that are no images, are refused by name and reason."""

import numpy as np
import pydicom
import pytest
from pydicom.uid import ImplicitVRLittleEndian

from tests.helpers.dicom_files import image, save
from unetrpp.core.errors import UserError
from unetrpp.io.readers import dicom

ARRAY = np.arange(1, 43, dtype=np.uint16).reshape(6, 7)


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"Rows": 7}, r"a.dcm is truncated: it holds 84 bytes of pixels, and 1 x 7 x 7 pixels need 98"),
        ({"Rows": 5}, r"a.dcm contradicts itself: it holds 84 bytes of pixels, and 1 x 5 x 7 pixels need 70"),
        ({"Rows": 0}, r"a.dcm has Rows 0 instead of a whole number of at least 1"),
        ({"Columns": None}, r"a.dcm has Columns None instead of"),
        ({"BitsStored": 17}, r"BitsAllocated 16, BitsStored 17 and HighBit 15"),
        ({"BitsAllocated": 12}, r"BitsAllocated 12"),
        ({"HighBit": 3}, r"HighBit 3"),
        ({"HighBit": None}, r"a.dcm has HighBit None instead of a whole number of at least 0"),
        ({"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0}, r"BitsAllocated 1, BitsStored 1 and HighBit 0"),
        ({"SamplesPerPixel": 2}, r"2 samples per pixel in MONOCHROME2"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, r"1 samples per pixel in PALETTE COLOR"),
        ({"NumberOfFrames": 1000000000}, r"is truncated: it holds 84 bytes"),
        ({"PixelData": None}, r"a.dcm has no pixel data"),
        (
            {"RescaleSlope": pydicom.DataElement("RescaleSlope", "LO", "abc")},
            r"a.dcm has RescaleSlope 'abc' instead of 1 numbers",
        ),
        ({"RescaleSlope": "0", "RescaleIntercept": "0"}, r"a.dcm has RescaleSlope 0, which makes every value the same"),
        ({"RescaleSlope": "1"}, r"a.dcm has only one of RescaleSlope and RescaleIntercept"),
        ({"PixelRepresentation": None}, r"a.dcm has PixelRepresentation None instead of a whole number from 0 to 1"),
        ({"PhotometricInterpretation": None}, r"1 samples per pixel in an unnamed colour space"),
        ({"RescaleIntercept": "nan"}, r"a.dcm has RescaleIntercept 'nan'"),
        ({"PixelSpacing": ["1.0"]}, r"a.dcm has PixelSpacing '1.0' instead of 2 numbers"),
        ({"ImagePositionPatient": ["0", "0", "inf"]}, r"a.dcm has ImagePositionPatient"),
        ({"ModalityLUTSequence": []}, r"by ModalityLUTSequence, which is not supported"),
        ({"DoseGridScaling": "0.1"}, r"by DoseGridScaling, which is not supported"),
        ({"Modality": "SEG"}, r"a.dcm holds labels, not an image \(DICOM SEG\); `unetrpp_convert dicom` reads it"),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR")
@pytest.mark.filterwarnings("ignore:A value of type")
@pytest.mark.filterwarnings("ignore:The value length")
def test_contradictions_are_refused(tmp_path, tags, words):
    save(image(ARRAY, **tags), tmp_path / "a.dcm")
    with pytest.raises(UserError, match=words):
        dicom.read(tmp_path / "a.dcm")


def test_zeros_behind_the_pixels_are_filling(tmp_path):
    save(image(ARRAY, PixelData=ARRAY.tobytes() + bytes(128)), tmp_path / "a.dcm")
    np.testing.assert_array_equal(dicom.read(tmp_path / "a.dcm")[0][0, 0], ARRAY)


def test_numbers_longer_than_the_standard_allows_are_read(tmp_path):
    """Many archives hold them; pydicom warns of each."""
    dataset = image(ARRAY, PixelSpacing=[1.0, 1.0], ImagePositionPatient=[0, 0, 0])
    save(dataset, tmp_path / "a.dcm")
    long = b"0.70312500000000001234\\0.70312500000000001234"
    raw = (tmp_path / "a.dcm").read_bytes()
    old = raw.index(b"\x28\x00\x30\x00DS")
    (tmp_path / "a.dcm").write_bytes(raw[: old + 6] + (46).to_bytes(2, "little") + long.ljust(46) + raw[old + 8 + 8 :])
    _, geometry = dicom.read(tmp_path / "a.dcm")
    assert geometry.spacing_zyx_mm == (1.0, 0.703125, 0.703125)


def test_an_unknown_value_representation_is_damage(tmp_path):
    path = tmp_path / "a.dcm"
    save(image(ARRAY, RescaleSlope="1", RescaleIntercept="5"), path)
    content = path.read_bytes()
    at = content.index(bytes.fromhex("28005210"))  # RescaleIntercept
    assert content[at + 4 : at + 6] == b"DS"
    path.write_bytes(content[: at + 4] + b"DQ" + content[at + 6 :])
    with pytest.raises(UserError, match=r"a.dcm is damaged or truncated.*'DQ' is not a valid VR"):
        dicom.read(path)


def test_a_header_that_claims_gigabytes_takes_no_memory(tmp_path):
    path = tmp_path / "a.dcm"
    save(image(ARRAY, syntax=ImplicitVRLittleEndian), path)
    content = path.read_bytes()
    at = content.index(b"\x08\x00\x16\x00")  # SOPClassUID
    path.write_bytes(content[: at + 4] + b"\0\0\0\x7f" + content[at + 8 :])
    with pytest.raises(UserError, match=r"a.dcm is truncated: it ends within its header"):
        dicom.read(path)
