"""Where training patches are drawn: a case and a centre, with a share of patches centred on each class in turn."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unetrpp.preprocessing.store import ANNOTATED, StoredCase

# A forced voxel lies in the central half of its patch. Always at the exact centre, its position would be learned.
JITTER = 0.25  # of the patch, to either side


@dataclass(frozen=True)
class PatchDraw:
    """A patch of ``size`` centred on voxel ``center`` of case ``case`` (all in plan order)."""

    case: str
    center: tuple[int, int, int]
    foreground: int | None  # the class the patch was centred on


class PatchSampler:
    """Draws patches from stored cases.

    A forced patch is centred near a voxel of some foreground class. First the class is drawn (uniformly over those that
    occur), then a case that has it, then one of its voxels: if the case came first, a class that few cases have would
    hardly ever appear. With an ignore label the other patches are centred on annotated voxels, since nothing can be
    learned from a patch without any.

    Args:
        patch: voxels (z, y, x).
        foreground_fraction: share of the patches that are forced.
        ignore: training index of the ignore label, which is never drawn as a class.
    """

    def __init__(
        self, cases: Sequence[StoredCase], patch: tuple[int, int, int], foreground_fraction: float, ignore: int | None
    ):
        self.cases = list(cases)
        self.patch = patch
        self.fraction = foreground_fraction
        having: dict[int, list[StoredCase]] = {}
        for case in self.cases:
            for c in case.classes:
                having.setdefault(c, []).append(case)
        self.having = {c: having[c] for c in sorted(having) if c != ignore}

    def draw(self, rng: np.random.Generator, batch_size: int) -> list[PatchDraw]:
        """Draw a batch whose last ``foreground_fraction`` is forced; in a batch of one it is the probability to be forced."""
        forced_from = round(batch_size * (1 - self.fraction)) if batch_size > 1 else int(rng.random() >= self.fraction)
        return [
            self._foreground(rng) if self.having and sample >= forced_from else self._anywhere(rng)
            for sample in range(batch_size)
        ]

    def _anywhere(self, rng: np.random.Generator) -> PatchDraw:
        case = self.cases[rng.integers(len(self.cases))]
        if case.has_annotated:
            return PatchDraw(case.case, self._inside(case, case.draw_voxel(rng, ANNOTATED)), None)
        return PatchDraw(case.case, self._inside(case, [rng.random() * n - 0.5 for n in case.shape]), None)

    def _foreground(self, rng: np.random.Generator) -> PatchDraw:
        foreground = list(self.having)[rng.integers(len(self.having))]
        having = self.having[foreground]
        case = having[rng.integers(len(having))]
        voxel = case.draw_voxel(rng, foreground)
        shift = rng.uniform(-JITTER, JITTER, 3) * (np.array(self.patch) - 1)  # 0 along the z axis of a 2D patch
        return PatchDraw(case.case, self._inside(case, voxel + shift), foreground)

    def _inside(self, case: StoredCase, center: Sequence[float] | np.ndarray) -> tuple[int, int, int]:
        """The nearest centre whose patch lies inside the case; along an axis where the patch is larger, the case's centre."""
        z, y, x = (
            int(np.clip(math.floor(c + 0.5), p // 2, max(n - p + p // 2, p // 2))) if n > p else n // 2
            for c, n, p in zip(center, case.shape, self.patch, strict=True)
        )
        return z, y, x
