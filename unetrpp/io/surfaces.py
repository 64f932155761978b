"""Surfaces of masks as triangles, in STL or OBJ files that other programs place beside the image.

Coordinates are mm in LPS, as in ITK and DICOM. Neither format has a field for the frame. 3D Slicer writes ``SPACE=LPS`` (or RAS) into the
comment at the start and takes LPS where there is none (https://discourse.slicer.org/t/10446).
"""

from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from unetrpp.core.errors import UserError
from unetrpp.core.files import write_atomically, write_bytes
from unetrpp.io.geometry import Geometry, world_mm

SurfaceFormat: TypeAlias = Literal["stl", "obj"]
SURFACE_ENDINGS = (".stl", ".obj")
COMMENT = "unetrpp, mm, SPACE=LPS"  # an STL that starts with "solid" would be taken for text
TRIANGLE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])


def surface_of(mask: np.ndarray, geometry: Geometry) -> tuple[np.ndarray, np.ndarray]:
    """The closed surface halfway between voxels inside and outside of ``mask`` (Z, Y, X), by marching cubes.

    Returns:
        Corners (V, 3) in mm, LPS, and for each triangle its three corners (F, 3), counter-clockwise seen from outside. Both are empty
        where the mask is.

    Raises:
        UserError: a photograph, which has no depth.
    """
    if geometry.dimensions == 2:
        raise UserError("an image of two dimensions has no surface; leave --surfaces out")
    if not mask.any():
        return np.zeros((0, 3)), np.zeros((0, 3), int)
    from skimage.measure import marching_cubes  # here, for scikit-image takes a second

    inside = [np.flatnonzero(mask.any(axis=tuple({0, 1, 2} - {axis}))) for axis in range(3)]
    first = np.array([places[0] for places in inside])
    box = mask[tuple(slice(places[0], places[-1] + 1) for places in inside)]
    corners, triangles, _, _ = marching_cubes(np.pad(box, 1).astype(np.float32), 0.5)
    points = world_mm(geometry, corners.astype(float) + first - 1)
    return points, triangles if enclosed_volume(points, triangles) > 0 else triangles[:, ::-1]


def enclosed_volume(points: np.ndarray, triangles: np.ndarray) -> float:
    """The volume inside a closed surface, in the units of ``points`` cubed; below 0 where triangles are clockwise from outside."""
    if not len(triangles):
        return 0.0
    a, b, c = np.moveaxis((points - points.mean(axis=0))[triangles], 1, 0)
    return float(np.einsum("ni,ni->n", a, np.cross(b, c)).sum() / 6)


def write_surface(path: Path, mask: np.ndarray, geometry: Geometry) -> None:
    """Write the surface of a mask (Z, Y, X) as binary STL or as OBJ, by the ending of ``path``; of an empty one, no triangle."""
    points, triangles = surface_of(mask, geometry)
    if path.suffix == ".stl":
        write_bytes(path, _stl(points[triangles]))
    else:
        write_atomically(path, lambda temporary: _write_obj(temporary, points, triangles))


def _stl(corners: np.ndarray) -> bytes:
    """Triangles (F, 3, 3)."""
    found = np.zeros(len(corners), TRIANGLE)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    found["normal"] = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), np.finfo(float).tiny)
    found["corners"] = corners
    return COMMENT.encode().ljust(80) + len(found).to_bytes(4, "little") + found.tobytes()


def _write_obj(path: Path, points: np.ndarray, triangles: np.ndarray) -> None:
    with path.open("w", encoding="ascii", newline="\n") as file:
        file.write(f"# {COMMENT}\n")
        np.savetxt(file, points, "v %.4f %.4f %.4f")
        np.savetxt(file, triangles + 1, "f %d %d %d")
