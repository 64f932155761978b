"""What was measured, as tables that the text and the page share: sizes, intensities, classes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from unetrpp.core.text import listed
from unetrpp.dataset.labels import LabelScheme
from unetrpp.plans.fingerprint import ClassStatistics, Fingerprint, disc_radius
from unetrpp.plans.plans import Plans
from unetrpp.report.page import Rows

MOST_CLASSES = 15  # with a row each; of more, the largest, the smallest and the rarest are named
NAMED = 5  # of each of these
SMALL_ML = 0.1  # median volume of the largest class, below which volumes are given in mm3
CROPPED = 0.995  # share of the voxels kept, below which the report says how large the cropped images are


@dataclass(frozen=True)
class Units:
    """How the sizes of a dataset's classes are given: volumes in ml, mm3 or voxels, or areas in mm2 or pixels."""

    flat: bool
    pixels: bool
    size: str  # ml, mm3 or voxels; mm2 or pixels
    length: str  # mm, voxels or pixels

    @property
    def what(self) -> str:
        return f"{'area' if self.flat else 'volume'} ({self.size})"

    def size_of(self, found: ClassStatistics, slice_mm: float) -> float:
        """The size of a class in one case, whose slices are ``slice_mm`` thick."""
        if self.flat:
            return found.volume_mm3 / slice_mm
        return found.volume_mm3 / (1000 if self.size == "ml" else 1)

    def radius_of(self, found: ClassStatistics, slice_mm: float) -> float:
        """The radius of the sphere, or in flat images of the circle, as large as the largest component."""
        radius = found.component_radii_mm[0]
        return disc_radius(radius, slice_mm) if self.flat else radius


def units_of(fingerprint: Fingerprint) -> Units:
    if fingerprint.in_pixels:
        return Units(fingerprint.flat, True, fingerprint.voxel_name, fingerprint.length_unit)
    if fingerprint.flat:
        return Units(True, False, "mm2", "mm")
    medians = [
        float(np.median(volumes))
        for name in fingerprint.cases[0].classes
        if (volumes := [c.classes[name].volume_mm3 / 1000 for c in fingerprint.cases if c.classes[name].voxels])
    ]
    return Units(False, False, "ml" if max(medians, default=1) >= SMALL_ML else "mm3", "mm")


def cropping_matters(fingerprint: Fingerprint) -> bool:
    """Whether images lose more than half a percent of their voxels when they are cropped to what is not background."""
    return any(np.prod(case.cropped_shape) < CROPPED * np.prod(case.shape) for case in fingerprint.cases)


def size_rows(fingerprint: Fingerprint, names: Sequence[str]) -> Rows:
    """Sizes before and after cropping, and voxel sizes: smallest, median and largest over the cases.

    Args:
        names: of the canonical axes z, y and x.
    """
    units, cases = units_of(fingerprint), fingerprint.cases
    shown = [axis for axis in range(3) if axis or not units.flat]
    what, matters = fingerprint.voxel_name, cropping_matters(fingerprint)
    rows = [["", "smallest", "median", "largest"]]
    for axis in shown:
        before = f"{what} along {names[axis]}" + (", before cropping" if matters else "")
        rows.append([before, *_range([c.shape[axis] for c in cases])])
    for axis in shown if matters else ():
        rows.append([f"{what} along {names[axis]}, after cropping", *_range([c.cropped_shape[axis] for c in cases])])
    if matters:
        kept = [float(np.prod(c.cropped_shape) / np.prod(c.shape)) for c in cases]
        rows.append(["share kept by cropping", *(f"{v:.0%}" for v in (min(kept), float(np.median(kept)), max(kept)))])
    for axis in () if units.pixels else shown:
        rows.append([f"mm per {what[:-1]} along {names[axis]}", *_range([c.spacing_mm[axis] for c in cases])])
    return rows


def _range(values: Sequence[float]) -> list[str]:
    return [_number(v, 4) for v in (min(values), float(np.median(values)), max(values))]


def intensity_rows(fingerprint: Fingerprint, plans: Plans) -> Rows:
    """Intensities of every channel inside the foreground, over all cases."""
    rows = [["channel", "mean", "standard deviation", "0.5th percentile", "median", "99.5th percentile"]]
    for name, s in zip(plans.channel_names, fingerprint.intensities, strict=False):
        values = (s.mean, s.std, s.percentile_00_5, s.median, s.percentile_99_5)
        rows.append([name, *(_number(value, 4) for value in values)])
    return rows


@dataclass(frozen=True)
class FoundClass:
    """One class over the cases that have it."""

    name: str
    cases: int  # that have it
    share: float  # of all cases
    sizes: tuple[float, ...]
    row: tuple[str, ...]  # of the table

    @property
    def median_size(self) -> float:
        return float(np.median(self.sizes)) if self.sizes else 0.0


def found_classes(fingerprint: Fingerprint) -> list[FoundClass]:
    """Every class, in the order of dataset.json."""
    return list(_found(fingerprint))


def _found(fingerprint: Fingerprint) -> Iterator[FoundClass]:
    units, cases = units_of(fingerprint), fingerprint.cases
    for name in cases[0].classes:
        having = [(c.classes[name], c.spacing_mm[0]) for c in cases if c.classes[name].voxels]
        sizes = tuple(units.size_of(found, mm) for found, mm in having)
        radii = [units.radius_of(found, mm) for found, mm in having if found.component_radii_mm]
        components = [float(found.components) for found, _ in having]
        surfaces = [found.surface_to_volume_per_mm or 0.0 for found, _ in having]
        columns = (list(sizes), components, radii, *([] if units.flat else [surfaces]))
        medians = tuple(_number(float(np.median(values))) if values else "" for values in columns)
        row = (name, f"{len(having)} of {len(cases)}", *medians)
        yield FoundClass(name, len(having), len(having) / len(cases), sizes, row)


def _number(value: float, digits: int = 3) -> str:
    """
    >>> _number(8571.3), _number(0.01234), _number(283000.2, 4)
    ('8,571', '0.0123', '283,000')
    """
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{digits}g}"


def class_header(fingerprint: Fingerprint) -> list[str]:
    units = units_of(fingerprint)
    header = ["class", "in cases", units.what, "components", f"radius of the largest component ({units.length})"]
    return header if units.flat else [*header, f"surface / volume (1/{units.length.removesuffix('s')})"]


def regions_sentence(labels: LabelScheme) -> str:
    """Which labels each region consists of; empty where the network learns the labels themselves."""
    parts = []
    for region in labels.regions:
        members = [labels.names[index] for index in region.members]
        parts.append(region.name if members == [region.name] else f"{region.name} ({' + '.join(members)})")
    return f"The network learns regions: {listed(parts, MOST_CLASSES)}." if parts else ""


def class_rows(fingerprint: Fingerprint) -> Rows:
    """Medians of every class over the cases that have it."""
    return [class_header(fingerprint), *(list(found.row) for found in found_classes(fingerprint))]


def class_summary(fingerprint: Fingerprint) -> list[tuple[str, list[FoundClass]]]:
    """With more than fifteen classes: the five largest, the five smallest, and the five rarest that are not in every case."""
    found = found_classes(fingerprint)
    by_size = sorted((f for f in found if f.sizes), key=lambda f: -f.median_size)
    rare = sorted((f for f in found if f.share < 1), key=lambda f: f.cases)[:NAMED]
    groups = [("largest", by_size[:NAMED]), ("smallest", by_size[-NAMED:]), ("rarest", rare)]
    return [(title, group) for title, group in groups if group]
