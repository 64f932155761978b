"""How the parameters of nnU-Net 2.8.1's fresh U-Nets are distributed: run with the Python of its environment, it prints JSON.

    /path/to/nnunet-environment/bin/python tests/helpers/nnunet_start.py > tests/data/nnunet_start.json

Parameters are pooled by kind and shape: ``convolution``, ``transposed`` (their weights), ``bias`` (of both), ``norm`` and
``last norm`` (weight and bias, the latter of the norms before the addition of a residual block). Each entry has the number of
values, their mean and their standard deviation. The head of the coarsest level is left out: its loss has weight 0.
"""

import json
import sys
from collections import defaultdict

import torch
from torch import Tensor, nn

WIDTHS = {2: [32, 64, 128, 256, 512], 3: [32, 64, 128, 256]}
PATCHES = {2: (64, 64), 3: (16, 16, 16)}
RESIDUAL_BLOCKS = [1, 3, 4, 6, 6]
NETWORKS = ("unet 2d", "unet 3d", "resunet 2d", "resunet 3d")
CONVOLUTIONS = (nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose2d, nn.ConvTranspose3d)


def pooled(network: nn.Module, last_norms: set[int]) -> dict[str, list[float]]:
    """Number, mean and standard deviation of the values of every kind and shape.

    Args:
        last_norms: ids of the norms before the addition of a residual block.
    """
    found: dict[str, list[Tensor]] = defaultdict(list)
    for module in network.modules():
        convolution, transposed = isinstance(module, CONVOLUTIONS), isinstance(module, TRANSPOSED)
        norm = "last norm" if id(module) in last_norms else "norm"
        for name, parameter in module.named_parameters(recurse=False):
            kind = f"{norm} {name}"
            if convolution or transposed:
                kind = "bias" if name == "bias" else "convolution" if convolution else "transposed"
            found[f"{kind} {'x'.join(map(str, parameter.shape))}"].append(parameter.detach().double().flatten())
    values = {key: torch.cat(found[key]) for key in sorted(found)}
    return {key: [len(v), v.mean().item(), v.std(correction=0).item()] for key, v in values.items()}


def theirs(name: str) -> nn.Module:
    """nnU-Net's network as its trainer builds it, one image channel and three classes, without its coarsest head."""
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans  # type: ignore[import-not-found]

    kind, dimensions = name.split()[0], int(name.split()[1][0])
    widths = WIDTHS[dimensions]
    stages = len(widths)
    architecture = "PlainConvUNet" if kind == "unet" else "ResidualEncoderUNet"
    blocks = {"n_conv_per_stage": [2] * stages, "n_conv_per_stage_decoder": [2] * (stages - 1)}
    if kind == "resunet":
        blocks = {"n_blocks_per_stage": RESIDUAL_BLOCKS[:stages], "n_conv_per_stage_decoder": [1] * (stages - 1)}
    arguments = {
        "n_stages": stages,
        "features_per_stage": widths,
        "conv_op": f"torch.nn.modules.conv.Conv{dimensions}d",
        "kernel_sizes": [[3] * dimensions] * stages,
        "strides": [[1] * dimensions] + [[2] * dimensions] * (stages - 1),
        **blocks,
        "conv_bias": True,
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dimensions}d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    imported = ["conv_op", "norm_op", "dropout_op", "nonlin"]
    path = f"dynamic_network_architectures.architectures.unet.{architecture}"
    network = get_network_from_plans(path, arguments, imported, 1, 3, deep_supervision=True)
    del network.decoder.seg_layers[0]
    return network


def main() -> None:
    torch.manual_seed(0)
    result = {}
    for name in NETWORKS:
        network = theirs(name)
        last = {id(m.conv2.norm) for m in network.modules() if type(m).__name__ == "BasicBlockD"}
        result[name] = pooled(network, last)
    json.dump(result, sys.stdout, indent=0)
    print()


if __name__ == "__main__":
    main()
