"""A tiny dataset, planned by hand and stored, for tests of what comes after planning."""

from pathlib import Path

import numpy as np

from unetrpp.fingerprint import IntensityStatistics
from unetrpp.geometry import Geometry
from unetrpp.images import Volume
from unetrpp.labels import LabelScheme
from unetrpp.networks.design import unet_architecture
from unetrpp.plans import AugmentationPlan, Configuration, Normalization, Preprocessing
from unetrpp.preprocessing.case import preprocess
from unetrpp.store import Store

PATCH = (8, 16, 16)
STATISTICS = IntensityStatistics(
    mean=0.0, median=0.0, std=1.0, minimum=0.0, maximum=1.0, percentile_00_5=0.0, percentile_99_5=1.0
)
LABELS = LabelScheme(names=("background", "ball"), values=(0, 1))


def configuration() -> Configuration:
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
