"""Run the demo in unetrpp_demo/ and recompute its mean Dice from the written files, with SimpleITK and numpy only.

With --ran LOG the demo is not run; the last line of LOG is what it printed last.
"""

import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import SimpleITK as sitk

FOLDER = Path("unetrpp_demo")
REQUIRED = 0.80


def read(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def recomputed(folder: Path) -> tuple[int, float]:
    """How many held-out cases the demo left, and the mean Dice over them and the three classes."""
    references = sorted(folder.rglob("labelsTs/*.nii.gz"))
    scores = []
    for reference in references:
        (prediction,) = list(folder.rglob(f"predictions/{reference.name}"))
        truth, found = read(reference), read(prediction)
        scores += [
            2 * np.sum((truth == c) & (found == c)) / np.sum((truth == c).astype(int) + (found == c)) for c in (1, 2, 3)
        ]
    return len(references), float(np.mean(scores))


def run_demo() -> str:
    """Run the demo; returns what it prints to stdout."""
    command = [str(Path(sysconfig.get_path("scripts")) / "unetrpp_demo"), "--folder", str(FOLDER)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def main(arguments: Sequence[str]) -> int:
    output = Path(arguments[1]).read_text(encoding="utf8") if arguments[:1] == ["--ran"] else run_demo()
    last_line = output.rstrip().rpartition("\n")[2]
    cases, mean = recomputed(FOLDER)
    print(f"recomputed over {cases} cases: {mean:.3f}; the demo said: {last_line}")
    if cases != 4 or last_line != f"mean Dice {mean:.3f}" or mean < REQUIRED:
        print(f"expected four cases, the same number, and at least {REQUIRED}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
