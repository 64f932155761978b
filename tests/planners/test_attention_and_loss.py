"""Attention planned on a small preprocessed dataset: what changes in the plans, and that it is all recorded."""

import pytest

from tests.helpers.raw_dataset import write_dataset
from unetrpp.core.files import read_json
from unetrpp.planners.attention_and_loss import with_attention
from unetrpp.planners.plan_and_preprocess import main
from unetrpp.planners.rules.attention_overrides import parse_override
from unetrpp.plans.fingerprint import Fingerprint
from unetrpp.plans.plans import read_plans
from unetrpp.preprocessing.store import Store


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    workspace = tmp_path_factory.mktemp("workspace")
    write_dataset(workspace / "raw" / "Blocks")
    main(["Blocks", "--workspace", str(workspace), "--processes", "1", "--width", "0.5", "--batch-size", "2"])
    home = workspace / "preprocessed" / "Blocks"
    plans = read_plans(home / "unetrpp.json")
    store = Store(home / "unetrpp_3d_fullres")
    cases = [store.open(case) for case in store.cases()]
    return plans.configuration("3d_fullres"), cases, read_json(home / "fingerprint.json", Fingerprint)


def test_auto_places_by_the_labels_chooses_the_loss_and_gives_reasons(planned):
    before, cases, fingerprint = planned
    after = with_attention(before, cases, fingerprint, mode="auto")
    assert after == with_attention(before, cases, fingerprint, mode="auto")
    assert after.loss.name == "unified_focal_distance"  # a lesion of 2 x 3 x 3 voxels is all boundary
    assert len(after.loss.distance_scale_mm) == 2
    assert after.preprocessing.digest() == before.preprocessing.digest()
    assert after.decisions[: len(before.decisions)] == before.decisions
    new = {d.about for d in after.decisions[len(before.decisions) :]}
    assert {"loss", "distance penalty", "skip at stride 1 x 1 x 1"} <= new
    assert after.training_memory_bytes != before.training_memory_bytes or after.architecture == before.architecture


def test_paper_changes_nothing_but_the_record_and_overrides_win(planned):
    before, cases, fingerprint = planned
    paper = with_attention(before, cases, fingerprint, mode="paper")
    assert (paper.architecture, paper.loss) == (before.architecture, before.loss)
    gated = with_attention(before, [], fingerprint, mode="paper", overrides=[parse_override("gate@0=1.5")])
    assert gated.architecture.levels[0].gate == 1.5
    assert gated.training_memory_bytes > before.training_memory_bytes
    assert gated.loss == before.loss
