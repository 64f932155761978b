"""The config of new, resumed and extended folds."""

import pytest

from unetrpp.core.errors import UserError
from unetrpp.core.files import write_json
from unetrpp.trainers.recipe import config_for, new_config


def test_the_long_recipe_has_nnunets_numbers():
    config = new_config(0, {})
    assert (config.epochs, config.iterations, config.momentum, config.learning_rate) == (1000, 250, 0.99, 1e-2)
    assert (config.weight_decay, config.gradient_clip) == (3e-5, 12.0)


def test_nnunets_recipe_by_name(tmp_path):
    """nnUNetTrainer.configure_optimizers and on_train_epoch_start of 2.8.1, whatever the length of the run."""
    config = new_config(0, {"recipe": "nnunet", "epochs": 2, "iterations": 10})
    assert (config.optimizer, config.learning_rate, config.momentum, config.warmup) == ("sgd", 1e-2, 0.99, 0)
    assert (config.weight_decay, config.decay_everything, config.gradient_clip) == (3e-5, True, 12.0)
    assert (config.rate_changes, config.heads) == ("every_epoch", "random")
    assert (config.sampling, config.padding) == ("case_first", "background")
    assert new_config(0, {"recipe": "nnunet", "learning_rate": 0.5}).learning_rate == 0.5
    write_json(tmp_path / "training.json", config)
    assert config_for(tmp_path, 0, {"recipe": "nnunet"}, continue_training=False) == config
    assert config_for(tmp_path, 0, {}, continue_training=False) == config


def test_a_named_recipe_is_refused_where_it_contradicts(tmp_path):
    with pytest.raises(UserError, match="trains with sgd; leave out --optimizer"):
        new_config(0, {"recipe": "nnunet", "optimizer": "adamw"})
    with pytest.raises(UserError, match="no recipe 'theirs'; choose from nnunet"):
        new_config(0, {"recipe": "theirs"})
    started(tmp_path)
    with pytest.raises(UserError, match="was started with recipe short, not nnunet"):
        config_for(tmp_path, 0, {"recipe": "nnunet"}, continue_training=False)


def test_a_short_run_says_why_it_differs():
    config = new_config(0, {"epochs": 2, "iterations": 10})
    assert "20 steps" in config.recipe
    assert new_config(0, {"epochs": 2, "iterations": 10, "learning_rate": 0.5}).learning_rate == 0.5


def started(folder):
    """The record of a fold that was started."""
    config = config_for(folder, 0, {"epochs": 4, "iterations": 5}, continue_training=False)
    write_json(folder / "training.json", config)
    return config


def test_resuming_keeps_the_record_and_refuses_another_value(tmp_path):
    first = started(tmp_path)
    assert config_for(tmp_path, 0, {}, continue_training=False) == first
    with pytest.raises(UserError, match="was started with epochs 4, not 6"):
        config_for(tmp_path, 0, {"epochs": 6}, continue_training=False)


def test_extending(tmp_path):
    first = started(tmp_path)
    with pytest.raises(UserError, match="--epochs"):
        config_for(tmp_path, 0, {}, continue_training=True)
    extended = config_for(tmp_path, 0, {"epochs": 8}, continue_training=True)
    assert extended.steps == 40
    assert (extended.recipe, extended.momentum) == (first.recipe, first.momentum)


def test_optimisers_by_option_and_by_length():
    assert new_config(0, {}).optimizer == "sgd"
    short = new_config(0, {"epochs": 4, "iterations": 25})
    assert (short.optimizer, short.learning_rate, short.warmup) == ("muon", 6e-3, 12)
    assert new_config(0, {"epochs": 4, "iterations": 25, "optimizer": "sgd"}).learning_rate == 1e-2
    asked = new_config(0, {"optimizer": "adamw"})
    assert (asked.optimizer, asked.learning_rate, asked.warmup) == ("adamw", 3e-3, 500)
    assert asked.recipe == "AdamW with warm-up, as asked for"
    muon = new_config(0, {"optimizer": "muon"})
    assert (muon.optimizer, muon.learning_rate, muon.recipe) == ("muon", 6e-3, "Muon with warm-up, as asked for")
    assert new_config(0, {"epochs": 4, "iterations": 25, "warmup": 0, "weight_decay": 0.0}).weight_decay == 0
