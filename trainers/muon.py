"""Muon: momentum whose matrices are made orthogonal before every step, beside AdamW for all other parameters."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

ITERATIONS = 5
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic polynomial, by Jordan et al.
UPDATE_RMS = (
    0.2  # of an orthogonal update: about that of AdamW's, so that both share one rate (Liu et al., arXiv 2502.16982)
)


class Muon(torch.optim.AdamW):
    """Groups with ``orthogonal=True`` are stepped by Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon), others by AdamW.

    The weight of a convolution is a matrix with a row for each value along its first axis. Its Nesterov momentum is replaced
    by the nearest matrix with orthogonal rows or columns, times 0.2 * sqrt(longer side); weight decay is decoupled.

    ``torch.optim.Muon`` (from torch 2.9 on) takes matrices alone.

    Args:
        momentum: of the orthogonal groups.
        betas: of the others.
    """

    def __init__(
        self,
        params: Iterable[dict[str, Any]],
        lr: float,
        *,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        fused: bool = False,
    ):
        groups = [{"orthogonal": False, "momentum": momentum} | group for group in params]
        super().__init__(groups, lr=lr, betas=betas, fused=fused)
        # A fused AdamW lets its kernel skip a step with infinite gradients (fp16). The orthogonal groups have no such kernel, so
        # GradScaler leaves the whole step out.
        self._step_supports_amp_scaling = False

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step; with GradScaler the gradients must have been unscaled before."""
        assert closure is None
        groups, orthogonal = self.param_groups, [g for g in self.param_groups if g["orthogonal"]]
        self.param_groups = [group for group in groups if not group["orthogonal"]]
        try:
            super().step()
        finally:
            self.param_groups = groups
        for group in orthogonal:
            self._step(group)

    def _step(self, group: dict[str, Any]) -> None:
        parameters = [p for p in group["params"] if p.grad is not None]
        gradients = [p.grad for p in parameters]
        for p in parameters:
            if "mean" not in self.state[p]:
                # Adam's loading of a state looks at the step of every parameter.
                self.state[p] = {"mean": torch.zeros_like(p), "step": torch.zeros(())}
        means = [self.state[p]["mean"] for p in parameters]
        torch._foreach_lerp_(means, gradients, 1 - group["momentum"])
        ahead = torch._foreach_lerp(gradients, means, group["momentum"])  # Nesterov's
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(parameters, orthogonal_updates(ahead), alpha=-group["lr"])


def orthogonal_updates(gradients: Sequence[Tensor]) -> list[Tensor]:
    """For each tensor the update of its shape and strides: an orthogonal matrix, scaled.

    A GPU takes longer to start most of these kernels than to run them, so the matrices of one shape share their products, and
    all that have squares of one size share the iterations.
    """
    matrices = [as_matrix(gradient) for gradient in gradients]
    updates: dict[int, Tensor] = {}
    by_side = _grouped(min(matrix.shape) for matrix in matrices)
    for side, members in by_side.items():
        shapes = _grouped(matrices[i].shape for i in members)
        stacked = [torch.stack([matrices[members[k]] for k in of_shape]) for of_shape in shapes.values()]
        factors = orthogonalizing(torch.cat([squares(each) for each in stacked]))
        for each, factor, of_shape in zip(
            stacked, factors.split([len(s) for s in stacked]), shapes.values(), strict=True
        ):
            factor = factor * (UPDATE_RMS * max(each.shape[1:]) ** 0.5)
            product = factor @ each if each.shape[1] == side else each @ factor
            updates |= {members[k]: update for k, update in zip(of_shape, product, strict=True)}
    return [from_matrix(updates[i], gradient) for i, gradient in enumerate(gradients)]


def as_matrix(tensor: Tensor) -> Tensor:
    """A row for each value along the first axis. Columns are in the order of memory, so that channels-last weights are not copied."""
    return tensor.permute(0, *_by_stride(tensor)).flatten(1)


def from_matrix(matrix: Tensor, like: Tensor) -> Tensor:
    """The inverse of :func:`as_matrix` of ``like``."""
    order = (0, *_by_stride(like))
    inverse = [order.index(axis) for axis in range(like.ndim)]
    return matrix.view([like.shape[axis] for axis in order]).permute(inverse)


def _by_stride(tensor: Tensor) -> list[int]:
    return sorted(range(1, tensor.ndim), key=tensor.stride, reverse=True)


def squares(matrices: Tensor) -> Tensor:
    """Products of ``matrices`` (B, rows, columns) with themselves along the longer side."""
    return matrices @ matrices.mT if matrices.shape[1] <= matrices.shape[2] else matrices.mT @ matrices


def orthogonalizing(grams: Tensor) -> Tensor:
    """For ``grams`` (B, n, n), the :func:`squares` of matrices X, what X must be multiplied by on its shorter side.

    The product is nearly orthogonal (singular values about 0.7 to 1.2) and has the singular vectors of X. X is divided by its
    Frobenius norm; an iteration is then X <- (a I + b G + c G G) X with G = X X^T (Newton-Schulz). Every factor is a polynomial
    of the first G, so the iterations need X only for its square: convolutions have many more columns than rows.
    """
    a, b, c = COEFFICIENTS
    squared_norm = grams.diagonal(dim1=1, dim2=2).sum(1)[:, None, None] + 1e-14
    gram = grams / squared_norm
    product = squared_norm.rsqrt()
    for iteration in range(ITERATIONS):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        factor.diagonal(dim1=1, dim2=2).add_(a)
        product = factor @ product if iteration else factor * product
        gram = factor @ gram @ factor
    return product


def _grouped(keys: Iterable[Hashable]) -> dict[Any, list[int]]:
    """The places of equal keys."""
    found: dict[Any, list[int]] = defaultdict(list)
    for i, key in enumerate(keys):
        found[key].append(i)
    return found
