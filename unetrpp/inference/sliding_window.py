"""A network over a whole image: tiles and their mirrored copies in batches, logits blended slab by slab."""

import itertools
import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor, nn

from unetrpp.augmentation.label_swap import LabelSwap
from unetrpp.core.devices import is_out_of_memory, to_device
from unetrpp.inference.memory import accumulator_kind, image_device
from unetrpp.inference.nnunet_tiles import NnunetAggregator
from unetrpp.inference.tiles import Tile, TileAggregator, TileSampler
from unetrpp.networks.cascade import unfold_first_stage
from unetrpp.plans.architecture import as_3d

LOG = logging.getLogger(__name__)

# Tiles per batch that are tried first. On a CPU larger batches gain nothing in 3D; on a GPU an out-of-memory error
# halves them.
FIRST_BATCH = {"cpu": 1, "cuda": 16, "mps": 4}
CPU_BATCH_VOXELS = 256**2  # small tiles (2D slices) are batched up to this many voxels

OnPass = Callable[[Tensor, tuple[int, ...]], None]
OnProgress = Callable[[int, int], object]  # gets the passes that are done and the number of all passes
Pass = tuple[Tile, tuple[int, ...]]  # a tile and the axes (of its patch) along which it is mirrored


@dataclass
class SlidingWindow:
    """How networks run over an image: logits are blended over tiles with Gaussian weights and averaged over mirrorings.

    Args:
        patch: of the network, (z, y, x); with two axes (a 2D network) it runs over the slices.
        mirror_axes: axes of the patch; every combination of them is mirrored.
        step: between tiles, at most, in patches.
        tile_batch: tiles in one forward pass; None starts with a size by device. When memory runs out, it is halved for this
            image and the following ones.
        autocast: precision of the forward pass; None is float32.
        swap: which classes change places when a tile is mirrored.
        first_stage_classes: of a cascade's second stage: classes of the segmentation in the image's last channel.
        nnunet: whether tiles are blended as in nnU-Net (:mod:`unetrpp.inference.nnunet_tiles`).
    """

    patch: tuple[int, ...]
    _: KW_ONLY
    mirror_axes: Sequence[int] = ()
    step: float = 0.5
    tile_batch: int | None = None
    autocast: torch.dtype | None = None
    swap: LabelSwap | None = None
    first_stage_classes: int = 0
    nnunet: bool = False

    def logits(self, network: nn.Module, image: Tensor) -> Tensor:
        """Logits (K, Z, Y, X) of one network on ``image`` (C, Z, Y, X), float32."""
        return torch.cat(list(self.slabs([network], image)), dim=2)[0].float()

    @torch.no_grad()
    def slabs(
        self,
        networks: Sequence[nn.Module],
        image: Tensor,
        on_pass: OnPass | None = None,
        *,
        on_progress: OnProgress | None = None,
    ) -> Iterator[Tensor]:
        """Logits (F, K, n, Y, X) of F networks (the folds) on ``image`` (C, Z, Y, X), slab by slab in z order.

        The tiles are cut once for all networks, on their device where the image fits there. At most one row of tiles is held,
        for an image of any size; on a GPU with little free memory in float16, or in the host's memory.

        Args:
            on_pass: gets the logits (F, K, *patch) of every pass, mirrored back, and the axes along which it was mirrored; of
                each tile first those of the pass that is not.
            on_progress: is called after every forward pass of a batch; what it raises ends the prediction.
        """
        device = device_of(networks[0], image)
        place = device if image.device == device else image_device(image.nbytes, device)
        sampler = TileSampler(image, as_3d(self.patch), self.step, device=place)
        mirrorings = self._mirrorings()
        passes = [(tile, axes) for tile in sampler for axes in mirrorings]
        aggregator: TileAggregator | None = None
        done = 0
        with predicting(networks):
            while done < len(passes):
                batch = self.tile_batch or _first_batch(device, self.patch)
                chunk = passes[done : done + batch]
                logits = self._try_forward(networks, sampler, _filled(chunk, batch, device), device)
                if logits is None:
                    continue
                if aggregator is None:
                    depth = _slices_held(passes, batch, sampler.patch[0])
                    aggregator = self._aggregator(sampler, (logits.shape[1], logits.shape[2]), depth, device)
                for i, (tile, axes) in enumerate(chunk):
                    of_pass = self._unmirror(logits[i], axes)
                    aggregator.add(of_pass, tile, 1 / len(mirrorings))
                    if on_pass is not None:
                        on_pass(of_pass, axes)
                del logits  # before the next forward pass needs the memory
                done += len(chunk)
                if on_progress is not None:
                    on_progress(done, len(passes))
                yield from aggregator.finished(
                    passes[done][0].start[0] if done < len(passes) else sampler.padded_shape[0]
                )

    @property
    def _is_2d(self) -> bool:
        return len(self.patch) == 2

    def _mirrorings(self) -> list[tuple[int, ...]]:
        axes = tuple(self.mirror_axes)
        return [chosen for n in range(len(axes) + 1) for chosen in itertools.combinations(axes, n)]

    def _try_forward(
        self, networks: Sequence[nn.Module], sampler: TileSampler, chunk: Sequence[Pass], device: torch.device
    ) -> Tensor | None:
        """:meth:`_forward`, or None, and a smaller :attr:`tile_batch`, when the memory does not suffice."""
        try:
            return self._forward(networks, sampler, chunk, device)
        except RuntimeError as error:
            if len(chunk) == 1 or not is_out_of_memory(error):
                raise
        # Not in the block above, because the error keeps the memory in use.
        self.tile_batch = len(chunk) // 2
        LOG.info("out of memory with %d tiles per batch; continuing with %d", len(chunk), self.tile_batch)
        if device.type == "cuda":
            torch.cuda.empty_cache()
        return None

    def _forward(
        self, networks: Sequence[nn.Module], sampler: TileSampler, chunk: Sequence[Pass], device: torch.device
    ) -> Tensor:
        """Logits (passes, F, K, *patch), still mirrored; of 2D networks with a slice axis."""
        tiles = torch.stack([self._mirror(sampler.cut(tile), axes) for tile, axes in chunk])
        tiles = tiles if tiles.device == device else to_device(tiles, device)
        patches = unfold_first_stage(tiles.squeeze(2) if self._is_2d else tiles, self.first_stage_classes)
        with torch.autocast(device.type, dtype=self.autocast, enabled=self.autocast is not None):
            logits = torch.stack([network(patches).float() for network in networks], dim=1)
        return logits.unsqueeze(-3) if self._is_2d else logits

    def _aggregator(
        self, sampler: TileSampler, channels: tuple[int, int], depth: int, device: torch.device
    ) -> TileAggregator:
        """An aggregator for logits of ``channels`` (folds, classes), in the precision and on the device that memory allows."""
        values = math.prod(channels) * depth * math.prod(sampler.padded_shape[1:])
        taken = sampler.image.nbytes if sampler.image.device == device else 0
        accumulator, dtype = accumulator_kind(values, device, taken)
        if self.nnunet:
            return NnunetAggregator(sampler, channels, depth, device=accumulator)
        return TileAggregator(sampler, channels, depth, device=accumulator, dtype=dtype)

    def _mirror(self, tile: Tensor, axes: Sequence[int]) -> Tensor:
        mirrored = tile.flip([axis - len(self.patch) for axis in axes])
        return mirrored if self.swap is None else self.swap.swap_input(mirrored, axes)

    def _unmirror(self, logits: Tensor, axes: Sequence[int]) -> Tensor:
        """Logits (F, K, *patch) of a mirrored tile, mirrored back."""
        logits = logits if self.swap is None else self.swap.swap_logits(logits, axes)
        return logits.flip([axis - len(self.patch) for axis in axes])


def _slices_held(passes: Sequence[Pass], batch: int, depth: int) -> int:
    """Slices from the first tile of a batch to the end of its last one; batches that are halved later need no more."""
    z = [tile.start[0] for tile, _ in passes]
    return depth + max(last - first for first, last in zip(z, [*z[batch - 1 :], *[z[-1]] * (batch - 1)], strict=False))


def _first_batch(device: torch.device, patch: tuple[int, ...]) -> int:
    return max(FIRST_BATCH[device.type], CPU_BATCH_VOXELS // math.prod(patch))


def _filled(chunk: list[Pass], batch: int, device: torch.device) -> list[Pass]:
    """The passes of a batch; on a GPU the last ones of an image are repeated to ``batch``, or to a half, a quarter, ... of it.

    For every new batch size cuDNN times its kernels and MPS compiles its graphs, which takes longer than many forward passes.
    """
    if device.type == "cpu":
        return chunk
    size = batch
    while size // 2 >= len(chunk):
        size //= 2
    return chunk + chunk[-1:] * (size - len(chunk))


def device_of(network: nn.Module, image: Tensor) -> torch.device:
    """The device of the network's parameters; the image's for a network without any."""
    first = next(network.parameters(), None)
    return image.device if first is None else first.device


@contextmanager
def predicting(networks: Sequence[nn.Module]) -> Iterator[None]:
    """Put networks into evaluation mode without deep supervision; afterwards they are as before."""
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
