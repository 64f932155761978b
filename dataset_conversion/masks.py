"""Several masks of a case as one label map."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unetrpp.core.errors import UserError
from unetrpp.core.text import counted, listed
from unetrpp.dataset.labels import listed_values, present_values
from unetrpp.dataset_conversion.source import Mask
from unetrpp.io.geometry import GRID_LIMIT_VOXELS, same_grid
from unetrpp.io.images import Volume, read_straight_label

MOST_NAMED = 3  # pairs of classes that a warning names


class Remarks(NamedTuple):
    """What the label map of one case had that a user should know."""

    pairs: tuple[str, ...] = ()  # of classes that overlap, such as "liver and tumour"
    hidden: tuple[str, ...] = ()  # classes of which later masks leave nothing
    others: tuple[str, ...] = ()  # sentences


@dataclass(frozen=True)
class Painted(Volume):
    """A label map that was painted from masks."""

    remarks: Remarks


class Canvas:
    """A label map (any shape) in the smallest integer type, into which masks are painted one after the other."""

    def __init__(self, shape: tuple[int, ...], largest: int):
        self.label = np.zeros(shape, np.min_scalar_type(largest))
        self._names: dict[int, str] = {}
        self._pairs: list[str] = []

    def paint(self, name: str, value: int, inside: np.ndarray, at: tuple[slice, ...] = ()) -> None:
        """Give the voxels of a mask the value of its class, also where they had one: the later mask counts.

        Args:
            at: the part of the label map that the mask covers; the default is all.
        """
        part = self.label[at]
        under = [other for other in np.unique(part[inside]).tolist() if other not in (0, value)]
        self._pairs += [f"{self._names[other]} and {name}" for other in under]
        part[inside] = value
        if inside.any():
            self._names[value] = name

    def remarks(self) -> Remarks:
        """Which masks overlapped."""
        hidden = sorted(self._names.keys() - set(present_values(self.label)))
        return Remarks(tuple(dict.fromkeys(self._pairs)), tuple(self._names[value] for value in hidden))


def painted(masks: Sequence[Mask]) -> Painted:
    """The label map of one case, in the smallest integer type: where masks overlap, the later one counts.

    Masks whose axes are sheared by up to 1 degree give a label on the grid that :class:`Straight` makes of their image's.

    Raises:
        UserError: a mask cannot be read, has more than one value above 0, or lies on another grid than the first one.
    """
    first: Volume | None = None
    canvas = Canvas((), 0)
    for mask in masks:
        volume = read_straight_label(mask.file)
        _require_mask(mask.file, volume)
        if first is None:
            first, canvas = volume, Canvas(volume.array.shape, max(mask.value for mask in masks))
        elif differences := same_grid(first.geometry, volume.geometry, GRID_LIMIT_VOXELS):
            raise UserError(
                f"{mask.file.name} and {masks[0].file.name} are on different grids: {differences[0]}; "
                "resample one onto the other"
            )
        canvas.paint(mask.name, mask.value, volume.array > 0)
    assert first is not None  # a case has a mask
    return Painted(canvas.label, first.geometry, canvas.remarks())


def _require_mask(file: Path, volume: Volume) -> None:
    values = [value for value in present_values(volume.array) if value != 0]
    if len(values) > 1:
        raise UserError(
            f"{file.name} holds the values {listed_values(values)}, but a mask is 0 and one other value; if it is a label map "
            "of several classes, give it as --labels, or in BIDS with a dseg.tsv that names them"
        )
    if values and values[0] < 0:
        raise UserError(f"{file.name} holds the value {values[0]}; a mask is 0 and one value above 0")


def warnings_of(cases: Sequence[Remarks]) -> list[str]:
    """The remarks on all cases, each said once with the number of its cases.

    >>> cord = Remarks(("lesion and cord",), ("lesion",))
    >>> for warning in warnings_of([cord, Remarks(), Remarks(("lesion and cord",), others=("cord is open",))]):
    ...     print(warning)
    masks overlap, and the later one counts there: lesion and cord (2 cases)
    later masks leave nothing of lesion (1 case); name such a class after the one that it lies in
    cord is open (1 case)
    """
    pairs, hidden, others = (
        [f"{what} ({counted(n, 'case')})" for what, n in Counter(found).most_common()]
        for found in (
            (pair for case in cases for pair in case.pairs),
            (name for case in cases for name in case.hidden),
            (sentence for case in cases for sentence in case.others),
        )
    )
    warnings = [f"masks overlap, and the later one counts there: {listed(pairs, MOST_NAMED)}"] if pairs else []
    if hidden:
        named = listed(hidden, MOST_NAMED)
        warnings.append(f"later masks leave nothing of {named}; name such a class after the one that it lies in")
    return warnings + others
