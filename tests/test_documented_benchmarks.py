"""The commands of docs/benchmarks.md fit together."""

import re
import shlex
from pathlib import Path

from unetrpp.cli import evaluate, import_model, predict
from unetrpp.dataset_conversion import convert
from unetrpp.dataset_conversion.datasets import layout
from unetrpp.evaluation.protocol import read_protocol
from unetrpp.planners import plan_and_preprocess
from unetrpp.trainers import train

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
PARSERS = {
    "unetrpp_plan_and_preprocess": plan_and_preprocess.build_parser,
    "unetrpp_train": train.build_parser,
    "unetrpp_predict": predict.build_parser,
    "unetrpp_evaluate": evaluate.build_parser,
    "unetrpp_import": import_model.build_parser,
}


def commands():
    """The commands in the page's indented blocks, continued lines joined."""
    text = PAGE.read_text(encoding="utf8").replace("\\\n", " ")
    return [shlex.split(line) for line in text.splitlines() if re.match(r" {4}unetrpp_", line)]


def parsed(command):
    name, *arguments = command
    parser = convert.dataset_parser(arguments.pop(0)) if name == "unetrpp_convert" else PARSERS[name]()
    return parser.parse_args(arguments)


def test_every_protocol_of_the_page_has_a_table():
    protocols = {getattr(parsed(command), "protocol", None) for command in commands()} - {None}
    assert protocols == {"synapse", "btcv", "acdc", "brats", "lung"}
    assert all(read_protocol(name).test for name in protocols)


def test_names_of_datasets_and_models_are_those_that_the_commands_before_make():
    datasets, models = set(), set()
    for command in commands():
        given = parsed(command)
        if command[0] == "unetrpp_convert":
            stem = re.sub(r"^Task\d+_|\.tar$", "", given.source.name)
            datasets.add(given.name or layout(command[1]).ABOUT.name or stem)
        elif command[0] == "unetrpp_train":
            models.add(f"{given.dataset}/unetrpp__{given.configuration}")
        elif command[0] == "unetrpp_import":
            models.add(f"{given.plans.parent.name}/released_{given.preset}__3d_fullres")
        text = " ".join(command)
        assert set(re.findall(r"unetrpp_workspace/(?:raw|preprocessed)/(\w+)", text)) <= datasets
        assert set(re.findall(r"unetrpp_workspace/results/(\w+/\w+)", text)) <= models
    assert datasets == {"Synapse_published", "Synapse", "BTCV", "BTCV_server", "ACDC", "BrainTumour", "Lung"}
