"""Masks that mark classes by colours, as label maps."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unetrpp.core.errors import UserError
from unetrpp.core.text import counted, listed
from unetrpp.io.images import Volume, read_file

MOST_NAMED = 3  # unknown colours in a message
BLACK = 0


@dataclass(frozen=True)
class Coloured:
    """A label map from the colours of a file, each of which has to be named.

    Attributes:
        values: pairs of a colour, 0xRRGGBB, and its label value.
    """

    file: Path
    values: tuple[tuple[int, int], ...]

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.file,)

    def read(self) -> Volume:
        """
        Raises:
            UserError: the file cannot be read, has no colours of 8 bits, or one that is not named.
        """
        volume = read_file(self.file)
        array = volume.array
        if array.dtype != np.uint8 or len(array) not in (1, 3):
            found = f"{counted(len(array), 'channel')} of {8 * array.dtype.itemsize} bits"
            raise UserError(f"{self.file.name} has {found}, but colours are three of 8 bits; save it as RGB")
        red, green, blue = array.astype(np.int32) if len(array) == 3 else np.repeat(array.astype(np.int32), 3, axis=0)
        colours, places, counts = np.unique(red << 16 | green << 8 | blue, return_inverse=True, return_counts=True)
        known = dict(self.values)
        unknown = sorted(
            ((int(n), int(c)) for c, n in zip(colours, counts, strict=True) if int(c) not in known), reverse=True
        )
        if unknown:
            shown = listed([f"#{colour:06x} ({counted(n, 'pixel')})" for n, colour in unknown], MOST_NAMED)
            raise UserError(
                f"{self.file.name} has colours that --label does not name: {shown}; name them, background=#RRGGBB included, or save "
                "the mask again without smooth edges and not as JPEG, which invent colours"
            )
        table = np.array([known[int(colour)] for colour in colours], np.min_scalar_type(max(known.values())))
        return Volume(table[places].reshape(1, *red.shape), volume.geometry)
