"""Fine-tuning: fitting weights are copied, others are adapted to channels, classes and patches, and all changes are listed."""

import logging
from functools import partial

import msgspec
import numpy as np
import pytest
import torch

from tests.helpers.model import make_model
from tests.helpers.tiny import LABELS, configuration
from unetrpp.core.errors import UserError
from unetrpp.core.files import read_json, write_json
from unetrpp.dataset.labels import LabelScheme, Region
from unetrpp.networks.build import build_network
from unetrpp.networks.design import unet_architecture, unetrpp_architecture, with_pooled_attention
from unetrpp.plans.plans import Plans
from unetrpp.trainers.network_spec import NetworkSpec
from unetrpp.trainers.pretrained_checkpoints import find_checkpoint
from unetrpp.trainers.pretrained_weights import (
    FILE,
    Specs,
    Transfer,
    fit,
    input_convolutions,
    resize_position,
    resize_projection,
    spread_channels,
    start_from,
)

OTHER_LABELS = LabelScheme(names=("background", "liver", "tumour"), values=(0, 1, 2))


def architecture(channels=1, classes=2, patch=(16, 16, 16), **changed):
    made = unetrpp_architecture(channels, classes, patch, [(2, 2, 2), (2, 2, 2)], width=0.25)
    return msgspec.structs.replace(made, **changed)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    plan = msgspec.structs.replace(configuration(), architecture=architecture())
    return make_model(tmp_path_factory.mktemp("model"), 1, plan)


def built(spec: NetworkSpec, seed: int = 5):
    torch.manual_seed(seed)
    return build_network(spec.architecture).eval()


def outputs(network, x):
    network.deep_supervision = False
    with torch.no_grad():
        return network(x)


def test_the_same_plans_give_the_same_network(model, tmp_path):
    spec = NetworkSpec(architecture(), LABELS)
    network = built(spec)
    transfer = start_from(find_checkpoint(model), network, spec, tmp_path)
    assert (transfer.changes, transfer.share) == ((), 1.0)
    theirs = torch.load(model / "fold_0" / "checkpoint_final.pt", weights_only=True)["network"]
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in network.state_dict().items())


def test_more_channels_and_other_classes(model, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    spec = NetworkSpec(architecture(channels=3, classes=3), OTHER_LABELS)
    network, before = built(spec), built(spec)
    transfer = start_from(find_checkpoint(model), network, spec, tmp_path)
    assert read_json(tmp_path / FILE, Transfer) == transfer
    changes = {change.tensor: change.what for change in transfer.changes}
    image_convolutions = {"entry.blocks.0.conv1.weight", "entry.blocks.0.skip.conv.weight"}
    spread = {name for name, what in changes.items() if what.startswith("input channels averaged and spread")}
    assert image_convolutions <= spread
    assert changes.keys() - spread == {f"heads.{i}.{part}" for i in (0, 1) for part in ("weight", "bias")}
    assert all(f"  {name} " in caplog.text for name in changes)
    assert torch.equal(network.heads[0].weight, before.heads[0].weight)
    # An image of three equal channels gives what one channel gave.
    old = built(NetworkSpec(architecture(), LABELS))
    old.load_state_dict(torch.load(model / "fold_0" / "checkpoint_final.pt", weights_only=True)["network"])
    x = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(network.entry(x.repeat(1, 3, 1, 1, 1)), old.entry(x))


def test_classes_of_other_names_get_new_heads_even_where_they_fit(model, tmp_path):
    spec = NetworkSpec(architecture(), LabelScheme(names=("background", "liver"), values=(0, 1)))
    transfer = start_from(find_checkpoint(model), built(spec), spec, tmp_path)
    assert {change.tensor.split(".")[0] for change in transfer.changes} == {"heads"}


def test_regions_get_new_heads_where_they_hold_other_labels(model, tmp_path):
    names, values = ("background", "core", "oedema"), (0, 1, 2)
    whole, core = Region(name="whole", members=(1, 2), value=2), Region(name="core", members=(1,), value=1)
    plan, patch = configuration(), architecture()
    first, second = (LabelScheme(names=names, values=values, regions=r) for r in ((whole, core), (core, whole)))
    path = make_model(tmp_path / "regions", 1, msgspec.structs.replace(plan, architecture=patch))
    plans = read_json(path / "plans.json", Plans)
    write_json(path / "plans.json", msgspec.structs.replace(plans, labels=first))
    for labels, changed in ((first, set()), (second, {"heads"})):
        spec = NetworkSpec(patch, labels)
        transfer = start_from(find_checkpoint(path), built(spec), spec, tmp_path)
        assert {change.tensor.split(".")[0] for change in transfer.changes} == changed


def test_another_patch_interpolates_positions_and_projections(model, tmp_path):
    spec = NetworkSpec(architecture(patch=(16, 24, 32)), LABELS)
    network = built(spec)
    transfer = start_from(find_checkpoint(model), network, spec, tmp_path)
    assert transfer.share == 1.0
    assert all(change.what.startswith("interpolated: ") for change in transfer.changes)
    assert "8 x 8 x 8 -> 8 x 12 x 16 tokens" in transfer.changes[0].what
    assert outputs(network, torch.randn(1, 1, 16, 24, 32)).shape == (1, 2, 16, 24, 32)


def test_pooled_attention_needs_nothing_for_another_patch(tmp_path):
    plan = msgspec.structs.replace(configuration(), architecture=with_pooled_attention(architecture()))
    spec = NetworkSpec(with_pooled_attention(architecture(patch=(16, 24, 32))), LABELS)
    network = built(spec)
    transfer = start_from(find_checkpoint(make_model(tmp_path, 1, plan)), network, spec, tmp_path)
    assert (transfer.changes, transfer.share) == ((), 1.0)
    assert outputs(network, torch.randn(1, 1, 16, 24, 32)).shape == (1, 2, 16, 24, 32)


def linear(values: np.ndarray, size: int, axis: int) -> np.ndarray:
    """Interpolation along one axis with numpy: cell centres, edges repeated."""
    n = values.shape[axis]
    places = (np.arange(size) + 0.5) * n / size - 0.5
    return np.apply_along_axis(lambda line: np.interp(places, np.arange(n), line), axis, values)


def test_a_packages_network_may_use_any_names():
    spec = NetworkSpec(architecture(network="mine"), LABELS)
    tensors = {"attention.project_in.weight": torch.ones(3, 4), "layers.0.position": torch.ones(1, 5, 2)}
    wanted = {"attention.project_in.weight": torch.zeros(3, 4), "layers.0.position": torch.zeros(1, 6, 2)}
    fitted, (change,) = fit(tensors, wanted, Specs(spec, spec))
    assert fitted.keys() == {"attention.project_in.weight"}
    assert (change.tensor, change.what) == (
        "layers.0.position",
        "newly initialised: another shape, 1 x 5 x 2 -> 1 x 6 x 2",
    )


def test_resizing_against_numpy():
    before, after = (3, 4, 2), (5, 4, 3)
    grid = np.random.default_rng(0).normal(size=(*before, 6))
    expected = grid
    for axis, size in enumerate(after):
        expected = linear(expected, size, axis)
    position = torch.from_numpy(grid.reshape(1, -1, 6))
    np.testing.assert_allclose(resize_position(position, before, after)[0], expected.reshape(-1, 6))
    projection = position[0].T
    scale = 24 / 60
    np.testing.assert_allclose(resize_projection(projection, before, after), expected.reshape(-1, 6).T * scale)
    tokens = torch.ones(24, dtype=torch.float64)
    kept = resize_projection(torch.full((2, 24), 0.3, dtype=torch.float64), before, after) @ torch.ones(60).double()
    torch.testing.assert_close(kept, torch.full((2, 24), 0.3, dtype=torch.float64) @ tokens)


@pytest.mark.parametrize(("old", "new"), [(1, 4), (4, 1), (2, 3)])
def test_spread_channels_keep_the_result_of_equal_channels(old, new):
    weight, x = torch.randn(5, old, 3, 3), torch.randn(1, 1, 8, 8)
    expected = torch.nn.functional.conv2d(x.repeat(1, old, 1, 1), weight)
    got = torch.nn.functional.conv2d(x.repeat(1, new, 1, 1), spread_channels(weight, new))
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


def test_planned_gammas_are_kept(model, tmp_path):
    gated = architecture()
    levels = tuple(msgspec.structs.replace(level, gate=2.0 if i == 0 else None) for i, level in enumerate(gated.levels))
    spec = NetworkSpec(msgspec.structs.replace(gated, levels=levels), LABELS)
    network = built(spec)
    transfer = start_from(find_checkpoint(model), network, spec, tmp_path)
    assert {change.what for change in transfer.changes} == {"newly initialised: not in the checkpoint"}
    plan = msgspec.structs.replace(configuration(), architecture=spec.architecture)
    first = make_model(tmp_path / "gated", 1, plan)
    other = tuple(msgspec.structs.replace(level, gate=None if level.gate is None else 0.5) for level in levels)
    spec = NetworkSpec(msgspec.structs.replace(gated, levels=other), LABELS)
    network = built(spec)
    transfer = start_from(find_checkpoint(first), network, spec, tmp_path)
    assert [(c.tensor, c.what) for c in transfer.changes] == [("decoder.0.gate.gamma", "newly initialised: as planned")]
    assert network.decoder[0].gate.gamma.item() == 0.5


def test_other_kinds_of_networks_are_refused(model, tmp_path):
    plan = configuration()
    with pytest.raises(UserError, match="network unetrpp, the plans have unet"):
        start_from(
            find_checkpoint(model), build_network(plan.architecture), NetworkSpec(plan.architecture, LABELS), tmp_path
        )


def test_a_checkpoint_of_which_no_weight_fits_is_refused(tmp_path):
    narrow, wide = (unet_architecture(1, 2, (16, 16, 16), [(2, 2, 2)], width=width) for width in (0.25, 1.0))
    model = make_model(tmp_path, 1, msgspec.structs.replace(configuration(), architecture=narrow))
    with pytest.raises(UserError, match=r"none of its weights fits the network to be trained \(\S+: newly"):
        start_from(find_checkpoint(model), build_network(wide), NetworkSpec(wide, LABELS), tmp_path)


@pytest.mark.parametrize("make", [unet_architecture, partial(unet_architecture, residual=True)])
@pytest.mark.parametrize(("images", "new_images", "old_stage", "new_stage"), [
    (1, 1, False, True),  # from the first stage, or a plain training
    (3, 1, False, True),  # as many channels in total
    (2, 1, False, True),
    (1, 2, True, False),
    (1, 1, True, False),
])  # fmt: skip
def test_segmentation_channels_start_at_0_and_image_channels_as_before(
    make, images, new_images, old_stage, new_stage, tmp_path
):
    def spec(channels, stage):
        made = make(channels + 2 * stage, 3, (8, 16, 16), [(2, 2, 2)], kernels=[(3, 3, 3)] * 2, width=0.25)
        return NetworkSpec(made, OTHER_LABELS, stage)

    old, new = spec(images, old_stage), spec(new_images, new_stage)
    theirs, network = built(old), built(new, 6)
    fitted, changes = fit(theirs.state_dict(), network.state_dict(), Specs(old, new))
    network.load_state_dict(fitted)
    (name,) = {change.tensor for change in changes}
    given, got = theirs.state_dict()[name].numpy(), network.state_dict()[name].numpy()
    expected = np.zeros_like(got)
    for i in range(new_images):  # the rule of docs/training.md, channel by channel
        same = given[:, i] if images == new_images else sum(given[:, j] for j in range(images)) / new_images
        expected[:, i] = same
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-7)


def test_at_first_the_result_depends_on_the_image_alone():
    old = NetworkSpec(architecture(classes=3), OTHER_LABELS)
    new = NetworkSpec(architecture(channels=3, classes=3), OTHER_LABELS, second_stage=True)
    theirs, network = built(old), built(new, 6)
    network.load_state_dict(fit(theirs.state_dict(), network.state_dict(), Specs(old, new))[0])
    x, segmentation = torch.randn(1, 1, 16, 16, 16), torch.randint(0, 2, (1, 2, 16, 16, 16)).float()
    with torch.no_grad():
        answer = network.entry(torch.cat([x, segmentation], dim=1))
        torch.testing.assert_close(answer, theirs.entry(x))


def test_a_second_stage_keeps_segmentation_channels_of_the_same_classes():
    stage = NetworkSpec(architecture(channels=3, classes=3), OTHER_LABELS, second_stage=True)
    other = NetworkSpec(stage.architecture, msgspec.structs.replace(OTHER_LABELS, names=("background", "a", "b")), True)
    tensors, wanted = built(stage).state_dict(), built(stage, 6).state_dict()
    assert fit(tensors, wanted, Specs(stage, stage))[1] == []
    fitted, changes = fit(tensors, wanted, Specs(stage, other))
    zeroed = {change.tensor for change in changes if change.what.startswith("segmentation channels start at 0")}
    assert zeroed == input_convolutions(stage.architecture)
    for name in zeroed:
        assert torch.equal(fitted[name][:, :1], tensors[name][:, :1])
        assert not fitted[name][:, 1:].any()


@pytest.mark.parametrize("channels", [6, 7, 9])
def test_the_input_is_adapted_also_where_it_has_nearly_the_width_of_the_first_block(channels):
    """Of eight channels: with as many inputs its skip would need no convolution."""
    old, new = NetworkSpec(architecture(), LABELS), NetworkSpec(architecture(channels=channels), LABELS)
    theirs, network = built(old), built(new, 6)
    network.load_state_dict(fit(theirs.state_dict(), network.state_dict(), Specs(old, new))[0])
    x = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(network.entry(x.expand(-1, channels, -1, -1, -1)), theirs.entry(x))


def test_finding_the_input_convolutions_draws_no_random_numbers():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    names = {"entry.blocks.0.conv1.weight", "entry.blocks.0.skip.conv.weight", "encoder.0.downsample.conv.weight"}
    assert input_convolutions(architecture(channels=8)) == names - {"entry.blocks.0.skip.conv.weight"}
    assert input_convolutions(architecture()) == names
    assert input_convolutions(architecture(channels=7)) == names  # one more would be as many as the first block has
    assert torch.equal(torch.rand(1), expected)
