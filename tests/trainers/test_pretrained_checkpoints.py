"""Which checkpoint a fold starts from: never one that was trained on the cases the fold is scored on."""

import hashlib

import msgspec
import pytest

from tests.helpers.model import PLAN, fingerprint, make_model
from tests.helpers.tiny import LABELS
from unetrpp.core.errors import UserError
from unetrpp.core.files import write_json
from unetrpp.dataset.splits import Fold, make_splits
from unetrpp.networks.design import unetrpp_architecture
from unetrpp.trainers.config import TrainingConfig
from unetrpp.trainers.network_spec import NetworkSpec
from unetrpp.trainers.pretrained_checkpoints import (
    checkpoints_for,
    find_checkpoint,
    fine_tuning_overrides,
    require_unchanged,
)

FOLDS: dict[int | str, Fold] = dict(enumerate(make_splits([f"ball_{i}" for i in range(4)]).folds))
SPEC = NetworkSpec.of(PLAN)
KNOWN = fingerprint()
FOREIGN = msgspec.structs.replace(
    KNOWN, cases=tuple(msgspec.structs.replace(case, inputs_digest="foreign") for case in KNOWN.cases)
)


@pytest.fixture
def model(tmp_path):
    """Two trained folds of the dataset with the fingerprint KNOWN."""
    path = make_model(tmp_path, 2)
    for k in (0, 1):
        write_json(path / f"fold_{k}" / "training.json", TrainingConfig(fold=k, cases=FOLDS[k].digest()))
    return path.resolve()


def final(model, fold):
    return model / f"fold_{fold}" / "checkpoint_final.pt"


def add_fold_all(model):
    (model / "fold_all").mkdir()
    final(model, "all").write_bytes(final(model, 0).read_bytes())


def first(count):
    return {k: FOLDS[k] for k in range(count)}


def test_folds_of_the_same_cases_start_from_their_own(model):
    assert checkpoints_for(model, first(2), KNOWN) == {0: final(model, 0), 1: final(model, 1)}
    add_fold_all(model)
    everything: dict[int | str, Fold] = {1: FOLDS[1], "all": FOLDS[0]}
    assert checkpoints_for(model, everything, KNOWN) == {1: final(model, 1), "all": final(model, "all")}


def test_a_model_that_does_not_know_its_images_gives_a_warning(model, caplog):
    """As those imported from nnU-Net, whose records have no digests of files."""
    assert checkpoints_for(model, FOLDS, FOREIGN)
    assert "does not say which images" not in caplog.text
    unknown = tuple(msgspec.structs.replace(case, inputs_digest="") for case in KNOWN.cases)
    write_json(model / "fingerprint.json", msgspec.structs.replace(KNOWN, cases=unknown))
    assert checkpoints_for(model, FOLDS, KNOWN) == dict.fromkeys(FOLDS, final(model, 0))
    assert "does not say which images it was trained on" in caplog.text


def test_folds_of_another_dataset_start_from_one_checkpoint(model):
    assert checkpoints_for(model, FOLDS, FOREIGN) == dict.fromkeys(FOLDS, final(model, 0))
    assert checkpoints_for(final(model, 1), FOLDS, FOREIGN) == dict.fromkeys(FOLDS, final(model, 1))
    add_fold_all(model)
    assert checkpoints_for(model, FOLDS, FOREIGN) == dict.fromkeys(FOLDS, final(model, "all"))


def test_fold_all_is_preferred(model):
    assert find_checkpoint(model) == final(model, 0)
    add_fold_all(model)
    assert find_checkpoint(model) == final(model, "all")


def test_checkpoints_that_may_be_trained_on_validation_cases_are_refused(model):
    with pytest.raises(UserError, match="trained on the validation cases of fold 2"):
        checkpoints_for(model, first(3), KNOWN)
    with pytest.raises(UserError, match="trained on the validation cases of fold 1"):
        checkpoints_for(final(model, 0), first(2), KNOWN)
    with pytest.raises(UserError, match="trained on the validation cases of fold 1"):  # other splits.json
        checkpoints_for(model, {0: FOLDS[0], 1: FOLDS[3]}, KNOWN)
    (model / "fold_0" / "training.json").unlink()
    with pytest.raises(UserError, match="trained on the validation cases of fold 0"):
        checkpoints_for(model, first(1), KNOWN)


def test_path_and_hash_of_every_fold(model):
    overrides = fine_tuning_overrides(model, first(2), KNOWN, SPEC)
    for k in (0, 1):
        digest = hashlib.sha256(final(model, k).read_bytes()).hexdigest()
        assert overrides[k] == {"pretrained": str(final(model, k)), "pretrained_hash": digest[:16]}


def test_a_checkpoint_that_was_trained_again_meanwhile_is_refused(model):
    recorded = str(fine_tuning_overrides(model, first(1), KNOWN, SPEC)[0]["pretrained_hash"])
    require_unchanged(final(model, 0), recorded)
    final(model, 0).write_bytes(b"another")
    with pytest.raises(UserError, match="has changed since this fold was to start from it; restore it, or start"):
        require_unchanged(final(model, 0), recorded)


def test_unusable_checkpoints_are_refused(model, tmp_path):
    def start(given, spec=SPEC, deleted=()):
        return fine_tuning_overrides(given, first(1), KNOWN, spec, deleted=deleted)

    with pytest.raises(UserError, match="does not exist"):
        start(tmp_path / "checkpoint.pt")
    with pytest.raises(UserError, match="is not a model folder"):
        start(tmp_path)
    other = unetrpp_architecture(1, 2, (16, 16, 16), [(2, 2, 2), (2, 2, 2)], width=0.25)
    with pytest.raises(UserError, match="network unet, the plans have unetrpp"):
        start(model, NetworkSpec(other, LABELS))
    with pytest.raises(UserError, match="would be deleted by --overwrite"):
        start(model, deleted={model / "fold_0"})
