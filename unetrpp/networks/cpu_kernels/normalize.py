"""Instance or group norm, addition and LeakyReLU in one pass, for channels-last tensors on a CPU.

PyTorch's instance norm gives up channels-last, and its channels-last group norm sums a million values in one float32
(errors of 1e-3 at full resolution). This kernel works on pieces that fit a core's cache and adds their sums in float64.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unetrpp.networks.cpu_kernels.dispatch import takes_cpu_kernel
from unetrpp.networks.layout import CHANNELS_LAST, is_channels_last

# Values of a piece: they stay in a core's cache, and PyTorch computes fewer than 32,768 in one thread. Waking a second one for every
# short operator takes longer than the operator, and many times as long on a busy machine.
PIECE = (1 << 15) - 1
FUSED_NORMS = (nn.InstanceNorm2d, nn.InstanceNorm3d, nn.GroupNorm)


def normalize(norm: nn.Module, x: Tensor, residual: Tensor | None = None, slope: float = 1.0) -> Tensor:
    """LeakyReLU(norm(x) + residual) of x (B, C, *size); a slope of 1 means no activation."""
    if _fits(norm, x) and (residual is None or is_channels_last(residual)):
        groups = norm.num_groups if isinstance(norm, nn.GroupNorm) else x.shape[1]
        out: Tensor = fused_norm(x, norm.weight, norm.bias, residual, groups, norm.eps, slope)[0]
        return out
    y: Tensor = norm(x)
    y = y if residual is None else y + residual
    return y if slope == 1.0 else F.leaky_relu(y, slope, inplace=True)


def _fits(norm: nn.Module, x: Tensor) -> bool:
    return takes_cpu_kernel(x) and isinstance(norm, FUSED_NORMS) and is_channels_last(x)


@torch.library.custom_op("unetrpp::fused_norm", mutates_args=())
def fused_norm(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    residual: Tensor | None,
    groups: int,
    eps: float,
    slope: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """The output, and the mean and variance (B, C) of x in float64."""
    out = torch.empty_like(x)
    mean, variance = _moments(x, groups)
    scale = (variance + eps).rsqrt() * (1 if weight is None else weight)
    shift = ((0 if bias is None else bias) - mean * scale).to(_working(x))
    scale, same_type = scale.to(_working(x)), x.dtype == _working(x)
    for i, values, added, targets in _pieces(x, x if residual is None else residual, out):
        y = targets if same_type else torch.empty_like(values, dtype=_working(x))
        torch.addcmul(shift[i], values, scale[i], out=y)
        y = y if residual is None else y.add_(added)
        y = y if slope == 1.0 else F.leaky_relu_(y, slope)
        if not same_type:
            targets.copy_(y)
    return out, mean, variance


@torch.library.custom_op("unetrpp::fused_norm_backward", mutates_args=())
def fused_norm_backward(
    gradient: Tensor,
    x: Tensor,
    out: Tensor,
    mean: Tensor,
    variance: Tensor,
    weight: Tensor | None,
    has_residual: bool,
    groups: int,
    eps: float,
    slope: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of x, of the residual (empty without one), of weight and of bias."""
    gradient = gradient.contiguous(memory_format=CHANNELS_LAST[x.ndim])
    grad_x = torch.empty_like(x)
    grad_residual = torch.empty_like(x) if has_residual else x.new_empty(0)
    linear = grad_residual if has_residual else grad_x  # holds the gradient before the activation
    sums, products = torch.zeros_like(mean), torch.zeros_like(mean)  # of the gradient, and of gradient times x
    for i, values, outputs, g, before in _pieces(x, out, gradient, linear):
        if slope == 1.0:
            before.copy_(g)
        else:
            torch.ops.aten.leaky_relu_backward.grad_input(g, outputs, slope, True, grad_input=before)
        sums[i] += before.sum(0, dtype=_working(x))
        products[i] += (before * values).sum(0, dtype=_working(x))

    rstd, count = (variance + eps).rsqrt(), x.numel() // mean.numel()
    products = (products - mean * sums) * rstd  # of gradient times normalised x
    weights = torch.ones_like(rstd) if weight is None else weight * torch.ones_like(rstd)
    # grad_x = constant + for_gradient * gradient + for_x * x
    for_x = -_group_means(weights * products, groups) / count * rstd**2
    constant = -_group_means(weights * sums, groups) / count * rstd - for_x * mean
    for_gradient, for_x, constant = (t.to(_working(x)) for t in (weights * rstd, for_x, constant))
    same_type = x.dtype == _working(x)
    for i, values, before, targets in _pieces(x, linear, grad_x):
        y = targets if same_type else torch.empty_like(values, dtype=_working(x))
        torch.addcmul(constant[i], before, for_gradient[i], out=y)  # read first: targets may be the same memory
        y.addcmul_(values, for_x[i])
        if not same_type:
            targets.copy_(y)
    dtype = x.dtype if weight is None else weight.dtype
    return grad_x, grad_residual, products.sum(0).to(dtype), sums.sum(0).to(dtype)


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, weight, bias, residual, *ctx.settings = inputs
    ctx.save_for_backward(x, weight, *output)
    ctx.has_bias, ctx.has_residual = bias is not None, residual is not None
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, gradient: Tensor, *_: None) -> tuple[Tensor | None, ...]:
    x, weight, out, mean, variance = ctx.saved_tensors
    grad_x, grad_residual, grad_weight, grad_bias = fused_norm_backward(
        gradient, x, out, mean, variance, weight, ctx.has_residual, *ctx.settings
    )
    grad_affine = None if weight is None else grad_weight, grad_bias if ctx.has_bias else None
    return grad_x, *grad_affine, grad_residual if ctx.has_residual else None, None, None, None


@fused_norm.register_fake
def _(x: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    moments = x.new_empty(x.shape[:2], dtype=torch.float64)
    return torch.empty_like(x), moments, torch.empty_like(moments)


@fused_norm_backward.register_fake
def _(
    gradient: Tensor,
    x: Tensor,
    out: Tensor,
    mean: Tensor,
    variance: Tensor,
    weight: Tensor | None,
    residual: bool,
    *_: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    affine = x.new_empty(x.shape[1]) if weight is None else torch.empty_like(weight)
    return torch.empty_like(x), torch.empty_like(x) if residual else x.new_empty(0), affine, affine.clone()


fused_norm.register_autograd(_backward, setup_context=_save_for_backward)


def _working(x: Tensor) -> torch.dtype:
    """The type in which sums and products are computed."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _rows(x: Tensor) -> Tensor:
    """(B, C, *size) channels last -> a view (B, N, C)."""
    return x.movedim(1, -1).flatten(1, -2)


def _pieces(*volumes: Tensor) -> Iterator[tuple[Any, ...]]:
    """Yield for one piece after the other the sample's index and the same rows (n, C) of all volumes."""
    step = max(1, PIECE // volumes[0].shape[1])
    for i in range(len(volumes[0])):
        yield from ((i, *rows) for rows in zip(*(torch.split(_rows(v)[i], step) for v in volumes), strict=True))


def _moments(x: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Mean and variance (B, C), shared by the channels of a group, in float64."""
    count = x[0, 0].numel()
    first = _rows(x)[:, 0].to(_working(x))  # summing deviations from it loses no digits
    sums = torch.zeros(x.shape[:2], dtype=torch.float64)
    squares = torch.zeros_like(sums)
    for i, values in _pieces(x):
        deviations = values - first[i]
        sums[i] += deviations.sum(0)
        squares[i] += deviations.square_().sum(0)
    means, variances = first + sums / count, (squares / count - (sums / count) ** 2).clamp_min(0)
    mean = _group_means(means, groups)
    return mean, _group_means(variances + (means - mean) ** 2, groups)


def _group_means(t: Tensor, groups: int) -> Tensor:
    """(B, C) -> (B, C): every value is replaced by the mean over the channels of its group."""
    by_group = t.view(len(t), groups, -1)
    return by_group.mean(-1, keepdim=True).expand_as(by_group).flatten(1)
