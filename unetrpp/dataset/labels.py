"""The labels of a dataset: the user's values outside, 0..K-1 inside, regions and the ignore label."""

from collections.abc import Sequence

import numpy as np

from unetrpp.core.errors import UserError
from unetrpp.core.files import Record

COUNTABLE = 1 << 16  # label values up to here are counted
PART = 1 << 20  # voxels counted at a time: NumPy widens them to 8 bytes each


class Region(Record, frozen=True, kw_only=True):
    """A named union of labels, trained with a sigmoid of its own (nnU-Net's region-based training)."""

    name: str
    members: tuple[int, ...]  # training indices
    value: int  # the user's value written where this region wins


class LabelScheme(Record, frozen=True, kw_only=True):
    """How label values map to what the network learns.

    ``values[i]`` is the user's value of training index ``i``; index 0 is background. The ignore label has no output
    channel and is stored as index ``len(values)``. Without regions the output is a softmax over ``values``.
    """

    names: tuple[str, ...]
    values: tuple[int, ...]
    ignore_value: int | None = None
    regions: tuple[Region, ...] = ()

    @property
    def ignore_index(self) -> int | None:
        return None if self.ignore_value is None else len(self.values)

    @property
    def outputs(self) -> int:
        """Channels of the network's output."""
        return len(self.regions) or len(self.values)

    @property
    def foreground(self) -> tuple[int, ...]:
        """Training indices of the foreground classes."""
        return tuple(range(1, len(self.values)))

    @property
    def known_values(self) -> tuple[int, ...]:
        return self.values if self.ignore_value is None else (*self.values, self.ignore_value)

    def segments(self) -> dict[str, tuple[int, ...]]:
        """Foreground class or region -> the values of a predicted segmentation that lie in it.

        A voxel carries the value of the last region that won, and lies in every region that contains that one.

        >>> LabelScheme(names=("background", "liver"), values=(0, 5)).segments()
        {'liver': (5,)}
        """
        if not self.regions:
            return {self.names[k]: (self.values[k],) for k in self.foreground}
        return {
            whole.name: tuple(part.value for part in self.regions if set(part.members) <= set(whole.members))
            for whole in self.regions
        }

    def encode(self, array: np.ndarray) -> np.ndarray:
        """User's values -> training indices (uint8, or int16 above 255 classes). Values must be known ones."""
        dtype = np.uint8 if len(self.known_values) <= 255 else np.int16
        if self.known_values == tuple(range(len(self.known_values))):
            return array.astype(dtype)
        order = np.argsort(self.known_values)
        return order.astype(dtype)[np.searchsorted(np.array(self.known_values)[order], array)]

    def decode(self, array: np.ndarray) -> np.ndarray:
        """Training indices -> the user's values, in the smallest type that holds them.

        With regions, ``array`` holds 0 for background and i + 1 where region i won.
        """
        table = np.array([0, *(r.value for r in self.regions)] if self.regions else self.values)
        return table.astype(np.min_scalar_type(int(table.max())) if table.min() >= 0 else np.int32)[array]


def value_counts(array: np.ndarray) -> dict[int, int]:
    """Voxels of every value of an integer array, in order; by counting where the values are small (a sort is slow)."""
    if array.min() >= 0 and (highest := int(array.max())) <= COUNTABLE:
        flat, counts = array.reshape(-1), np.zeros(highest + 1, np.intp)
        for start in range(0, flat.size, PART):
            counts += np.bincount(flat[start : start + PART].astype(np.intp), minlength=len(counts))
        return {int(v): int(counts[v]) for v in np.flatnonzero(counts)}
    values, numbers = np.unique(array, return_counts=True)
    return dict(zip(values.tolist(), numbers.tolist(), strict=True))


def present_values(array: np.ndarray) -> list[int]:
    """Sorted values of an integer array."""
    return list(value_counts(array))


def label_table(scheme: LabelScheme, pairs: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """What every training index becomes when ``pairs`` (left, right) of them change places.

    >>> label_table(LabelScheme(names=("background", "left", "right"), values=(0, 1, 2)), [(1, 2)])
    (0, 2, 1)
    """
    table = list(range(len(scheme.known_values)))
    for left, right in pairs:
        table[left], table[right] = right, left
    return tuple(table)


def output_table(scheme: LabelScheme, labels: Sequence[int]) -> tuple[int, ...]:
    """The same for the output's channels: classes, or regions by their members.

    Raises:
        UserError: a region becomes something that is no region.
    """
    if not scheme.regions:
        return tuple(labels[: len(scheme.values)])
    members = [frozenset(region.members) for region in scheme.regions]
    mirrored = [frozenset(labels[m] for m in region) for region in members]
    for region, twin in zip(scheme.regions, mirrored, strict=True):
        if twin not in members:
            raise UserError(f"region {region.name!r} has no twin on the other side; leave out --mirror exchange")
    return tuple(members.index(twin) for twin in mirrored)
