"""One step of training: the network of a fold with its optimiser and loss, and a batch on the device."""

import time
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from unetrpp.augmentation.pipeline import Sample, make_batch
from unetrpp.core.devices import memory_format, try_kernels
from unetrpp.core.randomness import Stream, torch_seed
from unetrpp.losses.build import build_loss
from unetrpp.losses.deep_supervision import DeepSupervision
from unetrpp.networks.build import build_network
from unetrpp.networks.cascade import unfold_first_stage
from unetrpp.networks.drop_path import set_drop_path
from unetrpp.networks.focal_module import clamp_gammas
from unetrpp.patches.loader import PatchLoader, prefetch
from unetrpp.preprocessing.store import StoredCase
from unetrpp.trainers.config import TrainingConfig
from unetrpp.trainers.inputs import FoldData, Machine
from unetrpp.trainers.optimizer import build_optimizer, set_learning_rate
from unetrpp.trainers.schedule import learning_rate, progress
from unetrpp.trainers.state import TrainingState
from unetrpp.trainers.weight_mean import WeightMean

HALF_PRECISION = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class StepTrainer:
    """Builds network, optimiser and loss, and takes single optimiser steps; :class:`Trainer` adds the loop.

    Args:
        data: the planned configuration and the stored cases of the fold.
        config: the recipe: length, optimiser, learning rate, precision, seed.
        machine: device, threads, processes.
    """

    def __init__(self, data: FoldData, config: TrainingConfig, machine: Machine):
        self.data, self.config, self.machine = data, config, machine
        self.configuration, self.labels = data.configuration, data.configuration.preprocessing.labels
        self.device, self.processes = machine.device, machine.processes
        self.loader = self.build_loader(data.train)

        torch.manual_seed(torch_seed(config.seed, config.fold_number, Stream.INITIALISATION))
        try_kernels(self.device)
        self.layout = memory_format(self.configuration.architecture.dimensions)
        self.network = self.build_network().to(self.device, memory_format=self.layout)  # type: ignore[call-overload]
        self.mean = None if config.ema is None else WeightMean(self.network, config.ema)
        self.replica = self.network  # what a step calls; Trainer.run makes it average gradients over the processes
        self.optimizer = self.build_optimizer()
        self.loss = self.build_loss().to(self.device)
        # In fp16 small gradients would become 0, so the loss is scaled up; in other precisions this does nothing.
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=config.precision == "fp16")

        self.state, self.started = TrainingState(), time.monotonic()

    def build_network(self) -> nn.Module:
        """The network of the plans, freshly initialised; it is moved to the device afterwards."""
        architecture = self.configuration.architecture
        if self.config.heads == "random":
            architecture = msgspec.structs.replace(architecture, initial_logits=())
        network = build_network(architecture)
        set_drop_path(network, self.config.drop_path)
        return network

    def build_optimizer(self) -> torch.optim.Optimizer:
        """The optimiser of ``self.network``; the schedule of the recipe sets its learning rate before every step."""
        return build_optimizer(self.network, self.config)

    def build_loss(self) -> DeepSupervision:
        """The loss over all supervised outputs."""
        plan = self.configuration
        return build_loss(plan.loss, self.labels, plan.architecture.head_strides(), plan.patch_spacing_mm)

    def build_loader(self, cases: Sequence[StoredCase], stream: Stream = Stream.PATCHES) -> PatchLoader:
        """A loader of this process's share of every batch."""
        share, config = self.processes.share(self.configuration.batch_size), self.config
        draws = {"seed": config.seed, "fold": config.fold_number}
        return PatchLoader(cases, self.configuration, **draws, stream=stream, share=share, sampling=config.sampling)

    def hours(self) -> float:
        """Spent on this fold, including earlier runs. All processes must call it, and get the same value."""
        seconds = self.state.seconds + time.monotonic() - self.started
        return self.processes.all_reduce_max(seconds / 3600)[0]

    def step(self, samples: list[Sample]) -> Tensor:
        """One optimiser step; returns the loss, still on the device."""
        self.start_step()
        loss = self.forward_loss(samples)
        torch.autograd.backward(self.scaler.scale(loss))
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.config.gradient_clip)
        if not self.scaler.is_enabled():  # without a scaler, infinite gradients show in the loss
            loss = loss + 0 * norm
        self.scaler.step(self.optimizer)
        self.scaler.update()
        clamp_gammas(self.network)
        self.state.step += 1
        if self.mean is not None:
            self.mean.update(self.network, self.state.step)
        return loss.detach()

    def start_step(self) -> None:
        """Set learning rate, loss schedule and dropout seed of this step, and clear the gradients."""
        config, step = self.config, self.state.step
        hours = self.hours() if config.max_hours else 0.0  # without a limit nothing depends on the clock
        set_learning_rate(self.optimizer, learning_rate(config, step, hours))
        self.loss.set_progress(progress(config, step, hours))
        torch.manual_seed(torch_seed(config.seed, config.fold_number, Stream.DROPOUT, step, rank=self.processes.rank))
        self.network.train()
        self.optimizer.zero_grad(set_to_none=True)

    def forward_loss(self, samples: list[Sample]) -> Tensor:
        """The loss of one training batch."""
        images, target = self.batch(samples)
        with self.autocast():
            loss: Tensor = self.loss(self.replica(images), target)
        return loss

    @torch.no_grad()
    def predict_patches(
        self, loader: PatchLoader, batches: range, *, compiled: bool = True
    ) -> Iterator[tuple[list[Tensor], Tensor]]:
        """Yield for each batch the network's outputs, full resolution first, and the training indices (B, *patch).

        ``compiled=False`` runs a compiled network as it was written, so that hooks on its modules are called.
        """
        network = self.evaluated.eval()
        forward = network if compiled else network.forward
        for samples in prefetch(loader, batches, self.machine.readers, self.device):
            images, target = self.batch(samples)
            with self.autocast():
                outputs: list[Tensor] = forward(images)
            yield outputs, target

    def batch(self, samples: list[Sample]) -> tuple[Tensor, Tensor]:
        """Images (B, C, *patch) and training indices (B, *patch), augmented on the device."""
        plan = self.configuration
        images, target = make_batch(samples, plan.patch, plan.augmentation.in_plane_only, self.device)
        if self.config.padding == "background":
            target = target.clamp(min=0)
        images = unfold_first_stage(images, plan.first_stage_classes)
        return images.to(memory_format=self.layout), target

    def autocast(self, *, cached: bool = True) -> torch.autocast:
        """The precision of the recipe; ``cached=False`` casts a weight wherever it is used."""
        dtype = HALF_PRECISION[self.config.precision]
        return torch.autocast(self.device.type, dtype, enabled=dtype is not None, cache_enabled=cached)

    @property
    def evaluated(self) -> nn.Module:
        """The network that is validated and kept: the mean of the weights where the recipe asks for one."""
        return self.network if self.mean is None else self.mean.network

    def weights(self) -> dict[str, Tensor]:
        """The tensors of the network in training as checkpoints hold them."""
        weights: dict[str, Tensor] = self.network.state_dict()
        return weights

    def load_weights(self, weights: dict[str, Tensor]) -> None:
        """Load what :meth:`weights` gave."""
        self.network.load_state_dict(weights)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs besides the weights."""
        learned = {"optimizer": self.optimizer.state_dict(), "scaler": self.scaler.state_dict()}
        if self.mean is not None:
            learned["mean"] = self.mean.network.state_dict()
        return learned | self.state.to_checkpoint() | {"seconds": self.hours() * 3600}

    def load_state_dict(self, content: dict[str, Any]) -> None:
        """Load what :meth:`state_dict` gave."""
        self.optimizer.load_state_dict(content["optimizer"])
        self.scaler.load_state_dict(content["scaler"])
        if self.mean is not None:
            self.mean.network.load_state_dict(content["mean"])
        self.state = TrainingState.from_checkpoint(content)
