"""A small raw dataset on disk, for tests of planning."""

import json
from pathlib import Path

import numpy as np

from unetrpp.io.geometry import Geometry
from unetrpp.io.images import Volume, write_image, write_segmentation

GEOMETRY = Geometry(shape_zyx=(12, 20, 16), spacing_zyx_mm=(2.0, 1.0, 1.0), origin_xyz_mm=(5.0, -3.0, 10.0))
DESCRIPTION = {
    "channel_names": {"0": "MR"},
    "labels": {"background": 0, "organ": 1, "lesion": 2},
    "numTraining": 4,
    "file_ending": ".nii.gz",
}


def make_case(seed: int, shape=GEOMETRY.shape_zyx) -> tuple[np.ndarray, np.ndarray]:
    """Noise with a bright block (organ) and a brighter one inside (lesion)."""
    random = np.random.default_rng(seed)
    label = np.zeros(shape, np.uint8)
    label[3:9, 5:15, 4:12] = 1
    label[5:7, 8:11, 6:9] = 2
    return (random.normal(100, 10, shape) + 40 * label).astype(np.float32), label


def write_case(folder: Path, case: str, image: np.ndarray, label: np.ndarray, geometry=GEOMETRY) -> None:
    write_image(folder / "imagesTr" / f"{case}_0000.nii.gz", Volume(image[None], geometry))
    write_segmentation(folder / "labelsTr" / f"{case}.nii.gz", label, geometry)


def write_dataset(folder: Path, cases: int = 4) -> Path:
    for i in range(cases):
        write_case(folder, f"case_{i}", *make_case(i))
    (folder / "dataset.json").write_text(json.dumps(DESCRIPTION | {"numTraining": cases}))
    return folder
