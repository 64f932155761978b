"""A network over a whole image: tiles and their mirrored twins in batches, logits blended slab by slab."""

import itertools
import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from unetrpp.augmentation.label_swap import LabelSwap
from unetrpp.core.devices import is_out_of_memory, to_device
from unetrpp.inference.accumulator import accumulator_kind
from unetrpp.inference.tiles import Tile, TileAggregator, TileSampler

LOG = logging.getLogger(__name__)

# Batches that are tried first. On a CPU larger ones gain nothing in 3D; on a GPU an out-of-memory error halves them.
FIRST_BATCH = {"cpu": 1, "cuda": 16, "mps": 4}
CPU_BATCH_VOXELS = 256**2  # small tiles (2D slices) are gathered up to this many voxels

Pass = tuple[Tile, tuple[int, ...]]  # a tile and the axes (of its patch) along which it is mirrored


def sliding_window(
    network: nn.Module,
    image: Tensor,
    patch: tuple[int, ...],
    mirror_axes: Sequence[int] = (),
    step: float = 0.5,
    tile_batch: int | None = None,
    autocast: torch.dtype | None = None,
    swap: LabelSwap | None = None,
) -> Tensor:
    """Logits (K, Z, Y, X) of ``image`` (C, Z, Y, X), blended over tiles with Gaussian weights and over all mirrorings.

    A ``patch`` of two axes (2D network) runs over the slices; ``mirror_axes`` count the patch's axes. ``tile_batch``
    is found by trial when None. ``autocast`` names the low precision of the forward pass. ``swap`` says which
    classes change places when a tile is mirrored.
    """
    slabs = sliding_window_slabs([network], image, patch, mirror_axes, step, tile_batch, autocast, swap)
    return torch.cat(list(slabs), dim=2)[0].float()


@torch.no_grad()
def sliding_window_slabs(
    networks: Sequence[nn.Module],
    image: Tensor,
    patch: tuple[int, ...],
    mirror_axes: Sequence[int] = (),
    step: float = 0.5,
    tile_batch: int | None = None,
    autocast: torch.dtype | None = None,
    swap: LabelSwap | None = None,
) -> Iterator[Tensor]:
    """Logits (F, K, n, Y, X) of F networks (the folds), slab after slab in z order as they are finished.

    The tiles are cut once for all networks. No more than a row of tiles is held, whatever the image's size; on a GPU
    with little memory left in float16, or in the host's memory.
    """
    flat = len(patch) == 2
    sampler = TileSampler(image, (1, *patch) if flat else tuple(patch), step)  # type: ignore[arg-type]
    device = device_of(networks[0], image)
    mirrorings = [axes for n in range(len(mirror_axes) + 1) for axes in itertools.combinations(mirror_axes, n)]
    passes = [(tile, axes) for tile in sampler for axes in mirrorings]
    batch = tile_batch or _first_batch(device, patch)
    aggregator: TileAggregator | None = None
    done = 0
    with predicting(networks):
        while done < len(passes):
            chunk = passes[done : done + batch]
            logits = _tried(networks, sampler, chunk, device, flat, autocast, swap)
            if logits is None:
                batch = _halved(len(chunk), device)
                continue
            if aggregator is None:
                depth = _slices_held(passes, batch, sampler.patch[0])
                values = logits.shape[1:3].numel() * depth * math.prod(sampler.padded_shape[1:])
                kind = accumulator_kind(values, device)
                aggregator = TileAggregator(sampler, tuple(logits.shape[1:3]), depth, *kind)
            for i, (tile, axes) in enumerate(chunk):
                aggregator.add(_turned_back(logits[i], axes, len(patch), swap), tile, 1 / len(mirrorings))
            del logits  # before the next forward pass needs the memory
            done += len(chunk)
            finished = aggregator.flush(passes[done][0].start[0] if done < len(passes) else sampler.padded_shape[0])
            if finished.shape[2]:
                yield finished


def _tried(networks: Sequence[nn.Module], sampler: TileSampler, chunk: Sequence[Pass], *how: Any) -> Tensor | None:
    """:func:`_forward`, or None where the memory does not suffice. Only when this has returned is it free again: until
    then the error holds everything.
    """
    try:
        return _forward(networks, sampler, chunk, *how)
    except RuntimeError as error:
        if len(chunk) == 1 or not is_out_of_memory(error):
            raise
        return None


def _forward(
    networks: Sequence[nn.Module],
    sampler: TileSampler,
    chunk: Sequence[Pass],
    device: torch.device,
    flat: bool,
    autocast: torch.dtype | None,
    swap: LabelSwap | None,
) -> Tensor:
    """Logits (passes, F, K, *patch), still mirrored. ``flat`` drops and restores the slice axis for 2D networks."""
    axes_of_patch = 2 if flat else 3
    cut = [sampler.cut(tile).flip([a - axes_of_patch for a in axes]) for tile, axes in chunk]
    if swap is not None:
        cut = [swap.swap_input(tile, axes) for tile, (_, axes) in zip(cut, chunk, strict=True)]
    tiles = to_device(torch.stack(cut), device)
    with torch.autocast(device.type, dtype=autocast, enabled=autocast is not None):
        logits = torch.stack([network(tiles.squeeze(2) if flat else tiles).float() for network in networks], dim=1)
    return logits.unsqueeze(-3) if flat else logits


def _turned_back(logits: Tensor, axes: Sequence[int], dimensions: int, swap: LabelSwap | None) -> Tensor:
    """Logits (F, K, *patch) of a mirrored tile as of the tile itself."""
    logits = logits if swap is None else swap.swap_logits(logits, axes)
    return logits.flip([a - dimensions for a in axes])


def _slices_held(passes: Sequence[Pass], batch: int, depth: int) -> int:
    """Slices from the first tile of a batch to the end of its last one; batches that are halved later need no more."""
    z = [tile.start[0] for tile, _ in passes]
    return depth + max(last - first for first, last in zip(z, [*z[batch - 1 :], *[z[-1]] * (batch - 1)], strict=False))


def _first_batch(device: torch.device, patch: tuple[int, ...]) -> int:
    voxels = torch.Size(patch).numel()
    return max(FIRST_BATCH[device.type], CPU_BATCH_VOXELS // voxels)


def _halved(batch: int, device: torch.device) -> int:
    if device.type == "cuda":
        torch.cuda.empty_cache()
    LOG.info("out of memory with %d tiles a batch; going on with %d", batch, batch // 2)
    return batch // 2


def device_of(network: nn.Module, image: Tensor) -> torch.device:
    """Where the network's parameters lie; the image's device for a network without any."""
    first = next(network.parameters(), None)
    return image.device if first is None else first.device


@contextmanager
def predicting(networks: Sequence[nn.Module]) -> Iterator[None]:
    """Networks in evaluation mode without their deep supervision, and back as they were afterwards."""
    before = [(network.training, getattr(network, "deep_supervision", None)) for network in networks]
    for network in networks:
        network.eval()
        if hasattr(network, "deep_supervision"):
            network.deep_supervision = False  # type: ignore[assignment]
    try:
        yield
    finally:
        for network, (training, supervised) in zip(networks, before, strict=True):
            network.train(training)
            if supervised is not None:
                network.deep_supervision = supervised
