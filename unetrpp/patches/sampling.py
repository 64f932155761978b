"""Where training patches are drawn: a case and a place in it, with a share of patches forced onto each class in turn."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from unetrpp.preprocessing.store import ANNOTATED, StoredCase

# A forced voxel lies in the central half of its patch. Always at the exact centre, its position would be learned.
JITTER = 0.25  # of the patch, to either side

Sampling = Literal["class_first", "case_first"]


@dataclass(frozen=True)
class PatchDraw:
    """A patch of ``size`` centred on voxel ``center`` of case ``case`` (all in plan order)."""

    case: str
    center: tuple[int, int, int]
    foreground: int | None  # the class that the patch was forced onto


class PatchSampler:
    """Draws patches from stored cases.

    The start of a random patch is uniform over all places where the patch fits into the case, as in nnU-Net 2.8.1. With an
    ignore label random patches are centred on annotated voxels instead, since nothing can be learned from a patch
    without any.

    A forced patch holds a voxel of some foreground class. How it is drawn is ``sampling``:

    - ``class_first``: a class (uniformly over those that occur), then a case that has it, then one of its voxels, which lies
      in the central half of the patch. The patch lies inside the case.
    - ``case_first``, as in nnU-Net 2.8.1: a case, then one of its classes, then one of its voxels, which is the centre. The
      patch may reach beyond the end of an axis, but not beyond its start. In a case without foreground it is a random one.

    With the case first, a class that few cases have hardly ever appears.

    Args:
        patch: voxels (z, y, x).
        foreground_fraction: share of the patches that are forced.
        ignore: training index of the ignore label, which is never drawn as a class.
    """

    def __init__(
        self,
        cases: Sequence[StoredCase],
        patch: tuple[int, int, int],
        foreground_fraction: float,
        ignore: int | None,
        *,
        sampling: Sampling = "class_first",
    ):
        self.cases = list(cases)
        self.patch = patch
        self.fraction = foreground_fraction
        self.ignore = ignore
        having: dict[int, list[StoredCase]] = {}
        for case in self.cases:
            for c in case.classes:
                having.setdefault(c, []).append(case)
        self.having = {c: having[c] for c in sorted(having) if c != ignore}
        self.forced = self._class_first if sampling == "class_first" else self._case_first

    def draw(self, rng: np.random.Generator, batch_size: int) -> list[PatchDraw]:
        """Draw a batch whose last ``foreground_fraction`` is forced; in a batch of one it is the probability to be forced."""
        forced_from = round(batch_size * (1 - self.fraction)) if batch_size > 1 else int(rng.random() >= self.fraction)
        return [
            self.forced(rng) if self.having and sample >= forced_from else self.anywhere(rng, self._case(rng))
            for sample in range(batch_size)
        ]

    def _case(self, rng: np.random.Generator) -> StoredCase:
        return self.cases[rng.integers(len(self.cases))]

    def anywhere(self, rng: np.random.Generator, case: StoredCase) -> PatchDraw:
        lowest, highest = self._starts(case)
        if case.has_annotated:
            start = np.clip(self._centred_on(case.draw_voxel(rng, ANNOTATED)), lowest, highest)
        else:
            start = rng.integers(lowest, highest + 1)
        return self._place(case, start, None)

    def _class_first(self, rng: np.random.Generator) -> PatchDraw:
        foreground = list(self.having)[rng.integers(len(self.having))]
        having = self.having[foreground]
        case = having[rng.integers(len(having))]
        voxel = case.draw_voxel(rng, foreground)
        shift = rng.uniform(-JITTER, JITTER, 3) * (np.array(self.patch) - 1)  # 0 along the z axis of a 2D patch
        nearest = np.floor(voxel + shift + 0.5).astype(int)
        return self._place(case, np.clip(self._centred_on(nearest), *self._starts(case)), foreground)

    def _case_first(self, rng: np.random.Generator) -> PatchDraw:
        case = self._case(rng)
        classes = [c for c in case.classes if c != self.ignore]
        if not classes:
            return self.anywhere(rng, case)
        foreground = classes[rng.integers(len(classes))]
        start = self._centred_on(case.draw_voxel(rng, foreground))
        return self._place(case, np.maximum(start, self._starts(case)[0]), foreground)

    def _starts(self, case: StoredCase) -> tuple[np.ndarray, np.ndarray]:
        """The lowest and the highest start (z, y, x) of a patch in a case.

        Along an axis where the patch is larger, the case lies in its middle; if the difference is odd, that are two places.
        """
        room = np.array(case.shape) - self.patch
        return np.where(room < 0, room // 2, 0), np.where(room < 0, -(-room // 2), room)

    def _centred_on(self, voxel: np.ndarray) -> np.ndarray:
        start: np.ndarray = voxel - np.array(self.patch) // 2
        return start

    def _place(self, case: StoredCase, start: np.ndarray, foreground: int | None) -> PatchDraw:
        z, y, x = (int(s) + p // 2 for s, p in zip(start, self.patch, strict=True))
        return PatchDraw(case.case, (z, y, x), foreground)
