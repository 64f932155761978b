"""Whole plans against nnU-Net 2.8.1's own, value for value: its plain U-Net, and its ResEnc M, L and XL.

``benchmarks/nnunet_plans.py`` made tests/data/nnunet_plans.json with nnU-Net's planners. Where UNETRPP_NNUNET_PYTHON names
the Python of an environment with nnunetv2 2.8.1, it is made again and compared.
"""

import os
import subprocess
from pathlib import Path

import pytest

from tests.helpers.nnunet_plans import GOLDEN, THEIRS, described
from unetrpp.core.errors import UserError
from unetrpp.core.text import format_bytes
from unetrpp.networks.training_memory import training_memory
from unetrpp.planners.options import Options
from unetrpp.planners.presets import make_planner

ROOT = Path(__file__).parents[2]
PLANNERS = ("unet", "resenc-m", "resenc-l", "resenc-xl")
# Ours follows the larger cluster (rule 1), so it is given the spacing that nnU-Net plans.
OTHER_SPACING = ("two clusters of spacings",)


def planner(name, **options):
    return (
        make_planner(name, Options(**options))
        if name == "unet"
        else make_planner("unetrpp", Options(preset=name, **options))
    )


def as_theirs(plans, name):
    """A configuration of ours in the terms of the golden file."""
    configuration = plans.configuration(name)
    levels = configuration.architecture.levels
    return {
        "patch": list(configuration.patch),
        "batch": configuration.batch_size,
        "batch_dice": configuration.loss.batch_dice,
        "strides": [list(level.stride) for level in levels],
        "kernels": [list(level.kernel) for level in levels],
        "features": [level.channels for level in levels],
        "encoder": [level.encoder_blocks for level in levels],
        "decoder": [level.decoder_blocks for level in levels[:-1]],
        "normalization": [channel.scheme for channel in configuration.preprocessing.normalization],
        "masked": [channel.masked for channel in configuration.preprocessing.normalization],
    }


@pytest.mark.parametrize("name", PLANNERS)
@pytest.mark.parametrize("dataset", THEIRS)
def test_the_plans_are_nnunets_value_for_value(dataset, name, tmp_path):
    expected = THEIRS[dataset]["plans"][name]
    description, found = described(THEIRS[dataset], tmp_path)
    asked = {}
    if dataset in OTHER_SPACING:
        full = expected["configurations"]["3d_fullres"]["spacing"]
        asked = {"spacing": tuple(full[expected["transpose"].index(axis)] for axis in range(3))}
    plans = planner(name, **asked).plan(found, description, "theirs", tuple(expected["configurations"]))
    for configuration, values in expected["configurations"].items():
        assert {"spacing": values["spacing"], **as_theirs(plans, configuration)} == values, configuration
        planned = plans.configuration(configuration).preprocessing
        assert list(planned.transpose) == expected["transpose"]
        # Theirs adds 1e-5 mm to a coarse axis that would be as fine as the others.
        assert [mm for mm in planned.spacing_mm if mm is not None] == pytest.approx(values["spacing"], abs=2e-5)


@pytest.mark.parametrize("name", PLANNERS)
@pytest.mark.parametrize("dataset", THEIRS)
def test_low_resolution_is_planned_where_nnunet_plans_it(dataset, name, tmp_path):
    description, found = described(THEIRS[dataset], tmp_path)
    try:
        planned = "3d_lowres" in planner(name).plan(found, description, "theirs", ("3d_lowres",)).configurations
    except UserError:
        planned = False
    assert planned is ("3d_lowres" in THEIRS[dataset]["plans"][name]["configurations"])


def test_ours_by_the_bytes_of_a_step_plans_otherwise_and_stays_in_its_budget(tmp_path):
    description, found = described(THEIRS["hippocampus"], tmp_path)
    ours = (
        make_planner("resunet", Options(gpu_memory_gb=24)).plan(found, description, "ours").configuration("3d_fullres")
    )
    theirs = planner("resenc-l").plan(found, description, "theirs").configuration("3d_fullres")
    assert (ours.batch_size, theirs.batch_size) == (9, 178)  # at most 5 % of the voxels, at most all of them
    for configuration in (ours, theirs):
        step = training_memory(configuration.architecture).of(configuration.batch_size)
        assert configuration.training_memory_bytes == round(step)


def test_the_reasons_name_nnunets_budget_and_our_estimate(tmp_path):
    description, found = described(THEIRS["117 classes"], tmp_path)
    plans = planner("resenc-m").plan(found, description, "theirs", ("3d_fullres", "2d"))
    why = {decision.about: decision.why for decision in plans.configuration("3d_fullres").decisions}
    budget = "nnU-Net 2.8.1's budget for ResEnc M, 680 million feature-map elements a patch at batch 2 (8 GB)"
    assert f"that fits {budget}; reduced from 256 x 256 x 256 in" in why["patch"]
    needed = format_bytes(plans.configuration("3d_fullres").training_memory_bytes)
    assert why["batch size"] == (
        "the budget allows 2; all of the dataset's voxels are 526 patches and would allow as many; "
        f"{needed} estimated (a training step of this network in bf16; nnU-Net means it for 8 GB)"
    )
    large, _ = (warning for warning in plans.warnings if "by our estimate" in warning)
    assert large == (
        f"3d_fullres: a training step needs {needed} by our estimate, more than the 8 GB that resenc-m is meant for; "
        "a smaller --batch-size needs less, and --planner resunet with --gpu-memory-gb 8 stays below it"
    )
    description, found = described(THEIRS["hippocampus"], tmp_path)
    plans = planner("resenc-xl").plan(found, description, "theirs")
    assert not any("by our estimate" in warning for warning in plans.warnings)
    assert "all of the dataset's voxels are 183 patches; the budget allows 305" in next(
        decision.why for decision in plans.configuration("3d_fullres").decisions if decision.about == "batch size"
    )


def test_a_requested_batch_leaves_the_patch_as_it_is(tmp_path):
    description, found = described(THEIRS["large CT"], tmp_path)
    (one, many) = (
        planner("resenc-m", batch_size=batch).plan(found, description, "theirs").configuration("3d_fullres")
        for batch in (1, 9)
    )
    assert (one.patch, one.batch_size) == ((96, 160, 160), 1)
    assert (many.patch, many.batch_size) == ((96, 160, 160), 9)
    assert many.training_memory_bytes > 6 * one.training_memory_bytes
    assert one.architecture.initial_logits == ()  # theirs starts with random heads


def test_the_planner_may_be_named_and_the_plans_have_the_presets_name():
    planners = [make_planner(name, Options(preset="resenc-l")) for name in ("unetrpp", "resunet")]
    assert [(each.name, each.plans_name) for each in planners] == [("resunet", "resenc-l")] * 2


NNUNET = os.environ.get("UNETRPP_NNUNET_PYTHON")


@pytest.mark.skipif(
    NNUNET is None, reason="needs UNETRPP_NNUNET_PYTHON, the Python of an environment with nnunetv2 2.8.1"
)
def test_the_golden_file_is_what_nnunet_plans(tmp_path):
    script = ROOT / "benchmarks" / "nnunet_plans.py"
    subprocess.run([str(NNUNET), str(script), str(tmp_path / "made.json")], check=True, capture_output=True)
    assert (tmp_path / "made.json").read_text() == GOLDEN.read_text()
