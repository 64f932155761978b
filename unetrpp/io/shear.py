"""Copies of sheared images with axes at right angles, for --fix."""

import gzip
from pathlib import Path

import numpy as np

from unetrpp.core.errors import UserError
from unetrpp.core.files import write_bytes
from unetrpp.io.angles import has_right_angles, shear_degrees, straightened
from unetrpp.io.formats import read_by_itk, reader_name, write_sitk
from unetrpp.io.placement import corner_distance_mm
from unetrpp.io.readers.grid import MOST_SHEAR_DEGREES


def write_without_shear(path: Path, target: Path) -> float:
    """Copy an image, with its sheared axes replaced by the nearest orthogonal ones of equal spacing about the same centre.

    Returns:
        The largest distance in mm by which a corner moved.

    Raises:
        UserError: the image is not sheared, by too much for a rounding error, or of a format without directions.
    """
    if reader_name(path) == "nifti":
        return _nifti(path, target)
    if reader_name(path) in ("metaimage", "nrrd"):
        return _by_itk(path, target)
    raise UserError(f"{path.name} has no directions that --fix could repair; see the message without --fix")


def _nifti(path: Path, target: Path) -> float:
    """The header is changed and all other bytes stay; the qform, which may disagree, loses its code."""
    from unetrpp.io.readers import nifti, nifti_header

    path, *voxels = nifti.parts(path)
    content = nifti.whole_content(path)
    header = nifti_header.header_block(path, content)
    if int(header["sform_code"]) <= 0:
        raise UserError(f"{path.name} has no sform that --fix could repair; see the message without --fix")
    sform = np.array([header[field] for field in ("srow_x", "srow_y", "srow_z")], float)
    shape = tuple(int(n) for n in header["dim"][1:4])
    straight = _straight(path, sform, shape)
    header["pixdim"][1:4] = np.linalg.norm(sform[:, :3], axis=0)
    header["qform_code"] = 0
    for row, field in zip(straight, ("srow_x", "srow_y", "srow_z"), strict=True):
        header[field] = row
    changed = header.binaryblock + content[len(header.binaryblock) :]
    for file in voxels:  # of a pair
        write_bytes(target.with_suffix(file.suffix), file.read_bytes())
    write_bytes(target, gzip.compress(changed, 6, mtime=0) if target.suffix.lower() == ".gz" else changed)
    return corner_distance_mm(sform, straight, shape)


def _by_itk(path: Path, target: Path) -> float:
    image = read_by_itk(path)
    n = image.GetDimension()
    if n != 3:
        raise UserError(f"{path.name} has {n} axes; --fix repairs only images with three axes")
    columns = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
    matrix = np.column_stack([columns, image.GetOrigin()])
    straight = _straight(path, matrix, image.GetSize())
    image.SetDirection((straight[:, :3] / image.GetSpacing()).ravel().tolist())
    image.SetOrigin(straight[:, 3].tolist())
    write_sitk(target, image)
    return corner_distance_mm(matrix, straight, image.GetSize())


def _straight(path: Path, matrix: np.ndarray, shape_xyz: tuple[int, ...]) -> np.ndarray:
    columns = matrix[:, :3]
    if not np.isfinite(matrix).all() or not np.linalg.norm(columns, axis=0).all():
        raise UserError(f"{path.name} gives an axis no length or direction; write a valid header")
    degrees = shear_degrees(columns)
    if has_right_angles(columns) or degrees > MOST_SHEAR_DEGREES:
        raise UserError(
            f"{path.name} is sheared by {degrees:.2g} degrees; --fix repairs at most {MOST_SHEAR_DEGREES:g} degree"
        )
    axes, offset = straightened(columns, matrix[:, 3], shape_xyz)
    return np.column_stack([axes, offset])
