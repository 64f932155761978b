"""Which folds, which checkpoint, which configuration, and a hash that follows the weights."""

import shutil

import msgspec
import pytest

from tests.helpers.model import PLAN, give_own_attention, make_model
from unetrpp.core.errors import UserError
from unetrpp.core.files import write_json
from unetrpp.model.folder import ModelFolder, typed_folds
from unetrpp.report.next_step import predict_command


def test_without_a_choice_the_trained_cross_validation_folds_are_taken(tmp_path):
    path = make_model(tmp_path, folds=3)
    for name in ("fold_all", "fold_3", "fold_0_backup"):  # the last is none of ours
        (path / name).mkdir()
    model = ModelFolder.open(path)
    assert model.folds() == ["0", "1", "2", "3", "all"]
    assert model.choose_folds() == ["0", "1", "2"]
    assert model.choose_folds([2, "0"]) == ["2", "0"]
    (path / "fold_all" / "checkpoint_final.pt").write_bytes(b"")
    assert model.choose_folds() == ["0", "1", "2"]
    assert model.choose_folds(["all"]) == model.choose_folds("all") == model.choose_folds("fold_all") == ["all"]
    assert model.choose_folds("0-1") == model.choose_folds(["1", "0-1"])[::-1] == ["0", "1"]
    with pytest.raises(UserError, match="of fold 3"):
        model.choose_folds(["3"])
    (path / "fold_all" / "checkpoint_final.pt").unlink()
    with pytest.raises(UserError, match=r"of fold_all \(trained: 0, 1, 2\)"):
        model.choose_folds("all")


def test_all_on_a_command_line_is_refused_where_it_has_two_meanings(tmp_path):
    numbered, alone, both = (make_model(tmp_path / name, folds=2) for name in "nab")
    for model in (alone, both):
        shutil.copytree(model / "fold_0", model / "fold_all")
    for fold in ("fold_0", "fold_1"):
        shutil.rmtree(alone / fold)
    assert typed_folds(["all"], [numbered, alone]) is typed_folds(None, [both]) is None
    with pytest.raises(UserError, match=r"has fold_all and others \(0-1\); give --folds fold_all or --folds 0-1"):
        typed_folds(["all"], [numbered, both])
    assert typed_folds(["fold_all"], [both]) == ["fold_all"]
    with pytest.raises(UserError, match="all cannot be combined with others"):
        typed_folds(["0", "all"], [numbered])


def test_fold_all_alone_is_taken(tmp_path):
    path = make_model(tmp_path, folds=1)
    (path / "fold_0").rename(path / "fold_all")
    assert ModelFolder.open(path).choose_folds() == ["all"]


def test_the_digest_follows_the_weights_and_the_folds(tmp_path):
    path = make_model(tmp_path, folds=2)
    model = ModelFolder.open(path)
    before = model.digest(["0", "1"])
    assert len({before, model.digest(["0"]), model.digest(["1"])}) == 3
    checkpoint = model.checkpoint("1")
    checkpoint.write_bytes(checkpoint.read_bytes() + b"x")
    assert ModelFolder.open(path).digest(["0", "1"]) != before


def test_a_renamed_folder_with_several_configurations_is_refused(tmp_path):
    path = make_model(tmp_path, folds=1)
    content = msgspec.json.decode((path / "plans.json").read_bytes())
    content["configurations"]["2d"] = content["configurations"]["3d_fullres"]
    (path / "plans.json").write_bytes(msgspec.json.encode(content))
    assert ModelFolder.open(path).configuration_name == "3d_fullres"
    with pytest.raises(UserError, match="was renamed"):
        ModelFolder.open(path.rename(tmp_path / "mine"))


def test_a_fold_may_have_learned_attention_of_its_own(tmp_path):
    path = make_model(tmp_path, folds=2)
    model = ModelFolder.open(path)
    before = model.digest(["0", "1"])
    give_own_attention(path, 1, {"gate@0": 0.7})
    assert model.architecture("0") == PLAN.architecture
    assert model.architecture("1").focal_gammas() == {"gate@0": 0.7}
    with_weights = model.digest(["0", "1"])
    write_json(path / "fold_1" / "architecture.json", PLAN.architecture.with_focal({"gate@0": 0.8}))
    assert len({before, with_weights, model.digest(["0", "1"])}) == 3


def test_an_architecture_of_another_network_is_refused(tmp_path):
    path = make_model(tmp_path, folds=1)
    other = msgspec.structs.replace(PLAN.architecture, in_channels=2)
    write_json(path / "fold_0" / "architecture.json", other)
    with pytest.raises(UserError, match="in more than gates"):
        ModelFolder.open(path).architecture("0")


def test_the_folder_above_model_folders_names_them(tmp_path):
    path = make_model(tmp_path, folds=1)
    with pytest.raises(UserError, match=f"give one of those in it: {path.name}"):
        ModelFolder.open(tmp_path)


def test_a_model_with_final_checkpoints_only_says_so(tmp_path):
    model = ModelFolder.open(make_model(tmp_path, folds=1))
    (model.path / "fold_0" / "checkpoint_best.pt").unlink(missing_ok=True)
    with pytest.raises(UserError, match=r"no checkpoint_best.pt of any fold .*; take the final one, which it has"):
        model.choose_folds(which="best")


def test_a_model_with_best_checkpoints_only_names_the_option(tmp_path):
    """As nnU-Net's `-chk checkpoint_best.pth` exports it."""
    path = make_model(tmp_path, folds=1)
    (path / "fold_0" / "checkpoint_final.pt").rename(path / "fold_0" / "checkpoint_best.pt")
    with pytest.raises(
        UserError, match=r"no checkpoint_final.pt .*; take the best one, which it has \(--checkpoint best\)"
    ):
        ModelFolder.open(path).choose_folds()
    assert predict_command(path).endswith(f"-m {path} --checkpoint best")
