"""The labels of a dataset: values in the user's files, training indices 0..K-1, regions and the ignore label.

Training indices are -1 outside of a case (where a patch reaches over its edge).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from unetrpp.core.errors import UserError
from unetrpp.core.files import Record

if TYPE_CHECKING:  # only for annotations, so that labels can be read without importing torch
    from torch import Tensor

Indices = TypeVar("Indices", np.ndarray, "Tensor")  # training indices of any shape

COUNTABLE = 1 << 16  # label values up to here are counted, not sorted
PART = 1 << 20  # voxels counted at a time: NumPy widens them to 8 bytes each


class Region(Record, frozen=True, kw_only=True):
    """A named union of classes, or one class alone.

    Where a dataset defines regions, each is trained with its own sigmoid (nnU-Net's region-based training).
    """

    name: str
    members: tuple[int, ...]  # training indices
    value: int  # the value that predictions carry where this region wins

    def mask(self, indices: Indices) -> Indices:
        """True where training indices (array or tensor) lie in the region.

        >>> Region(name="tumour", members=(1, 3), value=1).mask(np.array([0, 1, 2, 3]))
        array([False,  True, False,  True])
        """
        first, *others = self.members
        inside: Indices = indices == first
        for member in others:
            inside = inside | (indices == member)
        return inside


class LabelScheme(Record, frozen=True, kw_only=True):
    """Which label values there are and what the network learns of them.

    ``values[i]`` is the user's value of training index ``i``; index 0 is background. The ignore label has the index
    ``len(values)`` and no output channel. Without regions the output is a softmax over the classes.
    """

    names: tuple[str, ...]
    values: tuple[int, ...]
    ignore_value: int | None = None
    regions: tuple[Region, ...] = ()

    @property
    def ignore_index(self) -> int | None:
        return None if self.ignore_value is None else len(self.values)

    @property
    def overlapping(self) -> bool:
        """Whether the network learns regions, which may overlap: a sigmoid for each instead of one softmax."""
        return bool(self.regions)

    @property
    def output_channels(self) -> tuple[Region, ...]:
        """The meaning of each channel of the network's output: the regions, or every class from background on."""
        triples = zip(self.names, range(len(self.values)), self.values, strict=True)
        return self.regions or tuple(Region(name=name, members=(i,), value=value) for name, i, value in triples)

    @property
    def targets(self) -> tuple[Region, ...]:
        """What is segmented and scored: the regions, or the foreground classes.

        >>> [target.name for target in LabelScheme(names=("background", "liver"), values=(0, 5)).targets]
        ['liver']
        """
        return self.regions or self.output_channels[1:]

    @property
    def outputs(self) -> int:
        """Number of channels of the network's output."""
        return len(self.regions) or len(self.values)

    @property
    def foreground(self) -> tuple[int, ...]:
        """Training indices of the foreground classes."""
        return tuple(range(1, len(self.values)))

    @property
    def known_values(self) -> tuple[int, ...]:
        """Every value that a label file may hold, the ignore label's last."""
        return self.values if self.ignore_value is None else (*self.values, self.ignore_value)

    def segments(self) -> dict[str, tuple[int, ...]]:
        """Foreground class or region -> the values of a predicted segmentation that belong to it.

        A predicted voxel has the value of the last region that won, and belongs to every region that contains that one.

        >>> LabelScheme(names=("background", "liver"), values=(0, 5)).segments()
        {'liver': (5,)}
        """
        return {
            whole.name: tuple(
                dict.fromkeys(part.value for part in self.targets if set(part.members) <= set(whole.members))
            )
            for whole in self.targets
        }

    def known(self, indices: Indices) -> Indices:
        """True where training indices (array or tensor) are known: inside the case, and not ignored.

        >>> LabelScheme(names=("background", "liver"), values=(0, 5), ignore_value=9).known(np.array([-1, 0, 1, 2]))
        array([False,  True,  True, False])
        """
        inside = indices >= 0
        return inside if self.ignore_index is None else inside & (indices != self.ignore_index)

    def membership(self) -> np.ndarray:
        """(outputs, classes) bool: whether the class lies in what the output channel stands for."""
        classes = range(len(self.values))
        return np.array([[i in channel.members for i in classes] for channel in self.output_channels])

    def one_class(self, array: np.ndarray) -> np.ndarray:
        """The label with every value above 0 as the one foreground class, for labels that number objects.

        The ignore label and values below 0 stay.

        >>> LabelScheme(names=("background", "cell"), values=(0, 5), ignore_value=9).one_class(np.array([0, 1, 700, 9]))
        array([0, 5, 5, 9])
        """
        objects = array > 0 if self.ignore_value is None else (array > 0) & (array != self.ignore_value)
        value = self.values[1]
        return np.where(objects, np.asarray(value, np.result_type(array, np.min_scalar_type(value))), array)

    def encode(self, array: np.ndarray) -> np.ndarray:
        """User's values -> training indices (uint8, or int16 above 255 classes). All values must be in ``known_values``."""
        dtype = np.uint8 if len(self.known_values) <= 255 else np.int16
        if self.known_values == tuple(range(len(self.known_values))):
            return array.astype(dtype)
        order = np.argsort(self.known_values)
        return order.astype(dtype)[np.searchsorted(np.array(self.known_values)[order], array)]

    def decode(self, array: np.ndarray) -> np.ndarray:
        """Decisions -> the user's values, in the smallest type that holds them.

        A decision is a training index; with regions it is 0 for background and i + 1 where region i won.
        """
        table = np.array([0, *(r.value for r in self.regions)] if self.regions else self.values)
        values: np.ndarray = table.astype(np.min_scalar_type(int(table.max())) if table.min() >= 0 else np.int32)[array]
        return values


def value_counts(array: np.ndarray) -> dict[int, int]:
    """Number of voxels of every value of an integer array, in order. Small values are counted: sorting is slower."""
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


def listed_values(values: Sequence[int], most: int = 5) -> str:
    """Label values for a message: all of a few, otherwise the first ones and how many there are.

    >>> listed_values([1]), listed_values(range(1, 38))
    ('1', '1, 2, 3, 4, 5, ... (37 values)')
    """
    shown = ", ".join(map(str, values[:most]))
    return shown if len(values) <= most else f"{shown}, ... ({len(values)} values)"


def label_table(scheme: LabelScheme, pairs: Sequence[tuple[int, int]]) -> tuple[int, ...]:
    """The training index that each one becomes (the ignore label included) when ``pairs`` (left, right) are swapped.

    >>> label_table(LabelScheme(names=("background", "left", "right"), values=(0, 1, 2)), [(1, 2)])
    (0, 2, 1)
    """
    table = list(range(len(scheme.known_values)))
    for left, right in pairs:
        table[left], table[right] = right, left
    return tuple(table)


def output_table(scheme: LabelScheme, labels: Sequence[int]) -> tuple[int, ...]:
    """The output channel that each one becomes when every training index i becomes ``labels[i]``.

    Raises:
        UserError: a region becomes a union of classes that is not a region.
    """
    members = [frozenset(channel.members) for channel in scheme.output_channels]
    mirrored = [frozenset(labels[m] for m in region) for region in members]
    for region, other in zip(scheme.output_channels, mirrored, strict=True):
        if other not in members:
            raise UserError(f"region {region.name!r} has no counterpart on the other side; leave out --mirror exchange")
    return tuple(members.index(other) for other in mirrored)
