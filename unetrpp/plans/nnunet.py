"""Plans of nnU-Net v2 as nnU-Net reads them: a configuration with all that it inherits, and the network it names.

Facts are those of nnU-Net 2.8.1 and dynamic-network-architectures 0.4.4; plans from before nnU-Net 2.3 describe a network by
other keys and are understood, too. What our networks cannot do is refused by its name. Imports no torch.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from unetrpp.core.errors import UserError
from unetrpp.plans.architecture import Architecture, Level

NETWORKS = {"PlainConvUNet": "unet", "ResidualEncoderUNet": "resunet", "ResidualUNet": "resunet"}
SLOPE, EPSILON = 0.01, 1e-5  # of LeakyReLU and of the norm, here as there
OLDER_WIDTH = "UNet_base_num_features"  # of plans from before nnU-Net 2.3

PerStage = int | tuple[int, ...]
PerAxis = int | tuple[int | tuple[int, ...], ...]
Numbers = dict[str, float | bool | None]


class NetworkArguments(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``arch_kwargs``; an argument that is not listed here, such as ``block``, is refused."""

    n_stages: int
    features_per_stage: PerStage
    conv_op: str
    kernel_sizes: PerAxis
    strides: PerAxis
    n_conv_per_stage: PerStage | None = None  # of the plain encoder
    n_blocks_per_stage: PerStage | None = None  # of the residual encoder
    n_conv_per_stage_decoder: PerStage
    conv_bias: bool = False
    norm_op: str | None = None
    norm_op_kwargs: Numbers | None = None
    dropout_op: str | None = None  # without effect once a network is trained
    dropout_op_kwargs: Numbers | None = None
    nonlin: str | None = None
    nonlin_kwargs: Numbers | None = None
    deep_supervision: bool = False
    nonlin_first: bool = False


class NetworkPlan(msgspec.Struct, frozen=True, kw_only=True):
    """``architecture`` of a configuration."""

    network_class_name: str
    arch_kwargs: dict[str, Any]


class ForeignConfiguration(msgspec.Struct, frozen=True, kw_only=True):
    """One configuration. Sizes are in the axis order of training: ITK's (z, y, x), transposed by ``transpose_forward``."""

    preprocessor_name: str = "DefaultPreprocessor"
    batch_size: int
    patch_size: tuple[int, ...]
    spacing: tuple[float, ...]  # mm; two numbers of a 2D configuration
    normalization_schemes: tuple[str, ...]
    use_mask_for_norm: tuple[bool, ...]
    resampling_fn_data: str
    resampling_fn_data_kwargs: Numbers
    resampling_fn_seg: str
    resampling_fn_seg_kwargs: Numbers
    resampling_fn_probabilities: str
    resampling_fn_probabilities_kwargs: Numbers
    batch_dice: bool = False
    previous_stage: str | None = None  # the first stage of a cascade
    architecture: NetworkPlan


def resolve(configurations: Mapping[str, Mapping[str, Any]], name: str, where: object) -> ForeignConfiguration:
    """The configuration ``name`` with what it inherits.

    Args:
        where: the file that the plans come from, for messages.

    Raises:
        UserError: there is none of this name, configurations inherit from each other in a circle, or a key is missing or malformed.
    """
    content, visited, at = dict[str, Any](), list[str](), name
    while at:
        if at not in configurations or at in visited:
            how = "inherits from itself" if at in visited else "is not in the plans"
            raise UserError(f"{where}: configuration {at!r} {how}; give the plans that the model was trained with")
        visited.append(at)
        own = configurations[at]
        content = {**own, **content}
        at = own.get("inherits_from", "")
    if "architecture" not in content and OLDER_WIDTH in content:
        content["architecture"] = _older_network(content)
    try:
        return msgspec.convert(content, ForeignConfiguration)
    except msgspec.ValidationError as error:
        raise UserError(f"{where}: configuration {name!r}: {error}; give plans that nnU-Net v2 wrote") from None


def _older_network(content: Mapping[str, Any]) -> dict[str, Any]:
    """``architecture`` from the keys that plans had before nnU-Net 2.3."""
    kind, dimensions = content.get("UNet_class_name"), len(content.get("patch_size", ()))
    convolutions = content.get("n_conv_per_stage_encoder", ())
    widest = content.get("unet_max_num_features", 0)
    return {
        "network_class_name": kind,
        "arch_kwargs": {
            "n_stages": len(convolutions),
            "features_per_stage": [min(content[OLDER_WIDTH] * 2**i, widest) for i in range(len(convolutions))],
            "conv_op": f"Conv{dimensions}d",
            "kernel_sizes": content.get("conv_kernel_sizes"),
            "strides": content.get("pool_op_kernel_sizes"),
            "n_conv_per_stage" if kind == "PlainConvUNet" else "n_blocks_per_stage": convolutions,
            "n_conv_per_stage_decoder": content.get("n_conv_per_stage_decoder"),
            "conv_bias": True,
            "norm_op": f"InstanceNorm{dimensions}d",
            "norm_op_kwargs": {"eps": EPSILON, "affine": True},
            "nonlin": "LeakyReLU",
        },
    }


def architecture_of(
    configuration: ForeignConfiguration, in_channels: int, out_channels: int, *, where: object
) -> Architecture:
    """Our description of the network that a configuration names.

    Raises:
        UserError: another network than the plain, residual-encoder or residual U-Net, or a part that ours do not have.
    """
    network, patch = configuration.architecture, configuration.patch_size
    kind = network.network_class_name.rpartition(".")[2]
    if kind not in NETWORKS:
        raise UserError(f"{where}: the network {kind} cannot be imported; only {', '.join(NETWORKS)} can")
    try:
        arguments = msgspec.convert(network.arch_kwargs, NetworkArguments)
    except msgspec.ValidationError as error:
        raise UserError(f"{where}: the network {kind} cannot be imported as it is built: {error}") from None
    if faults := _faults(arguments, len(patch)):
        raise UserError(f"{where}: the network {kind} cannot be imported, as it has {', '.join(faults)}")
    stages = arguments.n_stages
    encoder = arguments.n_conv_per_stage if kind == "PlainConvUNet" else arguments.n_blocks_per_stage
    try:
        levels = _levels(arguments, encoder or 0, len(patch))
    except (ValueError, TypeError):
        raise UserError(f"{where}: the network {kind} has other numbers of stages in its lists than {stages}") from None
    return Architecture(
        network=NETWORKS[kind],
        residual_decoder=kind == "ResidualUNet",
        in_channels=in_channels,
        out_channels=out_channels,
        patch=patch,
        levels=levels,
        supervised_levels=max(1, stages - 1),
        norm="instance",
    )


def _faults(arguments: NetworkArguments, dimensions: int) -> list[str]:
    """What our U-Nets do not have."""
    norm, slope = arguments.norm_op_kwargs or {}, (arguments.nonlin_kwargs or {}).get("negative_slope", SLOPE)
    eps = norm.get("eps", EPSILON)
    first = arguments.strides if isinstance(arguments.strides, int) else arguments.strides[:1]
    wrong = {
        f"the convolution {arguments.conv_op}": not arguments.conv_op.endswith(f"Conv{dimensions}d"),
        f"the norm {arguments.norm_op}": not (arguments.norm_op or "").endswith(f"InstanceNorm{dimensions}d"),
        f"norm_op_kwargs {norm}": not norm.get("affine") or eps != EPSILON or bool(norm.get("track_running_stats")),
        f"the activation {arguments.nonlin}": not (arguments.nonlin or "").endswith("LeakyReLU"),
        f"the slope {slope}": slope != SLOPE,
        "the activation before the norm": arguments.nonlin_first,
        "a stride in its first stage": first not in (1, (1,), ((1,) * dimensions,)),
        "no stage below full resolution": arguments.n_stages < 2,
    }
    return [what for what, is_wrong in wrong.items() if is_wrong]


def _levels(arguments: NetworkArguments, encoder: PerStage, dimensions: int) -> tuple[Level, ...]:
    """
    Raises:
        ValueError: a list has another length than there are stages.
        TypeError: a list is nested deeper than axes are.
    """
    stages = arguments.n_stages
    decoder = _per_stage(arguments.n_conv_per_stage_decoder, stages - 1)[::-1]  # theirs starts at the deepest
    rows = zip(
        _per_axis(arguments.strides, stages, dimensions),
        _per_axis(arguments.kernel_sizes, stages, dimensions),
        _per_stage(arguments.features_per_stage, stages),
        _per_stage(encoder, stages),
        (*decoder, 0),
        strict=True,
    )
    return tuple(
        Level(stride=stride, kernel=kernel, channels=channels, encoder_blocks=blocks, decoder_blocks=convolutions)
        for stride, kernel, channels, blocks, convolutions in rows
    )


def _per_stage(values: PerStage, stages: int) -> tuple[int, ...]:
    return (values,) * stages if isinstance(values, int) else values


def _per_axis(values: PerAxis, stages: int, dimensions: int) -> list[tuple[int, ...]]:
    each: Sequence[int | tuple[int, ...]] = (values,) * stages if isinstance(values, int) else values
    sizes = [(size,) * dimensions if isinstance(size, int) else size for size in each]
    if any(len(size) != dimensions for size in sizes):
        raise ValueError
    return sizes
