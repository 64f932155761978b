"""Surfaces against the closed form of a sphere, on grids of every handedness, and files against their formats."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from unetrpp.core.errors import UserError
from unetrpp.io.geometry import Geometry
from unetrpp.io.images import to_sitk
from unetrpp.io.surfaces import enclosed_volume, surface_of, write_surface

OBLIQUE = Rotation.from_euler("xyz", (20, -35, 50), degrees=True).as_matrix()
DIRECTIONS = {"axes": np.eye(3), "oblique": OBLIQUE, "left-handed": OBLIQUE @ np.diag([1, -1, 1])}
RADIUS = 14.0


@pytest.fixture(params=DIRECTIONS)
def geometry(request):
    direction = tuple(DIRECTIONS[request.param].ravel())
    return Geometry(
        shape_zyx=(17, 40, 50), spacing_zyx_mm=(2.5, 0.9, 0.7), origin_xyz_mm=(-30.0, 400.0, 7.0), direction=direction
    )


def sphere(geometry):
    """A mask, and its centre in mm as ITK has it."""
    image = to_sitk(np.zeros(geometry.shape_zyx, np.uint8), geometry)
    centre = np.array(image.TransformContinuousIndexToPhysicalPoint((24.3, 20.1, 8.2)))
    places = np.stack(np.meshgrid(*map(np.arange, geometry.shape_zyx), indexing="ij"), -1)[..., ::-1]
    x, y, z = (places * geometry.spacing_zyx_mm[::-1]).reshape(-1, 3).T
    world = np.stack([x, y, z], 1) @ np.array(geometry.direction).reshape(3, 3).T + geometry.origin_xyz_mm
    return (np.linalg.norm(world - centre, axis=1) < RADIUS).reshape(geometry.shape_zyx), centre


def centroid(points, triangles):
    """Of the solid: tetrahedra from the origin, weighted with their volumes."""
    corners = points[triangles]
    volumes = np.linalg.det(corners) / 6
    return (corners.sum(axis=1) / 4 * volumes[:, None]).sum(axis=0) / volumes.sum()


def read_stl(path):
    content = path.read_bytes()
    assert b"SPACE=LPS" in content[:80]
    assert not content.startswith(b"solid")
    count = int.from_bytes(content[80:84], "little")
    assert len(content) == 84 + 50 * count
    rows = np.frombuffer(content[84:], np.dtype([("values", "<f4", 12), ("attribute", "<u2")]))
    return rows["values"][:, :3], rows["values"][:, 3:].reshape(-1, 3, 3).astype(float)


def test_a_sphere_has_its_volume_and_its_centre(geometry, tmp_path):
    mask, centre = sphere(geometry)
    write_surface(tmp_path / "sphere.stl", mask, geometry)
    normals, corners = read_stl(tmp_path / "sphere.stl")
    points, triangles = corners.reshape(-1, 3), np.arange(3 * len(corners)).reshape(-1, 3)
    assert enclosed_volume(points, triangles) == pytest.approx(4 / 3 * np.pi * RADIUS**3, rel=0.02)
    assert np.linalg.det(points[triangles] - centre).sum() / 6 == pytest.approx(enclosed_volume(points, triangles))
    np.testing.assert_allclose(centroid(points, triangles), centre, atol=0.15)
    np.testing.assert_allclose(np.linalg.norm(points - centre, axis=1), RADIUS, atol=2.5 / 2 + 0.2)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, rtol=1e-5)
    outwards = np.einsum("ni,ni->n", normals, corners.mean(axis=1) - centre)
    assert (outwards > 0).mean() > 0.99  # steps of voxels may turn a few sideways


def test_every_edge_has_two_triangles(geometry):
    _, triangles = surface_of(sphere(geometry)[0], geometry)
    edges = np.concatenate([triangles[:, [a, b]] for a, b in ((0, 1), (1, 2), (2, 0))])
    _, times = np.unique(edges, axis=0, return_counts=True)
    assert (times == 1).all()  # once in each direction
    assert {(a, b) for a, b in edges} == {(b, a) for a, b in edges}


def test_a_mask_up_to_the_border_of_the_image_is_closed():
    geometry = Geometry(shape_zyx=(3, 4, 5), spacing_zyx_mm=(3.0, 2.0, 1.0))
    points, triangles = surface_of(np.ones((3, 4, 5), bool), geometry)
    assert points.min(axis=0).tolist() == [-0.5, -1.0, -1.5]
    assert points.max(axis=0).tolist() == [4.5, 7.0, 7.5]
    assert enclosed_volume(points, triangles) == pytest.approx(360, rel=0.12)  # edges and corners are cut off


def test_obj_has_the_same_triangles(geometry, tmp_path):
    mask, _ = sphere(geometry)
    write_surface(tmp_path / "sphere.obj", mask, geometry)
    comment, *lines = (tmp_path / "sphere.obj").read_text().splitlines()
    assert "SPACE=LPS" in comment
    rows = [line.split() for line in lines]
    points = np.array([row[1:] for row in rows if row[0] == "v"], float)
    triangles = np.array([row[1:] for row in rows if row[0] == "f"], int) - 1
    expected_points, expected_triangles = surface_of(mask, geometry)
    np.testing.assert_allclose(points, expected_points, atol=1e-4)
    np.testing.assert_array_equal(triangles, expected_triangles)


@pytest.mark.parametrize("ending", ["stl", "obj"])
def test_an_empty_mask_has_no_triangle(ending, tmp_path):
    geometry = Geometry(shape_zyx=(2, 3, 4), spacing_zyx_mm=(1.0, 1.0, 1.0))
    write_surface(tmp_path / f"none.{ending}", np.zeros((2, 3, 4), bool), geometry)
    content = (tmp_path / f"none.{ending}").read_bytes()
    assert content[80:] == bytes(4) if ending == "stl" else content.splitlines()[1:] == []


def test_photographs_have_none():
    flat = Geometry(shape_zyx=(1, 3, 4), spacing_zyx_mm=(1.0, 1.0, 1.0), dimensions=2)
    with pytest.raises(UserError, match="has no surface; leave --surfaces out"):
        surface_of(np.ones((1, 3, 4), bool), flat)


def test_the_corners_lie_where_itk_has_the_voxels(geometry):
    mask = np.zeros(geometry.shape_zyx, bool)
    mask[3, 5, 7] = True
    points, _ = surface_of(mask, geometry)
    image = to_sitk(mask.astype(np.uint8), geometry)
    steps = [(0.5, 0, 0), (-0.5, 0, 0), (0, 0.5, 0), (0, -0.5, 0), (0, 0, 0.5), (0, 0, -0.5)]
    expected = [image.TransformContinuousIndexToPhysicalPoint((7 + x, 5 + y, 3 + z)) for x, y, z in steps]
    np.testing.assert_allclose(sorted(map(tuple, points)), sorted(expected), atol=1e-6)
