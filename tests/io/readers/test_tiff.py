"""TIFF against tifffile, Pillow and SimpleITK: samples, ImageJ, OME, palettes; spacing, damage and what is refused."""

import json
import logging
import struct

import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.helpers.reading import equal_or_refused
from unetrpp.core.errors import UserError
from unetrpp.io.readers import tiff

RNG = np.random.default_rng(0)


def check(path, truth, **grid):
    """The array and the grid; the header alone must say the same."""
    read, geometry = tiff.read(path)
    np.testing.assert_array_equal(read, truth)
    assert tiff.read_header(path) == (geometry, len(truth))
    assert {name: getattr(geometry, name) for name in grid} == grid
    return read


@pytest.mark.parametrize("compressed", [False, True])  # ITK packs bits
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.float32])
@pytest.mark.parametrize("shape", [(4, 5, 6), (5, 6), (5, 6, 3), (4, 5, 6, 3)])
def test_what_itk_writes(tmp_path, compressed, dtype, shape):
    array = (RNG.random(shape) * 200).astype(dtype)
    colours = shape[-1] == 3
    path = tmp_path / "a.tif"
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=colours), str(path), compressed)
    truth = np.moveaxis(array, -1, 0) if colours else array[None]
    flat = truth.ndim == 3
    check(path, truth[:, None] if flat else truth, dimensions=2 if flat else 3)


@pytest.mark.parametrize("samples", [2, 4, 5, 7])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_any_number_of_samples(tmp_path, samples, planar, compression):
    array = RNG.integers(0, 999, (samples, 8, 9)).astype(np.uint16)
    path = tmp_path / "a.tif"
    kind = {"photometric": "minisblack", "planarconfig": planar, "compression": compression, "metadata": None}
    extra = {"extrasamples": (0,) * (samples - 1)}
    tifffile.imwrite(path, array if planar == "separate" else np.moveaxis(array, 0, -1), **kind, **extra)
    check(path, array[:, None], dimensions=2)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("kind", ["imagej", "ome"])
def test_a_stack_of_channels(tmp_path, dtype, kind):
    array = (RNG.random((4, 3, 8, 9)) * 200).astype(dtype)
    path = tmp_path / "a.tif"
    writer = {"imagej": kind == "imagej", "ome": kind == "ome"}
    with tifffile.TiffWriter(path, **writer) as tif:
        tif.write(array, metadata={"axes": "ZCYX"}, photometric="minisblack")
    check(path, np.moveaxis(array, 1, 0), dimensions=3)


def test_half_precision(tmp_path):
    array = RNG.random((8, 9)).astype(np.float16)
    tifffile.imwrite(tmp_path / "a.tif", array)
    assert check(tmp_path / "a.tif", array[None, None].astype(np.float32)).dtype == np.float32


@pytest.mark.parametrize(
    ("unit", "mm"),
    [("micron", 1e-3), ("\\u00B5m", 1e-3), ("mm", 1.0), ("cm", 10.0), ("nm", 1e-6), ("inch", None), ("pixel", None)],
)
def test_spacing_of_imagej_counts_only_in_metric_units(tmp_path, unit, mm):
    path = tmp_path / "a.tif"
    meta = {"axes": "ZYX", "unit": unit, "spacing": 3.0}
    tifffile.imwrite(path, np.zeros((4, 8, 9), np.uint8), imagej=True, resolution=(2.0, 4.0), metadata=meta)
    _, geometry = tiff.read(path)
    truth = (1.0, 1.0, 1.0) if mm is None else (3.0 * mm, 0.25 * mm, 0.5 * mm)
    assert geometry.spacing_zyx_mm == pytest.approx(truth)


def test_spacing_of_ome(tmp_path):
    path = tmp_path / "a.ome.tif"
    meta = {"axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25, "PhysicalSizeZ": 2.0}
    tifffile.imwrite(path, np.zeros((4, 8, 9), np.uint8), ome=True, metadata=meta, photometric="minisblack")
    assert tiff.read(path)[1].spacing_zyx_mm == pytest.approx((2e-3, 0.25e-3, 0.5e-3))
    meta["PhysicalSizeZUnit"] = "inch"
    tifffile.imwrite(path, np.zeros((4, 8, 9), np.uint8), ome=True, metadata=meta, photometric="minisblack")
    assert tiff.read(path)[1].spacing_zyx_mm == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("shape", [(8, 9), (4, 8, 9)])
@pytest.mark.parametrize("unit", ["inch", "centimeter"])
def test_print_density_is_no_spacing(tmp_path, shape, unit):
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, np.zeros(shape, np.uint8), resolution=(300, 300), resolutionunit=unit, photometric="minisblack"
    )
    assert tiff.read(path)[1].spacing_zyx_mm == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("name", ["a.tif", "a_0000.TIFF"])
def test_the_file_beside_it_gives_the_spacing(tmp_path, name):
    path, beside = tmp_path / name, tmp_path / "a.json"
    meta = {"axes": "ZYX", "unit": "mm", "spacing": 3.0}
    tifffile.imwrite(path, np.zeros((4, 8, 9), np.uint8), imagej=True, resolution=(2.0, 4.0), metadata=meta)
    beside.write_text(json.dumps({"spacing": [4.0, 0.5, 0.6], "stain": "x"}))
    assert tiff.read(path)[1].spacing_zyx_mm == (4.0, 0.5, 0.6)
    assert tiff.parts(path) == [path, beside]
    beside.write_text(json.dumps({"spacing": [0.0, 0.5, 0.6]}))
    with pytest.raises(UserError, match=r'write {"spacing": \[z, y, x\]} in mm'):
        tiff.read(path)


def test_an_imagej_file_beyond_4_gb(tmp_path):
    """All slices of one page, whose length no field of the page can hold; the file is sparse."""
    path, shape = tmp_path / "a.tif", (5, 32768, 32768)
    meta = f"ImageJ=1.54f\nimages={shape[0]}\nslices={shape[0]}\n"
    tifffile.imwrite(path, np.zeros((8, 8), np.uint8), description=meta, metadata=None, photometric="minisblack")
    with tifffile.TiffFile(path, mode="r+") as tif:
        for tag, value in ((256, shape[2]), (257, shape[1]), (278, shape[1]), (279, shape[1] * shape[2])):
            tif.pages.first.tags[tag].overwrite(value)
        (start,) = tif.pages.first.dataoffsets
    with path.open("r+b") as file:
        file.truncate(start + np.prod(shape, dtype=np.int64))
    assert path.stat().st_size > 1 << 32
    geometry, channels = tiff.read_header(path)
    assert (geometry.shape_zyx, channels) == (shape, 1)


@pytest.mark.parametrize("compression", ["tiff_lzw", "packbits", "tiff_adobe_deflate", None])
@pytest.mark.parametrize("mode", ["L", "RGB", "I;16"])
def test_compressions_of_pillow(tmp_path, compression, mode):
    array = RNG.integers(0, 255, (20, 30, 3) if mode == "RGB" else (20, 30)).astype(
        np.uint16 if mode == "I;16" else np.uint8
    )
    path = tmp_path / "a.tif"
    Image.fromarray(array).save(path, compression=compression, dpi=(300, 300))
    truth = np.moveaxis(array, -1, 0)[:, None] if mode == "RGB" else array[None, None]
    check(path, truth, spacing_zyx_mm=(1.0, 1.0, 1.0))


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate"])
def test_a_palette_gives_colours_and_a_gray_one_a_channel(tmp_path, compression):
    table = RNG.integers(0, 255, (256, 3)).astype(np.uint8)
    index = RNG.integers(0, 255, (20, 30)).astype(np.uint8)
    for colours in (table, np.repeat(table[:, :1], 3, axis=1)):
        image = Image.fromarray(index).convert("P")
        image.putdata(index.ravel())
        image.putpalette(colours.ravel().tolist())
        path = tmp_path / "a.tif"
        image.save(path, compression=compression)
        truth = np.moveaxis(np.asarray(Image.open(path).convert("RGB")), -1, 0)[:, None]
        check(path, truth if colours is table else truth[:1])


def test_imagejs_palette_is_only_for_the_display(tmp_path):
    labels = RNG.integers(0, 9, (20, 30)).astype(np.uint8)
    path = tmp_path / "a.tif"
    table = RNG.integers(0, 65535, (3, 256)).astype(np.uint16)
    tifffile.imwrite(
        path, labels, photometric="palette", colormap=table, description="ImageJ=1.54f\nimages=1\n", metadata=None
    )
    check(path, labels[None, None])


def test_opaque_alpha_is_left_out_and_another_refused(tmp_path):
    array = RNG.integers(0, 255, (20, 30, 4)).astype(np.uint8)
    array[..., 3] = 255
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, array, photometric="rgb", extrasamples=["unassalpha"])
    check(path, np.moveaxis(array, -1, 0)[:3, None])
    array[0, 0, 3] = 7
    tifffile.imwrite(path, array, photometric="rgb", extrasamples=["unassalpha"])
    with pytest.raises(UserError, match=r"a.tif has transparent pixels .*save it without the alpha channel"):
        tiff.read(path)


def written(path, **options):
    def write(array):
        tifffile.imwrite(path, array, **options)

    return write


@pytest.mark.parametrize(
    ("array", "options", "reason"),
    [
        (np.zeros((8, 9), np.uint8), {"photometric": "miniswhite"}, "stores white as 0"),
        (np.zeros((8, 9, 4), np.uint8), {"photometric": "separated"}, "has the colour space SEPARATED"),
        (np.zeros((8, 9), np.complex64), {}, "holds complex numbers; write the magnitude"),
        (np.zeros((5, 8, 9), np.uint8), {"imagej": True, "metadata": {"axes": "TYX"}}, "holds 5 time points"),
        (np.zeros((2, 5, 8, 9), np.uint8), {"photometric": "minisblack"}, "of which only one may be a stack"),
        (np.zeros((8, 9), np.uint8), {"extratags": [(274, 3, 1, 6, True)]}, "turned or mirrored (orientation 6)"),
    ],
)
def test_what_programs_read_differently_is_refused_by_name(tmp_path, array, options, reason):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, array, **options)
    for read in (tiff.read, tiff.read_header):
        with pytest.raises(UserError) as caught:
            read(path)
        assert str(caught.value).startswith("a.tif ")
        assert reason in str(caught.value)


def test_several_images_are_refused(tmp_path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(np.zeros((8, 9), np.uint8))
        writer.write(np.zeros((4, 5), np.uint16))
    with pytest.raises(UserError, match=r"a.tif holds 2 images \(8 x 9, 4 x 5, ...\)"):
        tiff.read(path)


@pytest.mark.parametrize("compression", [None, "zlib", "packbits"])
@pytest.mark.parametrize("shape", [(64, 64), (9, 16, 16)])
@settings(max_examples=25, deadline=None)
@given(share=st.floats(0.001, 0.995))
def test_a_truncated_file_is_named(tmp_path_factory, compression, shape, share):
    path = tmp_path_factory.mktemp("t") / "a.tif"
    array = np.arange(np.prod(shape), dtype=np.uint32).reshape(shape) * 7919
    if compression == "packbits":
        sitk.WriteImage(sitk.GetImageFromArray(array), str(path), True)
    else:
        tifffile.imwrite(path, array, compression=compression, photometric="minisblack", metadata=None)
    content = path.read_bytes()
    path.write_bytes(content[: max(1, int(len(content) * share))])
    equal_or_refused(tiff.read, path, array.reshape(1, -1, *shape[-2:]))  # equal where tags that nobody needs were cut


def test_a_flipped_bit_in_deflated_strips_is_found(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, RNG.integers(0, 99, (64, 64)).astype(np.uint8), compression="zlib", metadata=None)
    content = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tif:
        start, length = tif.pages[0].dataoffsets[0], tif.pages[0].databytecounts[0]
    for place in range(start + 2, start + length, 97):
        content[place] ^= 4
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"a.tif is damaged"):
            tiff.read(path)
        content[place] ^= 4


def test_a_broken_chain_of_pages_is_not_a_shorter_stack(tmp_path):
    path = tmp_path / "a.tif"
    array = RNG.integers(0, 99, (5, 8, 9)).astype(np.uint8)
    tifffile.imwrite(path, array, photometric="minisblack", metadata=None, contiguous=False)
    with tifffile.TiffFile(path) as tif:
        page = tif.pages[2]
    assert isinstance(page, tifffile.TiffPage)
    third, tags = page.offset, len(page.tags)
    content = bytearray(path.read_bytes())
    struct.pack_into("<I", content, third + 2 + 12 * tags, len(content) + 99)
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a.tif is damaged"):
        tiff.read(path)


def test_one_bit_and_twelve_bits(tmp_path):
    mask = RNG.random((20, 30)) > 0.5
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, mask, photometric="minisblack")
    check(path, mask[None, None].astype(np.uint8))
    tifffile.imwrite(path, np.zeros((20, 30), np.uint16))
    with tifffile.TiffFile(path, mode="r+") as tif:
        tif.pages.first.tags[258].overwrite(12)
    with pytest.raises(UserError, match=r"a.tif has values of 12 bits; save it with 8, 16 or 32 bits"):
        tiff.read(path)


def test_the_predictor_of_floats(tmp_path):
    """tifffile needs another package for it."""
    array = RNG.random((20, 30)).astype(np.float32)
    path = tmp_path / "a.tif"
    Image.fromarray(array).save(path, compression="tiff_adobe_deflate", tiffinfo={317: 3})
    check(path, array[None, None])


def test_a_fax(tmp_path):
    mask = RNG.random((20, 30)) > 0.5
    Image.fromarray(mask).save(tmp_path / "a.tif", compression="group4")
    try:
        read, _ = tiff.read(tmp_path / "a.tif")
    except UserError as error:
        message = str(error)
    else:
        message = f"a.tif {np.unique(read)}"
        np.testing.assert_array_equal(read[0, 0] > 0, mask)
    assert message.startswith("a.tif ")


def imagej(path):
    """A stack of two planes and its pages' first bytes in the file."""
    tifffile.imwrite(path, np.ones((2, 8, 9), np.uint16), imagej=True, metadata={"axes": "ZYX"})
    with tifffile.TiffFile(path) as tif:
        return [page.offset for page in tif.pages]


def test_a_page_that_is_described_otherwise_than_the_first_is_refused(tmp_path):
    path = tmp_path / "a.tif"
    imagej(path)
    with tifffile.TiffFile(path, mode="r+") as tif:
        page = tif.pages.get(1, aspage=True)
        assert isinstance(page, tifffile.TiffPage)
        page.tags[258].overwrite(8)  # BitsPerSample
    with pytest.raises(UserError, match=r"a.tif is damaged.*page 2 is described differently"):
        tiff.read(path)


def test_pages_whose_descriptions_are_cut_off_are_missed(tmp_path):
    path = tmp_path / "a.tif"
    second = imagej(path)[1]
    path.write_bytes(path.read_bytes()[: second + 4])
    with pytest.raises(UserError, match=r"a.tif is damaged"):
        tiff.read(path)


def test_faults_are_heard_where_a_program_has_switched_off_logging(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.ones((2, 8, 9), np.uint16), photometric="minisblack", metadata=None)
    with tifffile.TiffFile(path) as tif:
        second = tif.pages[1].offset
    path.write_bytes(path.read_bytes()[: second + 4])
    log = logging.getLogger("tifffile")
    log.disabled = True
    logging.disable(logging.CRITICAL)
    try:
        with pytest.raises(UserError, match=r"a.tif is damaged"):
            tiff.read(path)
        assert log.disabled
        assert logging.root.manager.disable == logging.CRITICAL
    finally:
        log.disabled = False
        logging.disable(logging.NOTSET)


def test_a_strip_without_a_place_is_not_filled_with_zeros(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.ones((8, 9), np.uint16), compression="zlib", metadata=None)
    with tifffile.TiffFile(path, mode="r+") as tif:
        tif.pages.first.tags[273].overwrite(0)  # StripOffsets
    with pytest.raises(UserError, match=r"a.tif is damaged.*page 1 lacks strips"):
        tiff.read(path)


def test_a_public_tag_with_an_unknown_value_is_damage(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.ones((8, 9), np.uint16), photometric="minisblack", metadata=None)
    content = path.read_bytes()
    at = content.index(struct.pack("<HHI", 277, 3, 1))  # SamplesPerPixel, which becomes PlanarConfiguration
    path.write_bytes(content[:at] + struct.pack("<HHIH", 284, 3, 1, 6) + content[at + 10 :])
    with pytest.raises(UserError, match=r"a.tif is damaged"):
        tiff.read(path)


def test_a_page_that_is_turned_otherwise_than_the_first_is_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for orientation in (1, 6):
            file.write(np.zeros((8, 9), np.uint8), extratags=[(274, 3, 1, orientation, True)], metadata=None)
    with pytest.raises(UserError, match=r"a.tif is damaged .*page 2 is described differently from the first page"):
        tiff.read(tmp_path / "a.tif")


def test_itk_takes_no_tiff_for_hdf5(tmp_path):
    """HDF5, which may have its voxels in other files, can begin after 512 bytes; ITK asks for it before it asks for TIFF."""
    sitk.WriteImage(sitk.GetImageFromArray(np.full((16, 16), 7, np.uint8)), str(tmp_path / "a.hdf5"))
    Image.fromarray(np.full((16, 16), 3, np.uint8)).save(tmp_path / "a.tif", compression="tiff_lzw")
    picture = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        page = tif.pages.first
        places = [4, *(tag.offset + 8 for tag in page.tags if tag.code == 273 or tag.valueoffset != tag.offset + 8)]
    front = bytes(512) + (tmp_path / "a.hdf5").read_bytes()
    front += bytes(len(front) % 2)
    for place in places:
        struct.pack_into("<I", picture, place, struct.unpack_from("<I", picture, place)[0] + len(front))
    (tmp_path / "a.tif").write_bytes(bytes(picture[:8]) + front[8:] + picture)
    assert (sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "a.tif"))) == 7).all()
    assert (tiff.read(tmp_path / "a.tif")[0] == 3).all()
