"""What to type here in place of an option of an nnU-Net v2 command, for messages (docs/from_nnunet.md has the whole table)."""

from collections.abc import Sequence

PROCESSES = "--processes N"
REPEAT = "leave it out; the same command again resumes"
NOTHING = "leave it out"
MODEL = "-m MODEL_FOLDER, which is results/<dataset>/<plans>__<configuration>"
DATASET = "the dataset without an option, first"
TRAINER = "--epochs N or --recipe nnunet, or --trainer for a class of your own"

# Command here -> option of the nnU-Net command of the same purpose (2.8.1) -> what takes its place.
INSTEAD = {
    "unetrpp_plan_and_preprocess": {
        "-d": DATASET,
        "-pl": "--planner unet, --preset resenc-m, resenc-l or resenc-xl",
        "-gpu_memory_target": "--gpu-memory-gb GB",
        "-overwrite_target_spacing": "--spacing Z Y X",
        "-overwrite_plans_name": "--plans-name NAME",
        "-np": PROCESSES,
        "-npfp": PROCESSES,
        "--verify_dataset_integrity": "leave it out; it always verifies",
        "--no_pp": "--plan-only",
        "--clean": "--overwrite",
    },
    "unetrpp_train": {
        "-tr": TRAINER,
        "-pretrained_weights": "--pretrained FILE.pth, or a model folder",
        "-num_gpus": "torchrun --nproc-per-node N -m unetrpp.trainers.train ...",
        "-device": "--device",
        "--npz": "leave it out; unetrpp_find_best predicts what it compares",
        "--c": REPEAT,
        "--val": "leave it out; the same command again validates what has not been validated",
    },
    "unetrpp_predict": {
        "-d": f"--best DATASET, or {MODEL}",
        "-c": MODEL,
        "-p": MODEL,
        "-tr": MODEL,
        "-f": "--folds",
        "-step_size": "--step",
        "-chk": "--checkpoint final or best",
        "-num_parts": "--part K/N, K from 1",
        "-part_id": "--part K/N, K from 1",
        "-prev_stage_predictions": "leave it out; the folder of a second stage holds its first",
        "-device": "--device",
        "-npp": NOTHING,
        "-nps": NOTHING,
        "--disable_tta": "--no-mirroring",
        "--save_probabilities": "--probabilities",
        "--continue_prediction": REPEAT,
    },
    "unetrpp_evaluate": {
        "-djfile": "--dataset-json FILE, and PREDICTIONS come before REFERENCES",
        "-pfile": NOTHING,
        "-np": PROCESSES,
        "-o": "leave it out; summary.json is written into PREDICTIONS",
        "--chill": "--predicted-only",
    },
    "unetrpp_find_best": {
        **dict.fromkeys(("-c", "-p", "-tr", "-f"), "leave it out; every validated model of the dataset is compared"),
        "--disable_ensembling": "--no-pairs",
    },
    "unetrpp_export": {
        **dict.fromkeys(("-d", "-c", "-p", "-tr"), MODEL),
        "-f": "--folds",
        "-chk": "--checkpoint final or best",
    },
}


# Class of nnU-Net -> what takes its place.
CLASSES = {
    "ExperimentPlanner": "--planner unet",
    **{f"nnUNetPlannerResEnc{size}": f"--preset resenc-{size.lower()}" for size in ("M", "L", "XL")},
}


def advice_on_class(name: str) -> str | None:
    """What to do instead of naming a planner or trainer of nnU-Net; None where it is none.

    >>> advice_on_class("nnUNetPlannerResEncL"), advice_on_class("mine")
    ('that is a class of nnU-Net; here: --preset resenc-l', None)
    """
    here = TRAINER if name.startswith("nnUNetTrainer") else CLASSES.get(name)
    return here and f"that is a class of nnU-Net; here: {here}"


def advice(command: str, arguments: Sequence[str]) -> str | None:
    """A sentence about the first argument that is an option of nnU-Net's command only; None where there is none.

    >>> advice("unetrpp_predict", ["-i", "images", "--disable_tta"])
    '--disable_tta is an option of nnU-Net; here: --no-mirroring'
    """
    known = INSTEAD.get(command, {})
    return next((f"{flag} is an option of nnU-Net; here: {known[flag]}" for flag in arguments if flag in known), None)
