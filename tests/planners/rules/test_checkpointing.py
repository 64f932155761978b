"""Where gradient checkpointing is planned, and what the reason says."""

import pytest

from tests.helpers.fingerprints import case_fingerprint, description, fingerprint
from unetrpp.core.errors import UserError
from unetrpp.core.text import format_bytes
from unetrpp.networks.cost import estimate
from unetrpp.planners.options import Options
from unetrpp.planners.presets import make_planner
from unetrpp.planners.rules import checkpointing

ORGAN = [case_fingerprint(shape=(64, 96, 96))] * 30
PATCH = (32, 64, 64)  # at batch 2 a resunet needs a GPU of 2.13 GB with checkpointing, of 2.39 GB without


def planned(planner="resunet", **options):
    plans = make_planner(planner, Options(**options)).plan(fingerprint(ORGAN), description(), "mine")
    configuration = plans.configuration("3d_fullres")
    reasons = [d.why for d in configuration.decisions if d.about == "gradient checkpointing"]
    assert len(reasons) == configuration.architecture.checkpointing
    return configuration, "".join(reasons)


@pytest.mark.parametrize("planner", ["unet", "resunet"])
def test_it_is_planned_where_it_is_asked_for(planner):
    plain, _ = planned(planner)
    asked, why = planned(planner, checkpointing=True)
    assert not plain.architecture.checkpointing
    assert asked.architecture.checkpointing
    before = format_bytes(estimate(plain.architecture, 2, "bf16").training_bytes)
    after = format_bytes(estimate(asked.architecture, 2, "bf16").training_bytes)
    assert why.startswith(f"asked for; at batch 2 a step needs {after} in place of {before}; ")
    assert asked.patch == plain.patch


def test_a_smaller_gpu_gets_larger_patches_with_it():
    plain, asked = planned(gpu_memory_gb=2.7)[0], planned(gpu_memory_gb=2.7, checkpointing=True)[0]
    assert plain.patch < asked.patch
    assert not plain.architecture.checkpointing


def test_a_preset_of_nnunet_keeps_patch_and_batch():
    plain, asked = (planned("unetrpp", preset="resenc-m", checkpointing=on)[0] for on in (False, True))
    assert (plain.patch, plain.batch_size) == (asked.patch, asked.batch_size)
    assert asked.training_memory_bytes < 0.8 * plain.training_memory_bytes


@pytest.mark.parametrize(("gigabytes", "expected"), [(2.0, False), (2.25, True), (2.6, False)])
def test_a_patch_that_is_given_gets_it_only_where_it_makes_the_patch_fit(gigabytes, expected):
    configuration, why = planned(patch=PATCH, gpu_memory_gb=gigabytes)
    assert configuration.patch == PATCH
    assert configuration.architecture.checkpointing is expected
    assert expected is why.startswith(
        "without it, patch 32 x 64 x 64 needs 1.2 GB and does not fit 2.25 GB less 10% and 1 GB"
    )


def test_a_network_that_saves_nothing_is_refused(monkeypatch):
    monkeypatch.setattr(
        checkpointing, "recomputing", lambda architecture: architecture
    )  # as one that does not know of it
    with pytest.raises(
        UserError, match=r"--checkpointing saves no memory here: a training step of resunet with patch 64 x 96"
    ):
        planned(checkpointing=True)
