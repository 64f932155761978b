"""What a fold's prediction of a case shows of its own quality, without a reference: a row of numbers for every class or region.

Everything is summed up while the logits pass by, slab by slab, on the network's grid.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from scipy.special import logit
from torch import Tensor

from unetrpp.dataset.labels import LabelScheme
from unetrpp.inference.averaging import decide_logits, fold_probabilities
from unetrpp.inference.export import split_slabs

OVERLAP_FEATURES = ("expected overlap", "expected precision", "expected recall")
SHAPE_FEATURES = ("volume", "compactness", "doubt at the boundary")
SMALLEST = 1e-4  # of shares, and of sums of doubts: logarithms stay finite


class CaseFeatures:
    """Sums over a case, of every fold.

    Args:
        scheme: the labels.
        image: (C, Z, Y, X) on the network's grid, as the network takes it.
        voxel_mm3: volume of a voxel of that grid.
    """

    def __init__(self, scheme: LabelScheme, image: np.ndarray, voxel_mm3: float):
        self._scheme, self._image, self._voxel_mm3 = scheme, image, voxel_mm3
        self._inside = torch.from_numpy(contains(scheme))
        self._sums: Tensor | None = None  # (F, 5 + 2C, classes)
        self._last: Tensor | None = None  # decisions (F, 1, Y, X) of the slice before
        self._slices = 0

    def watch(self, slabs: Iterable[Tensor]) -> Iterator[Tensor]:
        """The same slabs of logits (F, K, n, Y, X), in z order; each is summed up as it passes."""
        for slab in slabs:
            for part in split_slabs([slab]):
                sums = self._sums_of(part)
                self._sums = sums if self._sums is None else self._sums + sums
            yield slab

    def _sums_of(self, logits: Tensor) -> Tensor:
        logits = logits.cpu() if logits.device.type == "mps" else logits  # which has no float64
        slices = slice(self._slices, self._slices + logits.shape[2])
        image = torch.from_numpy(np.ascontiguousarray(self._image[:, slices])).to(logits.device)
        decisions = torch.stack([decide_logits(fold, self._scheme) for fold in logits]).long()
        before = decisions[:, :0] if self._last is None else self._last
        probabilities = fold_probabilities(logits, self._scheme)
        folds = zip(decisions, before, probabilities, strict=True)
        sums = torch.stack([self._sums_of_fold(*fold, image) for fold in folds])
        self._last, self._slices = decisions[:, -1:].clone(), slices.stop
        return sums

    def _sums_of_fold(self, decided: Tensor, before: Tensor, probability: Tensor, image: Tensor) -> Tensor:
        """(5 + 2C, classes), of decisions (n, Y, X) that follow the slice ``before``, probabilities (K, n, Y, X) and the image
        (C, n, Y, X): voxels, their probability, all probability, doubt p (1 - p), faces, and intensities and their squares."""
        inside = self._inside.to(decided.device)

        def sums(values: Tensor | None) -> Tensor:
            weights = None if values is None else values.flatten().double()
            return inside @ torch.bincount(decided.flatten(), weights, minlength=inside.shape[1]).double()

        if self._scheme.overlapping:
            masks = (part.bool()[decided] for part in inside)
            true = torch.stack([p[mask].sum(dtype=torch.float64) for p, mask in zip(probability, masks, strict=True)])
        else:
            true = sums(probability.gather(0, decided[None]))
            probability = probability[1:]  # background is not scored
        whole = probability.flatten(1).sum(dim=1, dtype=torch.float64)
        doubt = whole - probability.flatten(1).square().sum(dim=1, dtype=torch.float64)
        rows = [sums(None), true, whole, doubt, self._faces(torch.cat([before, decided]), len(before))]
        rows += [sums(power) for channel in image for power in (channel, channel.square())]
        return torch.stack(rows).cpu()

    def _faces(self, decided: Tensor, seen: int) -> Tensor:
        """(classes,): pairs of neighbours of which one is inside. Of the first ``seen`` slices only those to the next slice count."""
        count = self._inside.shape[1]
        pairs = torch.zeros(count * count, dtype=torch.float64, device=decided.device)
        for axis, array in ((0, decided), (1, decided[seen:]), (2, decided[seen:])):
            a, b = array.narrow(axis, 0, array.shape[axis] - 1), array.narrow(axis, 1, array.shape[axis] - 1)
            differ = a != b
            pairs += torch.bincount(a[differ] * count + b[differ], minlength=count * count)
        inside = self._inside.to(decided.device)
        one = (inside[:, :, None] != inside[:, None, :]).double().flatten(1)
        return one @ pairs

    def rows(self) -> np.ndarray:
        """Features (F, classes, P): those of ``feature_names``. NaN where a fold predicts nothing of a class.

        Raises:
            ValueError: no slab has passed.
        """
        if self._sums is None:
            raise ValueError("no slab has passed")
        voxels, true, probable, doubt, faces, *intensities = self._sums.numpy().transpose(1, 0, 2)
        with np.errstate(invalid="ignore", divide="ignore"):
            shares = [2 * true / (voxels + probable), true / voxels, true / probable]
            found = [logit(np.clip(share, SMALLEST, 1 - SMALLEST)) for share in shares]
            found.append(np.log(voxels * self._voxel_mm3))
            found.append(np.log((faces + 1) / voxels ** (2 / 3)))
            found.append(np.log((doubt + SMALLEST) / (faces + 1)))
            for total, squares in zip(intensities[::2], intensities[1::2], strict=True):
                mean = total / voxels
                found += [mean, np.sqrt(np.maximum(squares / voxels - mean**2, 0))]
        rows: np.ndarray = np.stack(found, axis=-1)
        rows[voxels == 0] = np.nan
        return rows


def contains(scheme: LabelScheme) -> np.ndarray:
    """(classes, decisions) of 0 and 1: whether a decision, as ``LabelScheme.decode`` takes it, lies in a scored class or region.

    >>> contains(LabelScheme(names=("background", "a", "b"), values=(0, 1, 2)))
    array([[0., 1., 0.],
           [0., 0., 1.]])
    """
    inside = [[set(part.members) <= set(whole.members) for part in scheme.targets] for whole in scheme.targets]
    return np.pad(np.array(inside, np.float64), ((0, 0), (1, 0)))


def feature_names(channels: int) -> tuple[str, ...]:
    """Of the columns of :meth:`CaseFeatures.rows`, of an image with so many channels."""
    intensities = [f"{what} of channel {c}" for c in range(channels) for what in ("mean", "spread")]
    return (*OVERLAP_FEATURES, *SHAPE_FEATURES, *intensities)
