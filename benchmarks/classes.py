"""What `unetrpp_predict --classes` saves: CPU seconds of export and of all files, with every class and with one of them.

    python benchmarks/classes.py [--classes 32]

The phantom of benchmarks/export.py, 108 x 151 x 159 voxels of logits to a grid of 96 x 160 x 160. The networks, which cost the same,
are not part of it, nor is making the phantom's logits.
"""

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from export import SIZES, grid_of, logits_of_slices
from predict import clocked

from unetrpp.inference.class_files import write_class_files
from unetrpp.inference.export import export
from unetrpp.inference.written_classes import WrittenClasses
from unetrpp.preprocessing.grid import CaseGrid

FILES: dict[str, dict[str, Any]] = {
    "segmentation alone": {},
    "--probabilities": {"probabilities": True},
    "--masks": {"endings": [".nii.gz"]},
    "--surfaces stl": {"endings": [".stl"]},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=32)
    classes = parser.parse_args().classes
    size = next(iter(SIZES))
    grid, logits = (
        grid_of(classes, size),
        torch.from_numpy(logits_of_slices(classes, SIZES[size][0], 0, SIZES[size][0][0])),
    )
    chosen = {"every class": WrittenClasses(grid.plan.labels), "one class": WrittenClasses(grid.plan.labels, ("c1",))}
    write(logits, grid, chosen["one class"], {})()  # warm up
    print(f"{'CPU s':24s}" + "".join(f"{name:>14s}" for name in chosen))
    for name, files in FILES.items():
        seconds = [clocked(write(logits, grid, written, files))[1] for written in chosen.values()]
        print(f"{name:24s}" + "".join(f"{value:14.2f}" for value in seconds), flush=True)


def write(logits: torch.Tensor, grid: CaseGrid, written: WrittenClasses, files: dict[str, Any]) -> Callable[[], None]:
    """Export and writing as unetrpp_predict does it."""

    def run() -> None:
        with tempfile.TemporaryDirectory() as folder:
            channels = written.channels if files.get("probabilities") else False
            found = export([logits[None]], grid, probabilities=channels).to_input(grid)
            found = replace(found, array=written.apply(found.array))
            found.save(Path(folder) / "case.nii.gz")
            write_class_files(Path(folder) / "case", found, written.labels.segments(), files.get("endings", ()))

    return run


if __name__ == "__main__":
    main()
