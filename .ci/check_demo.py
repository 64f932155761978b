"""Recomputes the demo's mean Dice from the written files, with SimpleITK and numpy only, and compares."""

import sys
from pathlib import Path

import numpy as np
import SimpleITK as sitk

REQUIRED = 0.80


def read(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def main(folder: Path, last_line: str) -> int:
    references = sorted(folder.rglob("labelsTs/*.nii.gz"))
    scores = []
    for reference in references:
        (prediction,) = list(folder.rglob(f"predictions/{reference.name}"))
        truth, found = read(reference), read(prediction)
        scores += [
            2 * np.sum((truth == c) & (found == c)) / np.sum((truth == c).astype(int) + (found == c)) for c in (1, 2, 3)
        ]
    mean = float(np.mean(scores))
    print(f"recomputed over {len(references)} cases and {len(scores)} classes: {mean:.3f}; the demo said: {last_line}")
    if len(references) != 4 or last_line != f"mean Dice {mean:.3f}" or mean < REQUIRED:
        print(f"expected four cases, the same number, and at least {REQUIRED}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
