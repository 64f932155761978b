"""PNG, JPEG and BMP against Pillow and SimpleITK: colours, palettes, alpha, density, damage."""

import struct
import zlib

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image, ImageOps

from tests.helpers.reading import equal_or_refused
from unetrpp.core.errors import UserError
from unetrpp.io.geometry import Geometry
from unetrpp.io.images import read_label, write_segmentation
from unetrpp.io.readers import pictures

RNG = np.random.default_rng(0)
FLAT = Geometry(shape_zyx=(1, 20, 30), spacing_zyx_mm=(1.0, 1.0, 1.0), dimensions=2)


def smooth():
    y, x = np.mgrid[:200, :200]
    return ((y + x) // 2 + np.random.default_rng(0).integers(0, 20, (200, 200))).astype(np.uint8)


def check(path, truth):
    read, geometry = pictures.read(path)
    np.testing.assert_array_equal(read, truth)
    assert pictures.read_header(path) == (geometry, len(truth))
    assert (geometry.spacing_zyx_mm, geometry.dimensions) == ((1.0, 1.0, 1.0), 2)


@pytest.mark.parametrize(("ending", "dtype"), [(".png", np.uint8), (".png", np.uint16), (".bmp", np.uint8)])
@pytest.mark.parametrize("channels", [1, 3])
def test_gray_and_colours(tmp_path, ending, channels, dtype):
    array = RNG.integers(0, np.iinfo(dtype).max, (20, 30, channels)).astype(dtype)
    path = tmp_path / f"a{ending}"
    sitk.WriteImage(sitk.GetImageFromArray(array if channels > 1 else array[..., 0], isVector=channels > 1), str(path))
    check(path, np.moveaxis(array, -1, 0)[:, None])


@pytest.mark.parametrize("colours", [1, 3])
@pytest.mark.parametrize("progressive", [True, False])
def test_a_jpeg_is_that_of_pillow(tmp_path, colours, progressive):
    path = tmp_path / "a.jpg"
    noise = RNG.integers(0, 255, (200, 200, 3)).astype(np.uint8)
    Image.fromarray(smooth() if colours == 1 else noise).save(path, quality=95, progressive=progressive)
    truth = np.asarray(Image.open(path)).reshape(200, 200, -1)
    check(path, np.moveaxis(truth, -1, 0)[:, None])


@pytest.mark.parametrize("dpi", [None, 72, 300, 2720])
@pytest.mark.parametrize("ending", [".jpg", ".png", ".bmp"])
def test_density_is_no_spacing(tmp_path, dpi, ending):
    path = tmp_path / f"a{ending}"
    image = Image.fromarray(smooth())
    if dpi is None:
        image.save(path)
    else:
        image.save(path, dpi=(dpi, dpi))
    assert pictures.read(path)[1] == pictures.read_header(path)[0]
    assert pictures.read(path)[1].spacing_zyx_mm == (1.0, 1.0, 1.0)


def test_the_spacing_that_itk_writes_into_a_png_is_not_used(tmp_path):
    image = sitk.GetImageFromArray(smooth())
    image.SetSpacing((0.3, 0.4))
    sitk.WriteImage(image, str(tmp_path / "a.png"))
    assert pictures.read(tmp_path / "a.png")[1].spacing_zyx_mm == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("ending", [".bmp", ".png"])
def test_one_bit_is_black_and_white(tmp_path, ending):
    mask = RNG.random((20, 30)) > 0.5
    path = tmp_path / f"a{ending}"
    Image.fromarray(mask).save(path)
    check(path, mask[None, None] * np.uint8(255))


@pytest.mark.parametrize("ending", [".bmp", ".png"])
def test_a_palette_gives_colours_and_a_gray_one_a_channel(tmp_path, ending):
    index = RNG.integers(0, 255, (20, 30)).astype(np.uint8)
    table = RNG.integers(0, 255, (256, 3)).astype(np.uint8)
    path = tmp_path / f"a{ending}"
    for colours in (table, np.repeat(table[:, :1], 3, axis=1)):
        image = Image.fromarray(index).convert("P")
        image.putdata(index.ravel())
        image.putpalette(colours.ravel().tolist())
        image.save(path)
        truth = np.moveaxis(colours[index], -1, 0)[:, None]
        check(path, truth if colours is table else truth[:1])


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_opaque_alpha_is_left_out_and_another_refused(tmp_path, mode):
    array = RNG.integers(0, 255, (20, 30, len(mode))).astype(np.uint8)
    array[..., -1] = 255
    path = tmp_path / "a.png"
    Image.fromarray(array, mode).save(path)
    check(path, np.moveaxis(array, -1, 0)[:-1, None])
    array[:10, :, -1] = 0
    Image.fromarray(array, mode).save(path)
    with pytest.raises(UserError, match=r"a.png has transparent pixels \(50%\).*save it without the alpha channel"):
        pictures.read(path)


def test_deep_colours_with_alpha(tmp_path):
    array = RNG.integers(0, 65535, (20, 30, 4)).astype(np.uint16)
    array[..., 3] = 65535
    sitk.WriteImage(sitk.GetImageFromArray(array, isVector=True), str(tmp_path / "a.png"))
    check(tmp_path / "a.png", np.moveaxis(array, -1, 0)[:3, None])


def test_a_transparent_entry_of_a_palette_is_refused(tmp_path):
    image = Image.fromarray(RNG.integers(0, 9, (20, 30)).astype(np.uint8)).convert("P")
    image.save(tmp_path / "a.png", transparency=3)
    with pytest.raises(UserError, match="transparent pixels"):
        pictures.read(tmp_path / "a.png")


@pytest.mark.parametrize("ending", [".bmp", ".png"])
def test_a_written_label_reads_back(tmp_path, ending):
    label = RNG.integers(0, 5, (1, 20, 30)).astype(np.uint8)
    write_segmentation(tmp_path / f"a{ending}", label, FLAT)
    np.testing.assert_array_equal(read_label(tmp_path / f"a{ending}").array[0], label)


def test_equal_colours_are_one_label_channel_and_a_palette_is_refused_with_a_way_in(tmp_path):
    label = RNG.integers(0, 5, (20, 30)).astype(np.uint8)
    Image.fromarray(np.dstack([label] * 3)).save(tmp_path / "a.bmp")
    np.testing.assert_array_equal(read_label(tmp_path / "a.bmp").array[0, 0], label)
    image = Image.fromarray(label).convert("P")
    image.putdata(label.ravel())
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0, 0, 0, 128])
    image.save(tmp_path / "voc.png")
    with pytest.raises(
        UserError, match=r"voc.png has 3 channels \(colours\).*save the label values as a gray image, without a palette"
    ):
        read_label(tmp_path / "voc.png")


@pytest.mark.parametrize("place", [0.3, 0.5])  # JPEG has no checksum: a few such places are found by nobody
def test_overwritten_bytes_in_a_jpeg_are_found(tmp_path, place, capfd):
    path = tmp_path / "a.jpg"
    Image.fromarray(smooth()).save(path, quality=95)
    content = bytearray(path.read_bytes())
    start = int(len(content) * place)
    content[start : start + 40] = bytes(40)
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a.jpg is damaged or truncated \((Corrupt JPEG|Premature end)"):
        pictures.read(path)
    assert capfd.readouterr() == ("", "")


def test_a_changed_table_that_no_decoder_notices_is_found_by_comparing_two(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(smooth()).save(path, quality=95)
    content = bytearray(path.read_bytes())
    table = content.index(b"\xff\xdb") + 5
    content[table : table + 64] = bytes([255] * 64)
    path.write_bytes(content)
    with pytest.raises(
        UserError, match=r"a.jpg is damaged or truncated \(two decoders read \d+% of its pixels differently"
    ):
        pictures.read(path)


def test_a_bmp_whose_pixels_start_in_its_header(tmp_path):
    path = tmp_path / "a.bmp"
    Image.fromarray(smooth()).save(path)
    content = bytearray(path.read_bytes())
    content[10:14] = bytes(4)
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a.bmp is damaged or truncated \(its pixels start at byte 0"):
        pictures.read(path)


def test_a_jpeg_that_a_camera_padded(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(smooth()).save(path, quality=95)
    truth = pictures.read(path)[0]
    path.write_bytes(path.read_bytes() + bytes(500))
    check(path, truth)


@pytest.mark.parametrize("place", range(40, 2000, 131))
def test_every_flipped_bit_of_a_png_is_found(tmp_path, place):
    path, array = tmp_path / "a.png", smooth()[:40, :60]
    Image.fromarray(array).save(path)
    content = bytearray(path.read_bytes())
    content[place % len(content)] ^= 8
    path.write_bytes(content)
    last = place % len(content) >= len(content) - 12  # the mark of the end, without any data
    assert equal_or_refused(pictures.read, path, array[None, None]) or last


@pytest.mark.parametrize("ending", [".png", ".bmp", ".jpg"])
@pytest.mark.parametrize("share", [0.001, 0.01, 0.1, 0.5, 0.9, 0.99])
def test_a_truncated_file_is_named(tmp_path, ending, share):
    path = tmp_path / f"a{ending}"
    Image.fromarray(smooth()).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: max(1, int(len(content) * share))])
    with pytest.raises(UserError, match=f"a{ending}"):
        pictures.read(path)


@pytest.mark.parametrize(
    ("name", "image", "options", "reason"),
    [
        ("a.jpg", Image.new("CMYK", (9, 9)), {}, "a.jpg has the colour space CMYK; save it as gray or RGB"),
        ("a.png", Image.new("L", (9, 9)), {"format": "GIF"}, "a.png is a GIF image; save it as PNG"),
        ("a.bmp", Image.new("L", (9, 9)), {"format": "WEBP"}, "a.bmp is a WEBP image; save it as BMP"),
    ],
)
def test_what_is_refused_by_name(tmp_path, name, image, options, reason):
    image.save(tmp_path / name, **options)
    for read in (pictures.read, pictures.read_header):
        with pytest.raises(UserError) as caught:
            read(tmp_path / name)
        assert str(caught.value) == reason


def with_orientation(path, array, orientation):
    image = Image.fromarray(array)
    exif = image.getexif()
    exif[274] = orientation
    image.save(path, exif=exif)


@pytest.mark.parametrize("ending", [".jpg", ".png"])
@pytest.mark.parametrize("orientation", range(2, 9))
def test_what_viewers_turn_is_refused(tmp_path, ending, orientation):
    path = tmp_path / f"a{ending}"
    with_orientation(path, smooth()[:60], orientation)
    for read in (pictures.read, pictures.read_header):
        with pytest.raises(UserError) as caught:
            read(path)
        assert str(caught.value) == (
            f"a{ending} is stored turned or mirrored (EXIF orientation {orientation}), which viewers undo and programs that read "
            "pixels do not; save it upright, such as with `mogrify -auto-orient`"
        )
    with Image.open(path) as image:
        ImageOps.exif_transpose(image).save(path)
    assert pictures.read(path)[0].shape[2:] == ((60, 200) if orientation < 5 else (200, 60))


@pytest.mark.parametrize("orientation", [0, 1, 9])
def test_an_orientation_that_turns_nothing_is_read(tmp_path, orientation):
    """0 and 9 mean nothing; cameras that do not know write 0."""
    with_orientation(tmp_path / "a.png", smooth(), orientation)
    with Image.open(tmp_path / "a.png") as image:
        np.testing.assert_array_equal(ImageOps.exif_transpose(image), smooth())
    check(tmp_path / "a.png", smooth()[None, None])


@pytest.mark.parametrize("deep", [False, True])
def test_an_orientation_behind_the_pixels_of_a_png_is_found(tmp_path, deep):
    path = tmp_path / "a.png"
    colours = RNG.integers(0, 255, (20, 30, 3)).astype(np.uint16 if deep else np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(colours, isVector=True), str(path))
    check(path, np.moveaxis(colours, -1, 0)[:, None])
    exif = Image.Exif()
    exif[274] = 6
    chunk, content = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0"), path.read_bytes()
    late = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    path.write_bytes(content[:-12] + late + content[-12:])
    with pytest.raises(UserError, match=r"a.png is stored turned or mirrored \(EXIF orientation 6\)"):
        pictures.read(path)


@pytest.mark.parametrize("ending", [".jpg", ".png"])
def test_what_only_claims_to_be_exif_is_passed_over(tmp_path, ending):
    path = tmp_path / f"a{ending}"
    Image.fromarray(smooth()).save(path, exif=b"Exif\0\0no EXIF at all")
    check(path, np.asarray(Image.open(path))[None, None])


def test_an_absurd_size_takes_no_memory(tmp_path):
    header = struct.pack(">2I5B", 60000, 60000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    start = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    (tmp_path / "a.png").write_bytes(start + struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND")))
    with pytest.raises(UserError, match=r"a.png"):
        pictures.read(tmp_path / "a.png")


def test_gray_of_16_bits_with_alpha_is_refused_with_a_way_in(tmp_path):
    """Pillow would cut it to 8 bits, ITK reads none."""
    rows = b"".join(b"\0" + bytes(4 * 9) for _ in range(8))
    chunks = ((b"IHDR", struct.pack(">2I5B", 9, 8, 16, 4, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    packed = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks]
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(packed))
    with pytest.raises(UserError, match=r"a.png has 16 bits and an alpha channel; save it without the alpha channel"):
        pictures.read(tmp_path / "a.png")


def test_a_bmp_that_claims_more_than_it_holds(tmp_path):
    path = tmp_path / "a.bmp"
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(path)
    content = bytearray(path.read_bytes())
    content[24] = 57  # the third byte of the height
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a.bmp is damaged.*its header claims 40 x 3735582 pixels"):
        pictures.read(path)


def test_a_bmp_whose_depth_leaves_no_room_for_its_palette(tmp_path):
    path = tmp_path / "a.bmp"
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(path)
    content = bytearray(path.read_bytes())
    content[28] = 1  # bits of a pixel
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a.bmp is damaged.*its pixels start at byte 54, inside its palette"):
        pictures.read(path)
