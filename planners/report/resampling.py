"""How each axis of the images is resampled: from which spacing to which, and by which interpolation."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from unetrpp.io.geometry import Spacing, reorder, resampled_shape
from unetrpp.plans.fingerprint import Fingerprint
from unetrpp.plans.plans import Configuration
from unetrpp.preprocessing.resample import separate_axis
from unetrpp.report.page import Rows

UNCHANGED, NEAREST, SMOOTH = "kept as it is", "nearest slice", "cubic spline"
LABELS = {
    UNCHANGED: "kept as they are",
    NEAREST: "nearest slice",
    SMOOTH: "linear per class, then the class with the largest share",
}


def resampling_rows(fingerprint: Fingerprint, configuration: Configuration, names: Sequence[str]) -> Rows:
    """One row per plan axis: the cases' spacing, the target, the image's size before and after, and the interpolation.

    Args:
        names: of the canonical axes z, y and x.
    """
    plan = configuration.preprocessing
    pixels = fingerprint.in_pixels
    own = [reorder(case.spacing_mm, plan.transpose) for case in fingerprint.cases]
    shapes = [reorder(case.cropped_shape, plan.transpose) for case in fingerprint.cases]
    targets = [plan.target_spacing(spacing) for spacing in own]
    resampled = [
        resampled_shape(shape, spacing, target) for shape, spacing, target in zip(shapes, own, targets, strict=True)
    ]
    how = [_interpolations(*case, plan.separate_axis_ratio) for case in zip(shapes, own, targets, strict=True)]
    size_head = f"{fingerprint.voxel_name} of the median image"
    rows = [["axis", *([] if pixels else ["from (mm)", "to (mm)"]), size_head, "images", "labels"]]
    for axis in range(1 if fingerprint.flat else 0, 3):
        planned = plan.spacing_mm[axis]
        target = "its own" if planned is None else f"{planned:.4g}"
        before, after = (float(np.median([shape[axis] for shape in every])) for every in (shapes, resampled))
        size = f"{before:g}" if before == after else f"{before:g} → {after:g}"
        counts = Counter(case[axis] for case in how)
        images, labels = _counted(counts), _counted(counts, LABELS)
        spacings = [] if pixels else [_span([spacing[axis] for spacing in own]), target]
        rows.append([names[plan.transpose[axis]], *spacings, size, images, labels])
    return rows


def _interpolations(shape: Sequence[int], own: Spacing, target: Spacing, ratio: float) -> list[str]:
    """By plan axis, the interpolation of one case's image."""
    nearest, after = separate_axis(own, target, ratio), resampled_shape(tuple(shape), own, target)
    return [
        UNCHANGED if n == m else NEAREST if axis == nearest else SMOOTH
        for axis, (n, m) in enumerate(zip(shape, after, strict=True))
    ]


def _counted(counts: Counter[str], words: dict[str, str] | None = None) -> str:
    """What happens to the cases, the most frequent first.

    >>> _counted(Counter({"cubic spline": 3, "kept as it is": 1}))
    'cubic spline in 3 of 4 cases, kept as it is in 1'
    """
    said = [(words[what] if words else what, n) for what, n in counts.most_common()]
    if len(said) == 1:
        return said[0][0]
    (first, most), *others = said
    return ", ".join([f"{first} in {most} of {counts.total()} cases", *(f"{what} in {n}" for what, n in others)])


def _span(values: Sequence[float]) -> str:
    low, high = f"{min(values):.4g}", f"{max(values):.4g}"
    return low if low == high else f"{low} to {high}"
