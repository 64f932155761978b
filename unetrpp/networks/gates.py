"""Where focal attention weights features: gates on skips and squeeze-and-excitation (docs/focal_attention.md)."""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from unetrpp.core.errors import UserError
from unetrpp.networks.blocks import OPERATORS, Axes, pointwise
from unetrpp.networks.focal_module import FocalModule, Gate, ScaledFocalModule, focal_modules
from unetrpp.networks.focus_gate import FocusGate
from unetrpp.plans.architecture import Architecture

REDUCTION = 8  # hidden channels of squeeze-and-excitation are a REDUCTION-th of its channels
FEWEST_INNER = 4  # hidden channels


class AttentionGate(ScaledFocalModule, Gate):
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
        weights = self.upsampled(self.coefficients(skip, signal), skip.shape[2:])
        return skip * weights.to(skip.dtype)

    def upsampled(self, coefficients: Tensor, size: Sequence[int]) -> Tensor:
        return F.interpolate(coefficients, tuple(size), mode=self.mode, align_corners=False)


class SqueezeExcitation(ScaledFocalModule):
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


def attention_gate(architecture: Architecture, i: int) -> nn.Module:
    """The gate on the skip of level ``i``, in the form that the architecture names; there may be none."""
    level, below = architecture.levels[i : i + 2]
    if level.gate is None:
        return NoGate()
    if architecture.gates == "focus":
        return FocusGate(
            level.channels, below.channels, below.stride, size=architecture.sizes()[i + 1], gamma=level.gate
        )
    return AttentionGate(level.channels, below.channels, below.stride, level.gate)


def squeeze_excitation(channels: int, gamma: float | None) -> nn.Module:
    """The squeeze-and-excitation of an encoder level; ``gamma`` None: there is none."""
    return nn.Identity() if gamma is None else SqueezeExcitation(channels, gamma)


def modules_by_place(network: nn.Module, architecture: Architecture) -> dict[str, FocalModule]:
    """The network's focal modules by their place in its architecture (``gate@1``, ``se@3``).

    Raises:
        UserError: a plugin's network without the focal modules of its architecture, in order from full resolution down.
    """
    modules: list[FocalModule] = []
    for kind in (Gate, SqueezeExcitation):
        modules += [module for _, module in focal_modules(network) if isinstance(module, kind)]
    places = list(architecture.focal_gammas())
    if ["gate@" in place for place in places] != [isinstance(module, Gate) for module in modules]:
        raise UserError(
            f"network {architecture.network!r} does not hold the {len(places)} focal modules of its architecture; "
            "gammas can be learned in UNETR++ and in the U-Nets"
        )
    return dict(zip(places, modules, strict=True))
