"""The command `unetrpp_demo`: run all steps on a small synthetic dataset, from planning to evaluation."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from unetrpp.cli.call import call
from unetrpp.core.command_line import Parser, not_negative, positive, run
from unetrpp.core.reply import Outcome

LOG = logging.getLogger(__name__)
DATASET, PLANS, CONFIGURATION = "synthetic", "unetrpp", "3d_fullres"


def build_parser() -> Parser:
    parser = Parser(
        "unetrpp_demo",
        "Make a small synthetic dataset, plan, train five folds, predict four held-out volumes and evaluate them.",
        "unetrpp_demo\nunetrpp_demo --folder /tmp/demo --epochs 20",
        workspace=False,
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("unetrpp_demo"),
        help="where all files are written (default: ./unetrpp_demo)",
    )
    parser.add_argument("--epochs", type=positive, default=5, metavar="N", help="epochs of every fold (default: 5)")
    parser.add_argument("--iterations", type=positive, default=16, metavar="N", help="steps per epoch (default: 16)")
    parser.add_argument(
        "--seed", type=not_negative, default=0, metavar="N", help="seed of the dataset and of the training (default: 0)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps (default: auto)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    return run(build_parser(), work, argv)


def result_types() -> dict[str, object]:
    """What ``--json`` gives."""
    from unetrpp.cli.results import Demo

    return {"": Demo}


def work(arguments: argparse.Namespace) -> Outcome:
    from unetrpp.cli.results import Demo
    from unetrpp.core.text import format_score
    from unetrpp.core.workspace import Workspace
    from unetrpp.dataset.synthetic import write_synthetic_dataset

    folder: Path = arguments.folder
    workspace = Workspace(folder / "workspace")
    raw = workspace.raw(DATASET)
    model = workspace.model(DATASET, PLANS, CONFIGURATION)
    predictions, overlays = folder / "predictions", folder / "overlays"
    recipe = [
        f"--epochs={arguments.epochs}",
        f"--iterations={arguments.iterations}",
        f"--seed={arguments.seed}",
    ]
    device = f"--device={arguments.device}"
    where = f"--workspace={workspace.root}"

    LOG.info("making 20 + 4 synthetic volumes in %s", raw)
    write_synthetic_dataset(raw, seed=arguments.seed)
    commands = [
        ["plan_and_preprocess", DATASET, where, "--batch-size=2", "--width=0.5", "--patch", "16", "32", "32"],
        ["train", DATASET, CONFIGURATION, where, *recipe, device, "--no-mirroring"],
        ["predict", "-i", f"{raw / 'imagesTs'}", "-o", f"{predictions}", "-m", f"{model}", device, "--no-mirroring"],
        ["evaluate", "--model", f"{model}"],
        ["report", f"{model}", where],
        ["evaluate", f"{predictions}", f"{raw / 'labelsTs'}", "--dataset-json", f"{raw / 'dataset.json'}"],
    ]
    for command in commands:
        LOG.info("\n$ unetrpp %s", " ".join(command))
        code = call(command)
        if code:
            return Outcome(code=code)
    draw_overlays(raw, predictions, overlays)
    report = model / "report.html"
    print(f"model        {model}\nreport       {report}")
    print(f"predictions  {predictions}\noverlays     {overlays}")
    dice = mean_dice(predictions / "summary.json")
    print(f"mean Dice {format_score(dice)}")
    return Outcome(Demo(model, report, predictions, overlays, dice))


def draw_overlays(raw: Path, predictions: Path, overlays: Path) -> None:
    """Write a picture of every held-out case with its prediction and its reference."""
    from unetrpp.dataset.cases import channel_paths, image_ids
    from unetrpp.dataset.description import read_description
    from unetrpp.io.images import read_image, read_label
    from unetrpp.plotting.overlays import write_overlay

    description = read_description(raw / "dataset.json", DATASET)
    names = dict(zip(description.labels.values[1:], description.labels.names[1:], strict=True))
    for case in image_ids(raw / "imagesTs", description):
        image = read_image(channel_paths(raw / "imagesTs", case, description))
        file = f"{case}{description.file_ending}"
        prediction, reference = read_label(predictions / file).array[0], read_label(raw / "labelsTs" / file).array[0]
        write_overlay(overlays / f"{case}.png", image, prediction, reference, names=names, title=case)


def mean_dice(summary: Path) -> float | None:
    """The mean Dice of the foreground classes over all cases, from the summary that `unetrpp_evaluate` wrote; None: undefined."""
    from unetrpp.core.files import read_json
    from unetrpp.evaluation.summary import Summary

    return read_json(summary, Summary).foreground_mean["Dice"]


if __name__ == "__main__":
    sys.exit(main())
