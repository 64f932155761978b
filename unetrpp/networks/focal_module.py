"""What gates and squeeze-and-excitation have in common: coefficients A in (0, 1) to a power gamma (docs/focal_attention.md).

gamma = 0 is the identity, 1 the usual module; above 1 suppresses more strongly. It is fixed, or learned with a learning
rate of its own.
"""

import math
from collections.abc import Callable, Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

OPEN = 0.8  # A^gamma of a new module of ours


class FocalModule(nn.Module):
    """The power, and what tools for inspection need."""

    def __init__(self, gamma: float):
        super().__init__()
        self.gamma = nn.Parameter(torch.tensor(float(gamma)), requires_grad=False)
        self.off = False
        self.averaged = False  # replace the coefficients by their mean, to measure what their pattern contributes
        self.watcher: Callable[[Tensor], None] | None = None  # called with the coefficients of every forward pass

    def raised(self, logarithms: Tensor) -> Tensor:
        """log A (B, ..., outputs), float32 -> A^gamma: pow has no finite gradient where A underflows."""
        coefficients = torch.exp(self.gamma * logarithms)
        if self.watcher is not None:
            self.watcher(coefficients)
        if self.averaged:
            coefficients = coefficients.mean(tuple(range(1, coefficients.ndim)), keepdim=True).expand_as(coefficients)
        return coefficients

    def learn(self, start: float) -> None:
        """Let gamma be trained from ``start``; clamp it with :func:`clamp_gammas` after each step."""
        self.off = False
        self.requires_grad_(True)
        with torch.no_grad():
            self.gamma.fill_(start)

    def fix(self, gamma: float | None = None) -> None:
        """Hold gamma at this value, or at the present one. 0 switches the module off: it is skipped."""
        value = self.gamma.item() if gamma is None else gamma
        with torch.no_grad():
            self.gamma.fill_(value)
        self.off = value == 0
        self.requires_grad_(not self.off)
        self.gamma.requires_grad_(False)


class ScaledFocalModule(FocalModule):
    """Coefficients of logits with a fixed scale (ours).

    gamma acts nearly as a temperature of the logits, so the logits must have a fixed scale for a learned gamma to mean
    anything: features are normalised over channels and multiplied by weights of unit norm.
    """

    def __init__(self, features: int, outputs: int, gamma: float):
        super().__init__(gamma)
        self.weight = nn.Parameter(torch.empty(outputs, features))
        self.bias = nn.Parameter(torch.full((outputs,), _open_bias(gamma)))
        nn.init.normal_(self.weight)

    def power(self, features: Tensor) -> Tensor:
        """(B, ..., features) -> A^gamma (B, ..., outputs) in float32."""
        features = F.layer_norm(features.float(), features.shape[-1:])
        unit = F.normalize(self.weight.float(), dim=1)
        return self.raised(F.logsigmoid((features.unsqueeze(-2) * unit).sum(-1) + self.bias))

    def learn(self, start: float) -> None:
        super().learn(start)
        with torch.no_grad():
            self.bias.fill_(_open_bias(start))


class Gate(FocalModule):
    """The base of what weights a skip (B, C, *size), by coefficients at the resolution of a coarser signal (B, G, *coarse)."""

    def upsampled(self, coefficients: Tensor, size: Sequence[int]) -> Tensor:
        """Coefficients (B, ..., *coarse) at the resolution of the skip."""
        raise NotImplementedError


def _open_bias(gamma: float) -> float:
    """The logit at which A^gamma is OPEN."""
    coefficient = OPEN ** (1 / gamma) if gamma > 0 else OPEN
    return math.log(coefficient / (1 - coefficient))


def focal_modules(network: nn.Module) -> Iterator[tuple[str, FocalModule]]:
    """Every gate and squeeze-and-excitation module with its name."""
    yield from ((name, module) for name, module in network.named_modules() if isinstance(module, FocalModule))


def contrast(coefficients: Tensor) -> Tensor:
    """std / mean of (B, ...) over all but the first axis: (B,); 0 where all coefficients are equal."""
    flat = coefficients.flatten(1)
    return flat.std(1, correction=0) / flat.mean(1).clamp_min(torch.finfo(flat.dtype).tiny)


@torch.no_grad()
def clamp_gammas(network: nn.Module) -> None:
    """Keep learned gammas at 0 or above; call it after each optimiser step."""
    for _, module in focal_modules(network):
        module.gamma.clamp_(min=0)
