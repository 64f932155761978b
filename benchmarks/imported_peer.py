"""nnU-Net's side of benchmarks/imported.py: makes its model folders, and predicts with them.

Runs in an environment with nnunetv2, which lacks unetrpp.

    PYTHON_WITH_NNUNETV2 benchmarks/imported_peer.py make FOLDER --classes 25
    PYTHON_WITH_NNUNETV2 benchmarks/imported_peer.py predict MODEL_FOLDER OUT FILE [FILE ...] [--mirroring] [--parallel]

What `predict` measures goes into OUT.json.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from predict_peer import ForwardClock, clocked, peer_plans

SPACING_MM = [1.5, 1.5, 1.5]
PATCH = [64, 96, 96]
FEATURES = [8, 16, 32, 64, 80]  # a quarter of nnU-Net's, since the forward passes are not what is compared
INTENSITIES = {
    "mean": 0.0,
    "std": 300.0,
    "median": 0.0,
    "min": -1000.0,
    "max": 1500.0,
    "percentile_00_5": -950.0,
    "percentile_99_5": 1000.0,
}


def plans() -> dict[str, Any]:
    """nnU-Net's plans of a CT dataset."""
    levels = [
        {
            "channels": channels,
            "kernel": [3, 3, 3],
            "stride": [1, 1, 1] if i == 0 else [2, 2, 2],
            "encoder_blocks": 2,
            "decoder_blocks": 2,
        }
        for i, channels in enumerate(FEATURES)
    ]
    normalization = [{"scheme": "ct", "masked": False, "statistics": INTENSITIES}]
    configuration = {
        "preprocessing": {"spacing_mm": SPACING_MM, "normalization": normalization},
        "architecture": {"patch": PATCH, "levels": levels},
        "batch_size": 2,
    }
    return peer_plans({"dataset": "Dataset900_Phantom", "configurations": {"3d_fullres": configuration}}, "3d_fullres")


def make(folder: Path, classes: int) -> None:
    """A model folder with random weights, which take as long as trained ones; nine tenths of its voxels are background."""
    manager = PlansManager(plans())
    configuration = manager.get_configuration("3d_fullres")
    labels = {"background": 0} | {f"structure_{i}": i for i in range(1, classes)}
    description = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 1, "file_ending": ".nii.gz"}
    torch.manual_seed(0)
    network = get_network_from_plans(
        configuration.network_arch_class_name,
        configuration.network_arch_init_kwargs,
        configuration.network_arch_init_kwargs_req_import,
        1,
        classes,
        deep_supervision=True,
    )
    favour_background(network)
    checkpoint = {
        "network_weights": network.state_dict(),
        "optimizer_state": None,
        "grad_scaler_state": None,
        "logging": {},
        "_best_ema": None,
        "current_epoch": 1,
        "init_args": {"plans": manager.plans, "configuration": "3d_fullres", "fold": 0, "dataset_json": description},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }
    (folder / "fold_0").mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(manager.plans))
    (folder / "dataset.json").write_text(json.dumps(description))
    torch.save(checkpoint, folder / "fold_0" / "checkpoint_final.pth")


@torch.no_grad()
def favour_background(network: torch.nn.Module) -> None:
    """Give background about nine tenths of the voxels, as it has in a CT."""
    network.eval()
    coarse = torch.randn(1, 1, *(n // 8 for n in PATCH))
    logits = network(torch.nn.functional.interpolate(coarse, size=PATCH, mode="trilinear"))[0][0]
    ahead = logits[1:].amax(dim=0) - logits[0]
    network.decoder.seg_layers[-1].bias[0] += ahead.flatten()[::16].quantile(0.9)


def predict(arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds of all cases from files to files, those of the forward passes among them."""
    predictor = nnUNetPredictor(use_mirroring=arguments.mirroring, device=torch.device("cpu"), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(arguments.model), use_folds=(0,))
    mode = "predict_from_files" if arguments.parallel else "predict_from_files_sequential"
    names = [file.name.removesuffix("_0000.nii.gz") for file in arguments.files]
    inputs, outputs = [[str(file)] for file in arguments.files], [str(arguments.out / name) for name in names]
    arguments.out.mkdir()
    clock = ForwardClock(predictor.network)
    seconds = clocked(lambda: getattr(predictor, mode)(inputs, outputs))
    return {**seconds, "forward": clock.cpu, "passes": clock.passes}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    maker = commands.add_parser("make")
    maker.add_argument("folder", type=Path)
    maker.add_argument("--classes", type=int, required=True, help="with background")
    user = commands.add_parser("predict")
    user.add_argument("model", type=Path)
    user.add_argument("out", type=Path)
    user.add_argument("files", type=Path, nargs="+")
    user.add_argument("--mirroring", action="store_true")
    user.add_argument("--parallel", action="store_true", help="with its worker processes, as its command does")
    arguments = parser.parse_args()
    if arguments.command == "make":
        make(arguments.folder, arguments.classes)
    else:
        arguments.out.with_suffix(".json").write_text(json.dumps(predict(arguments)))


if __name__ == "__main__":
    main()
