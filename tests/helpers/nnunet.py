"""Trained models as nnU-Net v2 leaves them, with random weights: its names of tensors and its files, made without nnU-Net.

The modules are a reference for the names and the arithmetic of its three U-Nets, written for clarity.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

CONV = {2: nn.Conv2d, 3: nn.Conv3d}
NORM = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
UP = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
POOL = {2: nn.AvgPool2d, 3: nn.AvgPool3d}

Axes = tuple[int, ...]


class Convolution(nn.Module):
    """Convolution, norm and activation; every layer is registered twice."""

    def __init__(
        self, inputs: int, outputs: int, kernel: Axes, stride: Axes, *, bias: bool = True, active: bool = True
    ):
        super().__init__()
        d, padding = len(kernel), [(k - 1) // 2 for k in kernel]
        self.conv = CONV[d](inputs, outputs, kernel, stride, padding, bias=bias)
        self.norm = NORM[d](outputs, affine=True)
        self.all_modules = nn.Sequential(self.conv, self.norm, *([nn.LeakyReLU()] if active else []))

    def forward(self, x: Tensor) -> Tensor:
        return self.all_modules(x)


class Plain(nn.Module):
    """Convolutions one after the other."""

    def __init__(self, count: int, inputs: int, outputs: int, kernel: Axes, stride: Axes):
        super().__init__()
        ones = (1,) * len(kernel)
        later = (Convolution(outputs, outputs, kernel, ones) for _ in range(count - 1))
        self.convs = nn.Sequential(Convolution(inputs, outputs, kernel, stride), *later)

    def forward(self, x: Tensor) -> Tensor:
        return self.convs(x)


class Block(nn.Module):
    """Two convolutions and a skip, which is pooled where there is a stride."""

    def __init__(self, inputs: int, outputs: int, kernel: Axes, stride: Axes):
        super().__init__()
        ones = (1,) * len(kernel)
        self.conv1 = Convolution(inputs, outputs, kernel, stride)
        self.conv2 = Convolution(outputs, outputs, kernel, ones, active=False)
        parts = [POOL[len(kernel)](stride, stride)] if max(stride) > 1 else []
        if inputs != outputs:
            parts.append(Convolution(inputs, outputs, ones, ones, bias=False, active=False))
        self.skip = nn.Sequential(*parts)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.leaky_relu(self.conv2(self.conv1(x)) + self.skip(x), 0.01)


class Residual(nn.Module):
    """Blocks one after the other."""

    def __init__(self, count: int, inputs: int, outputs: int, kernel: Axes, stride: Axes):
        super().__init__()
        ones = (1,) * len(kernel)
        later = (Block(outputs, outputs, kernel, ones) for _ in range(count - 1))
        self.blocks = nn.Sequential(Block(inputs, outputs, kernel, stride), *later)

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(x)


class Encoder(nn.Module):
    """A list of stages; the residual one starts with a stem."""

    def __init__(self, inputs: int, how: dict[str, Any], residual: bool):
        super().__init__()
        widths, kernels, strides = how["features_per_stage"], how["kernel_sizes"], how["strides"]
        counts = how["n_blocks_per_stage" if residual else "n_conv_per_stage"]
        if residual:
            self.stem = Plain(1, inputs, widths[0], kernels[0], (1,) * len(kernels[0]))
        before = [widths[0] if residual else inputs, *widths]
        rows = zip(counts, before, widths, kernels, strides, strict=False)
        self.stages = nn.Sequential(*(Residual(*row) if residual else nn.Sequential(Plain(*row)) for row in rows))

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.stem(x) if hasattr(self, "stem") else x
        skips = []
        for stage in self.stages:
            x = stage(x)
            skips.append(x)
        return skips


class Decoder(nn.Module):
    """From the deepest stage up; it holds the encoder, too."""

    def __init__(self, encoder: Encoder, how: dict[str, Any], outputs: int, residual: bool):
        super().__init__()
        self.encoder = encoder
        widths, kernels, strides = how["features_per_stage"], how["kernel_sizes"], how["strides"]
        d, stack = len(kernels[0]), Residual if residual else Plain
        self.stages, self.transpconvs, self.seg_layers = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for s, count in enumerate(how["n_conv_per_stage_decoder"]):
            i = len(widths) - 2 - s
            self.transpconvs.append(UP[d](widths[i + 1], widths[i], strides[i + 1], strides[i + 1]))
            self.stages.append(stack(count, 2 * widths[i], widths[i], kernels[i], (1,) * d))
            self.seg_layers.append(CONV[d](widths[i], outputs, 1))

    def forward(self, skips: list[Tensor]) -> Tensor:
        x = skips[-1]
        for s, stage in enumerate(self.stages):
            x = stage(torch.cat([self.transpconvs[s](x), skips[-2 - s]], dim=1))
        return self.seg_layers[-1](x)


class Network(nn.Module):
    """PlainConvUNet, ResidualEncoderUNet or ResidualUNet; gives logits at full resolution."""

    def __init__(self, kind: str, how: dict[str, Any], inputs: int, outputs: int):
        super().__init__()
        self.encoder = Encoder(inputs, how, kind != "PlainConvUNet")
        self.decoder = Decoder(self.encoder, how, outputs, kind == "ResidualUNet")

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.encoder(x))


def arguments(kind: str, dimensions: int = 3) -> dict[str, Any]:
    """``arch_kwargs`` of three stages with anisotropic kernels and strides."""
    ones, twos = [1] * dimensions, [2] * dimensions
    return {
        "n_stages": 3,
        "features_per_stage": [4, 6, 8],
        "conv_op": f"torch.nn.modules.conv.Conv{dimensions}d",
        "kernel_sizes": [[1, *[3] * (dimensions - 1)], [3] * dimensions, [3] * dimensions],
        "strides": [ones, [1, *twos[1:]], twos],
        "n_conv_per_stage" if kind == "PlainConvUNet" else "n_blocks_per_stage": [2, 1, 2],
        "n_conv_per_stage_decoder": [2, 1],
        "conv_bias": True,
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dimensions}d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }


def configuration(
    kind: str = "PlainConvUNet", dimensions: int = 3, channels: int = 1, **changed: Any
) -> dict[str, Any]:
    """A configuration of plans.json."""
    how = {"order": 3, "order_z": 0, "force_separate_z": None, "is_seg": False}
    folder = "dynamic_network_architectures.architectures.unet."
    return {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": [16] * dimensions,
        "median_image_size_in_voxels": [20.0] * dimensions,
        "spacing": [1.0] * dimensions,
        "normalization_schemes": ["ZScoreNormalization"] * channels,
        "use_mask_for_norm": [False] * channels,
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": how,
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_seg_kwargs": how | {"order": 1, "is_seg": True},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": how | {"order": 1},
        "architecture": {"network_class_name": folder + kind, "arch_kwargs": arguments(kind, dimensions)},
        "batch_dice": False,
    } | changed


def older_configuration(kind: str = "PlainConvUNet", dimensions: int = 3) -> dict[str, Any]:
    """The same network as :func:`configuration` describes, by the keys of plans from before nnU-Net 2.3."""
    content = configuration(kind, dimensions)
    how = content.pop("architecture")["arch_kwargs"] | {"features_per_stage": [4, 8, 8]}
    return content | {
        "UNet_class_name": kind,
        "UNet_base_num_features": 4,
        "unet_max_num_features": 8,
        "n_conv_per_stage_encoder": how.get("n_conv_per_stage") or how["n_blocks_per_stage"],
        "n_conv_per_stage_decoder": how["n_conv_per_stage_decoder"],
        "num_pool_per_axis": [1] * dimensions,
        "pool_op_kernel_sizes": how["strides"],
        "conv_kernel_sizes": how["kernel_sizes"],
    }


def plans(**configurations: dict[str, Any]) -> dict[str, Any]:
    """plans.json with these configurations."""
    numbers = {
        "max": 900.0,
        "mean": 100.0,
        "median": 99.0,
        "min": -5.0,
        "percentile_00_5": 1.0,
        "percentile_99_5": 600.0,
        "std": 40.0,
    }
    channels = max(len(c.get("normalization_schemes", ())) for c in configurations.values())
    return {
        "dataset_name": "Dataset007_Balls",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [1.0, 1.0, 1.0],
        "original_median_shape_after_transp": [20, 24, 24],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": configurations,
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {str(i): numbers for i in range(channels)},
    }


DATASET_JSON = {
    "channel_names": {"0": "MRI"},
    "labels": {"background": 0, "ball": 1},
    "numTraining": 2,
    "file_ending": ".nii.gz",
}


def weights(how: dict[str, Any], inputs: int, outputs: int, seed: int = 0) -> dict[str, Tensor]:
    """Random weights for the network of ``architecture``, norms included, as nnU-Net stores them."""
    torch.manual_seed(seed)
    network = Network(how["network_class_name"].rpartition(".")[2], how["arch_kwargs"], inputs, outputs)
    for parameter in network.parameters():
        if parameter.ndim == 1:
            nn.init.normal_(parameter, 0.5, 0.5)
    return network.state_dict()


def checkpoint(state: dict[str, Tensor], plan: dict[str, Any], name: str, **changed: Any) -> dict[str, Any]:
    """What nnU-Net stores after training."""
    arguments = {
        "plans": plan,
        "configuration": name,
        "fold": 0,
        "dataset_json": DATASET_JSON,
        "device": torch.device("cpu"),
    }
    return {
        "network_weights": state,
        "optimizer_state": {"state": {}, "param_groups": [{"lr": 0.01, "momentum": 0.99}]},
        "grad_scaler_state": None,
        "logging": {"mean_fg_dice": [np.float64(0.5)], "lrs": [0.01]},
        "_best_ema": np.float32(0.5),
        "current_epoch": 3,
        "init_args": arguments,
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": tuple(
            range(len(plan["configurations"][name].get("patch_size", (0, 1, 2))))
        ),
    } | changed


def write_model(
    folder: Path,
    plan: dict[str, Any] | None = None,
    name: str = "3d_fullres",
    *,
    folds: tuple[int | str, ...] = (0,),
    dataset_json: dict[str, Any] | None = None,
    inputs: int | None = None,
    **changed: Any,
) -> Path:
    """``Dataset007_Balls/nnUNetTrainer__nnUNetPlans__NAME`` below ``folder``."""
    plan = plan or plans(**{name: configuration()})
    description = DATASET_JSON | (dataset_json or {})
    model = folder / "Dataset007_Balls" / f"nnUNetTrainer__nnUNetPlans__{name}"
    outputs = len([label for label in description["labels"] if label != "ignore"])
    outputs -= any(isinstance(value, list) for value in description["labels"].values())
    how = plan["configurations"][name]["architecture"]
    for k, fold in enumerate(folds):
        (model / f"fold_{fold}").mkdir(parents=True)
        state = weights(how, inputs or len(description["channel_names"]), outputs, seed=k)
        torch.save(checkpoint(state, plan, name, **changed), model / f"fold_{fold}" / "checkpoint_final.pth")
    fingerprint = {
        "foreground_intensity_properties_per_channel": plan["foreground_intensity_properties_per_channel"],
        "median_relative_size_after_cropping": 1.0,
        "shapes_after_crop": [[20, 24, 24], [22, 24, 26]],
        "spacings": [[1.0, 1.0, 1.0], [1.5, 0.9, 0.9]],
    }
    for file, content in (("plans", plan), ("dataset", description), ("dataset_fingerprint", fingerprint)):
        (model / f"{file}.json").write_text(json.dumps(content))
    return model
