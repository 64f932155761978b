"""A few training steps from fixed weights on fixed patches, by nnU-Net 2.8.1's trainer and by ours.

``python -m tests.helpers.nnunet_step`` in an environment with nnunetv2 prints what nnU-Net computes, as
tests/data/nnunet_step.json holds it. Weights and patches follow from formulas, so nothing else passes between the programs.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from pathlib import Path
from unittest.mock import patch
from zlib import crc32

import numpy as np
import torch

from tests.helpers.golden import uniform

FEATURES = (8, 16, 32, 64)
PATCH = (32, 32, 32)
CLASSES, BATCH = 3, 2
EPOCHS, ITERATIONS = 3, 1
OUTSIDE = -1  # label of voxels outside the case, which nnU-Net turns into background

Record = dict[str, dict[str, list[float]]]


def weights(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The first value of a parameter by nnU-Net's name.

    Large in the heads, so that the first gradients are clipped; and in biases in front of a norm, which only the weight
    decay changes, so that it exceeds rounding.
    """
    values = uniform(crc32(name.encode()), int(np.prod(shape))).reshape(shape)
    if len(shape) == 1:
        values = (1 if name.endswith("norm.weight") else 0) + (0.6 if name.endswith("conv.bias") else 0.2) * values
    else:
        values = values * np.sqrt(6 / np.prod(shape[1:])) * (13 if "seg_layers" in name else 1)
    return values.astype(np.float32)


def patches(step: int) -> tuple[np.ndarray, np.ndarray]:
    """Images (B, 1, *PATCH) and labels (B, 1, *PATCH): halves of the patch, and OUTSIDE at one face."""
    shape = (BATCH, 1, *PATCH)
    noise = uniform(10_000 + step, int(np.prod(shape))).reshape(shape)
    z, y, x = np.indices(PATCH)
    label = np.stack([np.where(z + y < 12 + step, 1, np.where(x > 8 + step, 2, 0)), np.where(z > y, 2, 0)])[:, None]
    label[..., -3:] = OUTSIDE
    return (noise + label).astype(np.float32), label.astype(np.int16)


def watched(
    optimizer: torch.optim.Optimizer, names: Mapping[str, torch.nn.Parameter], run: Callable[[int], float]
) -> Record:
    """Run all steps; returns loss, gradient norm and learning rate of each, and what the first one does to parameters.

    In later steps rounding errors grow: with large gradients some activations come to lie on the other side of 0.
    """
    clip = torch.nn.utils.clip_grad_norm_
    changed: dict[str, list[float]] = {}
    steps: dict[str, list[float]] = {"loss": [], "gradient_norm": [], "learning_rate": []}

    def clipped(parameters: Iterable[torch.Tensor], largest: float) -> torch.Tensor:
        norm = clip(parameters, largest)
        steps["gradient_norm"].append(float(norm))
        return norm

    with patch("torch.nn.utils.clip_grad_norm_", clipped):
        for step in range(EPOCHS * ITERATIONS):
            steps["loss"].append(run(step))
            steps["learning_rate"].append(optimizer.param_groups[0]["lr"])
            changed = changed or changes(optimizer, names)
    return {"steps": steps, "parameters": changed}


def changes(optimizer: torch.optim.Optimizer, names: Mapping[str, torch.nn.Parameter]) -> dict[str, list[float]]:
    """Norm and a projection of every parameter's change, and norm and projection of its momentum; [] without gradient."""
    found: dict[str, list[float]] = {}
    for name, parameter in names.items():
        found[name] = []
        if parameter in optimizer.state:
            change = parameter.detach().numpy() - weights(name, tuple(parameter.shape))
            for values in (change, optimizer.state[parameter]["momentum_buffer"].numpy()):
                along = uniform(crc32(name.encode()) + 1, values.size)
                found[name] += [float(np.linalg.norm(values)), float(values.ravel().astype(float) @ along)]
    return found


def plans() -> dict[str, object]:
    """nnU-Net's plans of the small U-Net."""
    levels, resampling = len(FEATURES), {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}
    network = {
        "n_stages": levels,
        "features_per_stage": FEATURES,
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3] * 3] * levels,
        "strides": [[1] * 3] + [[2] * 3] * (levels - 1),
        "n_conv_per_stage": [2] * levels,
        "n_conv_per_stage_decoder": [2] * (levels - 1),
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    resampled = {f"resampling_fn_{of}": "resample_data_or_seg_to_shape" for of in ("data", "seg", "probabilities")}
    configuration = {
        "data_identifier": "none",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": BATCH,
        "patch_size": PATCH,
        "median_image_size_in_voxels": PATCH,
        "spacing": [1.0] * 3,
        "normalization_schemes": ["ZScoreNormalization"],
        "use_mask_for_norm": [False],
        "batch_dice": False,
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": network,
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        **resampled,
        **{f"{name}_kwargs": resampling for name in resampled},
    }
    return {
        "dataset_name": "Dataset001_Step",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [1.0] * 3,
        "original_median_shape_after_transp": PATCH,
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {},
        "continue_training": False,
    }


def nnunet(folder: Path) -> Record:
    """The numbers of nnU-Net's own trainer: its network, loss, optimiser, schedule and training step."""
    os.environ |= {name: str(folder) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    module = import_module("nnunetv2.training.nnUNetTrainer.nnUNetTrainer")
    labels = {"background": 0, "one": 1, "two": 2}
    description = {"channel_names": {"0": "MRI"}, "labels": labels, "file_ending": ".nii.gz"}
    trainer = module.nnUNetTrainer(plans(), "3d_fullres", 0, description, torch.device("cpu"))
    trainer.num_epochs, trainer.num_iterations_per_epoch = EPOCHS, ITERATIONS
    manager = trainer.configuration_manager
    trainer.network = trainer.build_network_architecture(trainer.plans_manager, manager, 1, CLASSES, True)
    trainer.loss, trainer.was_initialized = trainer._build_loss(), True
    trainer.optimizer, trainer.lr_scheduler = trainer.configure_optimizers()
    with torch.no_grad():
        for name, parameter in trainer.network.named_parameters():
            parameter.copy_(torch.from_numpy(weights(name, tuple(parameter.shape))))
    target_of = trainer.get_validation_transforms(trainer._get_deep_supervision_scales())

    def step(number: int) -> float:
        if number % ITERATIONS == 0:
            trainer.current_epoch = number // ITERATIONS
            trainer.on_train_epoch_start()
        images, truth = (torch.from_numpy(array) for array in patches(number))
        samples = [target_of(image=images[i], segmentation=truth[i])["segmentation"] for i in range(BATCH)]
        target = [torch.stack(scale) for scale in zip(*samples, strict=True)]
        return float(trainer.train_step({"data": images, "target": target})["loss"])

    return watched(trainer.optimizer, dict(trainer.network.named_parameters()), step)


def run_with(python: str) -> Record:
    """The record of :func:`nnunet` in the environment of the interpreter ``python``."""
    root = Path(__file__).parents[2]
    call = [python, "-m", "tests.helpers.nnunet_step"]
    done = subprocess.run(call, cwd=root, capture_output=True, text=True, check=True, timeout=300)
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        found = nnunet(Path(folder))
    json.dump(found, sys.stdout)
    print()
