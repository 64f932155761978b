"""A tiny dataset, and the commands that the campaign interrupts on it, in the order in which a user gives them."""

import json
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

SHAPE = (12, 14, 16)
TRAINING, HELD_OUT = 4, 2
MODEL = "ws/results/tiny/unetrpp__3d_fullres"
CPU = ("--device=cpu", "--no-mirroring")
PLAN = ("plan-and-preprocess", "tiny", "--workspace=ws", "--width=0.125", "--patch", "8", "8", "8", "--batch-size=2")
PLAN = (*PLAN, "--gpu-memory-gb=8", "--processes=1")
RECIPE = ("--workspace=ws", "--epochs=1", "--iterations=2", *CPU)
FOLDER = "{case}_0000.nii.gz"


@dataclass(frozen=True)
class Command:
    """A command, and its row in the table; the rows without a name only prepare the next command."""

    row: str
    arguments: tuple[str, ...]
    first: int | None = None  # only this many events, where the others are those of an earlier line


COMMANDS = (
    Command(
        "convert",
        (
            *("convert", "folder", "src", "--images", f"imagesTr/{FOLDER}", "--labels", "labelsTr/{case}.nii.gz"),
            *("--test-images", f"imagesTs/{FOLDER}", "--channel=MR", "--label", "organ=1", "--name=tiny"),
            *("--workspace=ws", "--processes=1"),
        ),
    ),
    Command("convert", ("convert", "msd", "Task01_Small.tar", "--workspace=ws", "--processes=1")),
    Command("plan", (*PLAN, "--plan-only")),
    Command("preprocess", PLAN),
    Command("plan", (*PLAN, "--plan-only", "--overwrite"), first=20),
    Command("", PLAN),
    Command("train", ("train", "tiny", "3d_fullres", "0", *RECIPE)),
    Command("train", ("train", "tiny", "3d_fullres", *RECIPE), first=20),
    Command("train", ("train", "tiny", "3d_fullres", "1", *RECIPE, "--overwrite"), first=20),
    Command("", (*PLAN, "--planner=unet")),
    Command("", ("train", "tiny", "3d_fullres", "--plans-name=unet", *RECIPE)),
    Command("predict", ("predict", "-i", "src/imagesTs", "-o", "out", "-m", MODEL, "--uncertainty", *CPU)),
    Command("predict", ("predict", "-i", "src/imagesTs", "-o", "out", "-m", MODEL, "--overwrite", *CPU)),
    Command(
        "evaluate", ("evaluate", "out", "src/labelsTs", "--dataset-json=ws/raw/tiny/dataset.json", "--processes=1")
    ),
    Command("evaluate", ("evaluate", "--model", MODEL)),
    Command("find-best", ("find-best", "tiny", "--workspace=ws", "--device=cpu")),
    Command("export", ("export", "-m", MODEL, "-o", "model.zip")),
    Command("import", ("import", "model.zip", "--workspace=other")),
    Command("import", ("import", "model.zip", "--workspace=other", "--overwrite")),
)


def write_sources(root: Path) -> None:
    """A folder of cases, the same as an archive of the decathlon, and the folds of the dataset to come."""
    source, decathlon = root / "src", root / "Task01_Small"
    for part in ("imagesTr", "labelsTr", "imagesTs", "labelsTs"):
        (source / part).mkdir(parents=True)
        (decathlon / part).mkdir(parents=True)  # labelsTs stays empty: the decathlon publishes no labels of test cases
    for i in range(TRAINING + HELD_OUT):
        part = "Tr" if i < TRAINING else "Ts"
        for kind, array in zip(("images", "labels"), _case(i), strict=True):
            image = sitk.GetImageFromArray(array)
            sitk.WriteImage(
                image, str(source / f"{kind}{part}" / f"case_{i}{'_0000' * (kind == 'images')}.nii.gz"), True
            )
            if kind == "images" or part == "Tr":
                sitk.WriteImage(image, str(decathlon / f"{kind}{part}" / f"case_{i}.nii.gz"), True)
    pairs = [{"image": f"./imagesTr/case_{i}.nii.gz", "label": f"./labelsTr/case_{i}.nii.gz"} for i in range(TRAINING)]
    tests = [f"./imagesTs/case_{i}.nii.gz" for i in range(TRAINING, TRAINING + HELD_OUT)]
    content = {"modality": {"0": "MRI"}, "labels": {"0": "background", "1": "organ"}, "training": pairs, "test": tests}
    (decathlon / "dataset.json").write_text(json.dumps(content))
    with tarfile.open(root / "Task01_Small.tar", "w") as archive:
        archive.add(decathlon, decathlon.name)
    cases = [f"case_{i}" for i in range(TRAINING)]
    halves = (cases[::2], cases[1::2])
    folds = [{"train": train, "validation": validation} for train, validation in (halves, halves[::-1])]
    home = root / "ws" / "preprocessed" / "tiny"
    home.mkdir(parents=True)
    (home / "splits.json").write_text(json.dumps({"folds": folds}))


def _case(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Image and label (Z, Y, X): a bright ellipsoid in noise."""
    rng = np.random.default_rng(seed)
    places = zip(np.indices(SHAPE), SHAPE, strict=True)
    label = sum(((grid - n / 2 + rng.uniform(-1, 1)) / (0.3 * n)) ** 2 for grid, n in places) <= 1
    return rng.normal(100, 10, SHAPE).astype(np.float32) + 60 * label, label.astype(np.uint8)
