"""The spacing of a TIFF: from CASE.json beside it, or from units that mean mm; a printer's dots per inch are none."""

import math
import re
from pathlib import Path
from typing import Annotated
from xml.etree import ElementTree

import msgspec
from tifffile import TiffFile, TiffPage

from unetrpp.core.files import read_json
from unetrpp.io.geometry import Spacing
from unetrpp.io.readers.grid import MM

PositiveFloat = Annotated[float, msgspec.Meta(gt=0)]


class SpacingSidecar(msgspec.Struct):
    """CASE.json beside CASE.tif (nnU-Net's); other keys are left alone."""

    spacing: tuple[PositiveFloat, PositiveFloat, PositiveFloat]  # mm (z, y, x)


def sidecar(path: Path) -> Path | None:
    """CASE.json beside CASE.tif or CASE_0000.tif; None where there is none."""
    stem = path.stem
    candidates = (path.with_name(f"{name}.json") for name in (stem, re.sub(r"_\d{4}$", "", stem)))
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def spacing_beside(path: Path) -> Spacing | None:
    """mm (z, y, x) of :func:`sidecar`; None where there is none.

    Raises:
        UserError: the JSON gives no three numbers above 0.
    """
    beside = sidecar(path)
    hint = 'write {"spacing": [z, y, x]} in mm'
    return None if beside is None else read_json(beside, SpacingSidecar, hint=hint).spacing


def metric_spacing(tif: TiffFile, page: TiffPage) -> Spacing | None:
    """mm (z, y, x) of a stack where ImageJ or OME give all three in a metric unit; dots per inch are of a printer."""
    found = _ome_spacing(tif.ome_metadata) if tif.is_ome else _imagej_spacing(tif, page)
    sound = found is not None and all(math.isfinite(v) and v > 0 for v in found)
    return found if sound else None


def _ome_spacing(xml: str | None) -> Spacing | None:
    pixels = next((e for e in ElementTree.fromstring(xml or "<a/>").iter() if e.tag.endswith("}Pixels")), None)
    if pixels is None:
        return None
    sizes = [(pixels.get(f"PhysicalSize{a}"), MM.get(pixels.get(f"PhysicalSize{a}Unit", "µm"))) for a in "ZYX"]
    values = [float(size) * unit for size, unit in sizes if size is not None and unit is not None]
    return (values[0], values[1], values[2]) if len(values) == 3 else None


def _imagej_spacing(tif: TiffFile, page: TiffPage) -> Spacing | None:
    """ImageJ counts pixels per unit in the resolution tags and names the unit and the distance of slices apart."""
    meta = tif.imagej_metadata or {}
    unit = MM.get(str(meta.get("unit", "")).replace("\\u00B5", "µ").strip().lower())
    step, per_unit = meta.get("spacing"), [page.tags.valueof(tag) for tag in (283, 282)]
    if (
        unit is None
        or not isinstance(step, int | float)
        or not all(isinstance(r, tuple) and r[0] > 0 for r in per_unit)
    ):
        return None
    y, x = (denominator / numerator for numerator, denominator in per_unit)
    return step * unit, y * unit, x * unit
