"""OME-Zarr images, written with the package zarr."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

zarr = pytest.importorskip("zarr", reason='zarr is an extra: pip install "unetrpp[zarr]"')


def write_ome_zarr(
    path: Path,
    array: np.ndarray,
    scale: Sequence[float],
    *,
    axes: str = "zyx",
    unit: str = "millimeter",
    translation: Sequence[float] = (),
    version: str = "0.5",
    **options: Any,
) -> Path:
    """``array`` with its axes, and a second level of half the size; ``options`` are those of ``create_array``."""
    group = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    kinds = {"t": "time", "c": "channel"}
    half = array[tuple(slice(None, None, 2 if axis in "zyx" else None) for axis in axes)]
    levels = []
    for name, values, factor in (("0", array, 1), ("1", half, 2)):
        level = group.create_array(
            name, shape=values.shape, dtype=values.dtype, **{"chunks": (2,) * array.ndim, **options}
        )
        level[...] = values
        steps: list[dict[str, Any]] = [{"type": "scale", "scale": [s * factor for s in scale]}]
        steps += [{"type": "translation", "translation": list(translation)}] if translation else []
        levels.append({"path": name, "coordinateTransformations": steps})
    described = [{"name": a, "type": kinds.get(a, "space")} | ({} if a in kinds else {"unit": unit}) for a in axes]
    multiscales = [{"version": version, "axes": described, "datasets": levels}]
    group.attrs.update(
        {"multiscales": multiscales} if version == "0.4" else {"ome": {"version": version, "multiscales": multiscales}}
    )
    return path
