"""Training steps of the recipe `nnunet` against nnU-Net 2.8.1's own trainer: losses, gradients, optimiser, schedule.

tests/data/nnunet_step.json holds nnU-Net's numbers; where UNETRPP_NNUNET_PYTHON names an interpreter with nnunetv2, they
are computed again.
"""

import json
import os
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from tests.helpers import nnunet_step as peer
from tests.helpers.tiny import configuration
from unetrpp.augmentation.pipeline import Sample
from unetrpp.dataset.labels import LabelScheme
from unetrpp.networks.design import unet_architecture
from unetrpp.trainers.inputs import FoldData, Machine
from unetrpp.trainers.recipe import new_config
from unetrpp.trainers.step import StepTrainer

GOLDEN = Path(__file__).parents[1] / "data" / "nnunet_step.json"
PYTHON = os.environ.get("UNETRPP_NNUNET_PYTHON")
DEEPEST = len(peer.FEATURES) - 1


def theirs(name: str) -> str:
    """nnU-Net's name of a parameter of ours; its decoder counts from the deepest level.

    >>> theirs("encoder.1.blocks.0.conv.weight"), theirs("decoder.0.upsample.bias"), theirs("heads.0.bias")
    ('encoder.stages.1.0.convs.0.conv.weight', 'decoder.transpconvs.2.bias', 'decoder.seg_layers.2.bias')
    """
    part, level, rest = name.split(".", 2)
    if part == "encoder":
        return f"encoder.stages.{level}.0.{rest.replace('blocks', 'convs')}"
    stage = DEEPEST - 1 - int(level)
    if part == "heads":
        return f"decoder.seg_layers.{stage}.{rest}"
    if rest.startswith("upsample"):
        return f"decoder.transpconvs.{stage}.{rest.removeprefix('upsample.')}"
    return f"decoder.stages.{stage}.{rest.replace('blocks', 'convs')}"


@pytest.fixture(scope="module")
def ours() -> peer.Record:
    scheme, plain = LabelScheme(names=("background", "one", "two"), values=(0, 1, 2)), configuration()
    preprocessing = msgspec.structs.replace(plain.preprocessing, labels=scheme, chunk=peer.PATCH)
    network = unet_architecture(1, peer.CLASSES, peer.PATCH, [(2, 2, 2)] * DEEPEST, width=0.25)
    assert tuple(level.channels for level in network.levels) == peer.FEATURES
    plan = msgspec.structs.replace(plain, preprocessing=preprocessing, architecture=network, batch_size=peer.BATCH)
    config = new_config(0, {"recipe": "nnunet", "epochs": peer.EPOCHS, "iterations": peer.ITERATIONS})
    trainer = StepTrainer(FoldData(plan, [], []), config, Machine())
    names = {theirs(name): parameter for name, parameter in trainer.network.named_parameters()}
    with torch.no_grad():
        for name, parameter in names.items():
            parameter.copy_(torch.from_numpy(peer.weights(name, tuple(parameter.shape))))

    def step(number: int) -> float:
        images, labels = peer.patches(number)
        return float(trainer.step([Sample("", i, label[0], None) for i, label in zip(images, labels, strict=True)]))

    return peer.watched(trainer.optimizer, names, step)


@pytest.fixture(scope="module")
def golden() -> peer.Record:
    return json.loads(GOLDEN.read_bytes())


def test_losses_rates_and_gradient_norms_are_nnunets(ours, golden):
    steps, reference = ours["steps"], golden["steps"]
    assert steps["learning_rate"] == pytest.approx(reference["learning_rate"], rel=1e-6)
    # nnU-Net's Dice loss is minus the Dice, ours 1 minus it, and the heads' weights add up to 1.
    assert steps["loss"] == pytest.approx([loss + 1 for loss in reference["loss"]], rel=1e-4)
    assert steps["gradient_norm"] == pytest.approx(reference["gradient_norm"], rel=1e-3)
    assert reference["gradient_norm"][0] > 12 > reference["gradient_norm"][-1]  # clipped, and not


def test_a_step_changes_every_parameter_as_nnunets_does(ours, golden):
    for name, numbers in ours["parameters"].items():
        assert differences(numbers, golden["parameters"][name]).max() < tolerance(name), name
    others = golden["parameters"].keys() - ours["parameters"].keys()
    assert all(golden["parameters"][name] == [] for name in others)  # the deepest head, whose loss has weight 0
    assert {name.rpartition(".")[0] for name in others} == {"decoder.seg_layers.0"}


def tolerance(name: str) -> float:
    """The gradient of a bias in front of a norm is 0 but for rounding, so its change is mostly weight decay."""
    return 0.3 if name.endswith("conv.bias") else 1e-4


def differences(numbers: list[float], reference: list[float]) -> np.ndarray:
    """As shares of the norm of the change, and of that of the momentum."""
    change, _, momentum, _ = reference
    return np.abs(np.subtract(numbers, reference)) / [change, change, momentum, momentum]


@pytest.mark.skipif(PYTHON is None, reason="UNETRPP_NNUNET_PYTHON names no interpreter with nnunetv2")
def test_the_stored_numbers_are_nnunets(golden):
    found = peer.run_with(str(PYTHON))
    for name, numbers in golden["steps"].items():
        assert found["steps"][name] == pytest.approx(numbers, rel=1e-3), name
    assert found["parameters"].keys() == golden["parameters"].keys()
    for name, numbers in golden["parameters"].items():
        if numbers:
            assert differences(found["parameters"][name], numbers).max() < tolerance(name), name
