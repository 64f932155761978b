"""Downloads in miniature: small volumes under the real file names of public datasets, and the way from them to training."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from unetrpp.dataset_conversion.conversion import convert_dataset
from unetrpp.dataset_conversion.raw import ConversionResult
from unetrpp.planners.pipeline import plan_and_preprocess
from unetrpp.trainers.folds import train

SHAPE = (12, 16, 16)  # (Z, Y, X), as small as a network of two levels takes


def scan(
    path: Path, *, ct: bool = False, seed: int = 0, spacing=(1.0, 1.0, 1.0), shape=SHAPE, channels: int = 1
) -> Path:
    """An image with noise, as a file; with ``ct`` in Hounsfield units.

    Args:
        spacing: (X, Y, Z) in mm.
        channels: more than one makes a file of four dimensions.
    """
    size = shape if channels == 1 else (channels, *shape)
    noise = np.random.default_rng(seed).normal(size=size)
    values = (np.clip(400 * noise, -1000, 2000) if ct else 100 + 20 * noise).astype(np.int16)
    return _write(path, values, spacing)


def label(path: Path, values: Sequence[int], *, seed: int = 0, spacing=(1.0, 1.0, 1.0), shape=SHAPE) -> Path:
    """A label map in which every value has a block of voxels."""
    array = np.zeros(shape, np.uint16 if max(values, default=0) > 255 else np.uint8)
    flat = array.reshape(-1)
    each = max(1, flat.size // (len(values) + 2))
    for i, value in enumerate(np.random.default_rng(seed).permutation(values), 1):
        flat[i * each : (i + 1) * each] = value
    return _write(path, array, spacing)


def _write(path: Path, array: np.ndarray, spacing) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array, isVector=False)
    image.SetSpacing((*spacing, 1.0) if array.ndim == 4 else spacing)
    sitk.WriteImage(image, str(path))
    return path


def convert(dataset: str, source: Path, workspace: Path, **choices) -> ConversionResult:
    """`unetrpp_convert` in this process."""
    return convert_dataset(dataset, source, workspace=workspace, processes=1, **choices)


def train_two_steps(converted: ConversionResult, workspace: Path, *, configuration: str = "3d_fullres") -> Path:
    """Plan, preprocess and train fold 0 of a converted dataset for two steps; returns the fold's final checkpoint."""
    name = converted.folder.name
    plan_and_preprocess(
        name, workspace=workspace, planner="unet", configurations=[configuration], width=0.25, batch_size=2, processes=1
    )
    model = train(name, configuration, 0, workspace=workspace, plans_name="unet", epochs=1, iterations=2, device="cpu")
    return model.path / "fold_0" / "checkpoint_final.pt"
