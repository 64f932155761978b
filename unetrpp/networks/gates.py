"""Focal attention gates and squeeze-and-excitation: coefficients A in (0, 1) to a power gamma (docs/focal_attention.md).

gamma = 0 is the identity, 1 the usual module; above 1 suppresses more strongly. It is fixed, or learned with a learning
rate of its own.
"""

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unetrpp.core.errors import UserError
from unetrpp.networks.blocks import OPERATORS, Axes, pointwise
from unetrpp.plans.architecture import Architecture

OPEN = 0.8  # A^gamma of a new module
REDUCTION = 8  # hidden channels of squeeze-and-excitation are a REDUCTION-th of its channels
FEWEST_INNER = 4  # hidden channels


class FocalModule(nn.Module):
    """The base of gates and squeeze-and-excitation: logits of fixed scale, and the power.

    gamma acts nearly as a temperature of the logits, so the logits must have a fixed scale for a learned gamma to mean
    anything: features are normalised over channels and multiplied by weights of unit norm.
    """

    def __init__(self, features: int, outputs: int, gamma: float):
        super().__init__()
        self.gamma = nn.Parameter(torch.tensor(float(gamma)), requires_grad=False)
        self.weight = nn.Parameter(torch.empty(outputs, features))
        self.bias = nn.Parameter(torch.full((outputs,), _open_bias(gamma)))
        nn.init.normal_(self.weight)
        self.off = False
        self.averaged = False  # replace the coefficients by their mean, to measure what their pattern contributes
        self.watcher: Callable[[Tensor], None] | None = None  # called with the coefficients of every forward pass

    def power(self, features: Tensor) -> Tensor:
        """(B, ..., features) -> A^gamma (B, ..., outputs) in float32.

        Computed as exp(gamma * logsigmoid): pow(sigmoid) has no finite gradient where the sigmoid underflows.
        """
        features = F.layer_norm(features.float(), features.shape[-1:])
        unit = F.normalize(self.weight.float(), dim=1)
        logits = (features.unsqueeze(-2) * unit).sum(-1) + self.bias
        coefficients = torch.exp(self.gamma * F.logsigmoid(logits))
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
            self.bias.fill_(_open_bias(start))

    def fix(self, gamma: float | None = None) -> None:
        """Hold gamma at this value, or at the present one. 0 switches the module off: it is skipped."""
        value = self.gamma.item() if gamma is None else gamma
        with torch.no_grad():
            self.gamma.fill_(value)
        self.off = value == 0
        self.requires_grad_(not self.off)
        self.gamma.requires_grad_(False)


def _open_bias(gamma: float) -> float:
    """The logit at which A^gamma is OPEN."""
    coefficient = OPEN ** (1 / gamma) if gamma > 0 else OPEN
    return math.log(coefficient / (1 - coefficient))


class AttentionGate(FocalModule):
    """Focal form of the additive attention gate (Oktay et al. 2018, eq. 1), without its last convolution.

    The skip (B, C, *size) is weighted by a map that is computed at the resolution of the coarser signal
    (B, G, *size / stride).
    """

    def __init__(self, channels: int, signal_channels: int, stride: Axes, gamma: float):
        inner = max(1, channels // 2)
        super().__init__(inner, 1, gamma)
        self.of_skip = OPERATORS[len(stride)].convolution(channels, inner, stride, stride, bias=False)  # type: ignore[arg-type]
        self.of_signal = pointwise(signal_channels, inner, len(stride), bias=True)
        self.mode = {2: "bilinear", 3: "trilinear"}[len(stride)]
        self.fix(gamma)

    def coefficients(self, skip: Tensor, signal: Tensor) -> Tensor:
        """A^gamma (B, 1, *coarse size), float32."""
        features = F.relu(self.of_skip(skip) + self.of_signal(signal))
        return self.power(features.movedim(1, -1)).movedim(-1, 1)

    def forward(self, skip: Tensor, signal: Tensor) -> Tensor:
        if self.off:
            return skip
        weights = F.interpolate(self.coefficients(skip, signal), skip.shape[2:], mode=self.mode, align_corners=False)
        return skip * weights.to(skip.dtype)


class SqueezeExcitation(FocalModule):
    """Focal form of squeeze-and-excitation (Hu et al. 2018): channels are weighted by their global means."""

    def __init__(self, channels: int, gamma: float):
        inner = max(FEWEST_INNER, channels // REDUCTION)
        super().__init__(inner, channels, gamma)
        self.squeeze = nn.Linear(channels, inner)
        self.fix(gamma)

    def coefficients(self, x: Tensor) -> Tensor:
        """A^gamma (B, C), float32."""
        return self.power(F.relu(self.squeeze(x.flatten(2).mean(-1))))

    def forward(self, x: Tensor) -> Tensor:
        if self.off:
            return x
        weights = self.coefficients(x).to(x.dtype)
        return x * weights.view(*weights.shape, *(1,) * (x.ndim - 2))


class NoGate(nn.Module):
    """Returns the skip unchanged."""

    def forward(self, skip: Tensor, signal: Tensor) -> Tensor:
        return skip


def attention_gate(channels: int, signal_channels: int, stride: Axes, gamma: float | None) -> nn.Module:
    """The gate of a skip; ``gamma`` None: there is none."""
    return NoGate() if gamma is None else AttentionGate(channels, signal_channels, stride, gamma)


def squeeze_excitation(channels: int, gamma: float | None) -> nn.Module:
    """The squeeze-and-excitation of an encoder level; ``gamma`` None: there is none."""
    return nn.Identity() if gamma is None else SqueezeExcitation(channels, gamma)


def focal_modules(network: nn.Module) -> Iterator[tuple[str, FocalModule]]:
    """Every gate and squeeze-and-excitation module with its name."""
    yield from ((name, module) for name, module in network.named_modules() if isinstance(module, FocalModule))


def modules_by_place(network: nn.Module, architecture: Architecture) -> dict[str, FocalModule]:
    """The network's focal modules by their place in its architecture (``gate@1``, ``se@3``).

    Raises:
        UserError: a plugin's network without the focal modules of its architecture, in order from full resolution down.
    """
    modules: list[FocalModule] = []
    for kind in (AttentionGate, SqueezeExcitation):
        modules += [module for _, module in focal_modules(network) if isinstance(module, kind)]
    places = list(architecture.focal_gammas())
    if ["gate@" in place for place in places] != [isinstance(module, AttentionGate) for module in modules]:
        raise UserError(
            f"network {architecture.network!r} does not hold the {len(places)} focal modules of its architecture; "
            "gammas can be learned in UNETR++ and in the U-Nets"
        )
    return dict(zip(places, modules, strict=True))


def contrast(coefficients: Tensor) -> Tensor:
    """std / mean of (B, ...) over all but the first axis: (B,); 0 where all coefficients are equal."""
    flat = coefficients.flatten(1)
    return flat.std(1, correction=0) / flat.mean(1).clamp_min(torch.finfo(flat.dtype).tiny)


@torch.no_grad()
def clamp_gammas(network: nn.Module) -> None:
    """Keep learned gammas at 0 or above; call it after each optimiser step."""
    for _, module in focal_modules(network):
        module.gamma.clamp_(min=0)
