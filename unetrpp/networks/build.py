"""Builds the network that an Architecture describes."""

import math
from collections.abc import Callable, Iterator

from torch import nn

from unetrpp.core.errors import UserError
from unetrpp.core.registry import find
from unetrpp.networks.blocks import ConvolutionBlock, ResidualBlock
from unetrpp.networks.epa import EPABlock
from unetrpp.networks.layout import to_channels_last
from unetrpp.networks.unet import UNet
from unetrpp.networks.unetrpp import UNETRPP
from unetrpp.plans.architecture import Architecture

NETWORKS: dict[str, Callable[[Architecture], nn.Module]] = {"unetrpp": UNETRPP, "unet": UNet, "resunet": UNet}


def build_network(architecture: Architecture) -> nn.Module:
    """The network with new weights and ``deep_supervision`` on.

    ``forward`` maps x (B, C, *patch) to logits: a list with one tensor for every supervised level, full resolution first;
    with ``deep_supervision = False`` the full-resolution tensor alone.

    Raises:
        UserError: unknown network, or sizes that do not fit each other.
    """
    check(architecture)
    network = find("network", architecture.network, NETWORKS)(architecture)
    for parameter in network.parameters():
        if parameter.ndim == architecture.dimensions + 2:
            parameter.data = to_channels_last(parameter.data)
    return network


def blocks_of(network: nn.Module) -> Iterator[nn.Module]:
    """The blocks that the levels are made of, outermost ones alone: nearly all operators of a network are in them."""
    for child in network.children():
        if isinstance(child, EPABlock | ResidualBlock | ConvolutionBlock):
            yield child
        else:
            yield from blocks_of(child)


def check(architecture: Architecture) -> None:
    """Check that the sizes of an architecture fit each other.

    Raises:
        UserError: the patch is not a multiple of the strides, or channels, heads and levels do not fit each other.
    """
    levels, patch = architecture.levels, architecture.patch
    product = tuple(math.prod(axis) for axis in zip(*(level.stride for level in levels), strict=True))
    if len(product) != len(patch) or any(n % s for n, s in zip(patch, product, strict=True)):
        raise UserError(f"patch {patch} is not a multiple of its strides' product {product}; pad the patch up to one")
    if not 1 <= architecture.supervised_levels <= max(1, len(levels) - 1):
        raise UserError(
            f"{architecture.supervised_levels} supervised levels, but the number of decoder levels is {len(levels) - 1}"
        )
    if len(architecture.initial_logits) not in (0, architecture.out_channels):
        raise UserError(
            f"{len(architecture.initial_logits)} initial logits for {architecture.out_channels} outputs; give one for each output"
        )
    for i, level in enumerate(levels):
        if level.attention == "epa" and (level.channels % architecture.heads or level.channels % 2):
            raise UserError(
                f"level {i} has {level.channels} channels, not an even multiple of the {architecture.heads} heads"
            )
