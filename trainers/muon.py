"""Muon: momentum whose matrices are made orthogonal before every step, beside AdamW for all other parameters."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
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
    """

    def __init__(self, params: Iterable[dict[str, Any]], lr: float, momentum: float = 0.95, fused: bool = False):
        groups = [{"orthogonal": False, "momentum": momentum} | group for group in params]
        super().__init__(groups, lr=lr, fused=fused)

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
        for members in _by_shape(parameters):
            updates = orthogonal_updates([ahead[i] for i in members])
            torch._foreach_add_([parameters[i] for i in members], updates, alpha=-group["lr"])


def orthogonal_updates(gradients: Sequence[Tensor]) -> list[Tensor]:
    """For each of some tensors of one shape, the update of that shape."""
    shape = gradients[0].shape
    matrices = torch.stack([gradient.flatten(1) for gradient in gradients])
    scale = UPDATE_RMS * max(matrices.shape[1:]) ** 0.5
    return [update.view(shape) for update in orthogonal(matrices) * scale]


def orthogonal(matrices: Tensor) -> Tensor:
    """Nearly orthogonal matrices (singular values about 0.7 to 1.2) with the singular vectors of ``matrices`` (B, rows, columns).

    An iteration is X <- (a I + b G + c G G) X with G = X X^T (Newton-Schulz). Every factor is a polynomial of the first G, so
    the iterations run on these small squares, and X is multiplied by their product once: convolutions have many more
    columns than rows.
    """
    a, b, c = COEFFICIENTS
    wide = matrices if matrices.shape[1] <= matrices.shape[2] else matrices.mT
    x: Tensor = wide / (wide.norm(dim=(1, 2), keepdim=True) + 1e-7)
    gram: Tensor = x @ x.mT
    identity = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
    product = identity.expand_as(gram)
    for _ in range(ITERATIONS):
        factor = a * identity + b * gram + c * gram @ gram
        product = factor @ product
        gram = factor @ gram @ factor
    x = product @ x
    return x if wide is matrices else x.mT


def _by_shape(parameters: Sequence[Tensor]) -> list[list[int]]:
    found: dict[torch.Size, list[int]] = defaultdict(list)
    for i, parameter in enumerate(parameters):
        found[parameter.shape].append(i)
    return list(found.values())
