"""Several masks of a case as one label map."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unetrpp.core.errors import UserError
from unetrpp.core.text import counted, listed
from unetrpp.dataset.labels import listed_values, present_values
from unetrpp.dataset_conversion.source import Mask
from unetrpp.io.geometry import GRID_LIMIT_VOXELS, same_grid
from unetrpp.io.images import Volume, read_label

MOST_NAMED = 3  # pairs of classes that a warning names


class Overlaps(NamedTuple):
    """Where the masks of one case overlap."""

    pairs: tuple[str, ...] = ()  # of classes, such as "liver and tumour"
    hidden: tuple[str, ...] = ()  # classes of which later masks leave nothing


def painted(masks: Sequence[Mask]) -> tuple[Volume, Overlaps]:
    """The label map of one case, in the smallest integer type, and which masks overlap: the later one counts.

    Raises:
        UserError: a mask cannot be read, has more than one value above 0, or lies on another grid than the first one.
    """
    first: Volume | None = None
    label = np.zeros((), np.min_scalar_type(max(mask.value for mask in masks)))
    names = {mask.value: mask.name for mask in masks}
    pairs: list[str] = []
    drawn: set[int] = set()
    for mask in masks:
        volume = read_label(mask.file)
        _require_mask(mask.file, volume)
        if first is None:
            first, label = volume, np.zeros(volume.array.shape, label.dtype)
        elif differences := same_grid(first.geometry, volume.geometry, GRID_LIMIT_VOXELS):
            raise UserError(
                f"{mask.file.name} and {masks[0].file.name} are on different grids: {differences[0]}; "
                "resample one onto the other"
            )
        inside = volume.array > 0
        pairs += [f"{names[value]} and {mask.name}" for value in np.unique(label[inside]).tolist() if value]
        label[inside] = mask.value
        drawn |= {mask.value} if inside.any() else set()
    assert first is not None  # a case has a mask
    hidden = sorted(drawn - set(present_values(label)))
    return Volume(label, first.geometry), Overlaps(tuple(pairs), tuple(names[value] for value in hidden))


def _require_mask(file: Path, volume: Volume) -> None:
    values = [value for value in present_values(volume.array) if value != 0]
    if len(values) > 1:
        raise UserError(
            f"{file.name} holds the values {listed_values(values)}, but a mask is 0 and one other value; if it is a label map "
            "of several classes, give it as --labels"
        )
    if values and values[0] < 0:
        raise UserError(f"{file.name} holds the value {values[0]}; a mask is 0 and one value above 0")


def overlap_warnings(cases: Sequence[Overlaps]) -> list[str]:
    """At most two sentences about the overlaps of all cases.

    >>> cord = Overlaps(("lesion and cord",), ("lesion",))
    >>> for warning in overlap_warnings([cord, Overlaps(), Overlaps(("lesion and cord",))]):
    ...     print(warning)
    masks overlap, and the later one of --masks counts there: lesion and cord (2 cases)
    later masks leave nothing of lesion (1 case); name such a class after the one that it lies in
    """
    pairs = Counter(pair for case in cases for pair in case.pairs)
    hidden = Counter(name for case in cases for name in case.hidden)
    shown = [
        listed([f"{name} ({counted(n, 'case')})" for name, n in found.most_common()], MOST_NAMED)
        for found in (pairs, hidden)
    ]
    warnings = [f"masks overlap, and the later one of --masks counts there: {shown[0]}"] if pairs else []
    if hidden:
        warnings.append(f"later masks leave nothing of {shown[1]}; name such a class after the one that it lies in")
    return warnings
