"""MetaImage and NRRD against SimpleITK: damage, voxels in other files, byte orders, encodings, kinds."""

import bz2
import gzip
import re
import zlib

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.reading import equal_or_refused, is_mapped
from unetrpp.core.errors import UserError
from unetrpp.io.formats import copy_image, files_of_image
from unetrpp.io.images import read_file, repair_shear
from unetrpp.io.readers import metaimage, nrrd

RNG = np.random.default_rng(0)
ARRAY = RNG.integers(-999, 999, (7, 8, 9)).astype(np.int16)
LOCAL = b"ElementDataFile = LOCAL\n"


def reader(path):
    return metaimage if path.suffix in metaimage.ENDINGS else nrrd


def save(path, array=ARRAY, compressed=True):
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((1.0, 2.0, 3.0))
    image.SetOrigin((4.0, 5.0, 6.0))
    sitk.WriteImage(image, str(path), compressed)
    return path


def check(path, truth=ARRAY, spacing=(3.0, 2.0, 1.0)):
    read, geometry = reader(path).read(path)
    np.testing.assert_array_equal(read, truth[None] if truth.ndim == 3 else truth)
    assert reader(path).read_header(path) == (geometry, len(read))
    assert geometry.spacing_zyx_mm == spacing


@pytest.mark.parametrize("ending", [".mha", ".mhd", ".nrrd", ".nhdr"])
@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint32, np.float32, np.float64])
def test_what_itk_writes(tmp_path, ending, compressed, dtype):
    array = (RNG.random((7, 8, 9)) * 99).astype(dtype)
    path = save(tmp_path / f"a{ending}", array, compressed)
    check(path, array.astype(np.float32) if array.dtype.kind == "f" else array)
    assert len(reader(path).parts(path)) == (2 if ending in (".mhd", ".nhdr") else 1)


@pytest.mark.parametrize("ending", [".mha", ".mhd", ".nrrd", ".nhdr"])
def test_raw_voxels_of_a_large_file_are_mapped(tmp_path, monkeypatch, ending):
    monkeypatch.setattr("unetrpp.core.large_arrays.LARGE_BYTES", 0)
    path = save(tmp_path / f"a{ending}", compressed=False)
    check(path)
    assert is_mapped(reader(path).read(path)[0])


@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_overwritten_bytes_of_compressed_voxels_are_found(tmp_path, ending):
    path = save(tmp_path / f"a{ending}")
    content = bytearray(path.read_bytes())
    for start in range(len(content) // 2, len(content) - 64, 97):
        damaged = bytearray(content)
        damaged[start : start + 64] = bytes(64)
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=f"a{ending}"):
            reader(path).read(path)


def test_the_second_half_missing_and_no_size_given(tmp_path):
    path = save(tmp_path / "a.mha")
    header, _, voxels = path.read_bytes().partition(LOCAL)
    header = re.sub(rb"CompressedDataSize = \d+\n", b"", header)
    path.write_bytes(header + LOCAL + voxels)
    check(path)
    path.write_bytes(header + LOCAL + voxels[: len(voxels) // 2])
    with pytest.raises(UserError, match=r"a.mha is damaged or truncated"):
        metaimage.read(path)


@pytest.mark.parametrize("ending", [".mha", ".mhd", ".nrrd", ".nhdr"])
@pytest.mark.parametrize("compressed", [True, False])
@settings(max_examples=15, deadline=None)
@given(share=st.floats(0.001, 0.999))
def test_a_truncated_file_is_named(tmp_path_factory, ending, compressed, share):
    path = save(tmp_path_factory.mktemp("t") / f"a{ending}", compressed=compressed)
    victim = reader(path).parts(path)[-1]
    content = victim.read_bytes()
    victim.write_bytes(content[: max(1, int(len(content) * share))])
    with pytest.raises(UserError, match=f"a{ending}"):
        reader(path).read(path)


def mha(path, fields, rest=b""):
    text = {"ObjectType": "Image", "NDims": 3, "BinaryData": "True", "BinaryDataByteOrderMSB": "False"}
    text |= {"ElementSpacing": "1 2 3", "DimSize": "9 8 7", "ElementType": "MET_SHORT"} | fields
    path.write_bytes("".join(f"{key} = {value}\n" for key, value in text.items()).encode() + rest)
    return path


@pytest.mark.parametrize("compressed", [True, False])
def test_the_other_byte_order(tmp_path, compressed):
    voxels = ARRAY.astype(">i2").tobytes()
    fields = {"BinaryDataByteOrderMSB": "True", "CompressedData": compressed, "ElementDataFile": "LOCAL"}
    check(mha(tmp_path / "a.mha", fields, zlib.compress(voxels) if compressed else voxels))
    header = "NRRD0004\ntype: short\ndimension: 3\nsizes: 9 8 7\nspacings: 1 2 3\nendian: big\n"
    header += f"encoding: {'gzip' if compressed else 'raw'}\n\n"
    (tmp_path / "a.nrrd").write_bytes(header.encode() + (gzip.compress(voxels, mtime=0) if compressed else voxels))
    check(tmp_path / "a.nrrd")


def test_slices_in_a_list_and_in_numbered_files(tmp_path):
    names = [f"s{i:02d}.raw" for i in range(1, 8)]
    for name, part in zip(names, ARRAY, strict=True):
        (tmp_path / name).write_bytes(part.tobytes())
    files = [tmp_path / name for name in names]
    listed = mha(tmp_path / "listed.mha", {"ElementDataFile": "LIST"}, "\n".join(names).encode())
    numbered = mha(tmp_path / "numbered.mhd", {"ElementDataFile": "s%02d.raw 1 7 1"})
    header = (
        "NRRD0004\ntype: short\ndimension: 3\nsizes: 9 8 7\nspacings: 1 2 3\nendian: little\nencoding: raw\ndata file: "
    )
    (tmp_path / "listed.nhdr").write_text(header + "LIST\n" + "\n".join(names) + "\n")
    (tmp_path / "numbered.nrrd").write_text(header + "s%02d.raw 1 7 1\n")
    for path in (listed, numbered, tmp_path / "listed.nhdr", tmp_path / "numbered.nrrd"):
        assert reader(path).parts(path) == [path, *files]
        check(path)
    with pytest.raises(UserError, match=r"empty.mha names 0 files of voxels"):
        metaimage.parts(mha(tmp_path / "empty.mha", {"ElementDataFile": "LIST"}))
    files[3].unlink()
    for path in (listed, numbered, tmp_path / "listed.nhdr", tmp_path / "numbered.nrrd"):
        with pytest.raises(UserError, match=f"{path.name} has its voxels in s04.raw, which does not exist"):
            reader(path).read(path)


@pytest.mark.parametrize("ending", [".mhd", ".nhdr"])
@pytest.mark.parametrize("renamed", [True, False])
def test_a_copy_is_one_file_and_whole(tmp_path, ending, renamed):
    """A .mha or .nrrd may name a second file, too."""
    path = save(tmp_path / f"a{ending}")
    if renamed:
        path = path.rename(tmp_path / f"a{ {'.mhd': '.mha', '.nhdr': '.nrrd'}[ending] }")
    assert len(files_of_image(path)) == 2
    copy = tmp_path / "copies" / f"b{path.suffix}"
    copy_image(path, copy)
    assert [file.name for file in copy.parent.iterdir()] == [copy.name]
    assert files_of_image(copy) == [copy]
    check(copy)


@pytest.mark.parametrize("ending", [".mhd", ".nhdr"])
def test_no_damaged_file_is_copied(tmp_path, ending):
    path = save(tmp_path / f"a{ending}")
    data = files_of_image(path)[1]
    data.write_bytes(data.read_bytes()[:-9])
    with pytest.raises(UserError, match=f"a{ending}"):
        copy_image(path, tmp_path / "copies" / path.name)


def test_text(tmp_path):
    numbers = " ".join(map(str, ARRAY.ravel())).encode()
    check(mha(tmp_path / "a.mha", {"BinaryData": "False", "ElementDataFile": "LOCAL"}, numbers))
    with pytest.raises(UserError, match=r"a.mha"):
        metaimage.read(mha(tmp_path / "a.mha", {"BinaryData": "False", "ElementDataFile": "LOCAL"}, numbers[:900]))
    header = b"NRRD0004\ntype: short\ndimension: 3\nsizes: 9 8 7\nspacings: 1 2 3\nencoding: ascii\n\n"
    (tmp_path / "a.nrrd").write_bytes(header + numbers)
    check(tmp_path / "a.nrrd")
    (tmp_path / "a.nrrd").write_bytes(header + numbers[:900])
    with pytest.raises(UserError, match=r"a.nrrd"):
        nrrd.read(tmp_path / "a.nrrd")


@pytest.mark.parametrize(
    ("fields", "voxels", "reason"),
    [
        ("encoding: zrl", b"", "a.nrrd has the encoding zrl, which is not supported; save it with gzip"),
        ("encoding: raw\nkinds: complex domain domain", b"", "a.nrrd holds complex numbers; write the magnitude"),
        (
            "encoding: raw\ndata file: b.raw",
            b"",
            "a.nrrd has its voxels in b.raw, which does not exist; copy both together",
        ),
        (
            "encoding: raw\nspace: LPS\nspace origin: (4,5,6_5)",
            b"",
            "a.nrrd has the spaceorigin '(4,5,6_5)', which are not numbers; write a valid header",
        ),
    ],
)
def test_what_an_nrrd_is_refused_for(tmp_path, fields, voxels, reason):
    path = tmp_path / "a.nrrd"
    path.write_bytes(
        f"NRRD0004\ntype: short\ndimension: 3\nsizes: 9 8 7\nendian: little\n{fields}\n\n".encode() + voxels
    )
    for read in (nrrd.read, nrrd.read_header):
        with pytest.raises(UserError) as caught:
            read(path)
        assert str(caught.value) == reason


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"<!DOCTYPE html>", "web page"),
        (b"hello", "is not a"),
        (gzip.compress(b"x", mtime=0), "is compressed with gzip, though its name ends in"),
    ],
)
def test_stand_ins_get_their_true_reason(tmp_path, name, content, reason):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=reason):
        reader(tmp_path / name).read(tmp_path / name)


@pytest.mark.parametrize("space", ["right-anterior-superior", "left-anterior-superior", "left-posterior-superior"])
def test_spaces(tmp_path, space):
    path = tmp_path / "a.nrrd"
    header = f"NRRD0004\ntype: short\ndimension: 3\nspace: {space}\nsizes: 9 8 7\nspace directions: (1,0,0) (0,2,0) (0,0,3)\n"
    path.write_bytes((header + "space origin: (4,5,6)\nendian: little\nencoding: raw\n\n").encode() + ARRAY.tobytes())
    check(path)
    signs = (-1 if space.startswith("right") else 1, 1 if "posterior" in space else -1, 1)
    geometry = nrrd.read(path)[1]
    assert geometry.origin_xyz_mm == tuple(s * o for s, o in zip(signs, (4.0, 5.0, 6.0), strict=True))
    assert geometry.direction == tuple(np.diag(signs).ravel().astype(float))


@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
@settings(max_examples=40, deadline=None)
@given(place=st.floats(0, 1), bit=st.integers(0, 7))
def test_a_flipped_bit_anywhere_is_found_or_harmless(tmp_path_factory, ending, place, bit):
    """Harmless: the same voxels; of the header's numbers nobody can say what they were."""
    path = save(tmp_path_factory.mktemp("f") / f"a{ending}")
    content = bytearray(path.read_bytes())
    start = content.index(b"LOCAL\n" if ending == ".mha" else b"\n\n")
    content[start + int(place * (len(content) - start - 1))] ^= 1 << bit
    path.write_bytes(content)
    equal_or_refused(reader(path).read, path, ARRAY[None])


def test_channels_of_a_segmentation_that_overlaps(tmp_path):
    """3D Slicer puts the list of layers first."""
    layers = RNG.integers(0, 3, (2, 7, 8, 9)).astype(np.uint8)
    path = tmp_path / "a.seg.nrrd"
    sitk.WriteImage(sitk.GetImageFromArray(np.moveaxis(layers, 0, -1), isVector=True), str(path), True)
    check(path, layers, (1.0, 1.0, 1.0))
    np.testing.assert_array_equal(read_file(path).array, layers)


def test_bzip2(tmp_path):
    path = tmp_path / "a.nrrd"
    header = b"NRRD0004\ntype: short\ndimension: 3\nsizes: 9 8 7\nspacings: 1 2 3\nendian: little\nencoding: bzip2\n\n"
    content = bz2.compress(ARRAY.tobytes())
    path.write_bytes(header + content)
    check(path)
    for broken in (content[:-20], content[:200] + bytes(20) + content[220:]):
        path.write_bytes(header + broken)
        with pytest.raises(UserError, match=r"a.nrrd is damaged"):
            nrrd.read(path)


@pytest.mark.parametrize(("kinds", "order"), [("vector domain domain domain", 0), ("domain domain domain vector", 3)])
def test_the_axis_of_the_channels(tmp_path, kinds, order):
    array = RNG.integers(0, 99, (2, 7, 8, 9)).astype(np.uint8)
    path = tmp_path / "a.nrrd"
    sizes, directions = (
        ("2 9 8 7", "none (1,0,0) (0,2,0) (0,0,3)") if order == 0 else ("9 8 7 2", "(1,0,0) (0,2,0) (0,0,3) none")
    )
    header = f"NRRD0004\ntype: uchar\ndimension: 4\nspace: left-posterior-superior\nsizes: {sizes}\nspace directions: {directions}\n"
    stored = np.moveaxis(array, 0, -1) if order == 0 else array
    path.write_bytes((header + f"kinds: {kinds}\nencoding: raw\n\n").encode() + stored.tobytes())
    check(path, array)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"HeaderSize": "much", "ElementDataFile": "v.raw"}, "has the headersize 'much', which is not a number"),
        ({"ElementDataFile": "s%d.raw 1 999999999 1"}, "files of voxels, where 1 to 10000 are read"),
        ({"ElementDataFile": "%999999999d 1 3"}, "has its voxels in %999999999d 1 3, which does not exist"),
        ({"ElementType": "MET_STRING", "ElementDataFile": "LOCAL"}, "has voxels of the type MET_STRING"),
        ({"DimSize": "9000 9000 9000", "ElementDataFile": "LOCAL"}, "bytes of voxels are in"),
        ({"DimSize": "9000 9000 9000", "CompressedData": True, "ElementDataFile": "LOCAL"}, "its header claims"),
        ({"ElementSpacing": "0 2 3", "ElementDataFile": "LOCAL"}, "a.mha"),
        ({"TransformMatrix": "1 0 0 0 1 0 nan 0 1", "ElementDataFile": "LOCAL"}, "a.mha"),
    ],
)
def test_impossible_fields_of_a_metaimage(tmp_path, fields, reason):
    (tmp_path / "v.raw").write_bytes(ARRAY.tobytes())
    with pytest.raises(UserError, match=re.escape(reason)):
        metaimage.read(mha(tmp_path / "a.mha", fields, ARRAY.tobytes()))


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        (b"NDims = 3", b"NDims = 1e30", "has NDims '1e30'"),
        (b"NDims = 3", b"NDims = 0", "has NDims '0'"),
        (b"NDims = 3", b"NDims = " + b"9" * 5000, "has NDims '9999"),
        (b"DimSize = 9 8 7", b"DimSize = 9 0 7", "DimSize"),
        (b"DimSize = 9 8 7", b"DimSize = 9 8", "has the dimsize '9 8' instead of 3 numbers"),
        (b"Offset = 4", b"Offset = nan", "has the offset 'nan 5 6' instead of 3 numbers"),
        (b"Spacing = 1", b"Spacing = x", "has the elementspacing 'x 2 3'"),
        (b"Matrix = 1", b"Matrix = 9", "has a direction whose axes have the lengths 9 x 1 x 1"),
        (b"\nElementSpacing", b"\x0bElementSpacing", "is damaged"),
        (b"CompressedDataSize = ", b"CompressedDataSize \xff ", "is damaged"),
        (b"DataSize = ", b"DataSize = 3x", "its CompressedDataSize is '3x"),
    ],
)
def test_what_itk_passes_over_in_a_metaimage_is_refused(tmp_path, old, new, found):
    path = save(tmp_path / "a.mha")
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))
    with pytest.raises(UserError, match=f"a.mha.*{re.escape(found)}"):
        metaimage.read(path)


@pytest.mark.parametrize(
    "lines",
    [
        "data file: v.raw",
        "data file: v.raw:=x",  # Teem takes ": " before ":="
        "DataFile:  v.raw",
        "DATA FILE: v.raw",
        "key:=value\rdata file: v.raw",
        "# comment\rdata file: v.raw",
        "data file: LIST" + "\nv.raw" * 7,
        "data file: LIST 3\nv.raw",
        "data file: v%d.raw 1 7 1",
    ],
)
def test_whatever_file_itk_would_open_is_known_before(tmp_path, lines):
    path = tmp_path / "a.nrrd"
    path.write_bytes(f"{NRRD}{lines}\n".encode())
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    with pytest.raises(RuntimeError, match="couldn't open the first datafile"):
        reader.ReadImageInformation()
    assert nrrd.parts(path) != [path]
    with pytest.raises(UserError, match=r"a\.nrrd has its voxels in v.*, which does not exist"):
        nrrd.read_header(path)


@pytest.mark.parametrize("lines", ["data file\0: v.raw", "#" + "x" * nrrd.HEADER_BYTES + "\ndata file: v.raw"])
def test_headers_that_itk_would_read_on(tmp_path, lines):
    path = tmp_path / "a.nrrd"
    path.write_bytes(f"{NRRD}{lines}\n\n".encode() + ARRAY.tobytes())
    with pytest.raises(UserError, match=r"a\.nrrd is damaged or truncated \(its header"):
        nrrd.parts(path)


def test_itk_takes_no_file_for_one_of_another_format(tmp_path):
    """Its reader of MetaImage recognizes NDims in this case alone, and would leave the file to the others."""
    path = save(tmp_path / "a.mha")
    path.write_bytes(path.read_bytes().replace(b"NDims", b"ndims"))
    with pytest.raises(UserError, match=r"a\.mha cannot be read as an image"):
        metaimage.read_header(path)


NRRD = "NRRD0004\ntype: short\ndimension: 3\nsizes: 9 8 7\nendian: little\nencoding: raw\n"
AXES = "spacings: 1000 2000 3000\nunits: {}"
SPACE = (
    "space: left-posterior-superior\nspace directions: (1000,0,0) (0,2000,0) (0,0,3000)\n"
    "space origin: (4000,5000,6000)\nspace units: {}"
)


def with_unit(folder, fields, unit):
    """A header of voxels of 1000 x 2000 x 3000 units at 4000, 5000, 6000 (NRRD without a space: at 0)."""
    if fields is None:
        numbers = {"ElementSpacing": "1000 2000 3000", "Offset": "4000 5000 6000", "ElementDataFile": "v.raw"}
        path = mha(folder / "a.mhd", {"DistanceUnits": unit} | numbers)
    else:
        path = folder / "a.nhdr"
        path.write_text(
            f"{NRRD}{fields.format(' '.join([f'{chr(34)}{unit}{chr(34)}'] * 3))}\ndata file: v.raw\n", "utf-8"
        )
    (folder / "v.raw").write_bytes(ARRAY.tobytes())
    return path


@pytest.mark.parametrize("fields", [None, AXES, SPACE])
@pytest.mark.parametrize(
    ("unit", "mm"), [("um", 1e-3), ("\u00b5m", 1e-3), ("microns", 1e-3), ("mm", 1), ("cm", 10), ("?", 1), ("", 1)]
)
def test_units(tmp_path, fields, unit, mm):
    if fields is None and not unit.isascii():
        return  # MetaIO reads ASCII
    path = with_unit(tmp_path, fields, unit)
    copy_image(path, tmp_path / "copies" / path.name)
    for image in (path, tmp_path / "copies" / path.name):
        check(image, spacing=pytest.approx((3000 * mm, 2000 * mm, 1000 * mm)))
        origin = (0, 0, 0) if fields == AXES else (4000 * mm, 5000 * mm, 6000 * mm)
        assert reader(image).read(image)[1].origin_xyz_mm == pytest.approx(origin)


@pytest.mark.parametrize("fields", [None, AXES, SPACE])
def test_an_unknown_unit_is_refused(tmp_path, fields):
    path = with_unit(tmp_path, fields, "furlong")
    for read in (reader(path).read, reader(path).read_header):
        with pytest.raises(UserError) as caught:
            read(path)
        assert str(caught.value) == (
            f"{path.name} has a spacing in 'furlong'; write it in mm or in another metric unit for all axes"
        )


def test_units_of_axes_in_no_space_do_not_count(tmp_path):
    path = tmp_path / "a.nrrd"
    header = "NRRD0004\ntype: short\ndimension: 4\nsizes: 9 8 7 1\nendian: little\nencoding: raw\nspacings: 1000 2000 3000 5\n"
    for units, kinds in (('"um" "um" "um" "s"', "domain domain domain time"), ('"um" "um" "um" "s"', "")):
        fields = f"units: {units}\n" + (f"kinds: {kinds}\n" if kinds else "")
        path.write_bytes(f"{header}{fields}\n".encode() + ARRAY.tobytes())
        check(path, spacing=pytest.approx((3, 2, 1)))
    path.write_bytes(f'{header}units: "um" "um" "mm" ""\n\n'.encode() + ARRAY.tobytes())
    with pytest.raises(UserError, match="has a spacing in 'um' and 'mm'; write it in mm"):
        nrrd.read_header(path)


@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_a_repaired_shear_keeps_the_unit(tmp_path, ending):
    if ending == ".mha":
        sheared = "1 0 0 0.005 0.9999875 0 0 0 1"
        numbers = {"ElementSpacing": "1000 1000 1000", "TransformMatrix": sheared, "ElementDataFile": "LOCAL"}
        path = mha(tmp_path / "a.mha", {"DistanceUnits": "um"} | numbers, ARRAY.tobytes())
    else:
        path = tmp_path / "a.nrrd"
        fields = SPACE.replace("(0,2000,0)", "(10,2000,0)").format('"um" "um" "um"')
        path.write_bytes(f"{NRRD}{fields}\n\n".encode() + ARRAY.tobytes())
    target, done = repair_shear(path, tmp_path / f"b{ending}")
    assert done is not None
    assert max(reader(target).read(target)[1].spacing_zyx_mm) == pytest.approx(1 if ending == ".mha" else 3)
    assert float(done.split()[-2]) < 0.1  # mm
