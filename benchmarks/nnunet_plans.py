"""What nnU-Net 2.8.1's planners plan for a set of fingerprints: makes the golden file of tests/planners/test_nnunet_plans.py.

    PYTHON_WITH_NNUNETV2 benchmarks/nnunet_plans.py tests/data/nnunet_plans.json

Runs in an environment with nnunetv2 2.8.1, which lacks unetrpp. Its planners count feature maps of networks that they
build; here the networks have no weights (torch's meta device), which changes no count and takes a minute instead of an hour.
"""

import argparse
import json
import os
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

SIZES = range(1, 12)
# By name: the cases as (how many, voxels, mm), both (z, y, x); then what differs from one MR channel and one organ.
DATASETS: dict[str, dict[str, Any]] = {
    "hippocampus": {
        "cases": [(260, (36, 50, 35), (1, 1, 1))],
        "labels": {"background": 0, "Anterior": 1, "Posterior": 2},
    },
    "hippocampus, half a voxel in the median": {
        "cases": [(100, (35, 50, 35), (1, 1, 1)), (100, (36, 50, 35), (1, 1, 1))],
        "labels": {"background": 0, "Anterior": 1, "Posterior": 2},
    },
    "fifty small cases": {"cases": [(50, (36, 50, 35), (1, 1, 1))]},
    "six small cases": {"cases": [(6, (36, 50, 35), (1, 1, 1))]},
    "one case": {"cases": [(1, (30, 60, 60), (5, 1, 1))]},
    "ACDC": {
        "cases": [
            (60, (10, 256, 216), (10, 1.5625, 1.5625)),
            (30, (8, 224, 180), (10, 1.68, 1.68)),
            (60, (10, 248, 208), (10, 1.36, 1.36)),
            (50, (16, 240, 200), (5, 1.5, 1.5)),
        ],
        "labels": {"background": 0, "RV": 1, "MYO": 2, "LV": 3},
    },
    "ACDC, one spacing": {
        "cases": [(200, (18, 237, 208), (5, 1.56, 1.56))],
        "labels": {"background": 0, "RV": 1, "MYO": 2, "LV": 3},
    },
    "anisotropic, all alike": {"cases": [(8, (18, 237, 208), (7.5, 1.56, 1.56))]},
    "large CT": {
        "cases": [(50, (300, 512, 512), (1, 0.8, 0.8))],
        "channels": ["CT"],
        "labels": {"background": 0, "liver": 1, "spleen": 2, "kidney": 3},
    },
    "six large cases": {"cases": [(6, (300, 512, 512), (1, 0.8, 0.8))]},
    "whole-body CT": {"cases": [(20, (1154, 512, 512), (0.44, 0.48, 0.48))], "channels": ["CT"]},
    "117 classes": {
        "cases": [(40, (280, 260, 290), (1.5, 1.5, 1.5))],
        "channels": ["CT"],
        "labels": {"background": 0, **{f"class {i}": i for i in range(1, 118)}},
    },
    "BraTS": {
        "cases": [(300, (138, 169, 138), (1, 1, 1)), (184, (140, 172, 137), (1, 1, 1))],
        "channels": ["T1", "T1ce", "T2", "FLAIR"],
        "labels": {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3},
        "kept": 0.4,
    },
    "BraTS, three regions and an ignore label on small images": {
        "cases": [(300, (38, 69, 40), (1, 1, 1))],
        "channels": ["T1", "T1ce", "T2", "FLAIR"],
        "labels": {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3, "ignore": 4},
        "kept": 0.4,
    },
    "scribbles": {"cases": [(300, (38, 69, 40), (1, 1, 1))], "labels": {"background": 0, "organ": 1, "ignore": 2}},
    "thick slices": {"cases": [(50, (24, 512, 512), (10, 0.7, 0.7))]},
    "three slices": {"cases": [(50, (3, 512, 512), (8, 0.5, 0.5))]},
    "coarse along x": {"cases": [(30, (300, 280, 24), (0.9, 0.9, 6))]},
    "abdomen": {"cases": [(20, (96, 165, 164), (2.5, 0.887, 0.887)), (20, (96, 165, 165), (2.5, 0.887, 0.887))]},
    "nearly anisotropic": {
        "cases": [(22, (58, 170, 178), (3.27, 0.9766, 0.9766)), (22, (60, 180, 178), (3.27, 0.9766, 0.9766))]
    },
    "anisotropic": {"cases": [(1, (20, 300 + n, 300), (3.5 + n / 4, 1, 1)) for n in SIZES]},
    "coarse axis at its floor": {
        "cases": [(1, (20, 300, 300), (mm, 1, 1)) for mm in (0.8, 0.8, 1.5, 2.9)] + [(9, (20, 300, 300), (3.2, 1, 1))]
    },
    "fine slices": {"cases": [(5, (60, 60, 60), (0.5, 1, 1))]},
    "two clusters of spacings": {
        "cases": [(1, (40, 50, 60), (mm, 1, 1)) for mm in (1.0, 1.1, 1.2, 1.3, 5.0, 5.0, 6.0)]
    },
    "one slice": {"cases": [(40, (1, 320, 260), (8, 0.7, 0.7))]},
    "photographs": {
        "cases": [(60, (1, 1024, 1360), (1, 1, 1)), (61, (1, 512, 640), (1, 1, 1))],
        "channels": ["R", "G", "B"],
        "file_ending": ".png",
    },
    "small photographs": {
        "cases": [(500, (1, 256, 256), (1, 1, 1))],
        "channels": ["rgb_to_0_1", "rgb_to_0_1", "rgb_to_0_1"],
        "file_ending": ".png",
    },
    "raw values": {"cases": [(30, (64, 96, 96), (2, 1, 1))], "channels": ["noNorm", "rescale_to_0_1", "zscore"]},
}
PLANNERS = {
    "unet": "ExperimentPlanner",
    **{f"resenc-{size.lower()}": f"nnUNetPlannerResEnc{size}" for size in ("M", "L", "XL")},
}
NORMALIZATIONS = {
    "CTNormalization": "ct",
    "NoNormalization": "none",
    "ZScoreNormalization": "zscore",
    "RescaleTo01Normalization": "rescale_0_1",
    "RGBTo01Normalization": "rgb_to_0_1",
}
SLICE_MM = 999  # which nnU-Net's reader of photographs gives the axis that they lack


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="the JSON file to write")
    target = parser.parse_args().file
    found = {name: with_defaults(dataset) for name, dataset in DATASETS.items()}
    for dataset in found.values():
        with tempfile.TemporaryDirectory() as folder:  # its own, because nnU-Net keeps configurations of older plans
            os.environ |= {f"nnUNet_{part}": f"{folder}/{part}" for part in ("raw", "preprocessed", "results")}
            dataset["plans"] = planned(Path(folder), dataset)
    lines = ",\n".join(f"{compact(name)}:{compact(dataset)}" for name, dataset in found.items())
    target.write_text(f"{{\n{lines}\n}}\n")
    return 0


def compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def with_defaults(dataset: dict[str, Any]) -> dict[str, Any]:
    return {
        "channels": ["MR"],
        "labels": {"background": 0, "organ": 1},
        "kept": 1.0,
        "file_ending": ".nii.gz",
        **dataset,
    }


def planned(folder: Path, dataset: dict[str, Any]) -> dict[str, Any]:
    """By planner: the axis order, and by configuration what the tests compare."""
    write_dataset(folder, dataset)
    found = {}
    for name, planner in PLANNERS.items():
        with redirect_stdout(sys.stderr):
            plans = make_planner(planner).plan_experiment()
        kept = {c: summary(each) for c, each in plans["configurations"].items() if "inherits_from" not in each}
        found[name] = {"transpose": plans["transpose_forward"], "configurations": kept}
    return found


def write_dataset(folder: Path, dataset: dict[str, Any]) -> None:
    """The two files that its planners read: the description of the dataset, and what was measured."""
    pictures = dataset["file_ending"] == ".png"
    cases = [case for count, *case in dataset["cases"] for case in [case] * count]
    description = {
        "channel_names": {str(i): name for i, name in enumerate(dataset["channels"])},
        "labels": dataset["labels"],
        "numTraining": len(cases),
        "file_ending": dataset["file_ending"],
        "overwrite_image_reader_writer": "NaturalImage2DIO" if pictures else "SimpleITKIO",
        "dataset": {f"case_{i}": {"images": ["image"], "label": "label"} for i in range(len(cases))},
    }
    measured = {
        "shapes_after_crop": [shape for shape, _ in cases],
        "spacings": [(SLICE_MM, *mm[1:]) if pictures else mm for _, mm in cases],
        "median_relative_size_after_cropping": dataset["kept"],
        "foreground_intensity_properties_per_channel": {},
    }
    for part, file, content in (("raw", "dataset", description), ("preprocessed", "dataset_fingerprint", measured)):
        place = folder / part / "Dataset001_Made"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{file}.json").write_text(json.dumps(content))


def make_planner(name: str) -> Any:
    import torch
    from nnunetv2.experiment_planning.experiment_planners import default_experiment_planner
    from nnunetv2.experiment_planning.experiment_planners.residual_unets import residual_encoder_unet_planners

    home = default_experiment_planner if name == "ExperimentPlanner" else residual_encoder_unet_planners
    planner = getattr(home, name)("Dataset001_Made")
    count = planner.static_estimate_VRAM_usage

    def without_weights(*arguments: Any) -> Any:
        with torch.device("meta"):
            return count(*arguments)

    planner.static_estimate_VRAM_usage = without_weights
    return planner


def summary(configuration: dict[str, Any]) -> dict[str, Any]:
    network = configuration["architecture"]["arch_kwargs"]
    return {
        "spacing": configuration["spacing"],
        "patch": configuration["patch_size"],
        "batch": configuration["batch_size"],
        "batch_dice": configuration["batch_dice"],
        "strides": network["strides"],
        "kernels": network["kernel_sizes"],
        "features": network["features_per_stage"],
        "encoder": network.get("n_blocks_per_stage") or network["n_conv_per_stage"],
        "decoder": network["n_conv_per_stage_decoder"],
        "normalization": [NORMALIZATIONS[scheme] for scheme in configuration["normalization_schemes"]],
        "masked": configuration["use_mask_for_norm"],
    }


if __name__ == "__main__":
    sys.exit(main())
