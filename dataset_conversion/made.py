"""Images and labels that are made from a file: a volume of a 4D file, axes at right angles."""

import logging
from dataclasses import dataclass
from pathlib import Path

from unetrpp.core.errors import UserError
from unetrpp.core.text import counted
from unetrpp.io.images import Volume, read_straight

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
