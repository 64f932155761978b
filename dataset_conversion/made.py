"""Images and labels that are made from a file: a volume of a 4D file, other label values, axes at right angles."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unetrpp.core.errors import UserError
from unetrpp.core.text import counted
from unetrpp.dataset.labels import listed_values, present_values
from unetrpp.io.images import Volume, read_straight, read_straight_label

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Frame:
    """One volume of a file that holds several, such as a cine series with time as its fourth axis.

    Attributes:
        index: of the volume, from 0.
    """

    file: Path
    index: int

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.file,)

    def read(self) -> Volume:
        """
        Raises:
            UserError: the file cannot be read, or has no such volume.
        """
        volume = Straight(self.file).read()
        if not 0 <= self.index < len(volume.array):
            held = counted(len(volume.array), "volume")
            raise UserError(f"{self.file.name} holds {held}, so there is none of number {self.index}, from 0")
        return Volume(volume.array[self.index : self.index + 1], volume.geometry)


@dataclass(frozen=True)
class Straight:
    """A file whose axes are sheared by up to 1 degree, set at right angles as --fix does: its header changes, its voxels stay."""

    file: Path

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.file,)

    def read(self) -> Volume:
        """
        Raises:
            UserError: the file cannot be read.
        """
        volume, done = read_straight(self.file)
        if done:
            LOG.warning("warning: %s", done)
        return volume


@dataclass(frozen=True)
class Remapped:
    """A label map whose values are replaced; every value other than 0 has to be named.

    Attributes:
        values: pairs of a value in the file and the value that it gets. Ranges of gray levels are listed one by one.
    """

    file: Path
    values: tuple[tuple[int, int], ...]

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.file,)

    def read(self) -> Volume:
        """
        Raises:
            UserError: the file cannot be read, or holds a value that is not named.
        """
        volume = read_straight_label(self.file)
        return Volume(remapped(volume.array, dict(self.values), self.file), volume.geometry)


def remapped(label: np.ndarray, values: Mapping[int, int], file: Path) -> np.ndarray:
    """``label`` (any shape) with every value replaced as ``values`` says; 0 stays 0 unless it is among them.

    Raises:
        UserError: a value above or below 0 is not among them; ``file`` names the label in the message.
    """
    known = {0: 0, **values}
    found = present_values(label)
    if unknown := [value for value in found if value not in known]:
        raise UserError(
            f"{file.name} holds {listed_values(unknown)}, but only {listed_values(sorted(known))} are expected; check the download"
        )
    smallest = np.min_scalar_type(max(known[value] for value in found))
    places = np.searchsorted(found, label)
    return np.array([known[value] for value in found], smallest)[places]
