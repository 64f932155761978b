"""A model folder with random weights, as a training would leave it."""

from pathlib import Path

import msgspec
import numpy as np
import torch

from tests.helpers.tiny import STATISTICS, ball, configuration
from unetrpp.core.files import read_json, write_json
from unetrpp.dataset.description import DatasetDescription, nnunet_json
from unetrpp.dataset.labels import LabelScheme
from unetrpp.io.geometry import Geometry
from unetrpp.io.images import Volume, write_image
from unetrpp.networks.build import build_network
from unetrpp.networks.design import unet_architecture
from unetrpp.plans.fingerprint import CaseFingerprint, ClassStatistics, Fingerprint
from unetrpp.plans.plans import Configuration, Normalization, Plans

PLAN = configuration()

GEOMETRY = Geometry(
    shape_zyx=(12, 24, 24),
    spacing_zyx_mm=(1.5, 0.9, 0.9),
    origin_xyz_mm=(-4.0, 7.0, 1.0),
    direction=(0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0),
)


def make_model_2d(folder: Path) -> Path:
    """One fold of a 2D U-Net on RGB photographs."""
    plan = configuration()
    channels = ("R", "G", "B")
    normalization = tuple(Normalization(channel=c, scheme="rgb_to_0_1", statistics=STATISTICS) for c in channels)
    preprocessing = msgspec.structs.replace(
        plan.preprocessing, normalization=normalization, spacing_mm=(None, 1.0, 1.0), chunk=(1, 16, 16)
    )
    flat = msgspec.structs.replace(
        plan,
        preprocessing=preprocessing,
        architecture=unet_architecture(3, 2, (16, 16), [(2, 2)], kernels=[(3, 3)] * 2, width=0.25),
        mirror_axes=(0, 1),
    )
    return make_model(folder, 1, flat, "2d", channels=channels, ending=".png")


def make_model(
    folder: Path,
    folds: int = 2,
    configuration: Configuration = PLAN,
    name: str = "3d_fullres",
    *,
    channels: tuple[str, ...] = ("MRI",),
    ending: str = ".nii.gz",
) -> Path:
    """A model folder ``unetrpp__<name>`` with ``folds`` folds."""
    labels = configuration.preprocessing.labels
    model = folder / f"unetrpp__{name}"
    plans = Plans(
        dataset="balls",
        name="unetrpp",
        planner="tests",
        channel_names=channels,
        labels=labels,
        file_ending=ending,
        configurations={name: configuration},
        decisions=(),
    )
    write_json(model / "plans.json", plans)
    description = DatasetDescription(name="balls", channel_names=channels, labels=labels, file_ending=ending)
    write_json(model / "dataset.json", nnunet_json(description, 4))
    write_json(model / "fingerprint.json", fingerprint())
    for fold in range(folds):
        torch.manual_seed(fold)
        network = build_network(configuration.architecture)
        (model / f"fold_{fold}").mkdir()
        torch.save({"format": 1, "network": network.state_dict()}, model / f"fold_{fold}" / "checkpoint_final.pt")
    return model


def make_model_of(folder: Path, labels: LabelScheme, folds: int = 1) -> Path:
    """A model of other labels, whose random weights predict all of them."""
    plan = configuration()
    network = unet_architecture(1, labels.outputs, PLAN.patch, [(2, 2, 2)], kernels=[(3, 3, 3)] * 2, width=0.25)
    preprocessing = msgspec.structs.replace(plan.preprocessing, labels=labels)
    model = make_model(folder, folds, msgspec.structs.replace(plan, preprocessing=preprocessing, architecture=network))
    for path in model.glob("fold_*/checkpoint_final.pt"):
        content = torch.load(path, weights_only=True)
        for name, values in content["network"].items():
            if name.startswith("heads."):
                values *= 0 if name.endswith("bias") else 100
        torch.save(content, path)
    return model


def change_plans(model: Path, **changed: object) -> None:
    """Replace fields of the plans in a model folder."""
    write_json(model / "plans.json", msgspec.structs.replace(read_json(model / "plans.json", Plans), **changed))


def other_grid(model: Path, spacing: tuple[float, ...], transpose: tuple[int, ...] = (0, 1, 2)) -> Path:
    """The same model planned for another spacing and axis order."""
    configurations = read_json(model / "plans.json", Plans).configurations
    name, configuration = next(iter(configurations.items()))
    preprocessing = msgspec.structs.replace(configuration.preprocessing, spacing_mm=spacing, transpose=transpose)
    change_plans(model, configurations={name: msgspec.structs.replace(configuration, preprocessing=preprocessing)})
    return model


def give_own_attention(model: Path, fold: int, gammas: dict[str, float]) -> None:
    """A fold that learned where to place attention: its own architecture, and weights of that network."""
    own = PLAN.architecture.with_focal(gammas)
    torch.manual_seed(100 + fold)
    network = build_network(own)
    torch.save({"format": 1, "network": network.state_dict()}, model / f"fold_{fold}" / "checkpoint_final.pt")
    write_json(model / f"fold_{fold}" / "architecture.json", own)


def fingerprint() -> Fingerprint:
    statistics = ClassStatistics(
        voxels=250,
        volume_mm3=250.0,
        components=1,
        component_radii_mm=(4.0,),
        surface_to_volume_per_mm=0.7,
        smallest_extent_voxels=(8, 8, 8),
        center_lps_mm=(0.0, 0.0, 0.0),
    )
    case = CaseFingerprint(
        case="ball_0",
        shape=(12, 24, 24),
        spacing_mm=(1.0, 1.0, 1.0),
        cropped_shape=(12, 24, 24),
        coarse_axis_in_file=0,
        inputs_digest="none",
        classes={"ball": statistics},
    )
    return Fingerprint(
        dataset="balls",
        cases=(case,),
        intensities=(STATISTICS,),
        median_relative_size_after_crop=1.0,
        median_spacing_mm=(1.0, 1.0, 1.0),
        median_shape=(12, 24, 24),
    )


def write_images(folder: Path, count: int) -> list[Volume]:
    """``case_0_0000.nii.gz``, ... on a rotated, anisotropic grid."""
    volumes = []
    for i in range(count):
        volume = Volume(ball(np.random.default_rng(100 + i))[0], GEOMETRY)
        write_image(folder / f"case_{i}_0000.nii.gz", volume)
        volumes.append(volume)
    return volumes
