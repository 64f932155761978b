"""OME-Zarr images that the package zarr wrote, against the array and the same image as NIfTI."""

import sys

import numpy as np
import pytest

from tests.helpers.ome_zarr import write_ome_zarr, zarr
from unetrpp.core import large_arrays
from unetrpp.core.errors import UserError
from unetrpp.io.formats import files_of_image
from unetrpp.io.geometry import Geometry, same_grid
from unetrpp.io.images import (
    Volume,
    read_channels,
    read_file,
    read_geometry,
    read_image,
    write_image,
    write_segmentation,
)
from unetrpp.io.readers import zarr as reader

ARRAY = np.random.default_rng(0).integers(-1000, 1000, (5, 6, 7)).astype(np.int16)
SCALE = (2.0, 0.5, 0.25)


def change(path, change_attributes):
    """Let a function change the first multiscale."""
    group = zarr.open_group(path, mode="r+")
    attributes = group.attrs.asdict()
    change_attributes(attributes["ome"]["multiscales"][0])
    group.attrs.put(attributes)
    return path


@pytest.mark.parametrize(
    "options",
    [
        {"version": "0.4"},
        {"version": "0.4", "chunks": (5, 6, 7), "compressors": None},
        {"version": "0.5"},
        {"version": "0.5", "shards": (4, 4, 4)},
        {"version": "0.5", "chunks": (1, 6, 7)},
    ],
)
def test_an_image_is_read_as_the_same_image_in_nifti(tmp_path, options):
    path = write_ome_zarr(tmp_path / "a.zarr", ARRAY, SCALE, translation=(8, -4, 2), **options)
    geometry = Geometry(shape_zyx=(5, 6, 7), spacing_zyx_mm=SCALE, origin_xyz_mm=(2, -4, 8))
    write_image(tmp_path / "a.nii.gz", Volume(ARRAY[None], geometry))
    ours, other = read_file(path), read_file(tmp_path / "a.nii.gz")
    assert ours.array.dtype == np.int16
    assert np.array_equal(ours.array, other.array)
    assert ours.geometry == read_geometry(path) == geometry
    assert same_grid(ours.geometry, other.geometry, 1e-6) == []


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("uint8", "uint8"), (">i2", "int16"), ("bool", "uint8"), ("float16", "float32"), ("float64", "float32")],
)
def test_values_are_whole_numbers_as_stored_or_float32(tmp_path, kind, expected):
    array = (ARRAY % 2).astype(kind)
    found = read_file(write_ome_zarr(tmp_path / "a.zarr", array, SCALE, version="0.4")).array
    assert found.dtype == expected
    assert np.array_equal(found[0], array)


def test_micrometers_channels_and_one_point_in_time(tmp_path):
    array = np.stack([ARRAY, ARRAY + 1])[None]
    path = write_ome_zarr(tmp_path / "a.zarr", array, (1, 1, 500, 250, 125), axes="tczyx", unit="micrometer")
    volume = read_image(path)
    assert np.array_equal(volume.array, array[0])
    assert volume.geometry.spacing_zyx_mm == pytest.approx((0.5, 0.25, 0.125))
    assert read_channels(path) == (2, 3)


def test_axes_in_another_order(tmp_path):
    path = write_ome_zarr(tmp_path / "a.zarr", ARRAY.T.copy(), SCALE[::-1], axes="xyz")
    assert np.array_equal(read_file(path).array[0], ARRAY)
    assert read_geometry(path).spacing_zyx_mm == SCALE


def test_the_transformation_of_all_levels_follows_that_of_the_level(tmp_path):
    def add(multiscale):
        multiscale["coordinateTransformations"] = [{"type": "scale", "scale": [2, 4, 8]}]

    path = change(write_ome_zarr(tmp_path / "a.zarr", ARRAY, SCALE, translation=(1, 2, 3)), add)
    geometry = read_geometry(path)
    assert geometry.spacing_zyx_mm == (4, 2, 2)
    assert geometry.origin_xyz_mm == (24, 8, 2)


def orient(*values):
    def add(multiscale):
        for axis, value in zip(multiscale["axes"], values, strict=True):
            axis["orientation"] = {"type": "anatomical", "value": value}

    return add


def test_orientations_turn_the_axes(tmp_path):
    """Positions of ``left-to-right`` count towards the right of LPS's x: against it."""
    path = write_ome_zarr(tmp_path / "a.zarr", ARRAY, SCALE, translation=(1, 2, 3))
    change(path, orient("anterior-to-posterior", "superior-to-inferior", "left-to-right"))
    geometry = read_geometry(path)
    assert geometry.direction == (-1, 0, 0, 0, 0, 1, 0, -1, 0)
    assert geometry.origin_xyz_mm == (-3, 1, -2)
    change(path, orient("inferior-to-superior", "anterior-to-posterior", "dorsal-to-ventral"))
    with pytest.raises(UserError, match=r"has the orientations dorsal-to-ventral, .* write those of three axes"):
        read_file(path)


def test_one_image_as_bioformats2raw_lays_it_out(tmp_path):
    root = zarr.open_group(tmp_path / "a.zarr", mode="w")
    root.attrs["bioformats2raw.layout"] = 3
    write_ome_zarr(tmp_path / "a.zarr" / "0", ARRAY, SCALE)
    assert np.array_equal(read_file(tmp_path / "a.zarr").array[0], ARRAY)
    write_ome_zarr(tmp_path / "a.zarr" / "1", ARRAY, SCALE)
    with pytest.raises(UserError, match=r"a\.zarr holds several images; copy the folder of one of them"):
        read_file(tmp_path / "a.zarr")


def no_unit(multiscale):
    del multiscale["axes"][1]["unit"]


def pixels(multiscale):
    multiscale["axes"][1]["unit"] = "pixel"


def no_scale(multiscale):
    multiscale["datasets"][0]["coordinateTransformations"] = []


def zero(multiscale):
    multiscale["datasets"][0]["coordinateTransformations"] = [{"type": "scale", "scale": [0, 1, 1]}]


def short_scale(multiscale):
    multiscale["datasets"][0]["coordinateTransformations"] = [{"type": "scale", "scale": [1, 1]}]


def affine(multiscale):
    multiscale["datasets"][0]["coordinateTransformations"] = [{"type": "affine", "affine": [[1]]}]


def two_axes(multiscale):
    multiscale["axes"] = multiscale["axes"][1:]


def other_axes(multiscale):
    multiscale["axes"][0]["name"] = "depth"


def texts(multiscale):
    multiscale["axes"] = ["z", "y", "x"]


def no_levels(multiscale):
    multiscale["datasets"] = []


def lost_level(multiscale):
    multiscale["datasets"][0]["path"] = "s0"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (no_unit, 'gives its axis y no unit; write "millimeter" or "micrometer" into its metadata'),
        (pixels, "gives its axis y the unit 'pixel'"),
        (no_scale, "gives no scale of its finest level, so its spacing is unknown"),
        (zero, "gives an axis no length or direction"),
        (short_scale, "has a transformation 'scale' of 2 numbers for 3 axes"),
        (affine, "has a transformation 'affine' of 0 numbers for 3 axes"),
        (two_axes, "has the axes y and x and an array of 3 axes; an image needs z, y and x"),
        (other_axes, "has the axes depth, y and x and an array of 3 axes"),
        (texts, "has multiscales that are not those of OME-NGFF 0.4 or 0.5"),
        (no_levels, "has multiscales without datasets"),
        (lost_level, "has no array 's0'"),
    ],
)
def test_metadata_that_does_not_say_where_the_voxels_lie_is_refused(tmp_path, damage, message):
    path = change(write_ome_zarr(tmp_path / "a.zarr", ARRAY, SCALE), damage)
    with pytest.raises(UserError) as found:
        read_geometry(path)
    assert str(found.value).startswith(f"a.zarr {message}")


def test_several_points_in_time_are_refused(tmp_path):
    path = write_ome_zarr(tmp_path / "a.zarr", np.stack([ARRAY] * 2), (1, *SCALE), axes="tzyx")
    with pytest.raises(UserError, match="has 2 points in time; write one image for each"):
        read_file(path)


def test_what_is_no_ome_zarr_is_refused(tmp_path):
    path = tmp_path / "a.zarr"
    with pytest.raises(UserError, match=r"a\.zarr does not exist"):
        read_file(path)
    path.write_bytes(b"PK\3\4")
    with pytest.raises(UserError, match=r"a\.zarr is a file, but an OME-Zarr image is a folder; unpack it"):
        read_file(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match=r"a\.zarr is no group of Zarr"):
        read_file(path)
    zarr.create_array(path, shape=(2, 2, 2), dtype="u1")
    with pytest.raises(UserError, match=r"a\.zarr is no group of Zarr"):
        read_file(path)
    zarr.open_group(path, mode="w")
    with pytest.raises(UserError, match=r"a\.zarr has no multiscales of OME-NGFF, so its spacing is unknown"):
        read_file(path)


def test_values_that_are_no_intensities_are_refused(tmp_path):
    broken = ARRAY.astype(np.float32)
    broken[1, 2, 3] = np.nan
    with pytest.raises(UserError, match="NaN or infinite"):
        read_file(write_ome_zarr(tmp_path / "a.zarr", broken, SCALE))
    with pytest.raises(UserError, match="holds complex numbers"):
        read_file(write_ome_zarr(tmp_path / "b.zarr", ARRAY.astype(np.complex64), SCALE))


def test_a_damaged_chunk_is_refused_and_an_absent_one_has_the_fill_value(tmp_path):
    path = write_ome_zarr(tmp_path / "a.zarr", ARRAY, SCALE, fill_value=7)
    chunk = path / "0" / "c" / "0" / "0" / "0"
    assert chunk in files_of_image(path)
    chunk.write_bytes(chunk.read_bytes()[:-8])
    with pytest.raises(UserError, match=r"a\.zarr is damaged or truncated"):
        read_file(path)
    chunk.unlink()
    found = read_file(path).array[0]
    assert (found[:2, :2, :2] == 7).all()
    assert np.array_equal(found[2:], ARRAY[2:])


def test_large_images_are_read_into_a_file(tmp_path, monkeypatch):
    monkeypatch.setattr(large_arrays, "LARGE_BYTES", ARRAY.nbytes - 1)
    made: list[np.ndarray] = []

    def kept(*given):
        made.append(large_arrays.new_array(*given))
        return made[-1]

    monkeypatch.setattr(reader, "new_array", kept)
    path = write_ome_zarr(tmp_path / "a.zarr", ARRAY, SCALE)
    assert np.array_equal(read_file(path).array[0], ARRAY)
    assert isinstance(made[0].base, np.memmap)


def test_without_the_package_the_command_that_installs_it_is_named(tmp_path, monkeypatch):
    path = write_ome_zarr(tmp_path / "a.zarr", ARRAY, SCALE)
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(UserError, match=r'a\.zarr needs the package zarr; pip install "unetrpp\[zarr\]"'):
        read_file(path)


def test_zarr_is_not_written(tmp_path):
    with pytest.raises(UserError, match=r"a\.zarr: \.zarr is read, but not written; choose another ending"):
        write_segmentation(tmp_path / "a.zarr", ARRAY, Geometry(shape_zyx=(5, 6, 7), spacing_zyx_mm=SCALE))
