"""The arg-max of interpolated mean probabilities (or logits), without interpolating every class everywhere.

Linear interpolation and the mean over folds are convex combinations: where all folds decide for the same class at all
voxels that an output is interpolated from, that class is the output's decision. Only the other outputs, near boundaries,
need probabilities.
"""

import itertools
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from unetrpp.dataset.labels import LabelScheme
from unetrpp.inference.averaging import Averaging, arg_max, decide_logits, fold_probabilities, last_above, mean_logits
from unetrpp.inference.taps import Taps

UNSURE = -1

AllTaps = tuple[Taps, Taps, Taps]


@dataclass(frozen=True)
class Rule:
    """What is averaged over folds and interpolated, and how it is decided."""

    scheme: LabelScheme
    averaging: Averaging

    def mean(self, logits: Tensor) -> Tensor:
        """(F, K, ...) -> (K, ...); of logits there is one already."""
        return logits[0] if self.averaging == "logits" else fold_probabilities(logits, self.scheme).mean(dim=0)

    def rounded(self, blended: Tensor) -> Tensor:
        """Interpolated logits in float16, as nnU-Net compares them: the lower class wins where they are equal then."""
        return blended.half().float() if self.averaging == "logits" else blended

    @property
    def threshold(self) -> float:
        """From which a region wins."""
        return 0.0 if self.averaging == "logits" else 0.5


@dataclass(frozen=True)
class Slab:
    """Logits (F, K, n, Y, X), and where the folds agree their decision, else UNSURE: int16 (n, Y, X)."""

    logits: Tensor
    agreed: Tensor


def decided_slabs(
    slabs: Iterable[Tensor], taps: AllTaps, scheme: LabelScheme, *, averaging: Averaging = "probabilities"
) -> Iterator[Tensor]:
    """Decisions int16 (m, Y', X') on the output grid, slab by slab, of logits (F, K, n, Y, X) in z order.

    Equal to the arg-max (or regions) of the interpolated mean probabilities, or of the interpolated mean logits, up to rounding
    at ties.
    """
    rule = Rule(scheme, averaging)
    z, y, x = taps
    last: Slab | None = None  # the last slice before the current slab: outputs between them need both
    bottom, done = 0, 0
    for logits in slabs:
        device = logits.device
        y, x = y.on(device), x.on(device)
        with one_thread(device):
            if averaging == "logits":
                logits = mean_logits(logits)[None]
            own = Slab(logits, _agreed_by_folds(logits, scheme))
            held = [own] if last is None else [last, own]
            first_held = bottom - (last is not None)
            bottom += logits.shape[2]
            ready = z.ready(bottom)
            along_z = z.part(done, ready, first_held).on(device)
            decided = _decide(held, (along_z, y, x), rule) if ready > done else None
        if decided is not None:
            yield decided
        last = Slab(logits[:, :, -1:].clone(), own.agreed[-1:])
        done = ready


class _OneThread:
    """What threads that compute with one CPU thread at the same time share: the number that the first of them found.

    ``torch.set_num_threads`` holds for the calling thread and for threads that are new to torch, so each puts the number back
    for itself; what a later one finds may be the 1 of another.
    """

    def __init__(self) -> None:
        self._lock, self._inside, self._found = threading.Lock(), 0, 0

    def enter(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._found = torch.get_num_threads()
            self._inside += 1
            torch.set_num_threads(1)

    def leave(self) -> None:
        with self._lock:
            self._inside -= 1
            torch.set_num_threads(self._found)


_ONE_THREAD = _OneThread()


@contextmanager
def one_thread(device: torch.device) -> Iterator[None]:
    """Use one CPU thread: with many short operations, waiting for a second one costs up to 30 times what it saves."""
    if device.type != "cpu":
        yield
        return
    _ONE_THREAD.enter()
    try:
        yield
    finally:
        _ONE_THREAD.leave()


def _agreed_by_folds(logits: Tensor, scheme: LabelScheme) -> Tensor:
    first, *others = (decide_logits(fold, scheme).to(torch.int16) for fold in logits)
    for other in others:
        first = torch.where(first == other, first, UNSURE)
    return first


def _decide(held: list[Slab], taps: AllTaps, rule: Rule) -> Tensor:
    decisions = torch.cat([slab.agreed for slab in held])
    for axis, along in zip((-1, -2, -3), reversed(taps), strict=True):
        decisions = along.agreeing(decisions, axis, UNSURE)
    unsure = (decisions == UNSURE).nonzero(as_tuple=True)
    if len(unsure[0]):
        decisions[unsure] = _interpolated(held, taps, unsure, rule).to(torch.int16)
    return decisions


def _interpolated(held: list[Slab], taps: AllTaps, where: tuple[Tensor, ...], rule: Rule) -> Tensor:
    """Decisions (N,) at the outputs ``where`` (three index tensors of length N)."""
    corners, weights = _corners(held, taps, where)
    cells, places = _compact(corners, sum(slab.agreed.numel() for slab in held))
    mean = rule.mean(_columns(held, cells))  # (K, cells)
    corners = [places[corner] for corner in corners]
    if rule.scheme.overlapping:
        return last_above(rule.rounded(_blend(mean, corners, weights)), rule.threshold)
    frequent = _decided_classes(held, len(mean))
    shares = rule.rounded(_blend(mean[frequent], corners, weights))
    # A class whose value is nowhere above the smallest of the maxima so far cannot win.
    rivals = mean.amax(dim=1) >= shares.amax(dim=0).min()
    rivals[frequent] = False
    others = rivals.nonzero().flatten()
    if len(others):
        shares = torch.cat([shares, rule.rounded(_blend(mean[others], corners, weights))])
        frequent, order = torch.cat([frequent, others]).sort()  # of equal values the lower class wins
        shares = shares[order]
    return frequent[arg_max(shares).long()]


def _decided_classes(held: list[Slab], classes: int) -> Tensor:
    """Classes that the folds agree on somewhere in the held slices; all classes if they agree nowhere."""
    agreed = torch.cat([slab.agreed.flatten() for slab in held]).int()
    present = (torch.bincount(agreed - UNSURE, minlength=classes - UNSURE)[-UNSURE:] > 0).nonzero().flatten()
    return present if len(present) else torch.arange(classes, device=present.device)


def _corners(held: list[Slab], taps: AllTaps, where: tuple[Tensor, ...]) -> tuple[list[Tensor], list[Tensor]]:
    """The up to eight voxels that each output is interpolated from: flat indices into the held slices, and weights."""
    shape = held[0].agreed.shape
    sides = []
    for along, index in zip(taps, where, strict=True):
        lower, upper, weight = along.lower[index], along.upper[index], along.weight[index]
        sides.append([(lower, 1 - weight)] if along.single else [(lower, 1 - weight), (upper, weight)])
    corners, weights = [], []
    for (z, wz), (y, wy), (x, wx) in itertools.product(*sides):
        corners.append((z * shape[1] + y) * shape[2] + x)
        weights.append(wz * wy * wx)
    return corners, weights


def _compact(corners: list[Tensor], cells: int) -> tuple[Tensor, Tensor]:
    """The sorted flat indices of all voxels in ``corners``, and for every voxel its position among them."""
    needed = torch.zeros(cells, dtype=torch.bool, device=corners[0].device)
    for corner in corners:
        needed[corner] = True
    used = needed.nonzero().flatten()
    places = torch.empty(cells, dtype=torch.long, device=used.device)
    places[used] = torch.arange(len(used), device=used.device)
    return used, places


def _columns(held: list[Slab], cells: Tensor) -> Tensor:
    """Logits (F, K, len(cells)) of sorted flat indices into the held slices."""
    columns, bottom = [], 0
    for slab in held:
        top = bottom + slab.agreed.numel()
        own = cells[(cells >= bottom) & (cells < top)] - bottom
        columns.append(_take(slab.logits.flatten(2), own).float())
        bottom = top
    return torch.cat(columns, dim=2)


def _blend(values: Tensor, corners: list[Tensor], weights: list[Tensor]) -> Tensor:
    """Weighted sum (K, N) of ``values`` (K, cells) at the corners."""
    total = _take(values, corners[0]).mul_(weights[0])
    for corner, weight in zip(corners[1:], weights[1:], strict=True):
        total.addcmul_(_take(values, corner), weight)
    return total


def _take(values: Tensor, index: Tensor) -> Tensor:
    """``values[..., index]``; on a CPU gather is twice as fast as index_select."""
    return values.gather(-1, index.expand(*values.shape[:-1], len(index)))
