"""Compares preprocessed cases with nnU-Net 2.8.1's: the same phantoms through both, under nnU-Net's own plans.

    python benchmarks/agreement.py --nnunet PATH/TO/ITS/VENV

Prints, for an isotropic and an anisotropic phantom: the difference of the images in standard deviations, over all
voxels and away from the crop's border, and the share of voxels whose label agrees.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import blosc2
import numpy as np
from preprocessing import NUMBER, theirs, write_phantom

from unetrpp.dataset.cases import read_dataset
from unetrpp.dataset.labels import LabelScheme
from unetrpp.io.images import read_image, read_label
from unetrpp.plans.fingerprint import IntensityStatistics
from unetrpp.plans.plans import Normalization, Preprocessing
from unetrpp.preprocessing.case import PreprocessedCase, preprocess

PHANTOMS = {"isotropic": (0.9, 0.9, 1.1), "anisotropic": (0.7, 0.7, 4.0)}
SHAPE = (48, 100, 100)
BORDER = 6  # voxels


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nnunet", type=Path, required=True, metavar="VENV", help="an environment with nnunetv2 2.8.1")
    parser.add_argument("--cases", type=int, default=4)
    arguments = parser.parse_args()
    print(f"{'':14s}{'largest':>10s}{'inside':>10s}{'mean':>10s}{'labels':>10s}")
    for name, spacing in PHANTOMS.items():
        with tempfile.TemporaryDirectory() as folder:
            raw = Path(folder, "raw", f"Dataset{NUMBER}_Phantom")
            write_phantom(raw, arguments.cases, 3, SHAPE, spacing_xyz=spacing)
            preprocess_theirs(arguments.nnunet, Path(folder))
            found = np.array(compare(raw, Path(folder, "preprocessed", raw.name)))
        largest, inside, mean, labels = found[:, 0].max(), found[:, 1].max(), found[:, 2].mean(), found[:, 3].mean()
        print(f"{name:14s}{largest:10.2e}{inside:10.2e}{mean:10.2e}{labels:10.5f}")
    return 0


def preprocess_theirs(venv: Path, folder: Path) -> None:
    places = {f"nnUNet_{part}": str(folder / part) for part in ("raw", "preprocessed", "results")}
    subprocess.run(
        theirs(venv, 1), env={**os.environ, **places}, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def compare(raw: Path, preprocessed: Path) -> list[tuple[float, float, float, float]]:
    """Per case: largest difference, largest away from the border, mean difference, share of equal labels."""
    plan = as_ours(json.loads((preprocessed / "nnUNetPlans.json").read_text()))
    folder = preprocessed / "nnUNetPlans_3d_fullres"
    found = []
    for case in read_dataset(raw, "Phantom").cases:
        truth = None if case.label is None else read_label(case.label)
        result = preprocess(read_image(case.images), truth, plan, case.id)
        image, label = (blosc2.open(str(folder / f"{case.id}{part}.b2nd"))[:] for part in ("", "_seg"))
        found.append(difference(result, image, label[0]))
    return found


def difference(ours: PreprocessedCase, image: np.ndarray, label: np.ndarray) -> tuple[float, float, float, float]:
    if ours.label is None or ours.image.shape != image.shape:
        raise SystemExit(f"shapes differ: {ours.image.shape} and {image.shape}")
    apart = np.abs(ours.image - image) / image.std()
    inner = apart[:, *(slice(BORDER, -BORDER),) * 3]
    same = (ours.label == np.maximum(label, 0)).mean()  # nnU-Net marks voxels outside the body's mask with -1
    return float(apart.max()), float(inner.max()), float(apart.mean()), float(same)


def as_ours(plans: dict[str, Any]) -> Preprocessing:
    """nnU-Net's full-resolution preprocessing as our record."""
    configuration = plans["configurations"]["3d_fullres"]
    measured = plans["foreground_intensity_properties_per_channel"]["0"]
    statistics = IntensityStatistics(
        mean=measured["mean"],
        median=measured["median"],
        std=measured["std"],
        minimum=measured["min"],
        maximum=measured["max"],
        percentile_00_5=measured["percentile_00_5"],
        percentile_99_5=measured["percentile_99_5"],
    )
    z, y, x = configuration["spacing"]
    first, second, third = plans["transpose_forward"]
    return Preprocessing(
        transpose=(first, second, third),
        spacing_mm=(z, y, x),
        normalization=(Normalization(channel="CT", scheme="ct", statistics=statistics),),
        labels=LabelScheme(names=("background", "1", "2", "3"), values=(0, 1, 2, 3)),
        chunk=(32, 32, 32),
    )


if __name__ == "__main__":
    sys.exit(main())
