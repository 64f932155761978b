"""Weights of nnU-Net's networks under our names: the same logits, copies that agree, and what is refused by its name."""

import pickle

import pytest
import torch

from tests.helpers.nnunet import Network, arguments, checkpoint, configuration, older_configuration, plans, weights
from unetrpp.core.errors import UserError
from unetrpp.networks.build import build_network
from unetrpp.networks.nnunet import network_of, read_checkpoint

KINDS = ["PlainConvUNet", "ResidualEncoderUNet", "ResidualUNet"]


def saved(path, content):
    torch.save(content, path)
    return path


def stored(tmp_path, kind="PlainConvUNet", dimensions=3, **changed):
    plan = plans(full=configuration(kind, dimensions))
    state = weights(plan["configurations"]["full"]["architecture"], 2, 3)
    return saved(tmp_path / "checkpoint_final.pth", checkpoint(state, plan, "full", **changed)), state


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_the_logits_are_those_of_nnunet(tmp_path, kind, dimensions):
    path, state = stored(tmp_path, kind, dimensions)
    architecture, ours = network_of(read_checkpoint(path))
    network = build_network(architecture).eval()
    network.load_state_dict(ours)
    network.deep_supervision = False
    reference = Network(kind, arguments(kind, dimensions), 2, 3).eval()
    reference.load_state_dict(state)
    x = torch.randn(2, 2, *[16] * dimensions, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(network(x), reference(x), rtol=1e-4, atol=1e-4)


def test_every_head_is_taken(tmp_path):
    path, state = stored(tmp_path)
    architecture, ours = network_of(read_checkpoint(path))
    assert architecture.supervised_levels == 2
    assert torch.equal(ours["heads.0.weight"], state["decoder.seg_layers.1.weight"])
    assert torch.equal(ours["heads.1.weight"], state["decoder.seg_layers.0.weight"])


@pytest.mark.parametrize("kind", KINDS[:2])
def test_older_plans_describe_the_same_network(tmp_path, kind):
    older, newer = older_configuration(kind), configuration(kind)
    newer["architecture"]["arch_kwargs"]["features_per_stage"] = [4, 8, 8]
    state = weights(newer["architecture"], 1, 2)
    path = saved(tmp_path / "a.pth", checkpoint(state, plans(full=older), "full"))
    assert network_of(read_checkpoint(path))[0] == network_of(read_checkpoint(path), plans(full=newer))[0]


def test_a_configuration_inherits(tmp_path):
    plan = plans(full=configuration(), wide={"inherits_from": "full", "patch_size": [32, 32, 32]})
    state = weights(plan["configurations"]["full"]["architecture"], 1, 2)
    path = saved(tmp_path / "a.pth", checkpoint(state, plan, "wide"))
    assert network_of(read_checkpoint(path))[0].patch == (32, 32, 32)
    plan["configurations"]["full"]["inherits_from"] = "wide"
    with pytest.raises(UserError, match="'wide' inherits from itself"):
        network_of(read_checkpoint(path), plan)


@pytest.mark.parametrize(
    "copy",
    [
        "decoder.encoder.stages.0.0.convs.0.conv.weight",
        "encoder.stages.1.0.convs.0.all_modules.0.weight",
        "decoder.stages.0.convs.0.all_modules.1.bias",
    ],
)
def test_copies_must_agree(tmp_path, copy):
    path, state = stored(tmp_path)
    content = torch.load(path, weights_only=False)
    content["network_weights"] = dict(state) | {copy: state[copy] + 1}
    with pytest.raises(UserError, match=r"differs from its copy, so the file is damaged"):
        network_of(read_checkpoint(saved(path, content)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"block": "x.BottleneckD"}, "unknown field `block`"),
        ({"norm_op": "torch.nn.BatchNorm3d"}, "the norm torch.nn.BatchNorm3d"),
        ({"norm_op_kwargs": {"eps": 1e-3, "affine": True}}, r"norm_op_kwargs \{'eps': 0.001"),
        ({"nonlin": "torch.nn.ReLU"}, "the activation torch.nn.ReLU"),
        ({"nonlin_kwargs": {"negative_slope": 0.1}}, "the slope 0.1"),
        ({"nonlin_first": True}, "the activation before the norm"),
        ({"strides": [[2, 2, 2]] * 3}, "a stride in its first stage"),
        ({"features_per_stage": [4, 6]}, "other numbers of stages in its lists than 3"),
        ({"n_stages": 1}, "no stage below full resolution"),
    ],
)
def test_networks_that_ours_are_not(tmp_path, change, message):
    path, _ = stored(tmp_path)
    plan = plans(full=configuration())
    plan["configurations"]["full"]["architecture"]["arch_kwargs"] |= change
    with pytest.raises(UserError, match=message):
        network_of(read_checkpoint(path), plan)


def test_an_unknown_network_is_named(tmp_path):
    path, _ = stored(tmp_path)
    plan = plans(full=configuration("Primus"))
    with pytest.raises(UserError, match="the network Primus cannot be imported; only PlainConvUNet, Res"):
        network_of(read_checkpoint(path), plan)


def test_a_trainer_with_its_own_network_is_named(tmp_path):
    path, state = stored(tmp_path)
    content = torch.load(path, weights_only=False) | {"trainer_name": "nnUNetTrainerBN"}
    content["network_weights"] = dict(state) | {"encoder.stages.0.0.convs.0.norm.running_mean": torch.zeros(4)}
    with pytest.raises(UserError, match=r"the trainer nnUNetTrainerBN built another network .*running_mean is extra"):
        network_of(read_checkpoint(saved(path, content)))
    content["network_weights"] = {"eva.blocks.0.weight": torch.zeros(4)}
    with pytest.raises(UserError, match=r"weights of another network .*nnUNetTrainerBN"):
        network_of(read_checkpoint(saved(path, content)))


class Harmful:
    def __reduce__(self):
        return print, ("code of the file ran",)


@pytest.mark.parametrize("place", ["logging", "network_weights", "more"])
def test_no_code_of_a_checkpoint_is_run(tmp_path, capsys, place):
    path, _ = stored(tmp_path, **{place: {"x": Harmful()}})
    with pytest.raises(UserError, match="holds more than tensors and numbers"):
        network_of(read_checkpoint(path))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"state_dict": {}}, "not a checkpoint of nnU-Net v2"),
        ({"network_weights": {}, "trainer_name": "x", "init_args": {}}, "does not say what it was trained with"),
        (
            {
                "network_weights": {"a": 1},
                "trainer_name": "x",
                "init_args": {"plans": {}, "dataset_json": {}, "configuration": "y"},
            },
            "something else than tensors",
        ),
    ],
)
def test_other_files(tmp_path, content, message):
    with pytest.raises(UserError, match=message):
        read_checkpoint(saved(tmp_path / "a.pth", content))
    (tmp_path / "b.pth").write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(UserError, match="not a checkpoint"):
        read_checkpoint(tmp_path / "b.pth")
