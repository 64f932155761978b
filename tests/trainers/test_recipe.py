"""The config of new, resumed and extended folds."""

import pytest

from unetrpp.core.errors import UserError
from unetrpp.core.files import write_json
from unetrpp.trainers.recipe import config_for, new_config


def test_the_long_recipe_is_nnunets():
    config = new_config(0, {})
    assert (config.epochs, config.iterations, config.momentum, config.learning_rate) == (1000, 250, 0.99, 1e-2)
    assert (config.weight_decay, config.gradient_clip) == (3e-5, 12.0)


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
    assert (short.optimizer, short.warmup) == ("adamw", 12)
    assert new_config(0, {"epochs": 4, "iterations": 25, "optimizer": "sgd"}).learning_rate == 1e-2
    asked = new_config(0, {"optimizer": "adamw"})
    assert (asked.optimizer, asked.warmup, asked.recipe) == ("adamw", 500, "AdamW with warm-up, as asked for")
