"""Train small models with nnU-Net itself and let it predict: run by the Python of an environment that has nnunetv2.

    python nnunet_driver.py SCENARIO FOLDER

FOLDER gets images/, results/ (what nnU-Net leaves after training) and expected/CONFIGURATION/HOW/ (labels and probabilities of
nnU-Net's predictor; HOW names folds, and "plain" without mirroring). Data are synthetic, networks have four features, and
training takes a few dozen of nnU-Net's own steps on its own preprocessing.
"""

# mypy: ignore-errors
# ruff: noqa: E402
import json
import os
import sys
from pathlib import Path

import numpy as np

SCENARIO, ROOT = sys.argv[1], Path(sys.argv[2])
for variable in ("raw", "preprocessed", "results"):
    os.environ[f"nnUNet_{variable}"] = str(ROOT / variable)
    (ROOT / variable).mkdir(parents=True, exist_ok=True)

import SimpleITK as sitk
import torch
from nnunetv2.experiment_planning.dataset_fingerprint.fingerprint_extractor import DatasetFingerprintExtractor
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.experiment_planning.experiment_planners.resencUNet_planner import ResEncUNetPlanner
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.label_handling.label_handling import convert_labelmap_to_one_hot
from skimage import io

NAME = "Dataset042_Balls"
TRAIN, TEST, STEPS = 4, 2, 100
CPU = torch.device("cpu")
torch.set_num_threads(1)
RNG = np.random.default_rng(7)

TURNED = (0.0, -1.0, 0.0, 0.0, 0.0, 1.0, -1.0, 0.0, 0.0)  # no file axis runs along the patient axis of its name
SCENARIOS = {
    # The coarse axis comes last in the array, so nnU-Net transposes; slices are kept apart when it resamples.
    "cascade": {
        "channels": ["CT"],
        "labels": {"background": 0, "organ": 1, "lesion": 2},
        "spacing": (0.7, 0.8, 3.1),
        "shape": (38, 34, 14),
        "direction": TURNED,
        "configurations": ["3d_lowres", "3d_fullres", "3d_cascade_fullres"],
        "folds": [0, 1],
    },
    "masks": {
        "channels": ["T1", "CT"],
        "labels": {"background": 0, "organ": 1, "lesion": 2, "ignore": 3},
        "spacing": (1.0, 0.9, 0.9),
        "shape": (24, 30, 28),
        "empty": True,
        "planner": ResEncUNetPlanner,
        "configurations": ["3d_fullres"],
        "folds": [0],
    },
    "rgb": {
        "channels": ["R", "G", "B"],
        "labels": {"background": 0, "organ": 1, "lesion": 2},
        "ending": ".png",
        "shape": (1, 61, 50),
        "configurations": ["2d"],
        "folds": [0],
    },
    "older": {
        "channels": ["MR"],
        "labels": {"background": 0, "organ": 1, "lesion": 2},
        "spacing": (1.3, 0.9, 0.9),
        "shape": (20, 30, 28),
        "older": True,
        "configurations": ["2d", "3d_fullres"],
        "folds": ["all"],
    },
    "regions": {
        "channels": ["MR", "rescale_to_0_1", "noNorm"],
        "labels": {"background": 0, "whole": [1, 2], "lesion": 2},
        "order": [1, 2],
        "spacing": (1.3, 0.9, 0.9),
        "shape": (20, 30, 28),
        "direction": TURNED,
        "reader": "NibabelIOWithReorient",
        "network": "ResidualUNet",
        "configurations": ["3d_fullres"],
        "folds": [0],
    },
}
HOW = SCENARIOS[SCENARIO]
ENDING = HOW.get("ending", ".nii.gz")


def example() -> tuple[np.ndarray, np.ndarray]:
    """Image (C, Z, Y, X) and label: an organ, a lesion in it, noise, and an empty rim where the scenario has one."""
    shape = tuple(n + int(RNG.integers(-3, 4)) * (n > 1) for n in HOW["shape"])
    spacing = np.array(HOW.get("spacing", (1, 1, 1)), float)
    points = np.moveaxis(np.indices(shape), 0, -1) * spacing
    extent = np.array(shape) * spacing
    center = extent * RNG.uniform(0.42, 0.58, 3)
    smallest = min(extent[np.array(shape) > 1])
    center[np.array(shape) == 1] = 0
    label = (np.linalg.norm((points - center) * RNG.uniform(0.8, 1.2, 3), axis=-1) < 0.36 * smallest).astype(np.uint8)
    label[np.linalg.norm(points - center - 0.1 * smallest * (np.array(shape) > 1), axis=-1) < 0.17 * smallest] = 2
    levels = np.array([40, 110, 190])[label]
    image = np.stack([levels + RNG.normal(0, 9, shape) for _ in HOW["channels"]])
    if HOW.get("empty"):
        rim = np.pad(np.ones([n - 8 for n in shape], bool), 4)
        rim[:8, :8, :8] = False
        image *= rim
        image[:, 10:12, 10:12, 10:12] = 0
        label[-7:, :12] = 3
    return (image.clip(0, 255) if ENDING == ".png" else image - 20 * ("CT" in HOW["channels"]) * (image != 0)), label


def write(path: Path, array: np.ndarray) -> None:
    if ENDING == ".png":
        io.imsave(path, array[0], check_contrast=False)
        return
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(HOW["spacing"][::-1])
    image.SetDirection(HOW.get("direction", (1, 0, 0, 0, 1, 0, 0, 0, 1)))
    image.SetOrigin((11.0, -7.0, 3.0))
    sitk.WriteImage(image, path)


def write_raw() -> dict:
    raw = ROOT / "raw" / NAME
    for folder in (raw / "imagesTr", raw / "labelsTr", ROOT / "images"):
        folder.mkdir(parents=True, exist_ok=True)
    for number in range(TRAIN + TEST):
        image, label = example()
        images, name = (raw / "imagesTr", f"ball_{number}") if number < TRAIN else (ROOT / "images", f"test_{number}")
        if ENDING == ".png":
            colours = np.moveaxis(image, 0, -1).astype(np.uint8)
            write(images / f"{name}_0000.png", colours)
        else:
            for c, channel in enumerate(image):
                write(images / f"{name}_{c:04d}{ENDING}", channel.astype(np.float32))
        if number < TRAIN:
            write(raw / "labelsTr" / f"{name}{ENDING}", label)
    content = {
        "channel_names": {str(i): name for i, name in enumerate(HOW["channels"])},
        "labels": HOW["labels"],
        "numTraining": TRAIN,
        "file_ending": ENDING,
    }
    if "order" in HOW:
        content["regions_class_order"] = HOW["order"]
    if "reader" in HOW:
        content["overwrite_image_reader_writer"] = HOW["reader"]
    (raw / "dataset.json").write_text(json.dumps(content))
    return content


def plan() -> dict:
    """nnU-Net's plans, with networks of four features and patches smaller than the images."""
    (ROOT / "preprocessed" / NAME).mkdir(parents=True, exist_ok=True)
    DatasetFingerprintExtractor(NAME, num_processes=1).run()
    planner = HOW.get("planner", ExperimentPlanner)(NAME)
    planner.plan_experiment()
    plans = json.loads((ROOT / "preprocessed" / NAME / f"{planner.plans_identifier}.json").read_text())
    configurations = plans["configurations"]
    for name in list(configurations):
        shrink(configurations[name], 2 if name == "2d" else 3)
    if "3d_cascade_fullres" in HOW["configurations"]:
        full = configurations["3d_fullres"]
        low = json.loads(json.dumps(full)) | {"next_stage": "3d_cascade_fullres"}
        low["spacing"] = [mm * factor for mm, factor in zip(full["spacing"], (1.0, 1.6, 1.6), strict=True)]
        low["data_identifier"] = "nnUNetPlans_3d_lowres"
        configurations["3d_lowres"] = low
        configurations["3d_cascade_fullres"] = {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}
    return plans


def shrink(configuration: dict, dimensions: int) -> None:
    kwargs = configuration["architecture"]["arch_kwargs"]
    stages, ones = 3, [1] * dimensions
    strides = [ones, [1, 2, 2][-dimensions:], [2] * dimensions]
    configuration["patch_size"] = [16, 16, 24][-dimensions:]
    kwargs |= {
        "n_stages": stages,
        "features_per_stage": [4, 8, 8],
        "kernel_sizes": [[1, 3, 3][-dimensions:], [3] * dimensions, [3] * dimensions],
        "strides": strides,
        "n_conv_per_stage_decoder": [1, 2],
    }
    for key in ("n_conv_per_stage", "n_blocks_per_stage"):
        if key in kwargs:
            kwargs[key] = [2, 1, 2]
    if "network" in HOW:
        kwargs["n_blocks_per_stage"] = kwargs.pop("n_conv_per_stage", None) or kwargs["n_blocks_per_stage"]
        configuration["architecture"]["network_class_name"] = (
            f"dynamic_network_architectures.architectures.unet.{HOW['network']}"
        )
    if HOW.get("older"):
        del configuration["architecture"]
        configuration |= {
            "UNet_class_name": "PlainConvUNet",
            "UNet_base_num_features": 4,
            "unet_max_num_features": 8,
            "n_conv_per_stage_encoder": kwargs["n_conv_per_stage"],
            "n_conv_per_stage_decoder": kwargs["n_conv_per_stage_decoder"],
            "num_pool_per_axis": [2] * dimensions,
            "pool_op_kernel_sizes": strides,
            "conv_kernel_sizes": kwargs["kernel_sizes"],
        }


def train(plans: dict, description: dict, name: str, fold: int | str) -> None:
    """A few steps of nnU-Net's trainer on patches of its own preprocessing."""
    torch.manual_seed(0 if fold == "all" else int(fold))
    given = json.loads(json.dumps(plans)) | {"continue_training": False}
    trainer = nnUNetTrainer(given, name, fold, description, device=CPU)
    Path(trainer.preprocessed_dataset_folder).mkdir(parents=True, exist_ok=True)
    (Path(trainer.preprocessed_dataset_folder) / "none.b2nd").touch()
    trainer.initialize()
    trainer.configure_rotation_dummyDA_mirroring_and_inital_patch_size()
    cases = [preprocessed(trainer, number) for number in range(TRAIN)]
    patch = trainer.configuration_manager.patch_size
    scales = trainer._get_deep_supervision_scales()
    for step in range(STEPS):
        data, target = zip(*(random_patch(*cases[(2 * step + i) % TRAIN], patch) for i in range(2)), strict=True)
        full = torch.from_numpy(np.stack(target)).float()
        sizes = [[round(n * s) for n, s in zip(full.shape[2:], scale, strict=True)] for scale in scales]
        targets = [torch.nn.functional.interpolate(full, size, mode="nearest") for size in sizes]
        if trainer.label_manager.has_regions:
            regions = trainer.label_manager.foreground_regions
            targets = [torch.cat([torch.isin(t, torch.tensor(r).float()) for r in regions], 1).float() for t in targets]
        trainer.train_step({"data": torch.from_numpy(np.stack(data)), "target": targets})
    folder = Path(trainer.output_folder)
    trainer.save_checkpoint(str(folder / "checkpoint_final.pth"))
    (folder / "validation").mkdir(exist_ok=True)
    (folder / "validation" / "summary.json").write_text("{}")
    (folder / "progress.png").touch()
    for file, content in (("plans", plans), ("dataset", description)):
        (folder.parent / f"{file}.json").write_text(json.dumps(content))
    measured = ROOT / "preprocessed" / NAME / "dataset_fingerprint.json"
    (folder.parent / "dataset_fingerprint.json").write_text(measured.read_text())


def preprocessed(trainer: nnUNetTrainer, number: int) -> tuple[np.ndarray, np.ndarray]:
    raw, manager = ROOT / "raw" / NAME, trainer.configuration_manager
    files = sorted(str(path) for path in (raw / "imagesTr").glob(f"ball_{number}_*{ENDING}"))
    label = str(raw / "labelsTr" / f"ball_{number}{ENDING}")
    arguments = (files, label, trainer.plans_manager, manager, trainer.dataset_json)
    data, seg, _ = manager.preprocessor_class(verbose=False).run_case(*arguments)
    if manager.previous_stage_name is not None:
        first = convert_labelmap_to_one_hot(seg[0], trainer.label_manager.foreground_labels, data.dtype)
        data = np.vstack([data, first])
    return data, seg.clip(0)


def random_patch(data: np.ndarray, seg: np.ndarray, patch: list[int]) -> tuple[np.ndarray, np.ndarray]:
    full = [1, *patch][-3:]
    missing = [(0, 0)] + [(0, max(0, p - n)) for p, n in zip(full, data.shape[1:], strict=True)]
    data, seg = np.pad(data, missing), np.pad(seg, missing)
    starts = [int(RNG.integers(0, n - p + 1)) for n, p in zip(data.shape[1:], full, strict=True)]
    place = (slice(None), *(slice(s, s + p) for s, p in zip(starts, full, strict=True)))
    data, seg = data[place].astype(np.float32), seg[place].astype(np.float32)
    return (data[:, 0], seg[:, 0]) if len(patch) == 2 else (data, seg)


def predict(model: Path, target: Path, folds: tuple, mirroring: bool, first: Path | None) -> None:
    target.mkdir(parents=True)
    predictor = nnUNetPredictor(
        use_mirroring=mirroring, device=CPU, perform_everything_on_device=False, allow_tqdm=False
    )
    predictor.initialize_from_trained_model_folder(str(model), folds, "checkpoint_final.pth")
    predictor.predict_from_files_sequential(
        str(ROOT / "images"),
        str(target),
        save_probabilities=True,
        overwrite=True,
        folder_with_segs_from_prev_stage=None if first is None else str(first),
    )


def main() -> None:
    description = write_raw()
    plans = plan()
    folds = tuple(HOW["folds"])
    for name in HOW["configurations"]:
        for fold in folds:
            train(plans, description, name, fold)
        model = ROOT / "results" / NAME / f"nnUNetTrainer__{plans['plans_name']}__{name}"
        expected, low = ROOT / "expected", ROOT / "expected" / "3d_lowres"
        spelled = "_".join(map(str, folds))
        runs = {f"{spelled}": (folds, True), f"{spelled}_plain": (folds, False)}
        for how, (chosen, mirroring) in runs.items():
            first = low / how if name == "3d_cascade_fullres" else None
            predict(model, expected / name / how, chosen, mirroring, first)


if __name__ == "__main__":
    main()
