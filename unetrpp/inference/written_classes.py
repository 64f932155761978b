"""The classes that are written: all, or those of ``--classes``. The others become background once all else is decided."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from msgspec.structs import replace

from unetrpp.core.errors import UserError
from unetrpp.core.text import listed
from unetrpp.dataset.labels import LabelScheme, value_counts
from unetrpp.inference.guards import class_voxels


@dataclass(frozen=True)
class WrittenClasses:
    """Which foreground classes, or regions, of a model are written.

    Args:
        model: all labels of the model.
        names: of those that are written, in the model's order; empty: all.
    """

    model: LabelScheme
    names: tuple[str, ...] = ()

    @classmethod
    def choose(cls, model: LabelScheme, names: Sequence[str]) -> "WrittenClasses":
        """Those of ``names``, in any order; all where they are empty or name all.

        Raises:
            UserError: there is no such class or region.
        """
        known = [target.name for target in model.targets]
        unknown = next((name for name in names if name not in known), None)
        if unknown is not None:
            what = "region" if model.overlapping else "foreground class"
            raise UserError(f"--classes names {unknown!r}, which is no {what}; there is {listed(known, 20)}")
        chosen = tuple(name for name in known if name in names)
        return cls(model, () if chosen == tuple(known) else chosen)

    @property
    def channels(self) -> tuple[int, ...]:
        """Output channels of the probability maps."""
        every = enumerate(self.model.output_channels)
        return tuple(k for k, channel in every if not self.names or channel.name in self.names)

    @property
    def labels(self) -> LabelScheme:
        """The labels of a segmentation that :meth:`apply` made."""
        model = self.model
        if not self.names:
            return model
        if model.overlapping:
            return replace(model, regions=tuple(region for region in model.regions if region.name in self.names))
        kept = [i for i, name in enumerate(model.names) if i == 0 or name in self.names]
        return replace(model, names=tuple(model.names[i] for i in kept), values=tuple(model.values[i] for i in kept))

    def apply(self, array: np.ndarray) -> np.ndarray:
        """A segmentation (Z, Y, X) of the user's values with background in place of the other classes.

        A voxel of a region that is not written gets the value of the last written one that contains it.
        """
        if not self.names:
            return array
        new = {part.value: self._written_value(part.members) for part in self.model.targets}
        found = np.zeros_like(array)
        for value, written in new.items():
            if written:
                found[array == value] = written
        return found

    def _written_value(self, members: Sequence[int]) -> int:
        """The value in place of that of the class or region with these training indices; 0 where none contains it."""
        containing = [
            whole.value
            for whole in self.model.targets
            if whole.name in self.names and set(members) <= set(whole.members)
        ]
        return containing[-1] if containing else 0

    def voxels(self, array: np.ndarray) -> dict[str, int]:
        """Voxels (pixels of a photograph) of every written label, or of every region where ``names`` chose some, by name."""
        labels = self.labels
        if not (self.names and labels.overlapping):
            return class_voxels(array, labels)
        counts = value_counts(array)
        return {name: sum(counts.get(value, 0) for value in values) for name, values in labels.segments().items()}
