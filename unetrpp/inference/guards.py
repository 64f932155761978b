"""Warnings about inputs and segmentations that are unlike those of the training cases."""

import numpy as np

from unetrpp.dataset.labels import LabelScheme, value_counts
from unetrpp.dataset.modality import check_modality
from unetrpp.io.geometry import Geometry, canonical_orientation, reorder, voxel_volume_mm3
from unetrpp.io.images import Volume
from unetrpp.io.nifti import place_warnings
from unetrpp.plans.fingerprint import Fingerprint

SPACING_FACTOR = 2.0  # outside the training range by more than this
EXTENT_FACTOR = 1.5
VOLUME_FACTOR = 2.0
FEWEST_CASES = 5  # with a class, from which on their range says what is usual


def check_input(volume: Volume, channel_names: tuple[str, ...], fingerprint: Fingerprint) -> list[str]:
    """Compare modality, spacing and extent (mm, canonical axes) with the training cases; one sentence per warning.

    ``channel_names`` are those whose modality is to be checked: none where dataset.json has "check_modality": false. A
    photograph has an extent in pixels. Transforms of a NIfTI header that disagree are warned about, too.
    """
    warnings = place_warnings("the image", volume.geometry)
    named = zip(volume.array, channel_names, strict=False)
    warnings += [message for channel, name in named for message, _ in check_modality(channel, name)]
    axes = canonical_orientation(volume.geometry).axes
    spacing = np.array(reorder(volume.geometry.spacing_zyx_mm, axes))
    extent = spacing * reorder(volume.geometry.shape_zyx, axes)
    trained_spacing = np.array([case.spacing_mm for case in fingerprint.cases])
    trained_extent = trained_spacing * [case.shape for case in fingerprint.cases]
    unit = "pixels" if volume.geometry.dimensions == 2 else "mm"
    warnings += _outside("spacing", spacing, trained_spacing, SPACING_FACTOR, unit=unit)
    return warnings + _outside("extent", extent, trained_extent, EXTENT_FACTOR, unit=unit)


def _outside(what: str, values: np.ndarray, trained: np.ndarray, factor: float, *, unit: str) -> list[str]:
    low, high = trained.min(axis=0), trained.max(axis=0)
    return [
        f"{what} along {axis} is {value:.3g} {unit}, training cases had {a:.3g} to {b:.3g} {unit}"
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


def check_sizes(voxels: dict[str, int], geometry: Geometry, labels: LabelScheme, fingerprint: Fingerprint) -> list[str]:
    """Warn of classes far larger or smaller than in any training case, or missing though every training case had them.

    Nothing is compared with fewer than ``FEWEST_CASES`` training cases that have the class, nor where the dataset has an ignore
    label (the fingerprint then holds the volume that was annotated, not the whole), nor in photographs, which have no scale.
    """
    if labels.ignore_value is not None:
        return []
    warnings = []
    for name, volume in volumes_ml(voxels, geometry).items():
        volumes = [case.classes[name].volume_mm3 / 1000 for case in fingerprint.cases if name in case.classes]
        having = [each for each in volumes if each]
        if len(having) < FEWEST_CASES:
            continue
        low, high = min(volumes), max(volumes)
        if volume == 0 < low:
            warnings.append(f"{name} was not found, every training case had it ({low:.3g} to {high:.3g} ml)")
        elif volume > high * VOLUME_FACTOR or volume < low / VOLUME_FACTOR:
            warnings.append(f"{name} has {volume:.3g} ml, training cases had {low:.3g} to {high:.3g}")
    return warnings
