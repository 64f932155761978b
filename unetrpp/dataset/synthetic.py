"""A small synthetic dataset, for the demo, for tests and for trying options within minutes."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from unetrpp.core.files import write_json
from unetrpp.dataset.description import DatasetDescription, nnunet_json
from unetrpp.dataset.labels import LabelScheme
from unetrpp.io.geometry import Geometry
from unetrpp.io.images import Volume, write_image, write_segmentation

SHAPE = (20, 40, 40)
SPACING_MM = (3.0, 1.25, 1.25)
NOISE = 12.0


@dataclass(frozen=True)
class Organ:
    """An ellipsoid deformed by smooth noise. ``centre_mm`` is relative to the volume's centre (z, y, x)."""

    name: str
    centre_mm: tuple[float, float, float]
    radii_mm: tuple[float, float, float]
    intensity: float


BODY = Organ("body", (0, 0, 0), (60, 23, 24), 100)
ORGANS = (
    Organ("large organ", (-4, -4, 8), (16, 9, 8), 150),
    Organ("round organ", (5, 3, -9), (11, 6.5, 6.5), 45),
    Organ("small organ", (-9, 11, -2), (6.5, 4, 4), 210),
)
SCHEME = LabelScheme(names=("background", *(o.name for o in ORGANS)), values=tuple(range(len(ORGANS) + 1)))


def write_synthetic_dataset(folder: Path, training: int = 20, held_out: int = 4, seed: int = 0) -> None:
    """Write a raw dataset: imagesTr, labelsTr, and for the held-out cases imagesTs with their labelsTs."""
    for number in range(training + held_out):
        image, label = synthetic_case(seed, number)
        part = "Tr" if number < training else "Ts"
        case = f"case_{number:03d}"
        write_image(folder / f"images{part}" / f"{case}_0000.nii.gz", image)
        write_segmentation(folder / f"labels{part}" / f"{case}.nii.gz", label.array[0], label.geometry)
    description = DatasetDescription(name=folder.name, channel_names=("MR",), labels=SCHEME, file_ending=".nii.gz")
    write_json(folder / "dataset.json", nnunet_json(description, training))


def synthetic_case(seed: int, number: int) -> tuple[Volume, Volume]:
    """Image (1, Z, Y, X) float32 and label uint8 of one case; equal arguments give equal voxels.

    Size, spacing, position, shape, contrast and gain differ from case to case; air around the body is exactly 0.
    """
    rng = np.random.default_rng([seed, number])
    shape = tuple(int(n + rng.integers(-2, 3)) for n in SHAPE)
    spacing = tuple(float(np.round(s * rng.uniform(0.95, 1.05), 3)) for s in SPACING_MM)
    body = draw_organ(BODY, shape, spacing, rng)
    label = np.zeros(shape, np.uint8)
    signal = np.full(shape, BODY.intensity) + 15 * smooth_noise(shape, spacing, 10, rng)
    for value, organ in enumerate(ORGANS, start=1):
        inside = draw_organ(organ, shape, spacing, rng) & body & (label == 0)
        label[inside] = value
        signal[inside] = organ.intensity + rng.normal(0, 6)
    blurred = gaussian_filter(signal, [0.4 * SPACING_MM[-1] / s for s in spacing])
    noisy = blurred * (1 + 0.08 * smooth_noise(shape, spacing, 25, rng)) + rng.normal(0, NOISE, shape)
    image = np.where(body, np.maximum(noisy, 1), 0) * rng.uniform(
        0.5, 2
    )  # MR intensities have no unit: each case has its own gain
    z, y, x = shape
    geometry = Geometry(shape_zyx=(z, y, x), spacing_zyx_mm=(spacing[0], spacing[1], spacing[2]))
    return Volume(image[None].astype(np.float32), geometry), Volume(label[None], geometry)


def draw_organ(
    organ: Organ, shape: tuple[int, ...], spacing: tuple[float, ...], rng: np.random.Generator
) -> np.ndarray:
    """The voxels of an organ as bool (Z, Y, X): the ellipsoid's equation, with smooth noise that deforms its surface."""
    centre = np.array(organ.centre_mm) + rng.normal(0, 1.5, 3)
    radii = np.array(organ.radii_mm) * rng.uniform(0.85, 1.15, 3)
    axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing, strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    distance = (((grid - centre) / radii) ** 2).sum(-1)
    inside: np.ndarray = distance * (1 + 0.15 * smooth_noise(shape, spacing, min(organ.radii_mm), rng)) < 1
    return inside


def smooth_noise(
    shape: tuple[int, ...], spacing: tuple[float, ...], length_mm: float, rng: np.random.Generator
) -> np.ndarray:
    """A random field of mean 0 and standard deviation 1 that varies over about ``length_mm``."""
    sigma = [length_mm / 2 / s for s in spacing]  # voxels
    noise: np.ndarray = gaussian_filter(rng.normal(size=shape), sigma, mode="wrap")
    scaled: np.ndarray = (noise - noise.mean()) / noise.std()
    return scaled
