"""Four datasets from random numbers that look unlike each other, for pictures of reports.

    python benchmarks/reports/look_alikes.py look_alikes

``sarcoma``: 44 MR volumes with 3.3 mm slices and a tumour. ``mouse``: eight isotropic volumes of 0.15 mm with 37 classes.
``cord``: one volume with slices of 7.5 mm. ``micro``: sixty colour photographs without a size in mm, whose labels number
the nuclei. Each has images/ and labels/ as `unetrpp_convert folder` takes them.
"""

import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

MOUSE_CLASSES = 37
rng = np.random.default_rng(0)


def write(path: Path, array: np.ndarray, spacing: tuple[float, float, float] | None = None) -> None:
    """``array`` (Z, Y, X), or (Y, X, 3) of a photograph."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array, isVector=spacing is None and array.ndim == 3)
    if spacing:
        image.SetSpacing(spacing[::-1])
    sitk.WriteImage(image, str(path), True)


def noise(shape: tuple[int, ...], sigma: float | tuple[float, ...]) -> np.ndarray:
    """Smooth noise of variance 1."""
    smooth = ndimage.gaussian_filter(rng.normal(size=shape), sigma)
    return smooth / smooth.std()


def grid(shape: tuple[int, ...]) -> np.ndarray:
    """Coordinates from -1 to 1 (axes, Z, Y, X)."""
    return np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij"))


def sarcoma(folder: Path) -> None:
    for i in range(44):
        shape = (int(rng.integers(16, 26)), *map(int, rng.integers(88, 112, 2)))
        in_plane = float(rng.choice([0.94, 1.0, 1.1]))
        at = grid(shape)
        body = np.hypot(at[1] / 0.8, at[2] / 0.72) < 1
        center, radius = rng.uniform(-0.4, 0.4, 3), rng.uniform(0.12, 0.35)
        squared = sum((at[k] - center[k]) ** 2 * (1 if k else 0.3) for k in range(3))
        label = (np.sqrt(squared) + 0.05 * noise(shape, (1, 4, 4)) < radius) & body
        image = body * (300 + 40 * noise(shape, (1, 5, 5))) + 180 * label + rng.normal(0, 18, shape)
        name, spacing = f"sarcoma_{i:03d}.nii.gz", (3.3, in_plane, in_plane)
        write(folder / "images" / name, np.clip(image, 0, None).astype(np.float32), spacing)
        write(folder / "labels" / name, label.astype(np.uint8), spacing)


def mouse(folder: Path) -> None:
    seeds = np.random.default_rng(5).uniform(-0.75, 0.75, (MOUSE_CLASSES, 3))
    tissue = np.random.default_rng(9).uniform(250, 600, MOUSE_CLASSES)
    for i in range(8):
        shape = (int(rng.integers(60, 70)), int(rng.integers(56, 64)), int(rng.integers(72, 80)))
        at = grid(shape) + 0.06 * np.stack([noise(shape, 6) for _ in range(3)])
        radius = np.sqrt((at[0] / 0.85) ** 2 + (at[1] / 0.8) ** 2 + (at[2] / 0.85) ** 2)
        moved = seeds + 0.03 * rng.normal(size=seeds.shape)
        nearest = np.stack([((at - seed[:, None, None, None]) ** 2).sum(0) for seed in moved]).argmin(0)
        image = (radius < 1.1) * (tissue[nearest] + 30 * noise(shape, 2)) + rng.normal(0, 20, shape)
        label = np.where(radius < 1, nearest + 1, 0)
        write(folder / "images" / f"mouse_{i:02d}.nii.gz", image.astype(np.float32), (0.15, 0.15, 0.15))
        write(folder / "labels" / f"mouse_{i:02d}.nii.gz", label.astype(np.uint8), (0.15, 0.15, 0.15))


def cord(folder: Path) -> None:
    shape, spacing = (15, 160, 160), (7.5, 0.5, 0.5)
    at = grid(shape)
    y, x = at[1] - 0.2, at[2] - 0.1 * np.sin(2 * at[0])
    white, grey = np.hypot(y, x) < 0.09, np.hypot(y, x / 1.6) < 0.045
    body = np.hypot(at[1] / 0.9, at[2] / 0.81) < 1
    label = np.where(grey, 2, white)
    image = body * (120 + 25 * noise(shape, (1, 6, 6))) + 90 * (np.hypot(y, x) < 0.14) + 70 * white + 40 * grey
    write(folder / "images" / "cord_1.nii.gz", (image + rng.normal(0, 9, shape)).astype(np.float32), spacing)
    write(folder / "labels" / "cord_1.nii.gz", label.astype(np.uint8), spacing)


def micro(folder: Path) -> None:
    for i in range(60):
        shape = (int(rng.choice([256, 260])), int(rng.choice([256, 320, 360])))
        nuclei = noise(shape, 7) > 1.25
        around = ndimage.binary_dilation(nuclei, iterations=2)
        color = np.where(around[..., None], [220, 160, 195], [232, 214, 228])
        color = np.where(nuclei[..., None], [120, 70, 150], color) + 10 * noise(shape, 2)[..., None]
        image = np.clip(color + rng.normal(0, 4, (*shape, 3)), 0, 255)
        write(folder / "images" / f"tile_{i:03d}.png", image.astype(np.uint8))
        write(folder / "labels" / f"tile_{i:03d}.png", ndimage.label(nuclei)[0].astype(np.uint16))


if __name__ == "__main__":
    for make in (sarcoma, mouse, cord, micro):
        make(Path(sys.argv[1]) / make.__name__)
