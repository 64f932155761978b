"""A tiny planned and preprocessed dataset, for tests of the steps after planning."""

from pathlib import Path

import numpy as np

from unetrpp.core.digest import digest
from unetrpp.core.files import write_json
from unetrpp.core.workspace import Workspace
from unetrpp.dataset.description import DatasetDescription, nnunet_json
from unetrpp.dataset.labels import LabelScheme
from unetrpp.dataset.splits import make_splits
from unetrpp.io.geometry import Geometry
from unetrpp.io.images import Volume, write_segmentation
from unetrpp.networks.design import unet_architecture
from unetrpp.plans.fingerprint import IntensityStatistics
from unetrpp.plans.plans import AugmentationPlan, Configuration, LossPlan, Normalization, Plans, Preprocessing
from unetrpp.preprocessing.case import preprocess
from unetrpp.preprocessing.store import Store

PATCH = (8, 16, 16)
STATISTICS = IntensityStatistics(
    mean=0.0, median=0.0, std=1.0, minimum=0.0, maximum=1.0, percentile_00_5=0.0, percentile_99_5=1.0
)
LABELS = LabelScheme(names=("background", "ball"), values=(0, 1))


def configuration(loss: LossPlan | None = None) -> Configuration:
    """A U-Net of eight channels on patches of 8 x 16 x 16."""
    preprocessing = Preprocessing(
        transpose=(0, 1, 2),
        spacing_mm=(1.0, 1.0, 1.0),
        normalization=(Normalization(channel="MRI", scheme="zscore", statistics=STATISTICS),),
        labels=LABELS,
        chunk=PATCH,
    )
    return Configuration(
        preprocessing=preprocessing,
        architecture=unet_architecture(1, 2, PATCH, [(2, 2, 2)], kernels=[(3, 3, 3)] * 2, width=0.25),
        batch_size=2,
        mirror_axes=(0, 1, 2),
        augmentation=AugmentationPlan(rotation_degrees=(30.0, 30.0, 30.0)),
        training_memory_bytes=0,
        decisions=(),
        loss=loss or LossPlan(),
    )


def ball(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A bright ball in noise: image (1, Z, Y, X) and label."""
    shape = (12, 24, 24)
    center = np.array(shape) / 2 + rng.uniform(-2, 2, 3)
    distance = np.linalg.norm(np.moveaxis(np.indices(shape), 0, -1) - center, axis=-1)
    label = (distance < 4).astype(np.uint8)
    image = rng.normal(100, 20, shape) + 100 * label
    return image[None].astype(np.float32), label


def store_balls(folder: Path, count: int) -> Store:
    """``count`` preprocessed cases named ball_0, ball_1, ..."""
    plan = configuration().preprocessing
    store = Store(folder)
    for i in range(count):
        image, label = ball(np.random.default_rng(i))
        geometry = Geometry(shape_zyx=label.shape, spacing_zyx_mm=(1.0, 1.0, 1.0))
        case = preprocess(Volume(image, geometry), Volume(label[None], geometry), plan, f"ball_{i}")
        store.write(case, plan.digest(), "none", PATCH)
    return store


def replace_ball(workspace: Workspace, number: int, image: np.ndarray, label: np.ndarray) -> None:
    """Replace the image and the label of one case, and preprocess it again as planning does."""
    case, plan = f"ball_{number}", configuration().preprocessing
    geometry = Geometry(shape_zyx=label.shape, spacing_zyx_mm=(1.0, 1.0, 1.0))
    write_segmentation(workspace.preprocessed("balls") / "labels" / f"{case}.nii.gz", label, geometry)
    prepared = preprocess(Volume(image, geometry), Volume(label[None], geometry), plan, case)
    store = Store(workspace.store("balls", "unet", "3d_fullres"))
    store.write(prepared, plan.digest(), digest(image.tobytes(), label.tobytes()), PATCH)


def workspace_of_balls(root: Path, loss: LossPlan | None = None, count: int = 4) -> Workspace:
    """Plans named "unet", splits, store and reference labels of ``count`` balls."""
    workspace = Workspace(root)
    home = workspace.preprocessed("balls")
    store = store_balls(workspace.store("balls", "unet", "3d_fullres"), count)
    description = DatasetDescription(name="balls", channel_names=("MRI",), labels=LABELS, file_ending=".nii.gz")
    plans = Plans(
        dataset="balls",
        name="unet",
        planner="unet",
        channel_names=("MRI",),
        labels=LABELS,
        file_ending=".nii.gz",
        configurations={"3d_fullres": configuration(loss)},
        decisions=(),
    )
    write_json(home / "unet.json", plans)
    write_json(home / "splits.json", make_splits(store.cases()))
    write_json(home / "dataset.json", nnunet_json(description, count))
    write_json(home / "fingerprint.json", {})
    for case in store.cases():
        label = ball(np.random.default_rng(int(case.removeprefix("ball_"))))[1]
        geometry = Geometry(shape_zyx=label.shape, spacing_zyx_mm=(1.0, 1.0, 1.0))
        write_segmentation(home / "labels" / f"{case}.nii.gz", label, geometry)
    return workspace


def raw_balls(workspace: Workspace) -> Workspace:
    """The raw dataset that the balls of :func:`workspace_of_balls` are from."""
    raw = workspace.root / "raw" / "balls"
    description = DatasetDescription(name="balls", channel_names=("MRI",), labels=LABELS, file_ending=".nii.gz")
    write_json(raw / "dataset.json", nnunet_json(description, 4))
    for i in range(4):
        image, label = ball(np.random.default_rng(i))
        geometry = Geometry(shape_zyx=label.shape, spacing_zyx_mm=(1.0, 1.0, 1.0))
        write_segmentation(raw / "labelsTr" / f"ball_{i}.nii.gz", label, geometry)
        write_segmentation(raw / "imagesTr" / f"ball_{i}_0000.nii.gz", image[0].astype(np.int16), geometry)
    return workspace
