"""What a fold's prediction of a case shows of its own quality, without a reference: a row of numbers for every class or region.

Everything is summed up while the logits pass by, slab by slab, on the network's grid, and where prediction mirrors its tiles, pass by
pass. The most telling one is how far the mirrored passes agree.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from scipy.special import logit
from torch import Tensor

from unetrpp.dataset.labels import LabelScheme
from unetrpp.inference.averaging import decide_logits, fold_probabilities
from unetrpp.inference.export import split_slabs

OVERLAP_FEATURES = ("expected overlap", "expected precision", "expected recall")
SHAPE_FEATURES = ("volume", "compactness", "doubt at the boundary")
PASS_FEATURES = ("agreement of mirrored passes", "spread of their volumes")
SMALLEST = 1e-4  # of shares, and of sums of doubts: logarithms stay finite


class CaseFeatures:
    """Sums over a case, of every fold.

    Args:
        scheme: the labels.
        image: (C, Z, Y, X) on the network's grid, as the network takes it.
        voxel_mm3: volume of a voxel of that grid.
        mirrored: whether prediction mirrors tiles, and ``passes`` takes every pass.
    """

    def __init__(self, scheme: LabelScheme, image: np.ndarray, voxel_mm3: float, *, mirrored: bool):
        self._scheme, self._image, self._voxel_mm3 = scheme, image, voxel_mm3
        self.passes = PassAgreement(scheme) if mirrored else None
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
        found += [] if self.passes is None else self.passes.columns()
        rows: np.ndarray = np.stack(found, axis=-1)
        rows[voxels == 0] = np.nan
        return rows


class PassAgreement:
    """How far the mirrored passes of every tile agree with the one that is not mirrored, over all tiles."""

    def __init__(self, scheme: LabelScheme):
        self._scheme, self._inside = scheme, torch.from_numpy(contains(scheme))
        self._first: Tensor | None = None  # decisions (F, *patch) of the pass that is not mirrored
        self._pairs: Tensor | None = None  # voxels (F, decisions, decisions): of the first pass by those of the others
        self._sizes: dict[tuple[int, ...], Tensor] = {}  # mirrored axes -> voxels (F, decisions)

    def add(self, logits: Tensor, axes: Sequence[int]) -> None:
        """A pass of a tile: its logits (F, K, *patch), mirrored back, and the axes along which it was mirrored. The pass that is
        not mirrored comes first."""
        logits = logits.cpu() if logits.device.type == "mps" else logits  # which has no float64
        decided = torch.stack([decide_logits(fold, self._scheme) for fold in logits]).flatten(1).long()
        count = self._inside.shape[1]
        sizes = _histograms(decided, count)
        before = self._sizes.get(tuple(axes))
        self._sizes[tuple(axes)] = sizes if before is None else before + sizes
        if not axes:
            self._first = decided
        elif self._first is not None:
            pairs = _histograms(self._first * count + decided, count * count)
            self._pairs = pairs if self._pairs is None else self._pairs + pairs

    def columns(self) -> list[np.ndarray]:
        """The features of PASS_FEATURES, (F, classes) each."""
        if self._pairs is None:
            raise ValueError("no mirrored pass has come")
        count = self._inside.shape[1]
        pairs = self._pairs.cpu().double().unflatten(1, (count, count))
        both = torch.einsum("ca,cb,fab->fc", self._inside, self._inside, pairs)
        sizes = pairs.sum(dim=2) @ self._inside.T + pairs.sum(dim=1) @ self._inside.T
        volumes = torch.stack([found.cpu().double() @ self._inside.T for found in self._sizes.values()])
        with np.errstate(invalid="ignore", divide="ignore"):
            agreement = (2 * both / sizes).numpy()
            spread = (volumes.std(dim=0, correction=0) / volumes.mean(dim=0)).numpy()
        return [logit(np.clip(agreement, SMALLEST, 1 - SMALLEST)), np.log(spread + SMALLEST)]


def _histograms(values: Tensor, count: int) -> Tensor:
    """How often each of 0 .. ``count`` - 1 is in every row of ``values`` (F, n): (F, count)."""
    rows = values + count * torch.arange(len(values), device=values.device)[:, None]
    if values.device.type == "cpu":
        return torch.bincount(rows.flatten(), minlength=count * len(values)).view(len(values), count)
    ones = torch.ones((), dtype=torch.float64, device=values.device).expand(rows.numel())
    sums = torch.zeros(count * len(values), dtype=torch.float64, device=values.device)
    return sums.scatter_add_(0, rows.flatten(), ones).view(len(values), count)  # bincount would wait for the device


def contains(scheme: LabelScheme) -> np.ndarray:
    """(classes, decisions) of 0 and 1: whether a decision, as ``LabelScheme.decode`` takes it, lies in a scored class or region.

    >>> contains(LabelScheme(names=("background", "a", "b"), values=(0, 1, 2)))
    array([[0., 1., 0.],
           [0., 0., 1.]])
    """
    inside = [[set(part.members) <= set(whole.members) for part in scheme.targets] for whole in scheme.targets]
    return np.pad(np.array(inside, np.float64), ((0, 0), (1, 0)))


def feature_names(channels: int, *, mirrored: bool) -> tuple[str, ...]:
    """Of the columns of :meth:`CaseFeatures.rows`, of an image with so many channels."""
    intensities = [f"{what} of channel {c}" for c in range(channels) for what in ("mean", "spread")]
    return (*OVERLAP_FEATURES, *SHAPE_FEATURES, *intensities, *(PASS_FEATURES if mirrored else ()))
