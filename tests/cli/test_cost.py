"""`unetrpp_cost`: one row per configuration and precision."""

import msgspec
import pytest

from tests.helpers.fingerprints import case_fingerprint, description, fingerprint
from tests.helpers.tiny import LABELS, configuration
from unetrpp.cli.cost import PLANNED_PRESETS, PRESETS, main
from unetrpp.core.files import write_json
from unetrpp.networks.cost import estimate
from unetrpp.networks.presets import PRESETS as PUBLISHED
from unetrpp.planners.options import Options
from unetrpp.planners.presets import ResEncPlanner
from unetrpp.planners.rules.element_budget import RESENC
from unetrpp.plans.plans import Plans


@pytest.fixture
def plans(tmp_path):
    made = configuration()
    plans = Plans(
        dataset="balls",
        name="unetrpp",
        planner="unet",
        channel_names=("MRI",),
        labels=LABELS,
        file_ending=".nii.gz",
        configurations={"3d_fullres": made, "other": msgspec.structs.replace(made, batch_size=7)},
        decisions=(),
    )
    write_json(tmp_path / "unetrpp.json", plans)
    return tmp_path / "unetrpp.json"


def test_one_row_per_configuration_and_precision(plans, capsys):
    assert main([str(plans)]) == 0
    header, *rows = capsys.readouterr().out.splitlines()
    assert header.split()[:3] == ["configuration", "network", "patch"]
    assert [row.split()[0] for row in rows] == ["3d_fullres", "3d_fullres", "other", "other"]
    assert rows[2].split()[3:5] == ["7", "fp32"]


def test_choices(plans, capsys):
    assert main([str(plans), "-c", "other", "--batch-size", "3", "--precision", "fp32", "--optimizer", "adamw"]) == 0
    (row,) = capsys.readouterr().out.splitlines()[1:]
    cost = estimate(configuration().architecture, 3, "fp32", optimizer_states=2)
    assert row.split()[3] == "3"
    assert f"{cost.parameters / 1e6:.3f} M" in row
    assert row.endswith(f"{cost.training_bytes / 2**30:.2f} GiB")


def test_mistakes(plans, capsys):
    assert main([str(plans), "-c", "nonesuch"]) == 2
    assert "unetrpp_cost: error:" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main([str(plans), "--batch-size", "0"])
    assert "must be at least 1, not 0" in capsys.readouterr().err


def test_the_published_networks_by_name():
    assert set(PRESETS) == set(PUBLISHED)


def test_a_preset_that_is_planned_for_a_dataset_is_shown_by_its_plans(plans, capsys):
    assert set(PLANNED_PRESETS) == set(RESENC)
    assert main(["resenc-l"]) == 2
    assert "unetrpp_plan_and_preprocess DATASET --preset resenc-l writes" in capsys.readouterr().err
    organ = [case_fingerprint(shape=(30, 40, 20))] * 30
    made = ResEncPlanner(Options(batch_size=5), "resenc-l").plan(fingerprint(organ), description(), "resenc-l")
    write_json(plans.with_name("resenc-l.json"), made)
    assert main([str(plans.with_name("resenc-l.json")), "--precision", "bf16"]) == 0
    (row,) = capsys.readouterr().out.splitlines()[1:]
    assert row.split()[:5] == ["3d_fullres", "resunet", "32x40x20", "5", "bf16"]
    shown, planned = float(row.split()[-2]), made.configuration("3d_fullres").training_memory_bytes / 2**30
    assert shown == pytest.approx(planned, rel=0.03)
