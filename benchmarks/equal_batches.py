"""The loss of the same trained weights on training batches of nnU-Net's loader and of ours, after benchmarks/equal_curve.py.

    UNETRPP_NNUNET_PYTHON=/path/to/nnunet-environment/bin/python \\
        python -m benchmarks.equal_batches unetrpp_workspace/raw/Hippocampus --out equal_curve --seed 1 --batches 300

The weights are those of nnU-Net's run with --seed after --step steps. Equal losses mean equally hard patches: their place,
padding, augmentation and labels. A third row reads our cases in the directions of the files' axes.
"""

import argparse
import subprocess
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.equal_study import DRIVER, Peer, Study, add_arguments
from unetrpp.core.text import text_table
from unetrpp.networks.cpu_kernels.allocator import keep_freed_memory
from unetrpp.preprocessing.store import StoredCase
from unetrpp.trainers.inputs import FoldData, Machine
from unetrpp.trainers.recipe import new_config
from unetrpp.trainers.step import StepTrainer

Batch = tuple[Tensor, Tensor]


class FlippedCase:
    """A stored case whose axes y and x run the other way, as in files with RAS directions, which nnU-Net reads as they lie."""

    def __init__(self, case: StoredCase):
        self.original, self.shape = case, case.shape

    def __getattr__(self, name: str) -> Any:
        return getattr(self.original, name)

    def draw_voxel(self, rng: np.random.Generator, class_index: int) -> np.ndarray:
        z, y, x = self.original.draw_voxel(rng, class_index)
        return np.array([z, self.shape[1] - 1 - y, self.shape[2] - 1 - x])

    def read(self, start: tuple[int, int, int], size: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
        y, x = (self.shape[axis] - start[axis] - size[axis] for axis in (1, 2))
        image, label = self.original.read((start[0], y, x), size)
        return np.ascontiguousarray(image[..., ::-1, ::-1]), np.ascontiguousarray(label[..., ::-1, ::-1])


def peer_batches(peer: Peer, count: int) -> list[Batch]:
    out = peer.home / "batches"
    command = [str(peer.python), str(DRIVER), peer.dataset, "--batches", str(count), "--out", str(out)]
    environment = peer.environment(out / "results") | {"nnUNet_n_proc_DA": "0"}
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    with np.load(out / "batches.npz") as arrays:
        images, labels = arrays["images"], arrays["labels"].astype(np.int16)
    return [(torch.from_numpy(image), torch.from_numpy(label)) for image, label in zip(images, labels, strict=True)]


def trainer_of(study: Study, *, flipped: bool) -> StepTrainer:
    cases = [study.store.open(case) for case in study.fold.train]
    read = [FlippedCase(case) for case in cases] if flipped else cases
    return StepTrainer(FoldData(study.configuration, read, []), new_config(0, {"recipe": "nnunet"}), Machine(threads=1))


def ours_of(theirs: dict[str, Tensor], trainer: StepTrainer) -> dict[str, Tensor]:
    """nnU-Net's weights under our names: both list encoder, then decoder; ours the finest decoder level first."""
    deepest, named = len(trainer.configuration.architecture.levels) - 1, {}
    for name in trainer.weights():
        part, level, rest = name.split(".", 2)
        stage, blocks = deepest - 1 - int(level), rest.replace("blocks", "convs")
        upsampled = f"decoder.transpconvs.{stage}.{rest.removeprefix('upsample.')}"
        decoder = upsampled if rest.startswith("upsample") else f"decoder.stages.{stage}.{blocks}"
        other = {"encoder": f"encoder.stages.{level}.0.{blocks}", "decoder": decoder}
        named[name] = theirs[other.get(part, f"decoder.seg_layers.{stage}.{rest}")]
    return named


@torch.no_grad()
def losses(trainer: StepTrainer, batches: list[Batch]) -> np.ndarray:
    """Of every sample: (batches, batch size)."""
    found = [
        [trainer.loss(trainer.network(x[None]), y[None]) for x, y in zip(*batch, strict=True)] for batch in batches
    ]
    return np.array([[float(loss) for loss in batch] for batch in found])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--step", type=int, default=450)
    parser.add_argument("--batches", type=int, default=300)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    study = Study(arguments)
    weights = torch.load(study.run("nnunet", arguments.seed) / f"step_{arguments.step}.pt", weights_only=True)
    rows = [["batches of", "random patches", "forced patches", "all", "standard error"]]
    for name in ("nnU-Net", "ours", "ours, flipped"):
        trainer = trainer_of(study, flipped=name == "ours, flipped")
        trainer.load_weights(ours_of(weights, trainer))
        count = range(arguments.batches)
        batches = (
            peer_batches(Peer(study), len(count))
            if name == "nnU-Net"
            else [trainer.batch(trainer.loader.batch(i)) for i in count]
        )
        found = losses(trainer, batches)
        error = found.mean(1).std(ddof=1) / len(count) ** 0.5
        rows.append([name, *(f"{loss:.4f}" for loss in (*found.mean(0), found.mean())), f"{error:.4f}"])
    print(text_table(rows))


if __name__ == "__main__":
    main()
