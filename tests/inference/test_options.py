"""The options of prediction are the same in the command, in predict() and in Predictor."""

import dataclasses
import inspect

import numpy as np
import pytest

from tests.helpers.model import make_model
from tests.helpers.tiny import LABELS
from unetrpp.cli.predict import build_parser
from unetrpp.core.errors import UserError
from unetrpp.dataset.labels import LabelScheme
from unetrpp.inference.options import InferenceOptions, OutputOptions
from unetrpp.inference.predict import predict
from unetrpp.inference.predictor import Predictor
from unetrpp.io.geometry import Geometry
from unetrpp.io.images import Volume


def keywords(function):
    """Name -> default of the keyword-only parameters."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


def test_the_predictor_takes_every_option_with_the_same_default():
    fields = {field.name: field.default for field in dataclasses.fields(InferenceOptions)}
    assert keywords(Predictor) == fields
    assert {name: keywords(predict)[name] for name in fields} == fields


def test_all_options_reach_the_predictor(tmp_path):
    model = make_model(tmp_path, folds=2)
    (model / "fold_1" / "checkpoint_final.pt").rename(model / "fold_1" / "checkpoint_best.pt")
    options = InferenceOptions(
        folds=1,
        device="cpu",
        mirroring=False,
        checkpoint="best",
        step=0.25,
        tile_batch=3,
        threshold={"ball": 0.3},
        export_order=1,
    )
    defaults = {field.name: field.default for field in dataclasses.fields(InferenceOptions)}
    assert all(getattr(options, name) != default for name, default in defaults.items())  # none is left out here
    predictor = Predictor.with_options(model, options)
    assert predictor.options == options
    assert predictor.folds == ["1"]
    window, image = (
        predictor.window,
        Volume(np.ones((1, 8, 9, 9), np.float32), Geometry(shape_zyx=(8, 9, 9), spacing_zyx_mm=(5.0, 1.0, 1.0))),
    )
    grid = predictor.grid(predictor.prepare(image, "image").properties)
    assert (grid.nearest_axis, grid.nearest_axis_back) == (0, None)
    assert predictor.thresholds == {1: 0.3}
    assert (window.mirror_axes, window.step, window.tile_batch) == ((), 0.25, 3)


def test_the_command_has_the_options_of_the_function():
    of_the_command = {"help", "version", "debug", "json", "executor", "report", "maps"}
    command = {action.dest for action in build_parser()._actions} - of_the_command
    assert (command - {"no_mirroring"}) | {"mirroring"} == set(keywords(predict))


def test_the_command_has_the_defaults_of_the_function():
    arguments = vars(build_parser().parse_args(["-i", "in", "-o", "out", "-m", "model"]))
    arguments |= {"mirroring": not arguments["no_mirroring"]}
    expected = {k: v for k, v in keywords(predict).items() if v is not inspect.Parameter.empty and k != "model"}
    assert {name: arguments[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"step": 0.0}, "step is 0.0; it must be above 0 and at most 1"),
        ({"step": 1.5}, "step is 1.5; it must be above 0"),
        ({"tile_batch": 0}, "tile_batch is 0; it must be at least 1"),
        ({"export_order": 3}, "export_order is 3; it must be 0"),
    ],
)
def test_options_out_of_range_are_refused(tmp_path, option, message):
    with pytest.raises(UserError, match=message):
        Predictor(tmp_path / "is not even looked for", **option)


def test_names_of_the_maps(tmp_path):
    assert OutputOptions(tmp_path).maps("a.nii.gz", LABELS) == ()
    asked = OutputOptions(tmp_path, probabilities=True, uncertainty=True, dicom_seg=True)
    names = ("probability_0", "probability_1", "entropy", "disagreement")
    assert asked.maps("a.nii.gz", LABELS) == (*(f"a_{name}.nii.gz" for name in names), "a.dcm")


def test_names_of_the_files_of_chosen_classes(tmp_path):
    labels = LabelScheme(names=("background", "a", "b/c", "d"), values=(0, 7, 3, 1))
    asked = OutputOptions(tmp_path, classes=("d", "b/c"), probabilities=True, masks=True)
    maps = ("a_probability_2.nii.gz", "a_probability_3.nii.gz", "a/b_c.nii.gz", "a/d.nii.gz")
    assert asked.maps("a.nii.gz", labels) == maps
