"""A small folder of images and labels to convert, and the conversion by command."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from unetrpp.dataset_conversion.convert import main


def write(path: Path, array: np.ndarray, spacing: tuple[float, ...] = (1.0, 1.0, 2.0)) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing[: image.GetDimension()])
    sitk.WriteImage(image, str(path))
    return array


def read(path: Path) -> np.ndarray:
    """By SimpleITK alone."""
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def make_source(root: Path, cases: int = 4, *, part: str = "", highest: int = 1) -> dict[str, np.ndarray]:
    """``images`` and ``labels`` (behind ``part``) of c0, c1, ...; the labels, which hold every value up to ``highest``."""
    labels = {}
    for i in range(cases):
        name = f"{part or 'c'}{i}"
        random = np.random.default_rng([len(part), i])
        write(root / f"{part}images" / f"{name}.nii.gz", random.normal(size=(3, 8, 9)).astype(np.float32))
        label = random.integers(0, highest + 1, (3, 8, 9)).astype(np.uint16)
        label[0, 0] = np.arange(9) % (highest + 1) if highest < 9 else label[0, 0]
        labels[name] = write(root / f"{part}labels" / f"{name}.nii.gz", label)
    return labels


def convert(root: Path, *more: object, images: str = "images", labels: str | None = "labels") -> int:
    where = ["--images", images, *(() if labels is None else ("--labels", labels)), "--channel", "MR"]
    home = ["--workspace", str(root.parent / "w"), "--name", "Made", "--processes", "1"]
    return main(["folder", str(root), *where, *map(str, more), *home])


def files_in(raw: Path) -> dict[str, list[str]]:
    """Folder of a raw dataset -> names in it, without the image's ending."""
    folders = sorted(path for path in raw.iterdir() if path.is_dir())
    return {folder.name: sorted(path.name.split(".")[0] for path in folder.iterdir()) for folder in folders}
