"""Warnings about inputs and segmentations that are unlike those of the training cases."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unetrpp.core.errors import UserError
from unetrpp.core.text import format_mm, format_range, three_digits
from unetrpp.dataset.labels import LabelScheme, value_counts
from unetrpp.dataset.modality import check_modality
from unetrpp.inference.notices import Kind, Notice
from unetrpp.io.formats import reader_name
from unetrpp.io.geometry import Geometry, reorder, voxel_volume_mm3
from unetrpp.io.images import Volume
from unetrpp.io.nifti import place_warnings
from unetrpp.io.readers.tiff_spacing import spacing_beside
from unetrpp.plans.fingerprint import Fingerprint
from unetrpp.preprocessing.grid import Frame, orientation_in

SPACING_FACTOR = 2.0  # outside the training range by more than this
EXTENT_FACTOR = 1.5
VOLUME_FACTOR = 2.0
SMALLEST_ML = 0.01  # smaller volumes are given in mm3
FEWEST_CASES = 5  # with a class, from which on their range says what is usual


def require_nnunets_spacing(files: Sequence[Path], volume: Volume, case: str) -> None:
    """A model of nnU-Net learned the spacing of a TIFF stack from CASE.json beside it, or else took 1 for every axis.

    Raises:
        UserError: the spacing of the image is from the metadata of a TIFF, which nnU-Net does not read.
    """
    stacks = [file for file in files if reader_name(file) == "tiff" and spacing_beside(file) is None]
    spacing = volume.geometry.spacing_zyx_mm
    if stacks and spacing != (1.0, 1.0, 1.0):
        z, y, x = spacing
        raise UserError(
            f"the metadata of {stacks[0].name} gives voxels of {format_mm(spacing)}, but nnU-Net, which trained this model, takes the "
            f'spacing of a TIFF from CASE.json alone: write {{"spacing": [1, 1, 1]}} beside it if the training images had no such file, '
            f'else {{"spacing": [{z:g}, {y:g}, {x:g}]}}',
            case=case,
        )


def check_input(
    volume: Volume, channel_names: tuple[str, ...], fingerprint: Fingerprint, orientation: Frame = "LPS"
) -> list[Notice]:
    """Compare modality, spacing and extent (mm, canonical axes) with the training cases.

    With another ``orientation`` the training cases are those of an imported model: along its own axes, and with extents after
    cropping alone, which say nothing about images as they are.

    ``channel_names`` are those whose modality is to be checked: none where dataset.json has "check_modality": false. A
    photograph has an extent in pixels and no spacing. Transforms of a NIfTI header that disagree are warned about, too.
    """
    notices = [Notice("header", text) for text in place_warnings("the image", volume.geometry)]
    named = zip(volume.array, channel_names, strict=False)
    notices += [Notice("intensities", text) for channel, name in named for text, _ in check_modality(channel, name)]
    axes = orientation_in(orientation, volume.geometry).axes
    spacing = np.array(reorder(volume.geometry.spacing_zyx_mm, axes))
    extent = spacing * reorder(volume.geometry.shape_zyx, axes)
    trained_spacing = np.array([case.spacing_mm for case in fingerprint.cases])
    trained_extent = trained_spacing * [case.shape for case in fingerprint.cases]
    if orientation != "LPS":
        flat = volume.geometry.dimensions == 2
        return notices if flat else notices + _outside("spacing", spacing, trained_spacing, SPACING_FACTOR, unit="mm")
    if volume.geometry.dimensions == 2:
        return notices + _outside("extent", extent, trained_extent, EXTENT_FACTOR, unit="pixels")
    notices += _outside("spacing", spacing, trained_spacing, SPACING_FACTOR, unit="mm")
    return notices + _outside("extent", extent, trained_extent, EXTENT_FACTOR, unit="mm")


def _outside(what: Kind, values: np.ndarray, trained: np.ndarray, factor: float, *, unit: str) -> list[Notice]:
    low, high = trained.min(axis=0), trained.max(axis=0)
    return [
        Notice(
            what, f"{what} along {axis} is {three_digits(value)} {unit}, training cases had {format_range(a, b, unit)}"
        )
        for axis, value, a, b in zip("zyx", values, low, high, strict=True)
        if value < a / factor or value > b * factor
    ]


def class_voxels(array: np.ndarray, labels: LabelScheme) -> dict[str, int]:
    """Voxels (pixels of a photograph) of every foreground label in a segmentation of the user's values, by name."""
    counts = value_counts(array)
    return {labels.names[i]: counts.get(labels.values[i], 0) for i in labels.foreground}


def volumes_ml(voxels: dict[str, int], geometry: Geometry) -> dict[str, float]:
    """Volumes in ml from voxel counts; empty for a photograph, whose spacing is not a physical one."""
    voxel_ml = voxel_volume_mm3(geometry.spacing_zyx_mm) / 1000
    return {} if geometry.dimensions == 2 else {name: float(f"{n * voxel_ml:.10g}") for name, n in voxels.items()}


def check_sizes(
    voxels: dict[str, int], geometry: Geometry, labels: LabelScheme, fingerprint: Fingerprint
) -> list[Notice]:
    """Warn of classes far larger or smaller than in any training case, or missing though every training case had them.

    Nothing is compared with fewer than ``FEWEST_CASES`` training cases that have the class, nor where the dataset has an ignore
    label (the fingerprint then holds the volume that was annotated, not the whole), nor in photographs, which have no scale.
    """
    if labels.ignore_value is not None:
        return []
    notices = []
    for name, volume in volumes_ml(voxels, geometry).items():
        volumes = [case.classes[name].volume_mm3 / 1000 for case in fingerprint.cases if name in case.classes]
        having = [each for each in volumes if each]
        if len(having) < FEWEST_CASES:
            continue
        low, high = min(volumes), max(volumes)
        scale, unit = (1, "ml") if high >= SMALLEST_ML else (1000, "mm3")
        usual = format_range(low * scale, high * scale, unit)
        if volume == 0 < low:
            text = f"{name} was not found, every training case had it ({usual})"
            notices.append(Notice("class not found", text, name))
        elif volume > high * VOLUME_FACTOR or volume < low / VOLUME_FACTOR:
            notices.append(
                Notice(
                    "unusual size",
                    f"{name} has {three_digits(volume * scale)} {unit}, training cases had {usual}",
                    name,
                )
            )
    return notices
