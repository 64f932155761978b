"""What a command does is one call from Python, whose parameters have the names of the command's arguments and options."""

import inspect
from collections.abc import Callable

import pytest

from unetrpp.cli import attention_report, evaluate, export_model, find_best, import_model, report, serve
from unetrpp.core.command_line import Parser
from unetrpp.dataset_conversion import convert
from unetrpp.dataset_conversion.conversion import convert_dataset
from unetrpp.dataset_conversion.datasets import layout, layout_names
from unetrpp.dataset_conversion.folder import convert_folder
from unetrpp.evaluation.calibration import calibrate_model
from unetrpp.evaluation.cross_validation import evaluate_model
from unetrpp.evaluation.evaluate import evaluate as evaluate_folders
from unetrpp.evaluation.find_best import find_best as find_best_models
from unetrpp.evaluation.model_comparison import compare_models
from unetrpp.evaluation.operating_points import choose_thresholds
from unetrpp.export.hub import fetch_model, publish_model
from unetrpp.export.model_zip import export_model as export_zip
from unetrpp.export.model_zip import import_model as import_zip
from unetrpp.export.nnunet.models import import_nnunet
from unetrpp.export.onnx import export_onnx
from unetrpp.export.released import import_released
from unetrpp.report.attention_report import write_attention_report
from unetrpp.report.model_report import write_report
from unetrpp.service.serve import serve as call_serve

SHARED = {"help", "version", "debug", "json", "executor"}  # executor: `with cluster(...)` around any of the calls
Command = tuple[Callable[[], Parser], list[Callable[..., object]], set[str]]
CALLS: dict[str, Command] = {  # parser, calls, and the options that are no parameter
    "evaluate": (
        evaluate.build_parser,
        [evaluate_folders, evaluate_model, calibrate_model, choose_thresholds, compare_models],
        {"compare", "calibrate"},
    ),
    "convert folder": (convert.folder_parser, [convert_folder], set()),
    "find_best": (find_best.build_parser, [find_best_models], set()),
    "report": (report.build_parser, [write_report], set()),
    "attention_report": (attention_report.build_parser, [write_attention_report], set()),
    "export": (export_model.build_parser, [export_zip, publish_model, export_onnx], {"onnx"}),
    "import": (
        import_model.build_parser,
        [import_zip, fetch_model, import_nnunet, import_released],
        {"dataset"},
    ),  # planning is a call of its own
    "serve": (serve.build_parser, [call_serve], set()),
}
RENAMED = {"first", "second"}  # what --compare takes


def options(parser: Parser) -> dict[str, object]:
    """Defaults by name; ``--no-pairs``, which is False, becomes ``pairs``, which is True."""
    known = {a.dest: a.default for a in parser._actions if a.dest not in SHARED}
    return {name.removeprefix("no_"): not value if name.startswith("no_") else value for name, value in known.items()}


def parameters(function: Callable[..., object]) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(function, eval_str=True).parameters)


@pytest.mark.parametrize("name", CALLS)
def test_parameters_are_options(name):
    build_parser, functions, replaced = CALLS[name]
    known = options(build_parser())
    named = {parameter for function in functions for parameter in parameters(function)} - RENAMED
    assert named == known.keys() - replaced


@pytest.mark.parametrize("name", CALLS)
def test_defaults_are_those_of_the_options_and_only_arguments_are_positional(name):
    build_parser, functions, _ = CALLS[name]
    parser = build_parser()
    known, positional = options(parser), {a.dest for a in parser._actions if not a.option_strings or a.required}
    for function in functions:
        for parameter in parameters(function).values():
            if parameter.default is not inspect.Parameter.empty:
                assert parameter.default == known[parameter.name]
                assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
            elif parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
                assert parameter.name in positional | RENAMED | {"model", "output"}


@pytest.mark.parametrize("name", layout_names())
def test_a_datasets_options_are_the_keywords_of_its_reader(name):
    known = options(convert.dataset_parser(name))
    common = {key: p for key, p in parameters(convert_dataset).items() if key not in ("dataset", "choices")}
    own = dict(list(parameters(layout(name).read).items())[1:])
    assert known.keys() == common.keys() | own.keys()
    for key, parameter in (common | own).items():
        if key != "source":
            assert parameter.kind is inspect.Parameter.KEYWORD_ONLY
            assert parameter.default == known[key]
