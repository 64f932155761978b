"""Residual branches that are left out for some samples, in training only."""

import pytest
import torch

from unetrpp.core.errors import UserError
from unetrpp.networks.build import build_network
from unetrpp.networks.design import unet_architecture, unetrpp_architecture
from unetrpp.networks.drop_path import DropPath, set_drop_path

STRIDES = [(1, 2, 2), (2, 2, 2)]


def network():
    torch.manual_seed(0)
    return build_network(unetrpp_architecture(1, 2, (8, 16, 16), STRIDES, width=0.25))


def test_a_branch_is_left_out_or_scaled_up_so_that_its_mean_stays():
    drop = DropPath().train()
    drop.rate = 0.25
    torch.manual_seed(0)
    branch = torch.ones(4000, 3, 2)
    found = drop(branch)
    by_sample = found.flatten(1)
    assert torch.equal(by_sample.amin(1), by_sample.amax(1))
    assert set(by_sample[:, 0].tolist()) == {0.0, float(torch.tensor(1.0) / 0.75)}
    assert (by_sample[:, 0] == 0).float().mean() == pytest.approx(0.25, abs=0.03)
    assert found.mean() == pytest.approx(1.0, abs=0.05)
    assert drop.eval()(branch) is branch


def test_rates_grow_with_the_depth_and_change_training_alone():
    dropped, plain = network(), network()
    set_drop_path(dropped, 0.5)
    rates = [module.rate for module in dropped.modules() if isinstance(module, DropPath)]
    assert rates[0] == 0
    assert rates[-1] == 0.5
    assert rates == sorted(rates)
    image = torch.randn(2, 1, 8, 16, 16)
    with torch.no_grad():
        for one, other in zip(dropped.eval()(image), plain.eval()(image), strict=True):
            assert torch.equal(one, other)
        training = [net.train()(image)[0] for net in (dropped, plain)]
    assert not torch.allclose(*training)


def test_a_rate_of_almost_1_leaves_the_skip_of_a_residual_block():
    block = network().train()
    drops = [module for module in block.modules() if isinstance(module, DropPath)]
    for drop in drops:
        drop.rate = 1 - 1e-12
    residual = next(
        m
        for m in block.modules()
        if type(m).__name__ == "ResidualBlock" and m.conv1.in_channels == m.conv1.out_channels
    )
    x = torch.randn(2, residual.conv1.in_channels, 4, 4, 4)
    torch.testing.assert_close(residual(x), torch.nn.functional.leaky_relu(x, 0.01))


def test_a_network_without_branches_is_refused():
    plain = build_network(unet_architecture(1, 2, (8, 16, 16), STRIDES, width=0.25))
    set_drop_path(plain, 0.0)
    with pytest.raises(UserError, match="no residual branches"):
        set_drop_path(plain, 0.1)
