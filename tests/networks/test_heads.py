"""The first output of new heads."""

import msgspec
import pytest
import torch

from unetrpp.core.errors import UserError
from unetrpp.networks.build import build_network
from unetrpp.networks.design import unet_architecture, unetrpp_architecture

STRIDES = [(2, 2, 2), (2, 2, 2)]
SHARES = torch.tensor([0.9, 0.07, 0.03])


def architectures(**changes):
    for design in (unetrpp_architecture, unet_architecture):
        yield msgspec.structs.replace(design(1, 3, (16, 16, 16), STRIDES, width=0.25), **changes)


def test_the_first_output_is_the_share_of_each_class():
    for architecture in architectures(initial_logits=tuple(SHARES.log().tolist())):
        torch.manual_seed(1)
        network = build_network(architecture)
        for output in network(torch.randn(2, 1, 16, 16, 16)):
            shares = output.softmax(1).mean((0, 2, 3, 4))
            assert torch.allclose(shares, SHARES, rtol=0.35), shares


def test_initial_logits_change_the_heads_alone():
    for plain, given in zip(architectures(), architectures(initial_logits=(0.3, 0.2, 0.1)), strict=True):
        torch.manual_seed(1)
        released = build_network(plain).state_dict()
        torch.manual_seed(1)
        started = build_network(given).state_dict()
        changed = {name for name in released if not torch.equal(released[name], started[name])}
        assert changed == {name for name in released if name.startswith("heads.")}
        assert torch.allclose(started["heads.0.weight"], 0.1 * released["heads.0.weight"])


def test_every_output_needs_an_initial_logit():
    for architecture in architectures(initial_logits=(0.0, 1.0)):
        with pytest.raises(UserError, match="2 initial logits for 3 outputs"):
            build_network(architecture)
