"""`unetrpp_train`: train the folds of one configuration into a model folder."""

import argparse
import sys
from collections.abc import Sequence

from unetrpp.core.command_line import (
    Parser,
    above_zero,
    not_below_zero,
    not_negative,
    options_given,
    own_options,
    positive,
    run,
)
from unetrpp.core.reply import Outcome

EXAMPLES = """
unetrpp_train Hippocampus 3d_fullres                    every fold
unetrpp_train Hippocampus 3d_fullres --devices 0,1,2,3  every fold, spread over four GPUs
unetrpp_train Hippocampus 3d_fullres 0                  fold 0 only
unetrpp_train Hippocampus 3d_fullres 1-3                folds 1, 2 and 3
unetrpp_train Hippocampus 3d_fullres all                one model on all cases
unetrpp_train Hippocampus 3d_fullres --epochs 20 --iterations 50
unetrpp_train Hippocampus 3d_fullres 0 --learn-attention         learn gates and their gammas from the data
unetrpp_train Hippocampus 3d_fullres 0 --continue --epochs 40    extend a finished fold to 40 epochs
unetrpp_train Liver 3d_cascade                          the second stage, after every fold of 3d_lowres
unetrpp_train Prostate 3d_fullres --pretrained unetrpp_workspace/results/Hippocampus/unetrpp__3d_fullres    fine-tune
unetrpp_train Prostate 3d_fullres -p resunet --pretrained checkpoint_final.pth    from nnU-Net's weights
torchrun --nproc-per-node 2 -m unetrpp.trainers.train Liver 3d_fullres 0         one fold on two GPUs
"""


class _NoneIfEmpty(argparse.Action):
    """Of an optional list of arguments: None where none is given, for which argparse has no default but []."""

    def __call__(
        self,
        _parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        _option: str | None = None,
    ) -> None:
        setattr(namespace, self.dest, values or None)


def build_parser() -> Parser:
    parser = Parser(
        "unetrpp_train",
        "Train a configuration of a planned and preprocessed dataset. The same command resumes what is unfinished.",
        EXAMPLES,
    )
    parser.add_argument(
        "dataset", metavar="DATASET", help="name in the workspace, DatasetNNN_Name, its number, or a path"
    )
    parser.add_argument("configuration", metavar="CONFIGURATION", help="a configuration of the plans, e.g. 3d_fullres")
    parser.add_argument(
        "fold",
        metavar="FOLD",
        nargs="*",
        action=_NoneIfEmpty,
        help="numbers, ranges such as 0-4, or fold_all (default: every fold)",
    )
    parser.add_argument(
        "-p", "--plans-name", default="unetrpp", metavar="NAME", help="name of the plans (default: unetrpp)"
    )
    add_recipe(parser)
    add_machine(parser)
    parser.add_argument(
        "--tracker",
        action="append",
        metavar="NAME",
        help="also show curves, recipe, scores and pictures in tensorboard, wandb or mlflow (needs the extra of this name), or in "
        "what a package registers; may be given several times",
    )
    parser.add_argument(
        "--no-mirroring",
        dest="mirroring",
        action="store_false",
        help="validate without mirrored passes (faster); not for the fold all, which is not validated",
    )
    again = parser.add_mutually_exclusive_group()
    again.add_argument(
        "--continue", dest="continue_training", action="store_true", help="extend finished folds to --epochs N"
    )
    again.add_argument("--overwrite", action="store_true", help="delete these folds and start again")
    return parser


def add_recipe(parser: Parser) -> None:
    """Options of how a fold is trained."""
    recipe = parser.add_argument_group("recipe (recorded in the fold's training.json)")
    recipe.add_argument("--epochs", type=positive, metavar="N", help="epochs of a fold (default: 1000)")
    recipe.add_argument("--iterations", type=positive, metavar="N", help="optimiser steps per epoch (default: 250)")
    recipe.add_argument(
        "--recipe",
        choices=["nnunet"],
        help="train as nnU-Net 2.8.1 does, to compare with it (docs/training.md lists what differs by default)",
    )
    recipe.add_argument(
        "--lr",
        type=above_zero,
        metavar="RATE",
        help="initial learning rate (default: sgd 0.01, muon 0.006, adamw 0.003)",
    )
    recipe.add_argument(
        "--optimizer",
        choices=["sgd", "adamw", "muon"],
        help="default: sgd, or muon with warm-up for runs of fewer than 10000 steps (docs/training.md)",
    )
    recipe.add_argument(
        "--warmup",
        type=not_negative,
        metavar="STEPS",
        help="steps in which the learning rate rises linearly (default: 0 with sgd, else an eighth of the run and at most 500)",
    )
    recipe.add_argument("--weight-decay", type=not_below_zero, metavar="W", help="default: 3e-5 with sgd, else 0.01")
    recipe.add_argument(
        "--drop-path",
        type=not_below_zero,
        metavar="P",
        help="leave out the residual branches of a network for random samples, the last ones with probability P (default: 0)",
    )
    recipe.add_argument(
        "--ema",
        type=above_zero,
        metavar="DECAY",
        help="validate and keep the exponential mean of the weights, such as 0.999 for about the last 1000 steps (default: the weights)",
    )
    recipe.add_argument(
        "--seed", type=not_negative, metavar="N", help="seed of weights, patches, augmentation and dropout (default: 0)"
    )
    recipe.add_argument(
        "--precision",
        choices=["fp32", "bf16", "fp16"],
        help="number format of the computation (default: bf16 or fp16 on a GPU, bf16 on a CPU with AMX, else fp32)",
    )
    recipe.add_argument(
        "--max-hours",
        type=above_zero,
        metavar="H",
        help="end a fold after H hours; the learning rate then decays with the time",
    )
    recipe.add_argument(
        "--patience", type=positive, metavar="N", help="stop after N epochs without a better validation Dice"
    )
    recipe.add_argument(
        "--augmentation",
        choices=["device", "workers"],
        help="augment on the training device (default), or with batchgenerators' transforms in --threads processes",
    )
    recipe.add_argument(
        "--trainer", metavar="NAME", help="standard (default), or one that a package registers (docs/extending.md)"
    )
    recipe.add_argument(
        "--learn-attention",
        action="store_true",
        help="learn the gammas of the attention modules, then keep the modules that have an effect (experimental)",
    )
    recipe.add_argument(
        "--pretrained",
        metavar="MODEL",
        help="start from the weights of a model folder, or of a checkpoint in one: each fold from the same fold if the model has the "
        "same folds, or else from fold_all or the first fold; or from a checkpoint of nnU-Net (.pth), also of an encoder alone; "
        "weights for other input channels, classes or patch sizes are adapted, and a table lists the changes",
    )


def add_machine(parser: Parser) -> None:
    """Options of the machine that trains."""
    machine = parser.add_argument_group("machine")
    where = machine.add_mutually_exclusive_group()
    where.add_argument(
        "--device", default="auto", metavar="DEVICE", help="auto, cpu, cuda, cuda:1, mps (default: auto)"
    )
    where.add_argument(
        "--devices",
        metavar="DEVICES",
        help="spread folds over these devices, one fold at a time on each, such as cuda:0,cuda:1 (or 0,1) (default: one fold after "
        "the other on --device; on a CPU as many at the same time as cores and memory allow)",
    )
    machine.add_argument(
        "--threads",
        type=positive,
        metavar="N",
        help="threads that read patches, or processes that augment them (default: 2 on a CPU, else two fewer than the "
        "cores, at most 12)",
    )
    machine.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        help="try torch.compile; if it fails, train without it (default: on CUDA, for 5000 steps or more); --no-compile also "
        "records no CUDA graphs",
    )
    machine.add_argument(
        "--compute-threads",
        type=positive,
        metavar="N",
        help="threads that compute a step on a CPU (default: one or all of a fold's share of the cores, whichever is faster)",
    )


def main(argv: Sequence[str] | None = None) -> int:
    return run(build_parser(), work, argv)


def result_types() -> dict[str, object]:
    """What ``--json`` gives."""
    from unetrpp.trainers.result import TrainedModel

    return {"": TrainedModel}


def work(arguments: argparse.Namespace) -> Outcome:
    from unetrpp.core.workspace import Workspace
    from unetrpp.report.next_step import next_command
    from unetrpp.trainers.distributed import Processes
    from unetrpp.trainers.folds import train
    from unetrpp.trainers.result import result_of

    model = train(**own_options(arguments))
    # The other folds are trained with the same options.
    given = options_given(
        build_parser(), arguments, ("plans_name", "workspace", "continue_training", "overwrite", "debug", "json")
    )
    following = next_command(Workspace.find(arguments.workspace), model.dataset, {model.path.name: given})
    if Processes.find().first:
        print(f"next: {following}")
    return Outcome(result_of(model, following))


if __name__ == "__main__":
    sys.exit(main())
