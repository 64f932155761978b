"""The grid of slices: what is off by rounding passes, and what gives a wrong grid is refused by the slices' names."""

import re

import numpy as np
import pytest

from tests.helpers.dicom_files import write_series
from unetrpp.core.errors import UserError
from unetrpp.io.readers import dicom

N = 16
ARRAY = np.random.default_rng(0).integers(0, 4000, (N, 6, 6)).astype(np.uint16)


def read(folder, places, array=ARRAY, **options):
    write_series(folder, array, places, **options)
    return dicom.read(folder)


@pytest.mark.parametrize("step", [0.3125, 0.6667, 1.25, 3.3333])
@pytest.mark.parametrize("seed", range(3))
def test_positions_rounded_to_two_decimals_pass(tmp_path, step, seed):
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    places = [np.round(step * k * np.cross(q[0], q[1]), 2) for k in range(N)]
    array, geometry = read(tmp_path / "s", places, orientation=(*q[0], *q[1]))
    np.testing.assert_array_equal(array[0], ARRAY)
    assert geometry.spacing_zyx_mm[0] == pytest.approx(step, abs=0.02 / (N - 1))


def test_what_rounding_cannot_explain_is_refused(tmp_path):
    """0.01 mm is a fifth of steps of 0.05 mm, and 0.02 mm is more than rounding."""
    for name, step, shift in (("small", 0.05, 0.01), ("coarse", 0.3125, 0.02)):
        places = [(0, 0, step * k + (shift if k == 8 else 0)) for k in range(N)]
        with pytest.raises(UserError, match=f"{name} has missing or uneven slices: IM0008.dcm|: IM0007.dcm and IM0008"):
            read(tmp_path / name, places)


def test_a_slowly_growing_step_is_uneven(tmp_path):
    """No step differs from its neighbour by 1 %, and the middle lies a slice off its place."""
    steps = 2 * np.linspace(0.95, 1.05, N - 1)
    places = [(0, 0, z) for z in np.concatenate([[0], np.cumsum(steps)])]
    with pytest.raises(UserError, match="missing or uneven slices"):
        read(tmp_path / "s", places)


@pytest.mark.parametrize("gone", [1, 7, 14])
def test_missing_slices_are_named_by_their_neighbours(tmp_path, gone):
    write_series(tmp_path / "s", ARRAY)
    (tmp_path / "s" / f"IM{gone:04d}.dcm").unlink()
    words = f"IM{gone - 1:04d}.dcm and IM{gone + 1:04d}.dcm lie 4 mm apart, most 2 mm"
    with pytest.raises(UserError, match=words):
        dicom.read(tmp_path / "s")


def test_a_tilt_and_a_sideways_shift_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"gantry tilt of 11.3 degrees; resample"):
        read(tmp_path / "tilt", [(0, 0.4 * k, 2.0 * k) for k in range(N)])
    with pytest.raises(UserError, match=r"IM0005.dcm is shifted sideways by 0.5 mm"):
        read(tmp_path / "shift", [(0.5 * (k == 5), 0, 2.0 * k) for k in range(N)])


def test_one_slice_twice_and_two_volumes_are_told_apart(tmp_path):
    write_series(tmp_path / "twice", ARRAY)
    (tmp_path / "twice" / "copy.dcm").write_bytes((tmp_path / "twice" / "IM0003.dcm").read_bytes())
    with pytest.raises(UserError, match=r"holds one slice twice \(IM0003.dcm and copy.dcm have one SOPInstanceUID\)"):
        dicom.read(tmp_path / "twice")

    def echo(dataset, k):
        dataset.EchoTime = 4.6 + 2.3 * (k >= N)

    places = [(0, 0, 2.0 * k) for k in range(N)] * 2
    words = r"holds 2 volumes \(16 positions, 2 images at each, such as IM0000.dcm and IM0016.dcm\), which differ in EchoTime"
    with pytest.raises(UserError, match=words):
        read(tmp_path / "echoes", places, np.concatenate([ARRAY, ARRAY]), change=echo)
    with pytest.raises(UserError, match=r"s is not one volume: IM0003.dcm and IM0016.dcm lie at the same place \(6 mm"):
        read(tmp_path / "s", [*places[:N], places[3]], np.concatenate([ARRAY, ARRAY[:1]]))


@pytest.mark.parametrize(
    ("tag", "one", "other"),
    [
        ("EchoTime", "4.6", "9.2"),
        ("TemporalPositionIdentifier", 1, 2),
        ("EchoNumbers", 1, 2),
        ("DiffusionBValue", 0.0, 800.0),
    ],
)
def test_volumes_beside_each_other_are_told_apart(tmp_path, tag, one, other):
    """The second volume continues where the first ends, so no position repeats."""

    def change(dataset, k):
        setattr(dataset, tag, one if k < 8 else other)

    words = (
        rf"s holds several volumes: IM0000.dcm and IM0008.dcm differ in {tag} \({one} and {other}\); give one of them"
    )
    with pytest.raises(UserError, match=words):
        read(tmp_path / "s", None, change=change)


def test_echo_times_that_hardly_differ_are_one_volume(tmp_path):
    def change(dataset, k):
        dataset.EchoTime = f"{4.6 + 0.001 * k:.4f}"
        dataset.AcquisitionNumber = k % 2  # interleaved acquisition

    np.testing.assert_array_equal(read(tmp_path / "s", None, change=change)[0][0], ARRAY)


@pytest.mark.parametrize(
    ("tag", "value", "words"),
    [
        ("PixelSpacing", [1.0, 1.05], r"different pixel spacing \(IM0000.dcm: 1 x 1; IM0009.dcm: 1 x 1.05\)"),
        ("ImageOrientationPatient", [0, 1, 0, 1, 0, 0], r"different orientation \(IM0000.dcm.*IM0009.dcm"),
        ("ImageOrientationPatient", [1, 0, 0, 0.1, 1, 0], r"different orientation"),
        ("ImagePositionPatient", None, r"IM0009.dcm has no ImagePositionPatient"),
        ("ImageOrientationPatient", None, r"IM0009.dcm has no ImageOrientationPatient"),
        ("PixelSpacing", None, r"IM0009.dcm has no PixelSpacing"),
        ("PixelSpacing", [1.0, 0.0], r"IM0009.dcm has PixelSpacing \(1.0, 0.0\), which must be above 0"),
        ("RescaleSlope", 1, r"IM0009.dcm has only one of RescaleSlope and RescaleIntercept"),
    ],
)
def test_a_slice_that_differs_is_named(tmp_path, tag, value, words):
    def change(dataset, k):
        if k == 9:
            delattr(dataset, tag) if value is None else setattr(dataset, tag, value)

    with pytest.raises(UserError, match=words):
        read(tmp_path / "s", None, change=change)


def test_a_slice_of_another_matrix_is_named(tmp_path):
    write_series(tmp_path / "s", ARRAY)
    write_series(tmp_path / "t", ARRAY[:1, :5], [(0, 0, 32.0)])
    (tmp_path / "t" / "IM0000.dcm").rename(tmp_path / "s" / "IM0016.dcm")
    with pytest.raises(UserError, match=re.escape("different matrix (IM0000.dcm: 6 x 6; IM0016.dcm: 5 x 6)")):
        dicom.read(tmp_path / "s")


def test_axes_that_are_not_square_are_refused(tmp_path):
    with pytest.raises(
        UserError, match=r"IM0000.dcm has ImageOrientationPatient .* not two unit vectors at a right angle"
    ):
        read(tmp_path / "s", None, orientation=(1, 0, 0, 0.1, 1, 0))
