"""nnU-Net's side of benchmarks/equal_curve.py: its own trainer, one seed, resumed where it was interrupted.

Runs in an environment with nnunetv2 2.8.1, which lacks unetrpp; nnU-Net finds its folders through nnUNet_raw,
nnUNet_preprocessed and nnUNet_results.

    PYTHON_WITH_NNUNETV2 benchmarks/equal_curve_nnunet.py DATASET --fold 0 --seed 1 --epochs 24 --iterations 25 \
        --looks 300 450 600 --out FOLDER

FOLDER gets a line in epochs.jsonl for every epoch, step_N.pt with the weights after the steps to look at, and in step_N/
the segmentations that nnU-Net's own predictor makes of the fold's validation images with them, without mirroring. With
--batches N it gets only batches.npz, with N training batches of nnU-Net's loader, for equal_batches.py.
"""

import argparse
import json
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from batchgenerators.utilities.file_and_folder_operations import load_json
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.paths import nnUNet_preprocessed, nnUNet_raw, nnUNet_results
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


def seed_everything(seed: int, epoch: int) -> None:
    """Everything an epoch draws follows from seed and epoch, so that a resumed run draws the same."""
    number = 100_000 * (seed + 1) + epoch
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)


class ShortTrainer(nnUNetTrainer):  # type: ignore[misc]  # nnunetv2 has no types here
    """nnU-Net's trainer, shorter; it also keeps weights of given steps and the CPU seconds of every epoch's training."""

    def shorten(self, arguments: argparse.Namespace) -> None:
        self.asked = arguments
        self.num_epochs, self.num_iterations_per_epoch = arguments.epochs, arguments.iterations
        self.num_val_iterations_per_epoch = 1  # it changes nothing that is compared here
        self.save_every = 1

    def on_epoch_start(self) -> None:
        seed_everything(self.asked.seed, self.current_epoch)
        self.norms: list[float] = []
        super().on_epoch_start()

    def on_train_epoch_start(self) -> None:
        self.started = time.process_time(), time.perf_counter()
        super().on_train_epoch_start()

    def train_step(self, batch: dict[str, Any]) -> dict[str, Any]:
        result: dict[str, Any] = super().train_step(batch)
        norms = [p.grad.norm() for p in self.network.parameters() if p.grad is not None]
        self.norms.append(float(torch.stack(norms).norm()))
        return result

    def on_train_epoch_end(self, train_outputs: list[dict[str, Any]]) -> None:
        self.spent = time.process_time() - self.started[0], time.perf_counter() - self.started[1]
        super().on_train_epoch_end(train_outputs)

    def on_epoch_end(self) -> None:
        step = (self.current_epoch + 1) * self.num_iterations_per_epoch
        entry = {
            "step": step,
            "steps": self.num_iterations_per_epoch,
            "learning_rate": self.optimizer.param_groups[0]["lr"],
            "train_loss": float(self.logger.get_value("train_losses", step=-1)),
            "gradient_norm": float(np.mean(self.norms)),
            "cpu_seconds": self.spent[0],
            "seconds": self.spent[1],
        }
        with (self.asked.out / "epochs.jsonl").open("a") as file:
            file.write(json.dumps(entry) + "\n")
        if step in self.asked.looks:
            save(self.network.state_dict(), self.asked.out / f"step_{step}.pt")
        super().on_epoch_end()

    def save_checkpoint(self, filename: str) -> None:
        """As nnU-Net's, but a killed process leaves the earlier checkpoint."""
        super().save_checkpoint(filename + ".part")
        Path(filename + ".part").replace(filename)


def save(weights: dict[str, torch.Tensor], path: Path) -> None:
    part = path.with_suffix(".part")
    torch.save(weights, part)
    part.replace(path)


def open_trainer(arguments: argparse.Namespace) -> ShortTrainer:
    preprocessed = Path(str(nnUNet_preprocessed)) / arguments.dataset
    plans = load_json(str(preprocessed / "nnUNetPlans.json"))
    description = load_json(str(preprocessed / "dataset.json"))
    latest = Path(str(nnUNet_results)) / arguments.dataset / f"ShortTrainer__nnUNetPlans__{arguments.configuration}"
    latest = latest / f"fold_{arguments.fold}" / "checkpoint_latest.pth"
    plans["continue_training"] = latest.is_file()
    trainer = ShortTrainer(plans, arguments.configuration, arguments.fold, description, torch.device(arguments.device))
    trainer.shorten(arguments)
    seed_everything(arguments.seed, -1)
    trainer.initialize()
    if latest.is_file():
        trainer.load_checkpoint(str(latest))
    return trainer


def write_batches(trainer: ShortTrainer, out: Path, count: int) -> None:
    """Images (N, B, C, *patch) and labels (N, B, *patch) of ``count`` augmented training batches."""
    loader, _ = trainer.get_dataloaders()
    batches = [next(loader) for _ in range(count)]
    images = np.stack([batch["data"].numpy() for batch in batches])
    labels = np.stack([batch["target"][0][:, 0].numpy().astype(np.int8) for batch in batches])
    np.savez(out / "batches.npz", images=images, labels=labels)


def predict(trainer: ShortTrainer, arguments: argparse.Namespace, step: int) -> None:
    """nnU-Net's predictor on the validation images, into step_N; done when step_N/done exists."""
    out = arguments.out / f"step_{step}"
    if (out / "done").exists():
        return
    out.mkdir(exist_ok=True)
    trainer.set_deep_supervision_enabled(False)
    trainer.network.load_state_dict(torch.load(arguments.out / f"step_{step}.pt", weights_only=True))
    trainer.network.eval()
    predictor = nnUNetPredictor(use_mirroring=False, device=trainer.device, allow_tqdm=False)
    predictor.manual_initialization(
        trainer.network,
        trainer.plans_manager,
        trainer.configuration_manager,
        [trainer.network.state_dict()],
        trainer.dataset_json,
        "ShortTrainer",
        None,
    )
    images = Path(str(nnUNet_raw)) / arguments.dataset / "imagesTr"
    _, cases = trainer.do_split()
    ending = trainer.dataset_json["file_ending"]
    files = [[str(path) for path in sorted(images.glob(f"{case}_[0-9][0-9][0-9][0-9]{ending}"))] for case in cases]
    predictor.predict_from_files_sequential(files, [str(out / case) for case in cases])
    (out / "done").touch()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset", help="folder name below nnUNet_preprocessed")
    parser.add_argument("--configuration", default="3d_fullres")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--iterations", type=int, default=1)
    parser.add_argument("--looks", nargs="*", type=int, default=[])
    parser.add_argument("--batches", type=int, help="write so many training batches instead of training")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)
    trainer = open_trainer(arguments)
    if arguments.batches:
        write_batches(trainer, arguments.out, arguments.batches)
        return
    if not all((arguments.out / f"step_{step}.pt").exists() for step in arguments.looks):
        trainer.run_training()
    for step in arguments.looks:
        predict(trainer, arguments, step)


if __name__ == "__main__":
    main()
