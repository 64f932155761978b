"""A bounded random sample of the voxels of the cross-validation: their probabilities, their true class, and their weight.

Most voxels of an image are predicted right and with certainty, and tell little. So of each case two groups are sampled apart: those
voxels, and all others. A voxel's weight is the size of its group divided by how many of it were taken, so that weighted sums
estimate those over all voxels without bias.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unetrpp.dataset.labels import LabelScheme

MOST_DOUBTFUL, MOST_SURE = 20_000, 2_000  # voxels of a case
MOST_VALUES = 1 << 17  # probabilities of a case in a group, so fewer voxels where there are many classes
MOST_POOLED = 1 << 25  # probabilities of all cases together
SURE = 0.999  # probability of what is true from which on a voxel is sure
FLOOR = 1e-7  # of a probability: float32 does not resolve what is closer to 1


@dataclass(frozen=True)
class VoxelSample:
    """Sampled voxels.

    Attributes:
        logits: float32 (n, K), logarithms of the class probabilities; with regions log(p / (1 - p)) of each.
        truth: (n,), training indices.
        weight: float64 (n,), how many voxels each stands for.
    """

    logits: np.ndarray
    truth: np.ndarray
    weight: np.ndarray

    @classmethod
    def joined(cls, samples: Sequence["VoxelSample"], most_values: int = MOST_POOLED) -> "VoxelSample":
        """All of ``samples``; a random part of them where they are too many, with weights raised accordingly."""
        logits, truth, weight = (
            np.concatenate([getattr(sample, name) for sample in samples]) for name in ("logits", "truth", "weight")
        )
        most = max(1, most_values // logits.shape[1])
        if len(truth) <= most:
            return cls(logits, truth, weight)
        kept = np.sort(np.random.default_rng(0).choice(len(truth), most, replace=False))
        return cls(logits[kept], truth[kept], weight[kept] * (len(truth) / most))


class VoxelSampler:
    """Takes the sample of one case while its probabilities arrive in slabs; how they are cut into slabs changes nothing.

    Every voxel gets a random number, and the voxels with the lowest are kept.
    """

    def __init__(self, scheme: LabelScheme, seed: int):
        self._scheme, self._rng = scheme, np.random.default_rng(seed)
        within = MOST_VALUES // scheme.outputs
        self._groups = [_Group(min(most, within)) for most in (MOST_DOUBTFUL, MOST_SURE)]

    def add(self, probabilities: np.ndarray, truth: np.ndarray) -> None:
        """Voxels that follow the earlier ones: probabilities (K, n) and training indices (n,). Unknown ones do not count."""
        keys = self._rng.random(len(truth), np.float32)
        known = self._scheme.known(truth)
        probabilities, truth, keys = probabilities[:, known], truth[known], keys[known]
        sure = is_sure(probabilities, truth, self._scheme)
        for group, members in zip(self._groups, (~sure, sure), strict=True):
            group.add(keys[members], probabilities[:, members], truth[members])

    def sample(self) -> VoxelSample:
        parts = [group.sample(self._scheme) for group in self._groups]
        return VoxelSample.joined(parts)


def is_sure(probabilities: np.ndarray, truth: np.ndarray, scheme: LabelScheme) -> np.ndarray:
    """(n,) bool: everything that is true has a probability above 0.999. ``probabilities`` (K, n), ``truth`` (n,)."""
    if scheme.overlapping:
        right = np.where(scheme.membership()[:, truth], probabilities, 1 - probabilities)
    else:
        right = np.take_along_axis(probabilities, truth[None].astype(np.intp), axis=0)
    sure: np.ndarray = np.all(right > SURE, axis=0)
    return sure


class _Group:
    def __init__(self, most: int):
        self._most, self._count = most, 0
        self._keys: np.ndarray = np.zeros(0, np.float32)
        self._probabilities: np.ndarray | None = None
        self._truth: np.ndarray = np.zeros(0, np.int16)

    def add(self, keys: np.ndarray, probabilities: np.ndarray, truth: np.ndarray) -> None:
        self._count += len(keys)
        if len(self._keys) == self._most:  # nothing above the highest kept key can stay
            low = keys < self._keys.max()
            keys, probabilities, truth = keys[low], probabilities[:, low], truth[low]
        earlier = probabilities[:, :0] if self._probabilities is None else self._probabilities
        keys = np.concatenate([self._keys, keys])
        order = np.argsort(keys, kind="stable")[: self._most]
        self._keys = keys[order]
        self._probabilities = np.concatenate([earlier, probabilities], axis=1)[:, order]
        self._truth = np.concatenate([self._truth, truth.astype(np.int16)])[order]

    def sample(self, scheme: LabelScheme) -> VoxelSample:
        found = np.zeros((scheme.outputs, 0)) if self._probabilities is None else self._probabilities
        p = np.clip(found.T.astype(np.float64), FLOOR, 1 - FLOOR if scheme.overlapping else 1)
        logits = np.log(p / (1 - p)) if scheme.overlapping else np.log(p)
        weight = np.full(len(p), self._count / max(len(p), 1))
        return VoxelSample(logits.astype(np.float32), self._truth, weight)
