"""``--fix``: safe repairs of sheared axes and of labels on another grid than their image, into new files, never in place.

Ambiguous cases are left to the user: a correct label that lost its header would come out empty if it were resampled.
"""

import logging
from concurrent.futures import Executor
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from unetrpp.core.errors import UserError
from unetrpp.core.parallel import run_cases
from unetrpp.core.text import counted
from unetrpp.dataset.cases import Case, RawDataset
from unetrpp.dataset.labels import value_counts
from unetrpp.io.formats import ending_of
from unetrpp.io.geometry import SAME_GRID_VOXELS, Geometry, same_grid, voxel_volume_mm3
from unetrpp.io.images import (
    Volume,
    from_sitk,
    read_geometry,
    read_label,
    repair_shear,
    to_sitk,
    write_segmentation,
)

LOG = logging.getLogger(__name__)

MOST_NAMED = 10  # repaired cases, each with what was done
VOLUME_TOLERANCE = 0.1  # share by which a class's volume may change when a label is resampled
DEFAULT = Geometry(shape_zyx=(1, 1, 1), spacing_zyx_mm=(1.0, 1.0, 1.0))


def repair_dataset(raw: RawDataset, folder: Path, executor: Executor) -> RawDataset:
    """The dataset with repaired files, written below ``folder``, where a case's own could not be used."""
    jobs = {case.id: (case, folder) for case in raw.cases}
    repaired = {
        o.case: o.value
        for o in run_cases(repair_case, jobs, "fix", len(jobs), executor=executor)
        if o.value is not None
    }
    changed = [case for case, (_, done) in sorted(repaired.items()) if done]
    for case in changed[:MOST_NAMED]:
        LOG.info("%s: %s", case, "; ".join(repaired[case][1]))
    if len(changed) > MOST_NAMED:
        more = counted(len(changed) - MOST_NAMED, "more case was", "more cases were")
        LOG.info("and %s repaired; the new files are in %s", more, folder)
    return replace(raw, cases=tuple(repaired[case.id][0] if case.id in repaired else case for case in raw.cases))


def repair_case(case: Case, folder: Path) -> tuple[Case, list[str]]:
    """The case with new files where something was repaired, and what was done (runs in a worker).

    The new files are named by the case, because files of several cases may have the same name in different folders.
    """
    images = [
        repair_shear(path, folder / "images" / f"{case.id}_{i:04d}{ending_of(path)}")
        for i, path in enumerate(case.images)
    ]
    label = (None, None) if case.label is None else repair_shear(case.label, _label_file(case.label, case, folder))
    done = [what for _, what in (*images, label) if what is not None]
    case = replace(case, images=tuple(path for path, _ in images), label=label[0])
    if (repaired := repair_label(case, folder)) is not None:
        case = replace(case, label=repaired[0])
        done.append(repaired[1])
    return case, done


def _label_file(label: Path, case: Case, folder: Path) -> Path:
    return folder / f"{case.id}{ending_of(label)}"


def repair_label(case: Case, folder: Path) -> tuple[Path, str] | None:
    """The new label file and what was done; None where nothing is wrong or no repair is safe.

    The verification that follows reports what stays wrong.
    """
    if case.label is None:
        return None
    try:
        image, geometry = read_geometry(case.images[0]), read_geometry(case.label)
        if not same_grid(image, geometry, SAME_GRID_VOXELS):
            return None
        label = read_label(case.label)
    except UserError:
        return None
    path = _label_file(case.label, case, folder)
    if _has_default_header(geometry):
        if geometry.shape_zyx != image.shape_zyx:
            return None  # ambiguous: its position is unknown
        write_segmentation(path, label.array[0], image)
        return path, "the label had the image's shape but only a default header; it was given the image's header"
    resampled = _onto(label, image)
    if not _keeps_volumes(label, resampled, image):
        return None
    write_segmentation(path, from_sitk(resampled).array[0], image)
    return path, "the label was on another grid; it was resampled (nearest neighbour) onto the image's grid"


def _has_default_header(geometry: Geometry) -> bool:
    """Spacing 1, origin 0 and axes along the array (NIfTI's default flips x and y)."""
    direction = tuple(abs(value) for value in geometry.direction)
    at_origin = all(abs(value) < SAME_GRID_VOXELS for value in geometry.origin_xyz_mm)
    return at_origin and geometry.spacing_zyx_mm == DEFAULT.spacing_zyx_mm and direction == DEFAULT.direction


def _onto(label: Volume, image: Geometry) -> sitk.Image:
    z, y, x = image.shape_zyx
    moving = to_sitk(label.array[0], label.geometry)
    return sitk.Resample(
        moving,
        (x, y, z),
        sitk.Transform(),
        sitk.sitkNearestNeighbor,
        image.origin_xyz_mm,
        image.spacing_zyx_mm[::-1],
        image.direction,
        0,
        moving.GetPixelID(),
    )


def _keeps_volumes(before: Volume, after: sitk.Image, grid: Geometry) -> bool:
    """Whether every class kept its volume."""
    old, new = _volumes(before.array, before.geometry), _volumes(sitk.GetArrayViewFromImage(after), grid)
    return bool(old) and all(abs(new.get(value, 0.0) / volume - 1) <= VOLUME_TOLERANCE for value, volume in old.items())


def _volumes(array: np.ndarray, geometry: Geometry) -> dict[int, float]:
    """mm^3 of every value above 0."""
    voxel = voxel_volume_mm3(geometry.spacing_zyx_mm)
    return {value: n * voxel for value, n in value_counts(array).items() if value > 0}
