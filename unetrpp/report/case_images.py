"""What a page shows of a case: its image, prediction, reference and maps, read from files and checked to lie on one grid."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from unetrpp.core.errors import UserError
from unetrpp.io.geometry import GRID_LIMIT_VOXELS, same_grid
from unetrpp.io.images import Volume, read_image, read_label

UNCERTAINTY = ("entropy", "disagreement")  # maps between 0 and 1; all others are gates, of any range


@dataclass(frozen=True)
class CaseImages:
    """What there is of one case, all on the image's grid (Z, Y, X). ``prediction`` and ``reference`` hold the user's values.

    ``maps`` are entropy and disagreement, between 0 and 1, and gates, by name.
    """

    image: Volume
    prediction: np.ndarray
    reference: np.ndarray | None = None
    maps: Mapping[str, np.ndarray] = field(default_factory=dict)


def read_case_images(
    files: Sequence[Path], prediction: Path, reference: Path | None = None, *, maps: Mapping[str, Path] | None = None
) -> CaseImages:
    """Read the image (one file per channel) and what lies on it; ``maps`` are files by name.

    Raises:
        UserError: a file cannot be read, or lies on another grid than the image.
    """
    image = read_image(files)
    return CaseImages(
        image=image,
        prediction=_on_grid(read_label(prediction), image, prediction),
        reference=None if reference is None else _on_grid(read_label(reference), image, reference),
        maps={name: _on_grid(read_image(path), image, path) for name, path in (maps or {}).items()},
    )


def _on_grid(volume: Volume, image: Volume, path: Path) -> np.ndarray:
    differences = same_grid(volume.geometry, image.geometry, GRID_LIMIT_VOXELS)
    if differences:
        raise UserError(f"{path.name} and the image are on different grids: {differences[0]}")
    values: np.ndarray = volume.array[0]
    return values
