"""Attention planned on a small preprocessed dataset: what changes in the plans, and that it is all recorded."""

import pytest

from tests.helpers.raw_dataset import write_dataset
from unetrpp.core.errors import UserError
from unetrpp.core.files import read_json
from unetrpp.networks.design import unet_architecture, unetrpp_architecture
from unetrpp.planners.attention_and_loss import with_attention
from unetrpp.planners.options import AttentionMode, Options
from unetrpp.planners.plan_and_preprocess import main
from unetrpp.planners.rules.attention import attention_mode
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


def test_focal_places_by_the_labels_chooses_the_loss_and_gives_reasons(planned):
    before, cases, fingerprint = planned
    after = with_attention(before, cases, fingerprint, mode="focal", loss="auto")
    assert after == with_attention(before, cases, fingerprint, mode="focal", loss="auto")
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


def test_attention_leaves_the_loss_alone_and_the_loss_attention(planned):
    before, cases, fingerprint = planned
    both = with_attention(before, cases, fingerprint, mode="focal", loss="auto")
    placed = with_attention(before, cases, fingerprint, mode="focal")
    assert (placed.loss, placed.architecture) == (before.loss, both.architecture)
    assert not {"loss", "distance penalty"} & {d.about for d in placed.decisions}
    chosen = with_attention(before, cases, fingerprint, mode="paper", loss="auto")
    assert (chosen.loss, chosen.architecture) == (both.loss, before.architecture)
    assert chosen.training_memory_bytes == before.training_memory_bytes


@pytest.mark.parametrize("mode", ["unified_focal", "unified_focal_distance"])
def test_a_focal_loss_that_was_asked_for_has_the_rules_numbers(planned, mode):
    before, cases, fingerprint = planned
    by_rule = with_attention(before, cases, fingerprint, mode="paper", loss="auto")
    asked = with_attention(before, cases, fingerprint, mode="paper", loss=mode)
    assert asked.loss.name == mode
    assert (asked.loss.gamma, asked.loss.batch_dice) == (by_rule.loss.gamma, before.loss.batch_dice)
    assert asked.loss.distance_scale_mm == (by_rule.loss.distance_scale_mm if mode.endswith("distance") else ())
    reasons = {d.about: d.why for d in asked.decisions}
    assert reasons["loss"].startswith(f"asked for with --loss {mode}; 0.1 of gamma per bit")
    assert reasons["distance penalty"].startswith(f"asked for with --loss {mode}; with --loss auto it would be on: ")


@pytest.mark.parametrize(("mode", "loss"), [("focal", "dice_ce"), ("paper", "unified_focal"), ("none", "auto")])
def test_without_any_foreground_nothing_is_planned_from_it(planned, mode, loss):
    before, _, fingerprint = planned
    with pytest.raises(UserError, match=r"0 training patches hold no foreground.*--attention focal and a --loss other"):
        with_attention(before, [], fingerprint, mode=mode, loss=loss)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (Options(), "auto"),
        (Options(preset="synapse"), "paper"),
        (Options(attention="paper"), "paper"),
        (Options(attention="none"), "none"),
    ],
)
def test_the_rule_decides_unless_the_network_is_a_preset_or_another_mode_is_asked_for(
    options: Options, expected: AttentionMode
) -> None:
    strides = [(1, 2, 2), (2, 2, 2)]
    assert attention_mode(unetrpp_architecture(1, 2, (8, 16, 16), strides), options) == expected
    without = attention_mode(unet_architecture(1, 2, (8, 16, 16), strides), options)
    assert without == (options.attention or "paper")
