"""Encoders of self-supervised pretraining: their tensors under our names, whatever the file calls its parts."""

import pytest
import torch

from tests.helpers.nnunet import configuration, plans, weights
from unetrpp.core.errors import UserError
from unetrpp.networks.build import build_network
from unetrpp.networks.nnunet_encoder import PretrainedEncoder, read_encoder
from unetrpp.plans.nnunet import architecture_of, resolve

HOW = configuration("ResidualEncoderUNet")["architecture"]
PLAN = {
    "architecture_plans": {"arch_class_name": "ResEncL", "arch_kwargs": None},
    "pretrain_num_input_channels": 1,
    "key_to_encoder": "encoder.stages",
    "key_to_stem": "encoder.stem",
}


def stored(path, state, **plan):
    torch.save({"network_weights": state, "citations": [], "nnssl_adaptation_plan": PLAN | plan}, path)
    return path


def encoder(path) -> PretrainedEncoder:
    found = read_encoder(path)
    assert found is not None
    return found


def test_all_of_our_encoder_and_nothing_else(tmp_path):
    state = weights(HOW, 2, 3)
    found = encoder(stored(tmp_path / "a.pth", state))
    plan = plans(full=configuration("ResidualEncoderUNet", channels=2))
    network = build_network(architecture_of(resolve(plan["configurations"], "full", ""), 2, 3, where=""))
    expected = {n: t.shape for n, t in network.state_dict().items() if n.startswith(("stem.", "encoder."))}
    assert {name: tensor.shape for name, tensor in found.weights.items()} == expected
    assert torch.equal(found.weights["stem.conv.weight"], state["encoder.stem.convs.0.conv.weight"])
    assert torch.equal(
        found.weights["encoder.2.blocks.1.norm2.bias"], state["encoder.stages.2.blocks.1.conv2.norm.bias"]
    )
    assert (found.network, found.dimensions, found.in_channels) == ("resunet", 3, 2)


def test_parts_may_have_other_names(tmp_path):
    state = weights(HOW, 1, 2)
    moved = {
        name.replace("encoder.stem.", "module.backbone.entry.").replace(
            "encoder.stages.", "module.backbone.body."
        ): value
        for name, value in state.items()
        if name.startswith("encoder.")
    }
    other = stored(tmp_path / "a.pth", moved, key_to_encoder="backbone.body", key_to_stem="backbone.entry")
    usual = encoder(stored(tmp_path / "b.pth", state)).weights
    found = encoder(other).weights
    assert found.keys() == usual.keys()
    assert all(torch.equal(found[name], usual[name]) for name in usual)


def test_a_plain_encoder(tmp_path):
    how = configuration("PlainConvUNet", 2)["architecture"]
    found = encoder(stored(tmp_path / "a.pth", weights(how, 1, 2)))
    assert (found.network, found.dimensions) == ("unet", 2)
    assert "encoder.1.blocks.0.conv.bias" in found.weights


def test_other_files(tmp_path):
    torch.save({"network_weights": weights(HOW, 1, 2)}, tmp_path / "a.pth")
    assert read_encoder(tmp_path / "a.pth") is None
    transformer = {"eva.blocks.0.weight": torch.zeros(2, 2)}
    path = stored(tmp_path / "b.pth", transformer, architecture_plans={"arch_class_name": "PrimusM"})
    with pytest.raises(UserError, match="holds a network of kind PrimusM; only encoders of nnU-Net's U-Nets"):
        read_encoder(path)
    with pytest.raises(UserError, match="has no tensors as network_weights"):
        read_encoder(stored(tmp_path / "c.pth", None))
