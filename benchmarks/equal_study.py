"""One dataset planned and split alike for our U-Net and for nnU-Net: what equal_curve.py and equal_batches.py share."""

import argparse
import json
import os
import subprocess
from pathlib import Path

from unetrpp.core.files import read_json, write_json
from unetrpp.core.workspace import Workspace
from unetrpp.dataset.splits import Splits
from unetrpp.evaluation.evaluate import evaluate_pairs
from unetrpp.planners.plan_and_preprocess import main as plan_and_preprocess
from unetrpp.plans.plans import Configuration, read_plans
from unetrpp.preprocessing.store import Store

PLANNER = "unet"
DRIVER = Path(__file__).with_name("equal_curve_nnunet.py")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those that define the study."""
    parser.add_argument("raw", help="a raw dataset folder")
    parser.add_argument("--out", required=True, help="where everything goes; the same folder resumes")
    parser.add_argument("--configuration", default="3d_fullres", help="a name that both programs use: 3d_fullres or 2d")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--width", type=float, default=1.0, help="factor on the feature maps of both networks")
    parser.add_argument("--device", default="cpu", help="of both trainings; each has its program's precision there")


class Study:
    """The dataset as both programs see it, and where their runs are."""

    def __init__(self, arguments: argparse.Namespace):
        self.arguments, self.out = arguments, Path(arguments.out).resolve()
        self.raw = Path(arguments.raw).resolve()
        self.workspace = Workspace(self.out / "workspace")
        call = [str(self.raw), "--workspace", str(self.workspace.root), "--planner", PLANNER]
        call += ["--configurations", arguments.configuration, "--batch-size", str(arguments.batch_size)]
        if plan_and_preprocess([*call, "--width", str(arguments.width)]):
            raise SystemExit(f"planning {self.raw.name} failed")
        self.folder = self.workspace.preprocessed(self.raw.name)
        self.plans = read_plans(self.workspace.plans(self.raw.name, PLANNER))
        self.store = Store(self.workspace.store(self.raw.name, PLANNER, arguments.configuration))
        self.splits = read_json(self.folder / "splits.json", Splits)
        self.fold = self.splits.folds[arguments.fold]

    @property
    def configuration(self) -> Configuration:
        return self.plans.configurations[self.arguments.configuration]

    def run(self, program: str, seed: int) -> Path:
        return self.out / program / f"seed_{seed}"

    def segmentations(self, program: str, seed: int, step: int) -> Path:
        """The folder of predicted validation cases."""
        folder = self.run(program, seed) / f"step_{step}"
        return folder if program == "nnunet" else folder / f"fold_{self.arguments.fold}" / "validation"

    def dice(self, program: str, seed: int, step: int) -> dict[str, float]:
        """Mean over the validation cases, by class."""
        folder, ending = self.segmentations(program, seed, step), self.plans.file_ending
        files = {c: (folder / f"{c}{ending}", self.folder / "labels" / f"{c}{ending}") for c in self.fold.validation}
        summary, errors = evaluate_pairs(files, self.plans.labels, processes=1)
        if errors:
            raise SystemExit(f"{program}, seed {seed}, step {step}: {errors[0].case}: {errors[0].message}")
        return {summary.classes[key]: scores["Dice"] for key, scores in summary.mean.items()}


class Peer:
    """nnU-Net in its own environment, on the same cases with the same splits."""

    def __init__(self, study: Study):
        self.study, self.python = study, Path(os.environ["UNETRPP_NNUNET_PYTHON"])
        self.dataset = f"Dataset001_{study.raw.name}"
        self.home = study.out / "nnunet" / "folders"
        self.plans_file = self.home / "preprocessed" / self.dataset / "nnUNetPlans.json"
        self.splits_file = self.plans_file.with_name("splits_final.json")
        if not self.splits_file.exists():
            self.prepare()
        self.require_equal_plans()

    def environment(self, results: Path) -> dict[str, str]:
        own = {"nnUNet_raw": "raw", "nnUNet_preprocessed": "preprocessed"}
        folders = {name: str(self.home / folder) for name, folder in own.items()} | {"nnUNet_results": str(results)}
        return os.environ | folders | {"OMP_NUM_THREADS": "1", "nnUNet_compile": "f"}

    def prepare(self) -> None:
        """Link the raw dataset, let nnU-Net plan and preprocess it, then set our batch size, width and splits."""
        raw, study = self.home / "raw" / self.dataset, self.study
        raw.mkdir(parents=True, exist_ok=True)
        for name in ("dataset.json", "imagesTr", "labelsTr"):
            if not (raw / name).exists():
                (raw / name).symlink_to(study.raw / name)
        command = [
            str(self.python.with_name("nnUNetv2_plan_and_preprocess")),
            "-d",
            "1",
            "-c",
            study.arguments.configuration,
        ]
        environment = self.environment(self.home / "results")
        subprocess.run([*command, "-npfp", "2", "-np", "2"], env=environment, check=True)
        plans = json.loads(self.plans_file.read_bytes())
        configuration, ours = plans["configurations"][study.arguments.configuration], study.configuration
        configuration["batch_size"] = ours.batch_size
        network = configuration["architecture"]["arch_kwargs"]
        network["features_per_stage"] = [round(n * study.arguments.width) for n in network["features_per_stage"]]
        splits = [{"train": fold.train, "val": fold.validation} for fold in study.splits.folds]
        write_json(self.plans_file, plans)
        write_json(self.splits_file, splits)  # last: it says that all is prepared

    def require_equal_plans(self) -> None:
        """End with a message where nnU-Net planned another network, patch, batch, spacing or normalisation than ours."""
        theirs = json.loads(self.plans_file.read_bytes())["configurations"][self.study.arguments.configuration]
        network, ours = theirs["architecture"]["arch_kwargs"], self.study.configuration
        levels, schemes = ours.architecture.levels, {"zscore": "ZScoreNormalization", "ct": "CTNormalization"}
        pairs = {
            "patch": (theirs["patch_size"], ours.patch),
            "batch size": (theirs["batch_size"], ours.batch_size),
            "Dice of the batch": (theirs["batch_dice"], ours.loss.batch_dice),
            "spacing": (theirs["spacing"], ours.preprocessing.spacing_mm[-len(ours.patch) :]),
            "features": (network["features_per_stage"], [level.channels for level in levels]),
            "strides": (network["strides"], [level.stride for level in levels]),
            "kernels": (network["kernel_sizes"], [level.kernel for level in levels]),
            "encoder convolutions": (network["n_conv_per_stage"], [level.encoder_blocks for level in levels]),
            "decoder convolutions": (network["n_conv_per_stage_decoder"], [lv.decoder_blocks for lv in levels[:-1]]),
            "normalisation": (
                theirs["normalization_schemes"],
                [schemes[n.scheme] for n in ours.preprocessing.normalization],
            ),
        }
        plain = {name: tuple(json.loads(json.dumps(value)) for value in both) for name, both in pairs.items()}
        differing = [f"{name}: nnU-Net {a}, ours {b}" for name, (a, b) in plain.items() if a != b]
        if differing:
            raise SystemExit("the plans differ: " + "; ".join(differing))

    def train(self, seed: int) -> None:
        arguments, out = self.study.arguments, self.study.run("nnunet", seed)
        out.mkdir(parents=True, exist_ok=True)
        options = {"fold": arguments.fold, "seed": seed, "epochs": arguments.epochs, "iterations": arguments.iterations}
        options |= {"device": arguments.device, "configuration": arguments.configuration}
        command = [str(self.python), str(DRIVER), self.dataset, "--out", str(out)]
        command += [text for name, value in options.items() for text in (f"--{name}", str(value))]
        command += ["--looks", *map(str, arguments.looks)]
        with (out / "output.txt").open("ab") as log:
            environment = self.environment(out / "results") | {"nnUNet_n_proc_DA": "0"}  # augment in the same process
            subprocess.run(command, env=environment, stdout=log, stderr=log, check=True)
