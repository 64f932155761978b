"""Label values as one byte each: the classes that a page can show, and the code of a voxel that is in none of them."""

from dataclasses import dataclass

import numpy as np

from unetrpp.core.errors import UserError
from unetrpp.dataset.labels import LabelScheme

BACKGROUND, IGNORED = 0, 255
MOST_CLASSES = 254


@dataclass(frozen=True)
class LabelCodes:
    """Class i of ``names`` has the code i + 1 and the value ``values[i]`` in files.

    The classes are those of the labels, and regions whose value in a prediction is no label's.
    """

    names: tuple[str, ...]
    values: tuple[int, ...]
    background: int
    ignored: int | None

    @classmethod
    def of(cls, labels: LabelScheme) -> "LabelCodes":
        others = [region for region in labels.regions if region.value not in labels.values]
        return cls(
            names=(*(labels.names[i] for i in labels.foreground), *(region.name for region in others)),
            values=(*(labels.values[i] for i in labels.foreground), *(region.value for region in others)),
            background=labels.values[0],
            ignored=labels.ignore_value,
        )

    def encode(self, array: np.ndarray, what: str) -> np.ndarray:
        """The values of ``what`` (a prediction or a reference) as codes, uint8.

        Raises:
            UserError: there are too many classes for a byte, or a value that is none of them.
        """
        if len(self.values) > MOST_CLASSES:
            raise UserError(f"pictures show at most {MOST_CLASSES} classes, and there are {len(self.values)}")
        table = {self.background: BACKGROUND} | {value: i for i, value in enumerate(self.values, start=1)}
        if self.ignored is not None:
            table[self.ignored] = IGNORED
        known = np.array(sorted(table))
        place = np.searchsorted(known, array).clip(max=len(known) - 1)
        unknown = array[known[place] != array]
        if unknown.size:
            raise UserError(f"the {what} holds the value {unknown[0]}, which is not in dataset.json; remap the file")
        codes: np.ndarray = np.array([table[value] for value in known.tolist()], np.uint8)[place]
        return codes
