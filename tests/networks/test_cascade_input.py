"""One channel of indices becomes the one-hot channels of a cascade's second stage."""

import torch

from unetrpp.networks.build import build_network
from unetrpp.networks.cascade import unfold_first_stage, unfold_first_stage_on_entry
from unetrpp.networks.design import unet_architecture

PATCH = (8, 16, 16)


def naive(patches: torch.Tensor, classes: int) -> torch.Tensor:
    one_hot = torch.nn.functional.one_hot(patches[:, -1].clamp_min(0).long(), classes + 1).movedim(-1, 1)[:, 1:]
    return torch.cat([patches[:, :-1], one_hot.float()], dim=1)


def patches(classes: int, lowest: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    indices = torch.randint(lowest, classes + 1, (2, 1, *PATCH), generator=generator).float()
    return torch.cat([torch.randn(2, 2, *PATCH, generator=generator), indices], dim=1)


def test_equals_torchs_one_hot():
    for classes in (1, 3, 300):
        inputs = patches(classes, lowest=-1)
        torch.testing.assert_close(unfold_first_stage(inputs, classes), naive(inputs, classes), rtol=0, atol=0)
    flat = patches(3, 0)[:, :, 0]
    torch.testing.assert_close(unfold_first_stage(flat, 3), naive(flat, 3), rtol=0, atol=0)


def test_a_network_unfolds_by_itself_and_keeps_its_names():
    network = build_network(unet_architecture(5, 4, PATCH, [(2, 2, 2)], kernels=[(3, 3, 3)] * 2, width=0.25)).eval()
    names = list(network.state_dict())
    inputs = patches(3, 0)
    expected = network(naive(inputs, 3))[0]
    unfold_first_stage_on_entry(network, 3)
    torch.testing.assert_close(network(inputs)[0], expected, rtol=0, atol=0)
    assert list(network.state_dict()) == names
