"""Several masks of a case as one label map."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from unetrpp.core.errors import UserError
from unetrpp.core.text import listed
from unetrpp.dataset.labels import listed_values, present_values
from unetrpp.dataset_conversion.source import Mask
from unetrpp.io.geometry import GRID_LIMIT_VOXELS, same_grid
from unetrpp.io.images import Volume, read_label

MOST_NAMED = 3  # pairs of classes that a warning names


def painted(masks: Sequence[Mask]) -> tuple[Volume, tuple[str, ...]]:
    """The label map of one case, in the smallest integer type, and the pairs of classes that overlap: the later one counts.

    Raises:
        UserError: a mask cannot be read, has more than one value above 0, or lies on another grid than the first one.
    """
    first: Volume | None = None
    label = np.zeros((), np.min_scalar_type(max(mask.value for mask in masks)))
    names = {mask.value: mask.name for mask in masks}
    pairs: list[str] = []
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
    assert first is not None  # a case has a mask
    return Volume(label, first.geometry), tuple(pairs)


def _require_mask(file: Path, volume: Volume) -> None:
    values = [value for value in present_values(volume.array) if value != 0]
    if len(values) > 1:
        raise UserError(
            f"{file.name} holds the values {listed_values(values)}, but a mask is 0 and one other value; if it is a label map "
            "of several classes, give it as --labels"
        )
    if values and values[0] < 0:
        raise UserError(f"{file.name} holds the value {values[0]}; a mask is 0 and one value above 0")


def overlap_warning(cases: Iterable[Sequence[str]]) -> str | None:
    """One sentence about the overlaps of all cases (:func:`painted`); None where there are none.

    >>> overlap_warning([["liver and tumour"], [], ["liver and tumour"]])
    'masks overlap in 2 cases, and the later one of --masks counts there: liver and tumour (2 cases)'
    """
    found = [pairs for pairs in cases if pairs]
    counts: dict[str, int] = {}
    for pair in (pair for pairs in found for pair in pairs):
        counts[pair] = counts.get(pair, 0) + 1
    if not found:
        return None
    named = [f"{pair} ({_cases(n)})" for pair, n in sorted(counts.items(), key=lambda item: -item[1])]
    what = listed(named, MOST_NAMED)
    return f"masks overlap in {_cases(len(found))}, and the later one of --masks counts there: {what}"


def _cases(count: int) -> str:
    return f"{count} case{'' if count == 1 else 's'}"
