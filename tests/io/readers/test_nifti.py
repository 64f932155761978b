"""NIfTI against nibabel: types, scale factors, byte orders, pairs, colours; damage and stand-ins get their true reason."""

import bz2
import gzip
import struct

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.nifti import patch
from tests.helpers.reading import equal_or_refused, is_mapped
from unetrpp.core.errors import UserError
from unetrpp.io.readers import nifti

RNG = np.random.default_rng(0)
AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])
TYPES = (np.uint8, np.int8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64, np.float32, np.float64)


def save(path, array, kind=nib.Nifti1Image, affine=AFFINE):
    image = kind(array, affine, dtype=array.dtype)
    nib.save(image, path)
    return path


def voxels(path):
    return np.asarray(nib.Nifti1Image.from_filename(path).dataobj)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.hdr"])
@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 3), (5, 4, 3, 2), (5, 4, 3, 1, 2)])
def test_types_and_shapes(tmp_path, dtype, name, shape):
    array = (RNG.random(shape) * 100).astype(dtype)
    kind = nib.Nifti1Pair if name.endswith(".hdr") else nib.Nifti1Image
    path = save(tmp_path / name, array, kind)
    read, geometry = nifti.read(path)
    assert read.dtype == (np.float32 if array.dtype.kind == "f" else dtype)
    assert read.flags.writeable
    truth = array.astype(read.dtype).reshape(*shape[:3], *(1,) * (3 - len(shape)), -1).T
    np.testing.assert_array_equal(read, truth)
    assert nifti.read_header(path) == (geometry, len(truth))
    assert geometry.dimensions == (2 if len(shape) == 2 else 3)
    assert geometry.spacing_zyx_mm == ((1.0 if len(shape) == 2 else 2.0), 1.0, 1.0)


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.hdr"])
def test_a_large_file_is_mapped_or_inflated_into_one(tmp_path, monkeypatch, name, dtype):
    monkeypatch.setattr("unetrpp.core.large_arrays.LARGE_BYTES", 0)
    array = (RNG.random((5, 4, 3)) * 100).astype(dtype)
    path = save(tmp_path / name, array, nib.Nifti1Pair if name.endswith(".hdr") else nib.Nifti1Image)
    read, _ = nifti.read(path)
    np.testing.assert_array_equal(read[0], array.T)
    assert read.flags.writeable
    assert is_mapped(read)


@pytest.mark.parametrize("kind", [nib.Nifti2Image, nib.Nifti2Pair])
def test_nifti_2(tmp_path, kind):
    array = RNG.integers(-9, 9, (5, 4, 3)).astype(np.int16)
    path = save(tmp_path / ("a.hdr" if kind is nib.Nifti2Pair else "a.nii.gz"), array, kind)
    np.testing.assert_array_equal(nifti.read(path)[0][0].T, array)


@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.float64])
@pytest.mark.parametrize("kind", [nib.Nifti1Header, nib.Nifti2Header])
def test_the_other_byte_order(tmp_path, dtype, kind):
    array = RNG.integers(-9, 9, (5, 4, 3)).astype(dtype)
    header = kind(endianness=">")
    header.set_data_dtype(array.dtype.newbyteorder(">"))
    image = (nib.Nifti1Image if kind is nib.Nifti1Header else nib.Nifti2Image)(array, AFFINE, header)
    path = tmp_path / "a.nii"
    nib.save(image, path)
    assert path.read_bytes()[:2] == b"\0\0"
    read, geometry = nifti.read(path)
    assert read.dtype.isnative
    np.testing.assert_array_equal(read[0].T, array)
    assert geometry.spacing_zyx_mm == (2.0, 1.0, 1.0)


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from([0.0, 1.0, 2.0, 0.5, -3.0, 1e-3, np.nan, np.inf]),
    st.sampled_from([0.0, 1.0, -1024.0, 0.25]),
    st.sampled_from([np.uint8, np.int16, np.int32, np.float32]),
)
def test_scale_factors_by_nibabels_rules(tmp_path_factory, slope, intercept, dtype):
    path = save(tmp_path_factory.mktemp("s") / "a.nii.gz", np.arange(60).reshape(5, 4, 3).astype(dtype))
    patch(path, "2f", 112, slope, intercept)
    read, _ = nifti.read(path)
    np.testing.assert_array_equal(read[0].T, voxels(path).astype(read.dtype))


def test_a_scale_factor_without_an_offset_is_refused(tmp_path):
    path = save(tmp_path / "a.nii.gz", np.zeros((5, 4, 3), np.int16))
    patch(path, "2f", 112, 2.0, np.nan)
    with pytest.raises(UserError, match=r"a.nii.gz has a scale factor without a finite offset"):
        nifti.read(path)


def test_large_whole_numbers_of_doubles_stay_exact(tmp_path):
    labels = np.array([0, 1, (1 << 24) + 1, 3_000_000_001], np.float64).reshape(4, 1, 1)
    read, _ = nifti.read(save(tmp_path / "a.nii.gz", labels))
    assert read.ravel().tolist() == labels.ravel().tolist()


@pytest.mark.parametrize("dtype", [np.complex64, np.complex128])
def test_complex_numbers_are_refused_by_name(tmp_path, dtype):
    path = save(tmp_path / "a.nii.gz", np.ones((5, 4, 3), dtype))
    for read in (nifti.read, nifti.read_header):
        with pytest.raises(UserError, match=r"^a.nii.gz holds complex numbers; write the magnitude$"):
            read(path)


def test_the_qform_counts_on_request_whatever_the_sform_says(tmp_path):
    array = RNG.integers(0, 100, (5, 4, 3)).astype(np.int16)
    path = save(tmp_path / "a.nii.gz", array)
    header = nib.Nifti1Image.from_filename(path).header
    header.set_sform(np.diag([-1.0, -1, 1, 1]), 1)
    header.set_qform(np.diag([-1.5, -1.5, 8, 1]), 1)
    nib.save(nib.Nifti1Image(array, None, header), path)
    with pytest.raises(
        UserError, match=r"the sform of a\.nii\.gz gives voxels of 1 x 1 x 1 mm, its pixdim 1\.5 x 1\.5 x 8 mm"
    ):
        nifti.read(path)
    read, geometry = nifti.read(path, by_qform=True)
    np.testing.assert_array_equal(read[0], array.transpose())
    assert geometry.spacing_zyx_mm == pytest.approx((8, 1.5, 1.5))
    assert geometry.direction == pytest.approx((1, 0, 0, 0, 1, 0, 0, 0, 1))  # LPS
    assert nifti.read_header(path, by_qform=True) == (geometry, 1)


@pytest.mark.parametrize("names", ["RGB", "RGBA"])
def test_colours_are_channels(tmp_path, names):
    colours = RNG.integers(0, 255, (5, 4, 3, len(names))).astype(np.uint8)
    array = np.ascontiguousarray(colours).view([(name, "u1") for name in names])[..., 0]
    path = save(tmp_path / "a.nii.gz", array)
    read, geometry = nifti.read(path)
    np.testing.assert_array_equal(read, colours.transpose(3, 2, 1, 0))
    assert nifti.read_header(path) == (geometry, len(names))


def test_a_sagittal_slice_is_a_volume_of_one_slice(tmp_path):
    affine = AFFINE[:, [2, 0, 1, 3]]
    image = nib.Nifti1Image(np.arange(20, dtype=np.int16).reshape(5, 4), affine)
    image.set_qform(affine, 1)
    nib.save(image, tmp_path / "a.nii.gz")
    read, geometry = nifti.read(tmp_path / "a.nii.gz")
    assert (read.shape, geometry.dimensions) == ((1, 1, 4, 5), 3)
    assert geometry.spacing_zyx_mm[1:] == (1.0, 2.0)


def test_a_pair_is_read_by_either_name_and_copied_with_both(tmp_path):
    array = RNG.integers(0, 9, (5, 4, 3)).astype(np.uint8)
    path = save(tmp_path / "a.hdr", array, nib.Nifti1Pair)
    image = tmp_path / "a.img"
    np.testing.assert_array_equal(nifti.read(image)[0], nifti.read(path)[0])
    assert set(nifti.parts(path)) == {path, image}
    image.unlink()
    with pytest.raises(UserError, match=r"a.img, which holds the voxels of a.hdr, does not exist"):
        nifti.read(path)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@settings(max_examples=30, deadline=None)
@given(share=st.floats(0.001, 0.999))
def test_a_truncated_file_is_named(tmp_path_factory, name, share):
    path = save(tmp_path_factory.mktemp("t") / name, RNG.normal(size=(9, 8, 7)))
    content = path.read_bytes()
    path.write_bytes(content[: max(1, int(len(content) * share))])
    with pytest.raises(UserError, match=name):
        nifti.read(path)


def test_every_flipped_bit_of_the_compressed_data_is_found(tmp_path):
    array = RNG.integers(0, 99, (9, 8, 7)).astype(np.int16)
    path = save(tmp_path / "a.nii.gz", array)
    content, found = bytearray(path.read_bytes()), 0
    for place in range(30, len(content), 7):
        content[place] ^= 4
        path.write_bytes(content)
        found += equal_or_refused(nifti.read, path, array.T[None])  # a few bits are of no use
        content[place] ^= 4
    assert found > len(content) / 7 * 0.95


def test_several_gzip_members_and_padding_with_zeros_are_read(tmp_path):
    array = RNG.integers(0, 99, (9, 8, 7)).astype(np.int16)
    whole = save(tmp_path / "a.nii", array).read_bytes()
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(whole[:500]) + gzip.compress(whole[500:]) + bytes(600))
    np.testing.assert_array_equal(nifti.read(path)[0][0].T, array)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        (
            "a.nii",
            lambda nii: gzip.compress(nii),
            "a.nii is compressed with gzip, though its name ends in .nii; rename",
        ),
        ("a.nii.gz", lambda nii: nii, "a.nii.gz is not compressed, though its name ends in .gz; rename it to .nii"),
        ("a.nii.gz", lambda nii: gzip.compress(nii) + b"end", "a.nii.gz has 3 bytes after the end of its gzip stream"),
        (
            "a.nii.gz",
            lambda nii: bz2.compress(nii),
            "a.nii.gz is compressed with bzip2, which is not supported; unpack it",
        ),
        ("a.nii.gz", lambda _: b"/annex/objects/MD5E-s7--1a2b.nii.gz\n", "a.nii.gz is a git-annex pointer"),
        (
            "a.nii.gz",
            lambda _: b"../../.git/annex/objects/x/a.nii.gz",
            "fetch the image with: git annex get, or datalad",
        ),
        ("a.nii.gz", lambda _: b"version https://git-lfs.github.com/spec/v1\noid", "a.nii.gz is a Git LFS pointer"),
        ("a.nii.gz", lambda _: b"\n<html>404</html>", "a.nii.gz is a web page"),
        ("a.nii.gz", lambda _: b"", "a.nii.gz is empty"),
        ("a.nii", lambda _: b"\x89PNG\r\n\x1a\n" + bytes(999), "a.nii is a PNG image, though its name ends in .nii"),
        ("a.nii", lambda _: bytes(999), "a.nii starts with zeros only, as after an interrupted copy"),
        ("a.nii", lambda _: b"hello" * 99, "a.nii is not a NIfTI file (it starts with 'hellohellohe')"),
        ("a.nii.gz", lambda _: b'{"error": 404}', "a.nii.gz is not a NIfTI file (it starts with '{\"error\": 40')"),
        ("a.nii.gz", lambda _: gzip.compress(b"hello"), "a.nii.gz is not a NIfTI file"),
        (
            "a.nii",
            lambda nii: nii[:344] + b"ni1\0" + nii[348:],
            "a.nii is only a header, and its voxels are in another file",
        ),
        (
            "a.hdr",
            lambda nii: nii[:344] + b"\0\0\0\0",
            "a.hdr is an ANALYZE header, which does not tell left from right",
        ),
        ("a.hdr", lambda nii: nii[:344] + b"ni1e", "a.hdr is not a NIfTI file (its header's last field is b'ni1e')"),
        ("a.nii", lambda nii: nii[:42] + struct.pack("<h", -5) + nii[44:], "a.nii has an impossible size"),
        ("a.nii", lambda nii: nii[:42] + struct.pack("<3h", 30000, 30000, 30000) + nii[48:], "a.nii is damaged"),
        ("a.nii", lambda nii: nii[:70] + struct.pack("<h", 99) + nii[72:], "voxels of the unknown type 99"),
        ("a.nii", lambda nii: nii[:108] + struct.pack("<f", 12) + nii[112:], "its voxels start at byte 12"),
    ],
)
def test_what_is_no_image_gets_its_true_reason(tmp_path, name, content, reason):
    nii = save(tmp_path / "source.nii", RNG.integers(0, 99, (9, 8, 7)).astype(np.int16)).read_bytes()
    path = tmp_path / name
    path.write_bytes(content(nii))
    with pytest.raises(UserError) as caught:
        nifti.read(path)
    assert reason in str(caught.value)


def test_an_absurd_size_takes_no_memory(tmp_path):
    path = save(tmp_path / "a.nii.gz", np.zeros((9, 8, 7), np.int16))
    patch(path, "3h", 42, 32767, 32767, 32767)
    with pytest.raises(UserError, match=r"claims 7036\d+ bytes, more than"):
        nifti.read(path)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 2.5e300])
@pytest.mark.parametrize("name", ["a.nii.gz", "a.nii"])
def test_voxels_that_are_no_numbers_are_refused(tmp_path, name, bad):
    array = np.ones((9, 8, 7))
    array[8, 7, 6] = bad
    with pytest.raises(UserError, match=f"{name} holds voxels that are NaN or infinite"):
        nifti.read(save(tmp_path / name, array))


def test_two_further_axes_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"more than four axes \(5 x 4 x 3 x 2 x 2\)"):
        nifti.read_header(save(tmp_path / "a.nii", np.zeros((5, 4, 3, 2, 2), np.int16)))


def test_a_link_whose_target_was_not_fetched(tmp_path):
    (tmp_path / "a.nii.gz").symlink_to(tmp_path / "annex" / "objects" / "7")
    with pytest.raises(UserError, match=r"a.nii.gz is a link to a file that is not there"):
        nifti.read(tmp_path / "a.nii.gz")
